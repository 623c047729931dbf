package search

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// An entry is what one holder of a child cell told of it. The parent's own
// entry, of the zero holder, stands for ads that it sent down itself.
type entry struct {
	holder  dht.Contact
	mirrors []dht.Contact // that it recruited
	summary Summary
	below   []Child // of the table that it is, if that is to be passed over
	epoch   uint64
	until   time.Time
}

// A cell is one holder's copy of a cell. Whatever its mode, a query gets the
// leased ads and the children: the mode only decides where publishers go.
type cell struct {
	id        CellID
	at        dht.Position
	born      time.Time
	inner     bool
	changed   time.Time  // when inner last changed
	rise      time.Time  // publishers are sent up until then
	riseTo    uint8      // to that level
	leases    []lease    // ascending by hash
	edits     uint64     // how often they changed
	gathering *gathering // of a table: nil unless the ads below are gathered here
	feed      *feed      // who gathers them elsewhere; nil: nobody
	children  [Slots][]entry
	listed    []Child // what listing returns, as of now if listedNow
	listedNow bool
	through   [Slots][]Child // then: what may stand in the place of each child, nil if nothing may
	deep      map[int]Child  // of a mirror's copy: cells that stand in the place of passed ones

	told      Summary   // what the parent was told last
	toldBelow []Child   // and of the cells below, if this is to be passed over
	toldAt    time.Time // zero: never
	epoch     uint64
	dirty     bool // the parent knows too little

	asks uint32  // since the last tick, of mirrors too
	rate float64 // of them, a second, over the last ticks
	hot  *hot    // nil: without mirrors
	turn int     // which mirrors are told next
}

// find returns where the lease of a server is, or would be.
func (c *cell) find(h Hash) (int, bool) {
	return slices.BinarySearchFunc(c.leases, h, func(l lease, h Hash) int { return l.ad.hash.Compare(h) })
}

// sampled tells whether a server's hash is, or would be, among the n smallest
// of the cell.
func (c *cell) sampled(h Hash, n int) bool {
	i, _ := c.find(h)
	return i < n
}

// expire drops what was not renewed and tells how many leases went.
func (c *cell) expire(now time.Time) (gone int) {
	before := len(c.leases)
	c.leases = slices.DeleteFunc(c.leases, func(l lease) bool { return !now.Before(l.until) })
	for i, entries := range c.children {
		c.children[i] = slices.DeleteFunc(entries, func(e entry) bool { return !now.Before(e.until) })
		c.listedNow = c.listedNow && len(c.children[i]) == len(entries)
	}
	gone = before - len(c.leases)
	c.edits += uint64(gone) //nolint:gosec // not negative
	return gone
}

// empty tells whether there is nothing left to hold.
func (c *cell) empty() bool {
	if len(c.leases) > 0 {
		return false
	}
	for i := range c.children {
		if len(c.children[i]) > 0 {
			return false
		}
	}
	return true
}

// below returns how many ads the children hold, at most. A cell that was
// divided may stand beside its halves for a while: whoever has more counts.
func (c *cell) below() int { return c.under(0) + c.under(1) }

// under returns how many ads the children at a slot and within it hold.
func (c *cell) under(slot int) int { return sum(slot, c.childCount) }

// within returns how many ads the children within a slot hold.
func (c *cell) within(slot int) int {
	half := 2*slot + 2 // of slot 2^n-2+v, the halves are 2^(n+1)-2+2v and the next
	return c.under(half) + c.under(half+1)
}

// agreedBelow is below as far as two holders of each child agree.
func (c *cell) agreedBelow() int { return sum(0, c.agreedCount) + sum(1, c.agreedCount) }

// sum returns how many ads the children at a slot and within it hold, if one
// child holds so many as count says.
func sum(slot int, count func(slot int) uint32) int {
	if slot >= Slots {
		return 0
	}
	return max(int(count(slot)), sum(2*slot+2, count)+sum(2*slot+3, count))
}

// childCount is the largest count that a holder of the child told.
func (c *cell) childCount(i int) (n uint32) {
	for _, e := range c.children[i] {
		n = max(n, e.summary.Count)
	}
	return n
}

// child returns the union of what the holders of child i told.
func (c *cell) child(s *Schema, i int) Child {
	m := s.NewSummary()
	out := Child{Index: i}
	for _, e := range c.children[i] {
		m.unite(e.summary)
		if !e.holder.ID.IsZero() {
			out.Holders = append(out.Holders, e.holder)
		}
	}
	m.Count = c.agreedCount(i)
	out.Summary = m
	return out
}

// agreedCount is the greatest count of child i that two of its holders reach,
// so that one alone cannot make it greater than it is, nor less than the
// others say. Where only one told, that counts.
func (c *cell) agreedCount(i int) uint32 {
	var most, agreed uint32
	for _, e := range c.children[i] {
		switch n := e.summary.Count; {
		case e.holder.ID.IsZero(): // what was sent down is counted there
		case n > most:
			most, agreed = n, most
		default:
			agreed = max(agreed, n)
		}
	}
	if agreed > 0 {
		return agreed
	}
	return c.childCount(i)
}

// learn takes in what a holder told of child i and tells whether the cell's
// own summary may have become wider.
func (c *cell) learn(i int, e entry) bool {
	list := c.children[i]
	c.listedNow = false
	at := slices.IndexFunc(list, func(old entry) bool { return old.holder.ID == e.holder.ID })
	switch {
	case at >= 0 && list[at].epoch > e.epoch:
		return false
	case at >= 0:
		list[at] = e
	case len(list) >= maxEntries:
		oldest := 0
		for j := range list {
			if list[j].until.Before(list[oldest].until) {
				oldest = j
			}
		}
		// The one that leaves had told something that may still be true.
		e.summary = Summary{Count: e.summary.Count, Occupancy: slices.Clone(e.summary.Occupancy), Balls: e.summary.Balls}
		e.below = nil // nor is what it told of cells below known any more
		e.summary.unite(list[oldest].summary)
		list[oldest] = e
	default:
		list = append(list, e)
		slices.SortFunc(list, func(a, b entry) int { return bytes.Compare(a.holder.ID[:], b.holder.ID[:]) })
		c.children[i] = list
	}
	return !c.told.Covers(e.summary)
}

// next returns the level at which the ad of a key stands below an inner cell:
// that of the deepest child on its way, or where it would part from all.
func (c *cell) next(key Key) int {
	level := int(c.id.Prefix.Level) + 1
	if !c.id.Prefix.table() {
		return level
	}
	for i := range c.children {
		if len(c.children[i]) == 0 {
			continue
		}
		p := c.id.Prefix.Child(i)
		level = max(level, min(int(p.Level), key.common(p.Key)+1))
	}
	return level
}

// widenChild makes the cell's own entry for child i cover ad.
func (c *cell) widenChild(s *Schema, i int, ad *Ad, until time.Time) {
	own := entry{summary: s.NewSummary(), until: until}
	for _, e := range c.children[i] {
		if e.holder.ID.IsZero() {
			own.summary.unite(e.summary)
		}
	}
	s.add(&own.summary, ad)
	own.summary.Count = 1
	c.learn(i, own)
}

// summary returns what the cell holds, itself and below.
func (c *cell) summary(s *Schema) Summary {
	m := s.NewSummary()
	for _, l := range c.leases {
		s.add(&m, l.ad.Ad)
	}
	below := c.below()
	for i := range c.children {
		for _, e := range c.children[i] {
			m.unite(e.summary)
		}
	}
	if below > 0 {
		// Ads of an inner cell are the sample, counted below as well.
		m.Count = max(m.Count, uint32(below))
	}
	return m
}

// check returns an error if an invariant does not hold.
func (c *cell) check(limit int) error {
	for i, l := range c.leases {
		if i > 0 && c.leases[i-1].ad.hash.Compare(l.ad.hash) >= 0 {
			return fmt.Errorf("cell %s: leases out of order at %d", c.id, i)
		}
	}
	if len(c.leases) > limit {
		return fmt.Errorf("cell %s: %d leases", c.id, len(c.leases))
	}
	for i := range c.children {
		if len(c.children[i]) > maxEntries {
			return fmt.Errorf("cell %s: %d entries for child %d", c.id, len(c.children[i]), i)
		}
	}
	return nil
}
