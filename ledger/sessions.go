package ledger

import (
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/xenoserver/xeno/dht"
)

// A session is an authorised agreement. Once settled it keeps only what
// repetitions ask for: the terms and the receipt's content are dropped.
type session struct {
	id        ID
	client    dht.PeerID
	server    dht.PeerID
	order     orderKey
	agreement *Agreement // newest revision, without what no bound needs; nil once settled
	revisions []cid.Cid  // oldest first
	hold      Amount     // the cap
	issued    int64      // of the newest authorisation
	started   int64      // of the first one
	expires   int64      // of the hold

	claimed   Amount // cumulative
	confirmed Amount // of that, countersigned by the client
	seq       uint64 // of the newest receipt
	receipt   cid.Cid
	last      *Receipt // the newest receipt; nil before the first and once settled

	settled  bool
	fee      Amount
	released Amount
	ended    int64 // when it was settled
}

func (s *session) held() Account { return Account{Kind: AccountHeld, Peer: s.client, Ref: s.id} }

func (s *session) pending() Account { return Account{Kind: AccountPending, Peer: s.server, Ref: s.id} }

func (s *session) newest() cid.Cid { return s.revisions[len(s.revisions)-1] }

func (s *session) status() *SessionStatus {
	return &SessionStatus{
		ID: s.id, Client: s.client, Server: s.server, Order: s.order.id, Agreement: Link{s.newest()}, Hold: s.hold,
		Claimed: s.claimed, Confirmed: s.confirmed, Seq: s.seq, Expires: time.Unix(s.expires, 0).UTC(),
		Settled: s.settled, Fee: s.fee, Released: s.released,
	}
}

// result is what Claim and Release return.
func (b *batch) result(s *session, changed bool) (Result, error) {
	return Result{Changed: changed, Session: s.status(), Settlement: b.s.settlement(s)}, nil
}

func (s *State) settlement(x *session) *Settlement {
	if !x.settled {
		return nil
	}
	return &Settlement{
		Network: s.conf.Network, Agreement: Link{x.newest()}, Paid: x.claimed, Fee: x.fee, Released: x.released, Issued: x.ended,
	}
}

func (s *State) authorization(x *session) *Authorization {
	return &Authorization{
		Network: s.conf.Network, Agreement: Link{x.newest()}, Hold: x.hold, Issued: x.issued, Expires: x.expires,
	}
}

func (b *batch) authorise(c *Authorise) (Result, error) {
	s, doc, link := b.s, c.doc, c.Agreement.CID()
	if c.By != doc.Client {
		return Result{}, fmt.Errorf("%w: the agreement is by client %s", ErrDenied, doc.Client)
	}
	x := s.sessions[doc.ID]
	if x != nil {
		switch {
		case !slices.Contains(x.revisions, link) && (x.settled || !amends(doc, x.agreement, Link{x.newest()})):
			return Result{}, fmt.Errorf("%w: session %s", ErrConflict, doc.ID)
		case x.settled:
			return Result{}, fmt.Errorf("%w: session %s is settled", ErrClosed, doc.ID)
		case link == x.newest():
			return Result{Authorization: s.authorization(x), Session: x.status()}, nil
		case slices.Contains(x.revisions, link):
			return Result{}, fmt.Errorf("%w: session %s has a newer revision", ErrConflict, doc.ID)
		}
	} else if doc.Revision > 0 {
		return Result{}, fmt.Errorf("%w: session %s, whose agreement this one amends", ErrUnknown, doc.ID)
	}
	o, err := b.fundable(doc, x)
	if err != nil {
		return Result{}, err
	}
	if x == nil {
		x = &session{id: doc.ID, client: doc.Client, server: doc.Server, order: o.key, started: b.unix()}
		s.sessions[x.id] = x
		o.live++
	}
	b.post(EntryHold, o.account(), x.held(), doc.Cap-x.hold, doc.ID)
	o.free -= doc.Cap - x.hold
	o.held += doc.Cap - x.hold
	x.hold, x.issued, x.expires = doc.Cap, b.unix(), doc.Expires+s.conf.ClaimGrace
	x.revisions = append(x.revisions, link)
	x.agreement = bounds(doc)
	s.agreed[link] = x.id
	s.due.push(dueItem{at: x.expires, what: dueSession, session: x.id})
	return Result{Changed: true, Authorization: s.authorization(x), Session: x.status()}, nil
}

// fundable checks that the agreement holds, that both parties may, and that
// the order has the money. x is the session that doc amends, nil for a new one.
func (b *batch) fundable(doc *Agreement, x *session) (*order, error) {
	if err := b.current(doc.Network, doc.Issued, doc.Expires); err != nil {
		return nil, fmt.Errorf("agreement %s: %w", doc.ID, err)
	}
	if err := b.authorised(doc.Client, RoleClient); err != nil {
		return nil, err
	}
	if err := b.authorised(doc.Server, RoleServer); err != nil {
		return nil, err
	}
	key, ok := b.s.links[doc.Order.Cid]
	if !ok || key.client != doc.Client {
		return nil, fmt.Errorf("%w: order %s of %s", ErrUnknown, doc.Order, doc.Client)
	}
	o, grown := b.s.orders[key], doc.Cap
	if x != nil {
		grown -= x.hold
	}
	switch {
	case o.closed:
		return nil, fmt.Errorf("%w: order %s", ErrClosed, key.id)
	case len(o.servers) > 0 && !slices.Contains(o.servers, doc.Server):
		return nil, fmt.Errorf("%w: order %s is not for server %s", ErrDenied, key.id, doc.Server)
	case o.maxCap > 0 && doc.Cap > o.maxCap:
		return nil, fmt.Errorf("%w: a session may hold %s of order %s, not %s", ErrFunds, o.maxCap, key.id, doc.Cap)
	case grown > o.free:
		return nil, fmt.Errorf("%w: %s free in order %s, %s more asked for", ErrFunds, o.free, key.id, grown)
	case x == nil && o.live >= maxSessions:
		return nil, fmt.Errorf("%w: %d sessions on one order", ErrLimit, maxSessions)
	}
	return o, nil
}

// amends tells whether next is the amendment of prev, whose link is link: the
// next revision, in which at most Cap, Expires and Issued grew.
func amends(next, prev *Agreement, link Link) bool {
	if next.Revision != prev.Revision+1 || next.Prev != link || next.Cap < prev.Cap || next.Expires < prev.Expires ||
		next.Issued < prev.Issued {
		return false
	}
	a, b := bounds(next), *prev
	a.Revision, a.Prev, a.Cap, a.Issued, a.Expires = b.Revision, b.Prev, b.Cap, b.Issued, b.Expires
	x, errX := encode(a)
	y, errY := encode(&b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// bounds returns a copy of a without what neither a bound nor a price needs,
// but with a hash of that, so that amendments can be compared.
func bounds(a *Agreement) *Agreement {
	short := *a
	t := &short.Terms
	rest := Terms{Args: t.Args, Env: t.Env, Stdin: t.Stdin, SSHKeys: t.SSHKeys, HostKey: t.HostKey}
	t.HostKey = payloadCID(must(encode(&rest))).String()
	t.Args, t.Env, t.Stdin, t.SSHKeys = nil, nil, nil, nil
	return &short
}

func (b *batch) claim(c *Claim) (Result, error) {
	s, doc, link := b.s, c.doc, c.Receipt.CID()
	id, ok := s.agreed[doc.Agreement.Cid]
	if !ok {
		return Result{}, fmt.Errorf("%w: session with agreement %s", ErrUnknown, doc.Agreement)
	}
	x := s.sessions[id]
	if c.By != x.server && c.By != x.client {
		return Result{}, fmt.Errorf("%w: session %s is of others", ErrDenied, id)
	}
	if doc.Server != x.server {
		return Result{}, fmt.Errorf("%w: session %s is not of server %s", ErrBadReceipt, id, doc.Server)
	}
	countersigned := c.Receipt.SignedBy(x.client)
	switch {
	case doc.Seq < x.seq:
		return b.result(x, false) // an older receipt changes nothing
	case doc.Seq == x.seq && link != x.receipt:
		return Result{}, fmt.Errorf("%w: receipt %d of session %s", ErrConflict, doc.Seq, id)
	case doc.Seq == x.seq:
		changed := !x.settled && countersigned && doc.Amount > x.confirmed
		if changed {
			x.confirmed = doc.Amount
		}
		return b.result(x, changed)
	case x.settled:
		return Result{}, fmt.Errorf("%w: session %s is settled", ErrClosed, id)
	}
	if err := doc.Check(b.now(), x.agreement, x.last, Link{x.receipt}); err != nil {
		return Result{}, fmt.Errorf("session %s: %w", id, err)
	}
	if doc.From < (x.started-int64(MaxSkew/time.Second))*1000 {
		return Result{}, fmt.Errorf("%w: session %s began before it was authorised", ErrBadReceipt, id)
	}
	b.post(EntryClaim, x.held(), x.pending(), doc.Amount-x.claimed, id)
	x.claimed, x.seq, x.receipt, x.last = doc.Amount, doc.Seq, link, doc
	if countersigned {
		x.confirmed = doc.Amount
	}
	if doc.Final {
		b.settle(x)
	}
	return b.result(x, true)
}

func (b *batch) release(c *Release) (Result, error) {
	x := b.s.sessions[c.Session]
	if x == nil {
		return Result{}, fmt.Errorf("%w: session %s", ErrUnknown, c.Session)
	}
	if c.By != x.server {
		return Result{}, fmt.Errorf("%w: only server %s may release session %s", ErrDenied, x.server, x.id)
	}
	if x.settled {
		return b.result(x, false)
	}
	b.settle(x)
	return b.result(x, true)
}

// settle pays the server what was claimed, less the fee, and returns the rest
// of the hold to the order, or to the client if that is closed.
func (b *batch) settle(x *session) {
	o := b.s.orders[x.order]
	x.fee = Amount(mulDivUint(uint64(x.claimed), uint64(b.s.conf.FeePermille), 1000))
	x.released = x.hold - x.claimed
	b.post(EntryFee, x.pending(), Account{Kind: AccountFee}, x.fee, x.id)
	b.post(EntryPay, x.pending(), available(x.server), x.claimed-x.fee, x.id)
	if o.closed {
		b.post(EntryRelease, x.held(), available(x.client), x.released, x.id)
	} else {
		b.post(EntryRelease, x.held(), o.account(), x.released, x.id)
		o.free += x.released
	}
	o.held -= x.hold
	o.spent += x.claimed
	o.live--
	x.settled, x.ended = true, b.unix()
	forget := max(x.ended, x.agreement.Expires) + retention
	x.agreement, x.last = nil, nil
	b.s.due.push(dueItem{at: forget, what: dueForgetSession, session: x.id})
}

// forgetSession drops a settled session. Its agreement has expired, so no
// repetition can revive it.
func (b *batch) forgetSession(x *session) {
	for _, link := range x.revisions {
		delete(b.s.agreed, link)
	}
	delete(b.s.sessions, x.id)
}
