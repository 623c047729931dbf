package xeno

import (
	"math"
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/network"
)

// mirrors are what holders recruited, where cells are asked for much.
type mirrors struct {
	asks map[*cell][search.Replicas]int // of each holder, while they are counted; else nil
	of   map[*cell]*recruited
	busy map[*cell]bool // those whose holders do not answer for all cells below
}

// recruited are the mirrors of one cell.
type recruited struct {
	by    [search.Replicas][]network.NodeID // in the order of holders
	turn  int                               // which are told next
	known float64                           // the part of nodes that asked the cell lately, and know them
	heard float64                           // of each holder, the part of nodes that published to it lately, and know its own
}

// published is which part of the nodes published to one holder of a root as
// lately as they know of its mirrors: of those whose ads it does not lease every
// hundredth does in a minute.
const published = float64(search.StandingTTL/time.Minute) / 100

// stand gives cells the mirrors that they have though nobody asks for them.
func (x *Index) stand() {
	x.mirrors.of = make(map[*cell]*recruited)
	busy := make([]float64, x.world.Net.Len())
	x.each(func(c *cell) {
		if want := x.standing(c); want > 0 {
			x.mirrors.of[c] = &recruited{heard: published}
			x.recruitAll(c, [search.Replicas]int{want, want, want, want}, busy)
		}
	})
}

// standing returns how many mirrors each holder of a cell has in any case: see
// search.StandingMirrors.
func (x *Index) standing(c *cell) int {
	ads := c.high - c.low
	switch level := c.id.Prefix.Level; {
	case c.inner && (ads < search.StandingAds || x.gathers(c)), !c.inner && (level == 0 || ads < search.StandingLeaf):
		return 0
	case level == 0:
		return search.StandingMirrors
	default:
		return search.StandingBelow
	}
}

// recruitAll gives the holders of a cell as many mirrors as they want.
func (x *Index) recruitAll(c *cell, want [search.Replicas]int, busy []float64) {
	r := x.mirrors.of[c]
	for k := range slices.Max(want[:]) {
		for i := range x.holders(c) {
			if k >= want[i] {
				continue
			}
			if id, ok := x.recruit(c, r, busy); ok {
				r.by[i] = append(r.by[i], id)
				if want[i] > x.standing(c) { // it is asked for much
					busy[id] += search.AsksPerCopy
				}
			}
		}
	}
}

// Heat forgets all mirrors but those that are there in any case, and begins to
// count what cells are asked for.
func (x *Index) Heat() {
	x.mirrors = mirrors{busy: make(map[*cell]bool)}
	x.stand()
	x.forget()
	x.Count()
}

// Count begins to count what cells are asked for, with the mirrors that there
// are.
func (x *Index) Count() { x.mirrors.asks = make(map[*cell][search.Replicas]int) }

// Divide notes which tables are asked for so much that their holders do not
// answer for all cells below, if so many queries were asked since Heat or Count
// and one comes every interval. It tells whether there are any that did, and then begins
// to count anew: the cells below are asked instead.
func (x *Index) Divide(queries int, interval time.Duration) (again bool) {
	if queries == 0 || interval <= 0 {
		return false
	}
	for c, asks := range x.mirrors.asks {
		most := float64(slices.Max(asks[:])) / float64(queries) / interval.Seconds()
		if x.gathers(c) && most >= search.AsksPerCopy {
			x.mirrors.busy[c], again = true, true
		}
	}
	if again {
		x.forget()
		x.Count()
	}
	return again
}

// Recruit gives cells the mirrors that they have in the long run, if so many
// queries were asked since Heat or Count, when the network's loads began too, and one
// comes every interval. Nodes that are not busy are taken where such are found.
// The cells that are asked for most are first.
func (x *Index) Recruit(queries int, interval time.Duration) {
	asks := x.mirrors.asks
	x.mirrors = mirrors{of: make(map[*cell]*recruited), busy: x.mirrors.busy}
	if queries == 0 || interval <= 0 {
		x.stand()
		return
	}
	rate := func(n int) float64 { return float64(n) / float64(queries) / interval.Seconds() }
	busy := make([]float64, x.world.Net.Len())
	for i, n := range x.world.Net.Loads() {
		busy[i] = rate(int(n))
	}
	type hot struct {
		*cell
		total int
		want  [search.Replicas]int
	}
	var all []hot
	x.each(func(c *cell) {
		h := hot{cell: c}
		var rates [search.Replicas]float64
		for i, n := range asks[c] {
			rates[i] = rate(n)
			h.total += n
		}
		h.want = wanted(rates)
		for i := range h.want {
			h.want[i] = max(h.want[i], x.standing(c))
		}
		if slices.Max(h.want[:]) > 0 {
			all = append(all, h)
		}
	})
	slices.SortStableFunc(all, func(a, b hot) int { return b.total - a.total })
	for _, h := range all {
		r := &recruited{known: 1 - math.Exp(-rate(h.total)*search.RecallTTL.Seconds()/float64(len(busy)))}
		if slices.Max(h.want[:]) <= x.standing(h.cell) {
			r.known, r.heard = 0, published
		}
		x.mirrors.of[h.cell] = r
		x.recruitAll(h.cell, h.want, busy)
	}
	x.forget()
}

// wanted returns how many mirrors each holder of a cell recruits in the end,
// if they are asked so often while there are none: one for every ask a second
// of it and its mirrors, of which it has more, the more mirrors it has.
func wanted(rates [search.Replicas]float64) (want [search.Replicas]int) {
	total, copies := 0.0, search.Replicas
	for _, r := range rates {
		total += r
	}
	for more := true; more; {
		more = false
		for i, r := range rates {
			if n := min(int(r/search.AsksPerCopy), search.MaxMirrors); n > want[i] {
				copies += n - want[i]
				want[i], more = n, true
			}
		}
		for i := range rates {
			rates[i] = total * float64(1+want[i]) / float64(copies)
		}
	}
	return want
}

// recruitTries is how many nodes are looked at for a mirror: a holder asks up
// to eight a second until it has enough.
const recruitTries = 16

// recruit draws a node that may mirror a cell: the first that is not busy, or
// the least busy one.
func (x *Index) recruit(c *cell, r *recruited, busy []float64) (best network.NodeID, ok bool) {
	for range recruitTries {
		id := network.NodeID(x.world.Rand.IntN(len(busy))) //nolint:gosec // below MaxNodes
		mirrors := slices.ContainsFunc(r.by[:], func(list []network.NodeID) bool { return slices.Contains(list, id) })
		if mirrors || !x.world.Net.Answers(id) || slices.Contains(x.holders(c), id) {
			continue
		}
		if !ok || busy[id] < busy[best] {
			best, ok = id, true
		}
		if busy[best] < search.BusyRate {
			break
		}
	}
	return best, ok
}

// forget drops the cells that were made, whose tables name mirrors.
func (x *Index) forget() {
	clear(x.cached)
	clear(x.below)
	x.leaves, x.inners = cache{}, cache{}
}

// rumours draws some mirrors of a cell, as far as a node has heard of them.
func (x *Index) rumours(c *cell) search.Mirrors {
	r := x.mirrors.of[c]
	if r == nil {
		return search.Mirrors{}
	}
	all := x.world.Rand.Float64() < r.known
	return x.drawMirrors(c, func(int) bool { return all || r.heard > 0 && x.world.Rand.Float64() < r.heard })
}

// mirrorsOf draws some mirrors of a cell, of one holder.
func (x *Index) mirrorsOf(c *cell, holder int) search.Mirrors {
	return x.drawMirrors(c, func(i int) bool { return holder == i })
}

// drawMirrors draws some mirrors of some holders of a cell.
func (x *Index) drawMirrors(c *cell, of func(holder int) bool) search.Mirrors {
	r := x.mirrors.of[c]
	if r == nil {
		return search.Mirrors{}
	}
	var all []search.Mirror
	for i, list := range r.by {
		if of(i) {
			for _, id := range list {
				all = append(all, search.Mirror{Contact: dht.Contact{ID: x.world.Net.PeerID(id)}, Of: x.world.Net.PeerID(c.holders[i])})
			}
		}
	}
	r.turn++
	return search.DrawMirrors(all, r.turn)
}

// recruits returns the mirrors of one holder of a cell.
func (x *Index) recruits(c *cell, holder int) (contacts []dht.Contact) {
	if r := x.mirrors.of[c]; r != nil {
		for _, id := range r.by[holder] {
			contacts = append(contacts, dht.Contact{ID: x.world.Net.PeerID(id)})
		}
	}
	return contacts
}

// part returns which holder's copy of a cell a node has, as that holder or as
// one of its mirrors.
func (x *Index) part(c *cell, at network.NodeID) (holder int, mirror, ok bool) {
	if i := slices.Index(x.holders(c), at); i >= 0 {
		return i, false, true
	}
	if r := x.mirrors.of[c]; r != nil {
		for i, list := range r.by {
			if slices.Contains(list, at) {
				return i, true, true
			}
		}
	}
	return 0, false, false
}
