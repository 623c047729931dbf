package store

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
)

// Errors of names.
var (
	// ErrBadName reports a record that no holder accepts: limits, times,
	// owner or signature.
	ErrBadName = errors.New("store: bad name record")
	// ErrConflict reports that another version of the name is newer than the
	// one that the writer built on: read it, and publish again.
	ErrConflict = errors.New("store: name has a newer version")
	// ErrNoName reports a name that nobody published, or that has expired.
	ErrNoName = errors.New("store: no such name")
)

// A Name is one version of a signed mutable record. The pair (Owner, Label)
// is what is looked up; of two versions the one with the greater Seq counts.
// A writer names the version that it builds on, and a holder refuses when it
// has a newer one: of several that build on one version, at most one reaches a
// majority of the holders.
type Name struct {
	Network string      `cbor:"network"`
	Owner   dht.PeerID  `cbor:"owner"`
	Label   string      `cbor:"label"`   // 1 to MaxLabel bytes, UTF-8 without control characters
	Seq     uint64      `cbor:"seq"`     // from 1
	Value   []byte      `cbor:"value"`   // inline, at most MaxValue bytes; empty where Link is set
	Link    ledger.Link `cbor:"link"`    // to content that is not inline
	Issued  int64       `cbor:"issued"`  // Unix seconds
	Expires int64       `cbor:"expires"` // Unix seconds, at most MaxLife after Issued
}

// Key returns where the name lives: with the participants nearest to it.
func (n *Name) Key() dht.Key { return NameKey(n.Owner, n.Label) }

// NameKey returns the key of the name label of owner: the 32 bytes of the
// owner's public key and the label, in the keyspace of names.
func NameKey(owner dht.PeerID, label string) dht.Key {
	return dht.KeyspaceName.Key(append(owner[:len(owner):len(owner)], label...))
}

// CheckLabel returns an error that wraps ErrBadName if label cannot be one.
func CheckLabel(label string) error {
	switch {
	case label == "" || len(label) > MaxLabel:
		return fmt.Errorf("%w: label of %d bytes, allowed are 1 to %d", ErrBadName, len(label), MaxLabel)
	case !utf8.ValidString(label) || strings.ContainsFunc(label, isControl):
		return fmt.Errorf("%w: label %.40q is not printable UTF-8", ErrBadName, label)
	}
	return nil
}

func isControl(r rune) bool { return r < 0x20 || 0x7f <= r && r < 0xa0 }

// check returns an error that wraps ErrBadName unless n keeps its limits.
func (n *Name) check() error {
	if err := CheckLabel(n.Label); err != nil {
		return err
	}
	switch {
	case n.Owner.IsZero():
		return fmt.Errorf("%w: no owner", ErrBadName)
	case n.Seq == 0:
		return fmt.Errorf("%w: version 0, versions begin at 1", ErrBadName)
	case len(n.Value) > MaxValue:
		return fmt.Errorf("%w: value of %d bytes, limit %d: add it as content and link to it", ErrBadName, len(n.Value), MaxValue)
	case n.Link.Defined() && len(n.Value) > 0:
		return fmt.Errorf("%w: both a value and a link", ErrBadName)
	case n.Issued < 0 || n.Expires <= n.Issued || n.Expires-n.Issued > int64(MaxLife/time.Second):
		return fmt.Errorf("%w: life from %d to %d, at most %s", ErrBadName, n.Issued, n.Expires, MaxLife)
	}
	if n.Link.Defined() {
		if err := CheckCID(n.Link.Cid); err != nil {
			return fmt.Errorf("%w: link: %w", ErrBadName, err)
		}
	}
	return nil
}

// SealName signs n with its owner's key. The error wraps ErrBadName.
func SealName(n Name, key ed25519.PrivateKey) (*ledger.Envelope, error) {
	if err := n.check(); err != nil {
		return nil, err
	}
	if n.Owner != dht.PeerIDFromKey(key.Public().(ed25519.PublicKey)) {
		return nil, fmt.Errorf("%w: owner %s does not hold the key", ErrBadName, n.Owner)
	}
	env, err := ledger.Seal(ledger.KindName, n, key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadName, err)
	}
	return env, nil
}

// OpenName verifies a record as it came over the wire, and that it holds at
// now. The error wraps ErrBadName, and ledger.ErrExpired or
// ledger.ErrWrongNetwork where it is that.
func OpenName(record []byte, network string, now time.Time) (*Record, error) {
	r, err := DecodeName(record, network)
	if err != nil {
		return nil, err
	}
	if r.Issued > now.Add(MaxSkew).Unix() {
		return nil, fmt.Errorf("%w: issued %d s in the future: check the clocks", ErrBadName, r.Issued-now.Unix())
	}
	if r.Expires <= now.Unix() {
		return nil, fmt.Errorf("%w: %w at %s", ErrBadName, ledger.ErrExpired, time.Unix(r.Expires, 0).UTC().Format(time.RFC3339))
	}
	return r, nil
}

// DecodeName verifies form, limits, network and the signature, by the owner
// alone, but not the time. It keeps record. Errors are those of OpenName.
func DecodeName(record []byte, network string) (*Record, error) {
	if len(record) > MaxRecord {
		return nil, fmt.Errorf("%w: record of %d bytes, limit %d", ErrBadName, len(record), MaxRecord)
	}
	env, err := ledger.UnmarshalEnvelope(record)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadName, err)
	}
	var n Name
	if err := env.Open(ledger.KindName, &n); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadName, err)
	}
	if len(env.Signatures) != 1 || !env.SignedBy(n.Owner) {
		return nil, fmt.Errorf("%w: not signed by its owner alone", ErrBadName)
	}
	if err := n.check(); err != nil {
		return nil, err
	}
	if n.Network != network {
		return nil, fmt.Errorf("%w: %w: %.40q, this is %q", ErrBadName, ledger.ErrWrongNetwork, n.Network, network)
	}
	return &Record{Name: n, Bytes: record, payload: env.Payload}, nil
}

// A Record is a verified name with the exact bytes that carry it. It is not
// changed after it was made.
type Record struct {
	Name
	Bytes   []byte // the envelope
	payload []byte
}

// Newer tells whether r counts against o, which may be nil. Of two versions
// with one Seq, which only an owner that signs twice can make, all readers
// take the one whose payload is greater. Newer is a strict total order over
// the records of a name with distinct payloads.
func (r *Record) Newer(o *Record) bool {
	if o == nil || r.Seq != o.Seq {
		return o == nil || r.Seq > o.Seq
	}
	return bytes.Compare(r.payload, o.payload) > 0
}

// Same tells whether r and o are the same version with the same content.
func (r *Record) Same(o *Record) bool {
	return o != nil && bytes.Equal(r.payload, o.payload)
}
