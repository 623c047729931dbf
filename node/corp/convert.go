package corp

import (
	"fmt"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/wire"
)

// document returns the envelope in a response.
func document(resp *wire.CorpResponse) (*ledger.Envelope, error) {
	return ledger.UnmarshalEnvelope(resp.GetDocument().GetEnvelope())
}

func idFromWire(b []byte) (ledger.ID, error) {
	if len(b) != len(ledger.ID{}) {
		return ledger.ID{}, fmt.Errorf("%w: ID of %d bytes", ledger.ErrMalformed, len(b))
	}
	return ledger.ID(b), nil
}

// optionalID reads an ID that may be absent.
func optionalID(b []byte) (ledger.ID, error) {
	if len(b) == 0 {
		return ledger.ID{}, nil
	}
	return idFromWire(b)
}

func peerFromWire(b []byte) (dht.PeerID, error) {
	if len(b) != len(dht.PeerID{}) {
		return dht.PeerID{}, fmt.Errorf("%w: peer of %d bytes", ledger.ErrMalformed, len(b))
	}
	return dht.PeerID(b), nil
}

// optionalPeer reads a peer ID that may be absent.
func optionalPeer(b []byte) (dht.PeerID, error) {
	if len(b) == 0 {
		return dht.PeerID{}, nil
	}
	return peerFromWire(b)
}

func linkFromWire(b []byte) (ledger.Link, error) {
	c, err := cid.Cast(b)
	if err != nil {
		return ledger.Link{}, fmt.Errorf("%w: link: %w", ledger.ErrMalformed, err)
	}
	return ledger.Link{Cid: c}, nil
}

func rolesFromWire(in []string) []ledger.Role {
	roles := make([]ledger.Role, len(in))
	for i, r := range in {
		roles[i] = ledger.Role(r)
	}
	return roles
}

func orderToWire(o ledger.OrderStatus) *wire.CorpOrder {
	return &wire.CorpOrder{
		Id: o.ID[:], Client: o.Client[:], Link: o.Link.Bytes(),
		Amount: int64(o.Amount), Free: int64(o.Free), Held: int64(o.Held), Spent: int64(o.Spent),
		MaxCap: int64(o.MaxCap), Issued: o.Issued.Unix(), Expires: o.Expires.Unix(), Closed: o.Closed,
	}
}

func orderFromWire(w *wire.CorpOrder) (ledger.OrderStatus, error) {
	id, err := idFromWire(w.GetId())
	if err != nil {
		return ledger.OrderStatus{}, err
	}
	client, err := peerFromWire(w.GetClient())
	if err != nil {
		return ledger.OrderStatus{}, err
	}
	link, err := linkFromWire(w.GetLink())
	if err != nil {
		return ledger.OrderStatus{}, err
	}
	return ledger.OrderStatus{
		ID: id, Client: client, Link: link,
		Amount: ledger.Amount(w.GetAmount()), Free: ledger.Amount(w.GetFree()),
		Held: ledger.Amount(w.GetHeld()), Spent: ledger.Amount(w.GetSpent()),
		MaxCap: ledger.Amount(w.GetMaxCap()), Closed: w.GetClosed(),
		Issued: time.Unix(w.GetIssued(), 0).UTC(), Expires: time.Unix(w.GetExpires(), 0).UTC(),
	}, nil
}

func ordersFromWire(w *wire.CorpOrders) ([]ledger.OrderStatus, error) {
	orders := make([]ledger.OrderStatus, 0, len(w.GetOrders()))
	for _, o := range w.GetOrders() {
		order, err := orderFromWire(o)
		if err != nil {
			return nil, err
		}
		orders = append(orders, order)
	}
	return orders, nil
}

// oneOrder returns the only order of a response.
func oneOrder(resp *wire.CorpResponse) (ledger.OrderStatus, error) {
	orders := resp.GetOrders().GetOrders()
	if len(orders) != 1 {
		return ledger.OrderStatus{}, fmt.Errorf("%w: %d orders in the response, expected one", ledger.ErrMalformed, len(orders))
	}
	return orderFromWire(orders[0])
}

func sessionToWire(s ledger.SessionStatus, settlement *ledger.Envelope) *wire.CorpSession {
	w := &wire.CorpSession{
		Id: s.ID[:], Client: s.Client[:], Server: s.Server[:], Order: s.Order[:], Agreement: s.Agreement.Bytes(),
		Hold: int64(s.Hold), Claimed: int64(s.Claimed), Confirmed: int64(s.Confirmed), Seq: s.Seq,
		Expires: s.Expires.Unix(), Settled: s.Settled, Fee: int64(s.Fee), Released: int64(s.Released),
	}
	if settlement != nil {
		w.Settlement = settlement.Marshal()
	}
	return w
}

func sessionFromWire(w *wire.CorpSession) (SessionResult, error) {
	var r SessionResult
	var err error
	if r.ID, err = idFromWire(w.GetId()); err != nil {
		return SessionResult{}, err
	}
	if r.Client, err = peerFromWire(w.GetClient()); err != nil {
		return SessionResult{}, err
	}
	if r.Server, err = peerFromWire(w.GetServer()); err != nil {
		return SessionResult{}, err
	}
	if r.Order, err = idFromWire(w.GetOrder()); err != nil {
		return SessionResult{}, err
	}
	if r.Agreement, err = linkFromWire(w.GetAgreement()); err != nil {
		return SessionResult{}, err
	}
	if len(w.GetSettlement()) > 0 {
		if r.Settlement, err = ledger.UnmarshalEnvelope(w.GetSettlement()); err != nil {
			return SessionResult{}, err
		}
	}
	r.Hold, r.Claimed, r.Confirmed = ledger.Amount(w.GetHold()), ledger.Amount(w.GetClaimed()), ledger.Amount(w.GetConfirmed())
	r.Seq, r.Expires, r.Settled = w.GetSeq(), time.Unix(w.GetExpires(), 0).UTC(), w.GetSettled()
	r.Fee, r.Released = ledger.Amount(w.GetFee()), ledger.Amount(w.GetReleased())
	return r, nil
}

func balancesToWire(b ledger.Balances) *wire.CorpBalances {
	return &wire.CorpBalances{
		Peer: b.Peer[:], Name: b.Name, Available: int64(b.Available), Reserved: int64(b.Reserved),
		Held: int64(b.Held), Pending: int64(b.Pending),
	}
}

func balancesFromWire(w *wire.CorpBalances) (ledger.Balances, error) {
	peer, err := peerFromWire(w.GetPeer())
	if err != nil {
		return ledger.Balances{}, err
	}
	return ledger.Balances{
		Peer: peer, Name: w.GetName(), Available: ledger.Amount(w.GetAvailable()), Reserved: ledger.Amount(w.GetReserved()),
		Held: ledger.Amount(w.GetHeld()), Pending: ledger.Amount(w.GetPending()),
	}, nil
}

func accountsToWire(a *ledger.Accounts) *wire.CorpAccounts {
	w := &wire.CorpAccounts{External: int64(a.External), Fee: int64(a.Fee), Dispute: int64(a.Dispute), Sum: int64(a.Sum())}
	var others ledger.Balances // what does not fit the list, so that the sum still holds
	for i, b := range a.Peers {
		if i < MaxAccountsListed {
			w.Peers = append(w.Peers, balancesToWire(b))
			continue
		}
		others.Name = "all others"
		others.Available += b.Available
		others.Reserved += b.Reserved
		others.Held += b.Held
		others.Pending += b.Pending
	}
	if others.Name != "" {
		w.Peers = append(w.Peers, balancesToWire(others))
	}
	return w
}

// transfer is what deposits and withdrawals have in common.
type transfer struct {
	ID     ledger.ID
	Peer   dht.PeerID
	Amount ledger.Amount
	Note   string
}

func transferFromWire(w *wire.CorpTransfer) (transfer, error) {
	id, err := idFromWire(w.GetId())
	if err != nil {
		return transfer{}, err
	}
	peer, err := peerFromWire(w.GetPeer())
	if err != nil {
		return transfer{}, err
	}
	return transfer{ID: id, Peer: peer, Amount: ledger.Amount(w.GetAmount()), Note: w.GetNote()}, nil
}

func accountsFromWire(w *wire.CorpAccounts) (ledger.Accounts, error) {
	a := ledger.Accounts{
		External: ledger.Amount(w.GetExternal()), Fee: ledger.Amount(w.GetFee()), Dispute: ledger.Amount(w.GetDispute()),
	}
	for _, p := range w.GetPeers() {
		b, err := balancesFromWire(p)
		if err != nil {
			return ledger.Accounts{}, err
		}
		a.Peers = append(a.Peers, b)
	}
	if sum := a.Sum(); int64(sum) != w.GetSum() {
		return ledger.Accounts{}, fmt.Errorf("%w: accounts add up to %s, XenoCorp says %s", ledger.ErrMalformed, sum, ledger.Amount(w.GetSum()))
	}
	return a, nil
}

func accountToWire(a ledger.Account) *wire.CorpAccount {
	w := &wire.CorpAccount{Kind: string(a.Kind)}
	if !a.Peer.IsZero() {
		w.Peer = a.Peer[:]
	}
	if !a.Ref.IsZero() {
		w.Ref = a.Ref[:]
	}
	return w
}

func accountFromWire(w *wire.CorpAccount) (ledger.Account, error) {
	peer, err := optionalPeer(w.GetPeer())
	if err != nil {
		return ledger.Account{}, err
	}
	ref, err := optionalID(w.GetRef())
	if err != nil {
		return ledger.Account{}, err
	}
	return ledger.Account{Kind: ledger.AccountKind(w.GetKind()), Peer: peer, Ref: ref}, nil
}

func entryToWire(e ledger.Entry) *wire.CorpEntry {
	return &wire.CorpEntry{
		Seq: e.Seq, UnixNanos: e.Time, Kind: string(e.Kind), From: accountToWire(e.From), To: accountToWire(e.To),
		Amount: int64(e.Amount), Ref: e.Ref[:],
	}
}

func entriesFromWire(w *wire.CorpJournal) ([]ledger.Entry, error) {
	entries := make([]ledger.Entry, 0, len(w.GetEntries()))
	for _, e := range w.GetEntries() {
		from, err := accountFromWire(e.GetFrom())
		if err != nil {
			return nil, err
		}
		to, err := accountFromWire(e.GetTo())
		if err != nil {
			return nil, err
		}
		ref, err := idFromWire(e.GetRef())
		if err != nil {
			return nil, err
		}
		entries = append(entries, ledger.Entry{
			Seq: e.GetSeq(), Time: e.GetUnixNanos(), Kind: ledger.EntryKind(e.GetKind()), From: from, To: to,
			Amount: ledger.Amount(e.GetAmount()), Ref: ref,
		})
	}
	return entries, nil
}
