package search

import (
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// A table whose cells below have few enough ads together gathers them: its
// holders have the ads of each cell below told by one of that cell's holders,
// and answer for all, as a leaf would. Publishers know nothing of it: each tells
// the holders of its leaf, which are few for each of them, and whoever asks
// reads one cell instead of sixteen. Each of the four holders of the table is
// told by another one of the four below, so that a liar among these is found
// out where two holders of the table are asked. Roots do not gather: everybody
// asks them, and nobody shall hold everything. Nor does a table answer for all
// when it is asked for much: then the cells below share the work.

// SendGather wants a holder of a cell asked to tell of its ads: a Gather of this
// holder.
type SendGather struct {
	To   dht.Contact
	Cell CellID
}

// Gathering is the answer to a SendGather.
type Gathering struct {
	From     dht.PeerID
	Cell     CellID
	Accepted bool // false too where there was no answer
}

func (SendGather) holderEffect() {}
func (Gathering) holderInput()   {}

// A gathering is the ads of all cells below a table.
type gathering struct {
	portions []*portion // by slot
	ads      []lease    // of all of them, ascending by hash
	stale    bool       // ads must be put together anew
	ready    time.Time  // from when on every child has told of itself
	edits    uint64     // how often what the portions have changed
	fixed    bool       // it was restored: nobody is asked
}

// A portion is one cell below, and who tells of its ads.
type portion struct {
	cell   CellID
	slot   int
	copy   *replica   // nil: none yet
	next   *replica   // of another holder than copy, until it is whole; may be nil
	from   dht.PeerID // who was asked last
	asked  time.Time
	looked time.Time // when the holders were looked at last
	tries  int
}

// whole tells whether everything in the cell is known.
func (p *portion) whole(now time.Time) bool {
	return p.copy != nil && p.copy.whole && now.Before(p.copy.until)
}

// silent tells whether nobody has told anything for so long that another one
// should.
func (p *portion) silent(now time.Time) bool {
	return !p.whole(now) || now.Sub(p.copy.until.Add(-feedTTL)) >= feedPatience
}

// size returns the bytes of the ads.
func (p *portion) size() (n int) {
	for _, r := range []*replica{p.copy, p.next} {
		if r != nil {
			n += r.bytes
		}
	}
	return n
}

// knowsAll tells whether a holder knows all ads of a cell and below.
func (c *cell) knowsAll(now time.Time) bool {
	if !c.inner || !c.id.Prefix.table() {
		return true // what was divided has what is still here
	}
	g := c.gathering
	if g == nil || g.fixed {
		return g != nil
	}
	if now.Before(g.ready) {
		return false
	}
	for slot := range c.children {
		if len(c.children[slot]) > 0 && !c.reached(slot) {
			return false
		}
	}
	return len(g.portions) > 0 && !slices.ContainsFunc(g.portions, func(p *portion) bool { return !p.whole(now) })
}

// reported tells whether a holder of a child told of it.
func (c *cell) reported(slot int) bool {
	return slices.ContainsFunc(c.children[slot], func(e entry) bool { return !e.holder.ID.IsZero() })
}

// reached tells whether a holder of a child told of it, or of one that it lies
// in or that lies in it: where a child was divided, or is about to be, its ads
// are in one of these.
func (c *cell) reached(slot int) bool {
	for up := slot; up >= 0; up = up/2 - 1 { // of 2s+2 and 2s+3 to s
		if c.reported(up) {
			return true
		}
	}
	return c.reportedWithin(slot)
}

func (c *cell) reportedWithin(slot int) bool {
	half := 2*slot + 2
	return half < Slots && (c.reported(half) || c.reported(half+1) || c.reportedWithin(half) || c.reportedWithin(half+1))
}

// ageOfAll returns since when a holder knows all ads of a cell and below.
func (c *cell) ageOfAll(now time.Time) time.Duration {
	born := c.born
	if c.gathering != nil {
		for _, p := range c.gathering.portions {
			if p.copy != nil {
				born = later(born, p.copy.cell.born)
			}
		}
	}
	return now.Sub(born)
}

// eachAd calls do for every ad that is known of a cell and below, ascending by
// hash.
func (c *cell) eachAd(do func(l lease)) {
	var below []lease
	if c.gathering != nil {
		below = c.gathering.all()
	}
	own := c.leases
	for len(own) > 0 || len(below) > 0 {
		switch {
		case len(below) == 0 || len(own) > 0 && own[0].ad.hash.Compare(below[0].ad.hash) < 0:
			do(own[0])
			own = own[1:]
		case len(own) > 0 && own[0].ad.hash == below[0].ad.hash:
			do(lease{ad: newer(own[0].ad, below[0].ad), from: own[0].from, until: later(own[0].until, below[0].until)})
			own, below = own[1:], below[1:]
		default:
			do(below[0])
			below = below[1:]
		}
	}
}

// changed notes that what a holder below told has changed.
func (g *gathering) changed() { g.stale, g.edits = true, g.edits+1 }

// all returns the ads of all cells below, ascending by hash, each server once.
func (g *gathering) all() []lease {
	if !g.stale {
		return g.ads
	}
	g.ads, g.stale = g.ads[:0], false
	for _, p := range g.portions {
		if p.copy != nil {
			g.ads = append(g.ads, p.copy.cell.leases...)
		}
	}
	slices.SortFunc(g.ads, func(a, b lease) int { return a.ad.hash.Compare(b.ad.hash) })
	kept := g.ads[:0]
	for _, l := range g.ads {
		if n := len(kept); n > 0 && kept[n-1].ad.hash == l.ad.hash {
			kept[n-1].ad = newer(kept[n-1].ad, l.ad)
			continue
		}
		kept = append(kept, l)
	}
	clear(g.ads[len(kept):])
	g.ads = kept
	return g.ads
}

// gathers tells whether a table should gather the ads below it.
func (h *Holder) gathers(c *cell) bool {
	if !c.inner || c.id.Tree == "" || c.id.Prefix.Level == 0 || !c.id.Prefix.table() || h.cfg.Self.IsZero() {
		return false
	}
	most := h.cfg.GatherAds
	if c.gathering != nil {
		most += most / 4 // not to begin anew with every ad
	}
	below := c.agreedBelow()
	return below > 0 && below <= most && len(h.around.near) > 0 && h.around.closer(c.at) < Replicas
}

// gather lets a tick pass for the ads below a table: who is to tell of them is
// asked to, and somebody else where it does not.
func (h *Holder) gather(now time.Time, c *cell) {
	if c.gathering != nil && c.gathering.fixed {
		return
	}
	if !h.gathers(c) {
		h.scatter(c)
		return
	}
	if c.gathering == nil {
		if h.gathered >= maxGatheredBytes {
			return
		}
		c.gathering = &gathering{ready: c.born.Add(h.cfg.summaryLife())}
	}
	g := c.gathering
	g.portions = slices.DeleteFunc(g.portions, func(p *portion) bool {
		gone := !c.reported(p.slot)
		if gone {
			h.gathered -= p.size()
			g.changed()
		}
		return gone
	})
	for slot := range c.children {
		if c.reported(slot) && !slices.ContainsFunc(g.portions, func(p *portion) bool { return p.slot == slot }) {
			g.portions = append(g.portions, &portion{slot: slot, cell: CellID{Tree: c.id.Tree, Prefix: c.id.Prefix.Child(slot)}})
		}
	}
	asks := 0
	for _, p := range g.portions {
		if asks == maxGatherAsks || h.gathered >= maxGatheredBytes || now.Sub(later(p.looked, p.asked)) < gatherPause {
			continue
		}
		p.looked = now
		if holders := h.holdersOf(c, p); len(holders) > 0 && (p.silent(now) || !p.toldBy(holders)) {
			h.askFor(now, c, p, holders)
			asks++
		}
	}
}

// holdersOf returns the closest of the holders of a cell below that told of
// themselves, but for this one. Who was one and is not among them any more is
// not told of new ads.
func (h *Holder) holdersOf(c *cell, p *portion) (holders []dht.Contact) {
	for _, e := range c.children[p.slot] {
		if id := e.holder.ID; !id.IsZero() && id != h.cfg.Self {
			holders = append(holders, e.holder)
		}
	}
	return closest(p.cell, holders)
}

// toldBy tells whether one of some holders tells of the ads.
func (p *portion) toldBy(holders []dht.Contact) bool {
	return p.copy != nil && slices.ContainsFunc(holders, func(c dht.Contact) bool { return c.ID == p.copy.of })
}

// askFor asks one of the holders of a cell below to tell of its ads: each
// holder of the table another one, and the next one where that is no use.
func (h *Holder) askFor(now time.Time, c *cell, p *portion, holders []dht.Contact) {
	to := holders[(h.around.closer(c.at)+p.tries)%len(holders)]
	p.from, p.asked, p.tries = to.ID, now, p.tries+1
	h.effects = append(h.effects, SendGather{To: to, Cell: p.cell})
}

// scatter forgets what a table gathered.
func (h *Holder) scatter(c *cell) {
	if c.gathering == nil {
		return
	}
	for _, p := range c.gathering.portions {
		h.gathered -= p.size()
	}
	c.gathering = nil
}

// gatheringFrom takes in whether a holder will tell of its ads: one that will
// not need not be waited for.
func (h *Holder) gatheringFrom(in Gathering) {
	if in.Accepted {
		return
	}
	if p, _ := h.portionOf(in.Cell); p != nil && p.from == in.From {
		p.asked, p.looked = p.asked.Add(-gatherPause/2), p.looked.Add(-gatherPause/2)
	}
}

// portionOf returns that of a cell below one that is gathered here.
func (h *Holder) portionOf(below CellID) (*portion, *cell) {
	if below.Tree == "" || below.Prefix.Level == 0 {
		return nil, nil
	}
	prefix, slot := below.Prefix.Parent()
	c := h.cells[CellID{Tree: below.Tree, Prefix: prefix}]
	if c == nil || c.gathering == nil {
		return nil, nil
	}
	i := slices.IndexFunc(c.gathering.portions, func(p *portion) bool { return p.slot == slot })
	if i < 0 {
		return nil, nil
	}
	return c.gathering.portions[i], c
}

// fed takes in what somebody who was asked to tells of a cell below a table.
func (h *Holder) fed(now time.Time, in MirrorCell) MirrorReply {
	p, c := h.portionOf(in.Update.Cell)
	if p == nil {
		return MirrorReply{}
	}
	r := p.copy
	switch {
	case r != nil && r.of == in.From:
	case p.from != in.From:
		return MirrorReply{} // another one was asked since
	case p.next == nil || p.next.of != in.From:
		before := p.size()
		p.next = &replica{of: in.From, cell: &cell{id: p.cell}}
		h.gathered += p.size() - before
		r = p.next
	default:
		r = p.next
	}
	before, version := p.size(), r.version
	ok := r.take(h.schema, now, in.Update)
	h.gathered += p.size() - before
	if !ok || len(r.cell.leases) > 2*h.cfg.GatherAds || h.gathered > 2*maxGatheredBytes {
		h.disown(c, p, r)
		return MirrorReply{}
	}
	if r.version == in.Update.To {
		r.until = now.Add(feedTTL)
	}
	p.asked = now // it is being told
	if r == p.next && r.whole {
		h.gathered -= p.size() - r.bytes
		p.copy, p.next = r, nil
		c.gathering.changed()
	} else if r == p.copy && r.version != version {
		c.gathering.changed()
	}
	return MirrorReply{Accepted: true, Version: r.version}
}

// disown drops what one holder told of a cell below.
func (h *Holder) disown(c *cell, p *portion, r *replica) {
	h.gathered -= r.bytes
	if p.copy == r {
		p.copy = nil
	} else {
		p.next = nil
	}
	c.gathering.changed()
}

// answersForAll tells whether a holder answers a query for all cells below, too:
// it can, it is not asked for much, and the query does not take long.
func (c *cell) answersForAll(now time.Time, q CellQuery) bool {
	if !c.inner || c.gathering == nil || nodesOf(q.Query.Where) > maxGatheredNodes {
		return false
	}
	return c.gathering.fixed || c.rate < AsksPerCopy && c.asks <= maxGatheredAsks && c.knowsAll(now)
}
