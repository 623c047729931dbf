package search

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
)

// ErrBadAd reports an ad that breaks a limit, the schema or its own dates.
var ErrBadAd = errors.New("search: bad advertisement")

// An Ad is a server's description of itself, the payload of an envelope of
// ledger.KindAd signed by Server.
type Ad struct {
	Network string     `cbor:"network" json:"network"`
	Server  dht.PeerID `cbor:"server" json:"server"`
	Addrs   []string   `cbor:"addrs" json:"addrs"` // multiaddrs, with or without /p2p/
	Seq     uint64     `cbor:"seq" json:"seq"`     // grows with every ad of this server; the highest counts
	Issued  int64      `cbor:"issued" json:"issued"`
	Expires int64      `cbor:"expires" json:"expires"` // Unix seconds
	// Credential is the server's credential envelope, so that whoever holds
	// the ad can tell who owns the server.
	Credential []byte `cbor:"credential" json:"-"`
	// Attributes are the claims by dimension. DimServer and DimOwner are not
	// claimed: Open derives them.
	Attributes Attributes `cbor:"attributes" json:"attributes"`
}

// A Signed is an ad that was verified, with the envelope that proves it.
// It is immutable and may be shared.
type Signed struct {
	Ad       *Ad
	Envelope []byte // marshalled ledger.Envelope
	hash     Hash
	size     int
	group    string // of its addresses
}

// Hash returns the hash of the ad's server, by which samples are drawn and what
// is equal otherwise is ordered.
func (s *Signed) Hash() Hash { return s.hash }

// A Vouch tells who stands behind a server: it verifies the credential that
// came with the ad and returns the registered subject.
type Vouch func(server dht.PeerID, credential []byte) (subject string, err error)

// Sign checks ad against the schema and returns it sealed by key, opened as a
// receiver would see it (with owner as its owner). The caller gives up ad.
// Errors wrap ErrBadAd.
func (s *Schema) Sign(ad *Ad, key ed25519.PrivateKey, owner string) (*Signed, error) {
	if id := dht.PeerIDFromKey(key.Public().(ed25519.PublicKey)); ad.Server != id {
		return nil, fmt.Errorf("%w: of server %s, signed by %s", ErrBadAd, ad.Server, id)
	}
	ad.Attributes = ad.Attributes.With(DimServer, Value{}).With(DimOwner, Value{})
	if err := s.checkAd(ad); err != nil {
		return nil, err
	}
	env, err := ledger.Seal(ledger.KindAd, ad, key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadAd, err)
	}
	if len(env.Payload) > MaxAd {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrBadAd, len(env.Payload), MaxAd)
	}
	return s.newSigned(ad, env.Marshal(), owner), nil
}

// Open verifies a marshalled envelope and returns the ad in it: signature of
// the server, network, dates at now, schema, limits, and what vouch says of
// its owner. Errors wrap ErrBadAd and, where it applies, a ledger error.
func (s *Schema) Open(envelope []byte, network string, now time.Time, vouch Vouch) (*Signed, error) {
	if len(envelope) > MaxAdEnvelope {
		return nil, fmt.Errorf("%w: envelope of %d bytes, limit %d", ErrBadAd, len(envelope), MaxAdEnvelope)
	}
	env, err := ledger.UnmarshalEnvelope(envelope)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadAd, err)
	}
	ad := new(Ad)
	if len(env.Payload) > MaxAd || len(env.Signatures) != 1 {
		return nil, fmt.Errorf("%w: %d bytes with %d signatures", ErrBadAd, len(env.Payload), len(env.Signatures))
	}
	if err := env.Open(ledger.KindAd, ad, env.Signatures[0].Key); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadAd, err)
	}
	if ad.Server != env.Signatures[0].Key {
		return nil, fmt.Errorf("%w: of server %s, signed by %s: %w", ErrBadAd, ad.Server, env.Signatures[0].Key, ledger.ErrNotSigned)
	}
	if ad.Network != network {
		return nil, fmt.Errorf("%w: %w: %.40q", ErrBadAd, ledger.ErrWrongNetwork, ad.Network)
	}
	if err := ad.checkTime(now); err != nil {
		return nil, err
	}
	if err := s.checkAd(ad); err != nil {
		return nil, err
	}
	owner, err := vouch(ad.Server, ad.Credential)
	if err != nil {
		return nil, fmt.Errorf("%w: credential of %s: %w", ErrBadAd, ad.Server, err)
	}
	envelope = slices.Clone(envelope)
	if at := bytes.Index(envelope, ad.Credential); at >= 0 {
		end := at + len(ad.Credential)
		ad.Credential = envelope[at:end:end] // once is enough
	}
	ad.Network = network
	s.intern(ad.Attributes)
	return s.newSigned(ad, envelope, owner), nil
}

func (s *Schema) newSigned(ad *Ad, envelope []byte, owner string) *Signed {
	ad.Attributes = s.Attributes(ad.Attributes.All())
	// The ad keeps what Open derives among them, where lookups find it.
	at, _ := s.layout.find(DimServer)
	ad.Attributes.values[at] = Text(ad.Server.String())
	if owner != "" {
		at, _ = s.layout.find(DimOwner)
		ad.Attributes.values[at] = Text(owner)
	}
	return &Signed{Ad: ad, Envelope: envelope, hash: HashOf(ad.Server), size: len(envelope), group: groupOf(ad.Addrs)}
}

// Assume returns ad as if Open had taken it from an envelope and owner stood
// behind it. Nothing is checked and there is no envelope, so nobody else can
// be convinced by it: for simulators, where signing a million ads would cost
// more than the search. The caller gives up ad.
func (s *Schema) Assume(ad *Ad, owner string) *Signed { return s.newSigned(ad, nil, owner) }

// ExpiresAt returns when the ad ceases to hold.
func (a *Ad) ExpiresAt() time.Time { return time.Unix(a.Expires, 0) }

// Attribute returns the ad's value for a dimension.
func (a *Ad) Attribute(dim string) (Value, bool) {
	v := a.Attributes.Get(dim)
	return v, !v.IsZero()
}

// Contact returns how to reach the server.
func (a *Ad) Contact() dht.Contact { return dht.Contact{ID: a.Server, Addrs: a.Addrs} }

func (a *Ad) checkTime(now time.Time) error {
	if a.Issued > now.Add(MaxClockSkew).Unix() {
		return fmt.Errorf("%w: issued at %s, in the future: check the clocks", ErrBadAd, time.Unix(a.Issued, 0).UTC().Format(time.RFC3339))
	}
	if now.Unix() >= a.Expires {
		return fmt.Errorf("%w: %w at %s", ErrBadAd, ledger.ErrExpired, time.Unix(a.Expires, 0).UTC().Format(time.RFC3339))
	}
	return nil
}

// checkAd checks what does not depend on the time.
func (s *Schema) checkAd(a *Ad) error {
	if a.Server.IsZero() {
		return fmt.Errorf("%w: no server", ErrBadAd)
	}
	if a.Expires <= a.Issued || a.Expires-a.Issued > int64(MaxAdLife/time.Second) {
		return fmt.Errorf("%w: it must expire within %s of its issue", ErrBadAd, MaxAdLife)
	}
	if len(a.Addrs) > maxAddrs {
		return fmt.Errorf("%w: %d addresses, limit %d", ErrBadAd, len(a.Addrs), maxAddrs)
	}
	for _, addr := range a.Addrs {
		if addr == "" || len(addr) > maxAddr {
			return fmt.Errorf("%w: address of %d bytes, limit %d", ErrBadAd, len(addr), maxAddr)
		}
	}
	if n := a.Attributes.Len(); n > maxAttributes {
		return fmt.Errorf("%w: %d attributes, limit %d", ErrBadAd, n, maxAttributes)
	}
	for name, v := range a.Attributes.All() {
		if name == DimServer || name == DimOwner {
			return fmt.Errorf("%w: %s is not for the ad to claim", ErrBadAd, name)
		}
		d, ok := s.Dimension(name)
		if !ok {
			return fmt.Errorf("%w: attribute %.40q is not in the schema of this network", ErrBadAd, name)
		}
		if err := v.check(d); err != nil {
			return fmt.Errorf("%w: %w", ErrBadAd, err)
		}
	}
	return nil
}
