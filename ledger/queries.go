package ledger

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// Now returns the time of the newest command that changed the ledger.
func (s *State) Now() time.Time { return time.Unix(0, s.now) }

// Seq returns the number of the newest entry.
func (s *State) Seq() uint64 { return s.seq }

// Config returns the newest configuration.
func (s *State) Config() Configure { return s.conf }

// Revocations returns a copy of the newest list.
func (s *State) Revocations() *Revocations {
	list := s.list
	list.Serials = slices.Clone(list.Serials)
	return &list
}

// Member returns the newest credential of a peer, and whether it was revoked.
// The error wraps ErrUnknownPeer.
func (s *State) Member(peer dht.PeerID) (cred Credential, revoked bool, err error) {
	m := s.members[peer]
	if m == nil {
		return Credential{}, false, fmt.Errorf("%w: %s", ErrUnknownPeer, peer)
	}
	return m.cred, m.revoked, nil
}

// MayOperate returns nil if by is XenoCorp itself or an operator at now.
func (s *State) MayOperate(now time.Time, by dht.PeerID) error {
	b := &batch{s: s, time: max(now.UnixNano(), s.now)}
	return b.operator(by)
}

// Balances returns what a peer has.
func (s *State) Balances(peer dht.PeerID) Balances {
	b := Balances{Peer: peer}
	if sum := s.sums[peer]; sum != nil {
		b = *sum
	}
	if m := s.members[peer]; m != nil {
		b.Name = m.cred.Subject
	}
	return b
}

// Accounts returns all accounts by participant; every member has a line.
func (s *State) Accounts() Accounts {
	a := Accounts{
		External: s.balances[Account{Kind: AccountExternal}],
		Fee:      s.balances[Account{Kind: AccountFee}],
		Dispute:  s.balances[Account{Kind: AccountDispute}],
	}
	for _, peer := range slices.SortedFunc(maps.Keys(s.members), comparePeers) {
		a.Peers = append(a.Peers, s.Balances(peer))
	}
	return a
}

func comparePeers(a, b dht.PeerID) int { return bytes.Compare(a[:], b[:]) }

// Order returns an order of a client. The error wraps ErrUnknown.
func (s *State) Order(client dht.PeerID, id ID) (OrderStatus, error) {
	o := s.orders[orderKey{client, id}]
	if o == nil {
		return OrderStatus{}, fmt.Errorf("%w: order %s of %s", ErrUnknown, id, client)
	}
	return *o.status(), nil
}

// Orders returns the newest orders of a client, newest first, at most limit.
func (s *State) Orders(client dht.PeerID, limit int) []OrderStatus {
	keys := s.owners[client]
	orders := make([]OrderStatus, 0, min(limit, len(keys)))
	for i := len(keys) - 1; i >= 0 && len(orders) < limit; i-- {
		orders = append(orders, *s.orders[keys[i]].status())
	}
	return orders
}

// Session returns a session of party, and its settlement once it is settled.
// The error wraps ErrUnknown.
func (s *State) Session(party dht.PeerID, id ID) (SessionStatus, *Settlement, error) {
	x := s.sessions[id]
	if x == nil || (party != x.client && party != x.server && party != s.conf.Corp) {
		return SessionStatus{}, nil, fmt.Errorf("%w: session %s of %s", ErrUnknown, id, party)
	}
	return *x.status(), s.settlement(x), nil
}
