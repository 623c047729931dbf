package dht

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/mr-tron/base58"
)

// ErrBadPeerID reports text or bytes that are not the libp2p peer ID of an
// Ed25519 key.
var ErrBadPeerID = errors.New("dht: not an Ed25519 peer ID (expected 12D3KooW…)")

// A PeerID is the identity of a participant: the 32 bytes of its Ed25519
// public key. Its text form is the libp2p peer ID of that key (12D3KooW…),
// base58 of an identity multihash over the protobuf-encoded key, so the two
// forms carry the same information.
//
// The zero PeerID is nobody.
type PeerID [ed25519.PublicKeySize]byte

// peerIDPrefix is what precedes the public key in a binary peer ID: identity
// multihash (0x00) of 36 bytes (0x24), key type Ed25519 (08 01), 32 data
// bytes (12 20). Source: libp2p specs, peer-ids/peer-ids.md.
const peerIDPrefix = "\x00\x24\x08\x01\x12\x20"

// PeerIDFromKey returns the identity of the holder of pub.
// It panics if pub is not 32 bytes long.
func PeerIDFromKey(pub ed25519.PublicKey) PeerID { return PeerID(pub) }

// ParsePeerID reads the text form of a peer ID. The error wraps ErrBadPeerID.
func ParsePeerID(s string) (PeerID, error) {
	if len(s) > 64 {
		return PeerID{}, fmt.Errorf("parse peer ID of %d characters: %w", len(s), ErrBadPeerID)
	}
	b, err := base58.Decode(s)
	if err != nil {
		return PeerID{}, fmt.Errorf("parse peer ID %q: %w", s, ErrBadPeerID)
	}
	return PeerIDFromBytes(b)
}

// PeerIDFromBytes reads the binary form of a peer ID, a multihash as libp2p
// carries it. The error wraps ErrBadPeerID.
func PeerIDFromBytes(b []byte) (PeerID, error) {
	if len(b) != len(peerIDPrefix)+ed25519.PublicKeySize || string(b[:len(peerIDPrefix)]) != peerIDPrefix {
		return PeerID{}, fmt.Errorf("parse peer ID of %d bytes: %w", len(b), ErrBadPeerID)
	}
	return PeerID(b[len(peerIDPrefix):]), nil
}

// Bytes returns the binary form, as libp2p carries it.
func (id PeerID) Bytes() []byte { return append([]byte(peerIDPrefix), id[:]...) }

// PublicKey returns the key that verifies what the participant signed.
func (id PeerID) PublicKey() ed25519.PublicKey { return ed25519.PublicKey(id[:]) }

// IsZero tells whether id is nobody.
func (id PeerID) IsZero() bool { return id == PeerID{} }

// String returns the text form.
func (id PeerID) String() string { return base58.Encode(id.Bytes()) }

// Short returns the last eight characters of the text form, for tables.
func (id PeerID) Short() string {
	s := id.String()
	return s[len(s)-8:]
}

// Position returns where the participant stands in the Kademlia metric:
// SHA-256 of its binary peer ID, as go-libp2p-kad-dht has it.
func (id PeerID) Position() Position { return sha256.Sum256(id.Bytes()) }

// MarshalText implements encoding.TextMarshaler. The zero PeerID is empty text.
func (id PeerID) MarshalText() ([]byte, error) {
	if id.IsZero() {
		return nil, nil
	}
	return []byte(id.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *PeerID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*id = PeerID{}
		return nil
	}
	parsed, err := ParsePeerID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}
