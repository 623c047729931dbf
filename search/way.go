package search

import (
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// A level is one cell on the way of an ad from the root of a tree.
type level struct {
	cell     CellID
	spots    []*spot
	located  time.Time // zero: look the holders up
	locating bool
	again    time.Time     // not before, after a failed lookup
	rise     time.Time     // not before, where few are left here
	next     int           // the level below, as holders of this one know it
	below    []dht.Contact // its holders, likewise
}

// A way is where an ad is in one tree: the cells from the root to the one
// that is a leaf for it.
type way struct {
	tree   Tree // of name "" for the record
	key    Key
	levels []*level
	left   []*level // cells of an earlier key and earlier holders, to be withdrawn from
}

// move changes the way for a new ad, and tells whether it did: cells that the
// new key does not lie in are left.
func (w *way) move(now time.Time, schema *Schema, ad *Signed) bool {
	if w.tree.Name == "" {
		return false
	}
	w.key = schema.KeyOf(w.tree, ad)
	for i, l := range w.levels {
		if !l.cell.Prefix.Contains(w.key) {
			w.left = append(w.left, w.levels[i:]...)
			w.levels = w.levels[:i]
			w.levels[i-1].next, w.levels[i-1].below = 0, nil
			for _, s := range w.levels[i-1].spots {
				// It must widen another child from now on.
				s.settled, s.next = false, now
			}
			return true
		}
	}
	return false
}

// settled tells whether the cells below level i have the ad.
func (w *way) settled(i int) bool { return i+1 < len(w.levels) && w.has(i+1) }

// has tells whether half of the holders of level i lease the ad, or send it
// down to where it is leased.
func (w *way) has(i int) bool {
	n, below := 0, w.settled(i)
	for _, s := range w.levels[i].spots {
		if s.answered && (s.held || s.inner && below) {
			n++
		}
	}
	return n > 0 && 2*n >= len(w.levels[i].spots)
}

// covered tells whether a cell above level i leases the ad meanwhile.
func (w *way) covered(i int) bool {
	for _, l := range w.levels[:i] {
		n := 0
		for _, s := range l.spots {
			if s.answered && s.held {
				n++
			}
		}
		if n > 0 && 2*n >= len(l.spots) {
			return true
		}
	}
	return false
}

func (l *level) anyInner() bool {
	return slices.ContainsFunc(l.spots, func(s *spot) bool { return s.answered && s.inner })
}

// passed tells whether every holder has sent the ad on for good.
func (l *level) passed() bool {
	if l.cell.Tree == "" || l.cell.Prefix.table() || len(l.spots) == 0 {
		return false
	}
	for _, s := range l.spots {
		if s.failures < ignoreAfter && (!s.answered || !s.inner || s.held || s.busy) {
			return false
		}
	}
	return true
}

// allHold tells whether every holder that can be reached leases the ad.
func (l *level) allHold() bool {
	n := 0
	for _, s := range l.spots {
		if s.failures >= ignoreAfter {
			continue
		}
		if !s.answered || !s.held || s.busy {
			return false
		}
		n++
	}
	return n > 0
}
