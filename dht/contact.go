package dht

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrBadContact reports a contact that cannot be used: nobody's, without or
// with too many addresses, or with an address that is too long.
var ErrBadContact = errors.New("dht: not a contact (expected a multiaddr ending in /p2p/12D3KooW…)")

// A Contact says where a participant can be reached. Contacts travel between
// peers and are only hints: whoever answers there must prove the identity.
type Contact struct {
	ID    PeerID
	Addrs []string // multiaddrs without /p2p/, at most MaxAddrs
}

// p2pPart precedes the peer ID in a full multiaddr.
const p2pPart = "/p2p/"

// ParseContact reads a full multiaddr, "/ip4/192.0.2.1/udp/4001/quic-v1/p2p/12D3KooW…".
// It looks at the outer shape only; whether the address can be dialled is
// for the transport to say. The error wraps ErrBadContact.
func ParseContact(s string) (Contact, error) {
	if len(s) > MaxAddrBytes+64 {
		return Contact{}, fmt.Errorf("parse address of %d characters: %w", len(s), ErrBadContact)
	}
	at := strings.LastIndex(s, p2pPart)
	if at < 0 || !strings.HasPrefix(s, "/") {
		return Contact{}, fmt.Errorf("parse address %q: %w", s, ErrBadContact)
	}
	id, err := ParsePeerID(s[at+len(p2pPart):])
	if err != nil {
		return Contact{}, fmt.Errorf("parse address %q: %w: %w", s, ErrBadContact, err)
	}
	c := Contact{ID: id}
	if at > 0 {
		c.Addrs = []string{s[:at]}
	}
	return c, c.Check()
}

// FullAddrs returns the addresses with the identity at their end, as
// ParseContact reads them.
func (c Contact) FullAddrs() []string {
	full := make([]string, len(c.Addrs))
	for i, a := range c.Addrs {
		full[i] = a + p2pPart + c.ID.String()
	}
	return full
}

// Check returns an error wrapping ErrBadContact if c breaks a limit.
// A contact without addresses is good: its holder may be connected already.
func (c Contact) Check() error {
	if c.ID.IsZero() {
		return fmt.Errorf("contact without identity: %w", ErrBadContact)
	}
	if len(c.Addrs) > MaxAddrs {
		return fmt.Errorf("contact with %d addresses, limit %d: %w", len(c.Addrs), MaxAddrs, ErrBadContact)
	}
	for _, a := range c.Addrs {
		if len(a) > MaxAddrBytes || !strings.HasPrefix(a, "/") {
			return fmt.Errorf("contact with address %.64q: %w", a, ErrBadContact)
		}
	}
	return nil
}

// Clone returns a copy that shares nothing with c.
func (c Contact) Clone() Contact { return Contact{ID: c.ID, Addrs: slices.Clone(c.Addrs)} }

// String returns the first full address, or the identity alone.
func (c Contact) String() string {
	if len(c.Addrs) == 0 {
		return p2pPart + c.ID.String()
	}
	return c.Addrs[0] + p2pPart + c.ID.String()
}
