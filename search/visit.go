package search

import (
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

type askState uint8

const (
	askSent askState = iota
	askAnswered
	askFailed
)

type locateState uint8

const (
	locateNot locateState = iota
	locateAsked
	locateDone
)

// An ask is one holder of a cell that was asked.
type ask struct {
	state askState
	after *Cursor // the reply stopped here; nil: it was whole
}

// A visit is the reading of one cell.
type visit struct {
	cell     CellID
	index    int     // in the order of making
	summary  Summary // of what its parents' holders said
	bound    float64 // the best rank it can have
	expect   float64 // how many matches it has, if any
	chance   float64 // that it has any
	contacts []dht.Contact
	mirrored mirrored
	asks     map[dht.PeerID]*ask
	pending  int // asks under way
	cut      int // asks whose reply was cut
	locate   locateState
	started  bool
	children []Child // as one holder told them
	glimpsed bool    // its children are known from an earlier query
	lastAsk  time.Time
	patience time.Duration // with the holder that was asked last

	answers  int
	gathered int          // of them for all cells below, too
	tables   int          // and of those that were not, of tables
	above    *visit       // of the table that has it; nil: none was read
	tellers  []dht.PeerID // holders of that table, or who speaks for them
	known    bool         // somebody has it
	settled  int          // answers of holders for so long that all cells below told them
	inner    bool
	weak     bool // a copy is missing or young
	absent   bool // a copy is missing
	digests  []uint64
	matched  uint32
	total    uint32
	excluded []uint32
	pruned   []uint32
	skipped  map[int]omission // children left out here, by index
}

// An omission is a child that was left out: how many ads it has, and for want of
// which conjunct.
type omission struct {
	count    uint32
	conjunct int
}

// meet adds holders that may be asked: first the Replicas closest to the cell,
// whom publishers use, the nearest of them first, then the others.
func (v *visit) meet(holders []dht.Contact, near func(dht.PeerID) time.Duration) {
	for _, c := range holders[:min(len(holders), maxEntries)] {
		if !slices.ContainsFunc(v.contacts, func(have dht.Contact) bool { return have.ID == c.ID }) && len(v.contacts) < 2*maxEntries {
			v.contacts = append(v.contacts, c)
		}
	}
	best := closest(v.cell, v.contacts)
	if near != nil {
		slices.SortStableFunc(best, func(a, b dht.Contact) int { return int(near(a.ID) - near(b.ID)) })
	}
}

// settle notes how an ask ended; false if there was none under way.
func (v *visit) settle(from dht.PeerID, state askState) bool {
	a := v.asks[from]
	if a == nil || a.state != askSent {
		return false
	}
	a.state = state
	v.pending--
	return true
}

// take adds up what a holder said, or a mirror, whose copy may lag behind.
func (v *visit) take(from dht.PeerID, r *CellReply, young time.Duration) {
	v.answers++
	switch {
	case r.Gathered:
		v.gathered++
	case r.table(v.cell):
		v.tables++
	}
	v.inner = v.inner || r.Inner || len(r.Children) > 0
	v.known = v.known || r.Known
	if r.Known && r.Age >= settling {
		v.settled++
	}
	v.weak, v.absent = v.weak || !r.Known || r.Age < young, v.absent || !r.Known
	if _, mirror := v.mirrored.recruiter(from); r.Known && !r.Inner && !mirror && !r.Mirrored {
		v.digests = append(v.digests, r.Digest)
	}
	v.matched, v.total = max(v.matched, r.Matched), max(v.total, r.Total)
	v.excluded, v.pruned = maxEach(v.excluded, r.Excluded), maxEach(v.pruned, r.Pruned)
}

func maxEach(a, b []uint32) []uint32 {
	if len(a) == 0 {
		return slices.Clone(b)
	}
	for i := range min(len(a), len(b)) {
		a[i] = max(a[i], b[i])
	}
	return a
}

// prune notes that child c was left out for want of conjunct i.
func (v *visit) prune(i int, c Child, conjuncts int) {
	before := v.skipped[c.Index]
	if before.count >= c.Summary.Count {
		return
	}
	if len(v.pruned) < conjuncts {
		v.pruned = append(v.pruned, make([]uint32, conjuncts-len(v.pruned))...)
	}
	v.pruned[before.conjunct] -= before.count
	v.pruned[i] += c.Summary.Count
	if v.skipped == nil {
		v.skipped = make(map[int]omission)
	}
	v.skipped[c.Index] = omission{c.Summary.Count, i}
}

// differ tells whether the holders' leases differ.
func (v *visit) differ() bool {
	return slices.ContainsFunc(v.digests, func(d uint64) bool { return d != v.digests[0] })
}

// next returns a holder that was not asked yet, one for which no mirror spoke
// if there is one.
func (v *visit) next() (to dht.Contact, ok bool) {
	for _, c := range v.contacts {
		if v.asks[c.ID] != nil {
			continue
		}
		if !v.mirrored.spoken(c.ID) {
			return c, true
		}
		if !ok {
			to, ok = c, true
		}
	}
	return to, ok
}

// wanted returns how many answers the visit needs at least.
func (v *visit) wanted(replicas int) int {
	if v.weak || v.differ() {
		return maxEntries
	}
	if v.gathering(replicas) {
		return v.answers + 1
	}
	return replicas
}

// gathering tells whether some holders, but not enough, answered for all cells
// below, too, and others may. Where two did not, these cells are read.
func (v *visit) gathering(replicas int) bool {
	return v.gathered > 0 && v.gathered < replicas && v.tables < 2
}

// lacks tells whether the holders that are known are not enough, and others
// should be looked up.
func (v *visit) lacks(replicas int) bool {
	return v.answers < replicas || v.absent || v.differ() || v.weak && len(v.contacts) < Replicas
}

// count returns how many ads the children have, about.
func (v *visit) count() (n int) {
	for _, c := range v.children {
		n += int(c.Summary.Count)
	}
	return n
}
