package ledger

import (
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/xenoserver/xeno/dht"
)

// orderKey names an order: IDs are chosen by clients, each in its own space.
type orderKey struct {
	client dht.PeerID
	id     ID
}

// An order is a purchase order. While it is open, amount = free + held + spent.
type order struct {
	key     orderKey
	link    cid.Cid
	amount  Amount
	maxCap  Amount
	servers []dht.PeerID
	issued  int64
	expires int64

	free   Amount // in its reserved account; 0 once closed
	held   Amount // holds of its live sessions, claimed or not
	spent  Amount // paid by settled sessions
	live   int    // sessions not yet settled
	closed bool
}

func (o *order) account() Account {
	return Account{Kind: AccountReserved, Peer: o.key.client, Ref: o.key.id}
}

func (o *order) status() *OrderStatus {
	return &OrderStatus{
		ID: o.key.id, Client: o.key.client, Link: Link{o.link}, Amount: o.amount, Free: o.free, Held: o.held, Spent: o.spent,
		MaxCap: o.maxCap, Issued: time.Unix(o.issued, 0).UTC(), Expires: time.Unix(o.expires, 0).UTC(), Closed: o.closed,
	}
}

func (b *batch) createOrder(c *CreateOrder) (Result, error) {
	s, doc, link := b.s, c.doc, c.Order.CID()
	if c.By != doc.Client {
		return Result{}, fmt.Errorf("%w: the order is by %s", ErrDenied, doc.Client)
	}
	key := orderKey{doc.Client, doc.ID}
	if o := s.orders[key]; o != nil {
		if o.link != link {
			return Result{}, fmt.Errorf("%w: order %s", ErrConflict, doc.ID)
		}
		return Result{Order: o.status()}, nil
	}
	if err := b.current(doc.Network, doc.Issued, doc.Expires); err != nil {
		return Result{}, fmt.Errorf("order %s: %w", doc.ID, err)
	}
	if err := b.authorised(doc.Client, RoleClient); err != nil {
		return Result{}, err
	}
	if has := s.balances[available(doc.Client)]; has < doc.Amount {
		return Result{}, fmt.Errorf("%w: %s available, the order is over %s", ErrFunds, has, doc.Amount)
	}
	if len(s.owners[doc.Client]) >= maxOrders {
		return Result{}, fmt.Errorf("%w: %d orders of one client", ErrLimit, maxOrders)
	}
	o := &order{
		key: key, link: link, amount: doc.Amount, maxCap: doc.MaxCap, servers: slices.Clone(doc.Servers),
		issued: doc.Issued, expires: doc.Expires, free: doc.Amount,
	}
	b.post(EntryReserve, available(doc.Client), o.account(), doc.Amount, doc.ID)
	s.orders[key], s.links[link] = o, key
	s.owners[doc.Client] = append(s.owners[doc.Client], key)
	s.due.push(dueItem{at: o.expires, what: dueOrder, order: key})
	return Result{Changed: true, Order: o.status()}, nil
}

func (b *batch) cancelOrder(c *CancelOrder) (Result, error) {
	o := b.s.orders[orderKey{c.By, c.Order}]
	if o == nil {
		return Result{}, fmt.Errorf("%w: order %s of %s", ErrUnknown, c.Order, c.By)
	}
	changed := b.closeOrder(o)
	return Result{Changed: changed, Order: o.status()}, nil
}

// closeOrder returns what no session holds, and lets no session begin or grow.
func (b *batch) closeOrder(o *order) bool {
	if o.closed {
		return false
	}
	b.post(EntryUnreserve, o.account(), available(o.key.client), o.free, o.key.id)
	o.free, o.closed = 0, true
	b.s.due.push(dueItem{at: max(b.unix(), o.expires) + retention, what: dueForgetOrder, order: o.key})
	return true
}

// forgetOrder drops a closed order, which no repetition can revive since it has
// expired. Sessions that still run on it keep it.
func (b *batch) forgetOrder(o *order) {
	if o.live > 0 {
		b.s.due.push(dueItem{at: b.unix() + retention, what: dueForgetOrder, order: o.key})
		return
	}
	delete(b.s.orders, o.key)
	delete(b.s.links, o.link)
	rest := slices.DeleteFunc(b.s.owners[o.key.client], func(k orderKey) bool { return k == o.key })
	if b.s.owners[o.key.client] = rest; len(rest) == 0 {
		delete(b.s.owners, o.key.client)
	}
}

// current checks that a document is of this network and holds now.
func (b *batch) current(network string, issued, expires int64) error {
	if network != b.s.conf.Network {
		return fmt.Errorf("%w: %q, expected %q", ErrWrongNetwork, network, b.s.conf.Network)
	}
	return checkWindow(b.now(), issued, expires, MaxSkew)
}
