package search

import (
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// Holders of a cell get its ads from their publishers. Whoever has just become
// one of the closest to a cell, and whoever missed a message, gets what it
// lacks from the other holders: at once where somebody takes it for a holder,
// and by comparing with its neighbours in turn.

// Neighbourhood tells a Holder who is nearest to it in the overlay, as far as
// it knows, nearest first. It is due as ReconcileAfter says, and makes the Holder
// compare with one of them.
type Neighbourhood struct {
	Self dht.PeerID
	Near []dht.Contact
}

// Reconcile asks for the cells here that From should hold, too; answered by an
// Inventory.
type Reconcile struct{ From dht.PeerID }

// Reconciled is the answer to a SendReconcile.
type Reconciled struct {
	From      dht.Contact
	Inventory Inventory
}

// Fetch asks for the leases of a cell that the asker lacks; answered by a Handed.
type Fetch struct {
	Cell CellID
	Have []uint64 // the leading 64 bits of the server hashes it has, ascending
}

// Fetched is the answer to a SendFetch.
type Fetched struct {
	From   dht.Contact
	Cell   CellID
	Handed Handed
}

// Handed is what a holder has of a cell and the asker lacks.
type Handed struct {
	Inner  bool
	Leases []Lease
	More   bool // that did not fit
}

// A Inventory is the cells that the asker should hold.
type Inventory []Held

// Held says which leases of a cell a holder has: holders with equal digests
// have the same servers, whatever the version of their ads.
type Held struct {
	Cell   CellID
	Digest uint64
}

// SendReconcile wants to know what a neighbour has that belongs here as well.
type SendReconcile struct{ To dht.Contact }

// SendFetch wants what a neighbour has of a cell beside Have.
type SendFetch struct {
	To   dht.Contact
	Cell CellID
	Have []uint64
}

func (Neighbourhood) holderInput()  {}
func (Reconcile) holderInput()      {}
func (Reconciled) holderInput()     {}
func (Fetch) holderInput()          {}
func (Fetched) holderInput()        {}
func (Inventory) holderEffect()     {}
func (Handed) holderEffect()        {}
func (SendReconcile) holderEffect() {}
func (SendFetch) holderEffect()     {}

// ReconcileAfter returns how long to wait before the n-th Neighbourhood, from 0:
// who has just joined hears of all its cells within half a minute.
func ReconcileAfter(n int) time.Duration {
	if n < ReconcileNear {
		return reconcileAtFirst
	}
	return reconcileEvery
}

// A neighbour is a participant near to a Holder.
type neighbour struct {
	dht.Contact
	at dht.Position
}

// A neighbourhood is what a Holder knows of those around it.
type neighbourhood struct {
	self   dht.Position
	near   []neighbour
	turn   int                  // of the neighbours
	listed int                  // where the next Inventory begins
	wanted map[CellID]time.Time // until when a cell is not fetched again unasked
}

// neighbourhood takes in who is near, and compares with the next of them.
func (h *Holder) neighbourhood(in Neighbourhood) {
	n := &h.around
	n.self, n.near = in.Self.Position(), n.near[:0]
	for _, c := range in.Near[:min(len(in.Near), ReconcileNear)] {
		n.near = append(n.near, neighbour{c, c.ID.Position()})
	}
	if len(n.near) == 0 || h.leases >= h.cfg.MaxAds/8*7 {
		return
	}
	h.effects = append(h.effects, SendReconcile{To: n.near[n.turn%len(n.near)].Contact})
	n.turn++
}

// among tells whether a participant is among the closest to a cell, both given
// by where they stand, as far as is known here.
func (n *neighbourhood) among(cell, at dht.Position) bool {
	closer := n.closerThan(cell, at)
	if n.self != at && cell.Compare(n.self, at) < 0 {
		closer++
	}
	return closer < Replicas
}

// closer returns how many neighbours are closer to a cell than this participant.
func (n *neighbourhood) closer(cell dht.Position) int { return n.closerThan(cell, n.self) }

func (n *neighbourhood) closerThan(cell, at dht.Position) (closer int) {
	for i := range n.near {
		if other := n.near[i].at; other != at && cell.Compare(other, at) < 0 {
			closer++
		}
	}
	return closer
}

// reconcile lists the cells here that somebody else should hold, too. Where there
// are too many, the next list goes on behind.
func (h *Holder) reconcile(now time.Time, in Reconcile) {
	out := Inventory{}
	at := in.From.Position()
	n := &h.around
	for i := range h.order {
		c := h.cells[h.order[(n.listed+i)%len(h.order)]]
		if c.handsOn() && n.among(c.at, at) {
			out = append(out, Held{Cell: c.id, Digest: digestOf(c.handed(now, h.cfg.LeafAds))})
		}
		if len(out) == maxInventory {
			n.listed = (n.listed + i + 1) % len(h.order)
			break
		}
	}
	h.effects = append(h.effects, out)
}

// reconciled fetches the cells of which somebody else has another set of ads.
// Samples differ while publishers find out that they belong to one, and mend
// themselves: they are fetched only where there is none.
func (h *Holder) reconciled(now time.Time, in Reconciled) {
	fetches := 0
	for _, held := range in.Inventory[:min(len(in.Inventory), maxInventory)] {
		if fetches == maxFetches {
			return // the rest with the next inventory
		}
		if c := h.cells[held.Cell]; c != nil && (c.inner && len(c.leases) > 0 || digestOf(c.handed(now, h.cfg.LeafAds)) == held.Digest) {
			continue
		}
		if h.around.among(held.Cell.Key().Position(), h.around.self) {
			h.fetch(now, in.From, held.Cell)
			fetches++
		}
	}
}

// fetch asks somebody for what is lacking of a cell.
func (h *Holder) fetch(now time.Time, from dht.Contact, cell CellID) {
	out := SendFetch{To: from, Cell: cell}
	if c := h.cells[cell]; c != nil {
		for _, l := range c.handed(now, h.cfg.LeafAds) {
			out.Have = append(out.Have, l.digest())
		}
	}
	h.effects = append(h.effects, out)
}

// want fetches a cell that somebody takes this participant for a holder of,
// and of which it has nothing, from the closest to it that it knows.
func (h *Holder) want(now time.Time, cell CellID) {
	n := &h.around
	if len(n.near) == 0 || now.Before(n.wanted[cell]) {
		return
	}
	target := cell.Key().Position()
	if !n.among(target, n.self) {
		return
	}
	if len(n.wanted) >= maxWanted {
		for id, until := range n.wanted { // the order does not matter
			if !now.Before(until) {
				delete(n.wanted, id)
			}
		}
		if len(n.wanted) >= maxWanted {
			return
		}
	}
	if n.wanted == nil {
		n.wanted = make(map[CellID]time.Time)
	}
	n.wanted[cell] = now.Add(reconcileEvery)
	best := slices.MinFunc(n.near, func(a, b neighbour) int { return target.Compare(a.at, b.at) })
	h.fetch(now, best.Contact, cell)
}

// hand answers a Fetch: the leases that the asker lacks, as many as fit.
func (h *Holder) hand(now time.Time, in Fetch) {
	var out Handed
	c := h.cells[in.Cell]
	if c == nil || !c.handsOn() {
		h.effects = append(h.effects, out)
		return
	}
	out.Inner = c.inner
	size := 0
	for _, l := range c.handed(now, h.cfg.LeafAds) {
		if _, has := slices.BinarySearch(in.Have, l.digest()); has {
			continue
		}
		if size += l.ad.size; size > maxReplyBytes && len(out.Leases) > 0 {
			out.More = true
			break
		}
		out.Leases = append(out.Leases, Lease{Ad: l.ad, From: l.from, Until: l.until})
	}
	h.effects = append(h.effects, out)
}

// handsOn tells whether other holders should have the cell as well: one that
// was divided between two tables is on its way out.
func (c *cell) handsOn() bool { return !c.inner || c.id.Prefix.table() }

// handed returns what other holders should have of the cell: all leases of a
// leaf, of an inner cell the sample.
func (c *cell) handed(now time.Time, leaf int) []lease {
	live := make([]lease, 0, len(c.leases))
	for _, l := range c.leases {
		if now.Before(l.until) {
			live = append(live, l)
		}
	}
	if c.inner {
		live = live[:min(len(live), SampleAds(leaf))]
	}
	return live
}

// digestOf returns the exclusive or over the servers' hashes.
func digestOf(leases []lease) (d uint64) {
	for _, l := range leases {
		d ^= l.digest()
	}
	return d
}

// fetched takes in what another holder has of a cell beside what is here. What
// is here and newer stays, and nothing stays longer than a lease.
func (h *Holder) fetched(now time.Time, in Fetched) {
	if len(in.Handed.Leases) == 0 {
		return
	}
	c := h.cells[in.Cell]
	if c == nil {
		if h.leases >= h.cfg.MaxAds {
			return
		}
		c = h.make(now, in.Cell)
		c.inner = in.Handed.Inner
	}
	added := false
	for _, l := range in.Handed.Leases {
		// Whoever hands it on has no say in who may withdraw it.
		l.From = l.Ad.Ad.Server
		l.Until = earlier(l.Until, earlier(now.Add(h.cfg.Lease), l.Ad.Ad.ExpiresAt()))
		if h.belongs(c, l.Ad) {
			added = h.keep(now, c, l) || added
		}
	}
	if in.Handed.More && added {
		h.fetch(now, in.From, in.Cell)
	}
}

// belongs tells whether an ad that was handed on stands in a cell.
func (h *Holder) belongs(c *cell, ad *Signed) bool {
	id, _, ok := h.schema.locate(ad, Placement{Tree: c.id.Tree, Level: c.id.Prefix.Level})
	return ok && id == c.id && (!c.inner || c.sampled(ad.hash, SampleAds(h.cfg.LeafAds)))
}

// keep leases an ad as another holder does, unless what is here is as good, and
// tells whether it is new in the cell.
func (h *Holder) keep(now time.Time, c *cell, l Lease) bool {
	i, held := c.find(l.Ad.hash)
	switch {
	case !now.Before(l.Until) || h.newest(l.Ad).Ad.Seq > l.Ad.Ad.Seq:
	case held && !c.leases[i].until.Before(l.Until):
	case !held && (h.full(Publish{From: l.From, Ad: l.Ad}) || len(c.leases) >= maxOverflow*h.cfg.LeafAds):
	default:
		h.put(c, lease{ad: l.Ad, from: l.From, until: l.Until, settled: c.inner}) // of the sample of a table
		return !held
	}
	return false
}
