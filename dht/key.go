// Package dht holds what XenoStore's and XenoSearch's overlay needs and a
// simulator can run: identities, keys, keyspaces, the Kademlia metric, the
// iterative lookup and network coordinates. It is pure: no clock, goroutine,
// disk or network. Package kad carries it over libp2p.
package dht

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/bits"
)

// A Key names a thing in a keyspace of the overlay. Keys of different
// keyspaces never meet.
type Key [sha256.Size]byte

// A Position is a point of the Kademlia metric: of a participant
// (PeerID.Position) or of a key (Key.Position). Distance is exclusive or,
// read as a big-endian number (Maymounkov and Mazières, 2002).
type Position [sha256.Size]byte

// A Keyspace separates one use of the overlay from the others: one for each
// dimension of the search schema, and those named here.
type Keyspace string

// The keyspaces that are not dimensions of the search schema.
const (
	KeyspaceBlock Keyspace = "block" // provider records of blocks
	KeyspaceName  Keyspace = "name"  // signed mutable names
	KeyspaceXIS   Keyspace = "xis"   // the current ad of every XenoServer
)

// keyDomain separates key derivation from every other use of SHA-256 here.
const keyDomain = "xeno-key-v1"

// Key derives the key of label: SHA-256 over the domain, and over keyspace
// and label, each preceded by its length as 8 bytes, big-endian.
func (ks Keyspace) Key(label []byte) Key {
	b := make([]byte, 0, len(keyDomain)+16+len(ks)+len(label))
	b = append(b, keyDomain...)
	b = binary.BigEndian.AppendUint64(b, uint64(len(ks)))
	b = append(b, ks...)
	b = binary.BigEndian.AppendUint64(b, uint64(len(label)))
	b = append(b, label...)
	return sha256.Sum256(b)
}

// Position returns where the key stands in the Kademlia metric: its SHA-256,
// since go-libp2p-kad-dht hashes every key once more.
func (k Key) Position() Position { return sha256.Sum256(k[:]) }

// String returns the key in hexadecimal.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// MarshalText implements encoding.TextMarshaler.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *Key) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(k) {
		return errors.New("dht: a key is 64 hexadecimal digits")
	}
	*k = Key(b)
	return nil
}

// Compare orders a and b by their distance to p: negative if a is nearer.
func (p Position) Compare(a, b Position) int {
	for i := range p {
		if x, y := a[i]^p[i], b[i]^p[i]; x != y {
			return bytes.Compare([]byte{x}, []byte{y})
		}
	}
	return 0
}

// CommonPrefix returns how many leading bits p and q share, 0 to 256.
func (p Position) CommonPrefix(q Position) int {
	for i := range p {
		if x := p[i] ^ q[i]; x != 0 {
			return i*8 + bits.LeadingZeros8(x)
		}
	}
	return len(p) * 8
}
