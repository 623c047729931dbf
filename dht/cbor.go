package dht

import (
	"crypto/ed25519"
	"errors"
)

// UnmarshalCBOR implements the interface of CBOR libraries: a byte string of
// exactly 32 bytes (58 20 …), which a library alone would fill up or cut off.
func (id *PeerID) UnmarshalCBOR(b []byte) error {
	if len(b) != 2+ed25519.PublicKeySize || b[0] != 0x58 || b[1] != ed25519.PublicKeySize {
		return errors.New("dht: an identity in CBOR is a byte string of 32 bytes")
	}
	*id = PeerID(b[2:])
	return nil
}
