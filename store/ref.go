package store

import (
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
)

// ErrBadRef reports text or a CID that XenoStore does not accept.
var ErrBadRef = errors.New("store: not a reference (expected a CID over SHA-256 of raw, dag-pb or dag-cbor content, such as bafybei…)")

// A Ref names content by its hash: a CID over SHA-256 of a raw, dag-pb or
// dag-cbor block. It is comparable. The zero Ref names nothing.
type Ref struct{ c cid.Cid }

// ParseRef reads the text form of a CID, in any base and version.
// The error wraps ErrBadRef.
func ParseRef(s string) (Ref, error) {
	if len(s) > maxRefText {
		return Ref{}, fmt.Errorf("parse %d characters: %w", len(s), ErrBadRef)
	}
	c, err := cid.Decode(s)
	if err != nil {
		return Ref{}, fmt.Errorf("parse %q: %w", s, ErrBadRef)
	}
	return RefOf(c)
}

// RefOf returns the reference to what c names. A CIDv0 becomes the CIDv1 of
// the same content. The error wraps ErrBadRef.
func RefOf(c cid.Cid) (Ref, error) {
	if err := CheckCID(c); err != nil {
		return Ref{}, err
	}
	if c.Version() == 0 {
		c = cid.NewCidV1(cid.DagProtobuf, c.Hash())
	}
	return Ref{c}, nil
}

// CheckCID tells whether XenoStore keeps and fetches what c names. Every
// link of a foreign DAG passes through it: one hash function, and no identity
// CIDs, which are content rather than references. The error wraps ErrBadRef.
func CheckCID(c cid.Cid) error {
	if !c.Defined() {
		return fmt.Errorf("empty: %w", ErrBadRef)
	}
	p := c.Prefix()
	if p.MhType != multihash.SHA2_256 || p.MhLength != 32 {
		return fmt.Errorf("%s: hash function: %w", c, ErrBadRef)
	}
	switch p.Codec {
	case cid.Raw, cid.DagProtobuf, cid.DagCBOR:
		return nil
	}
	return fmt.Errorf("%s: codec: %w", c, ErrBadRef)
}

// CID returns the CID.
func (r Ref) CID() cid.Cid { return r.c }

// IsZero tells whether r names nothing.
func (r Ref) IsZero() bool { return !r.c.Defined() }

// String returns the CIDv1 in base32, empty for the zero Ref.
func (r Ref) String() string {
	if r.IsZero() {
		return ""
	}
	return r.c.String()
}

// MarshalText implements encoding.TextMarshaler.
func (r Ref) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Ref) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*r = Ref{}
		return nil
	}
	parsed, err := ParseRef(string(text))
	if err != nil {
		return err
	}
	*r = parsed
	return nil
}
