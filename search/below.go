package search

import (
	"cmp"
	"math/bits"
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// A table is passed over: its holders tell those of the table above of the cells
// below it, too, and there these stand in its place where they are few, as a radix
// tree leaves out nodes with few branches (path compression), and else for each
// query that only some of them can answer. Whoever asks saves a round trip and
// two messages for each. What these holders tell is united, so that one who leaves
// a cell out hides nothing, and a table is passed over only where all of them tell
// it to be, two at least.

// depthOf returns how many levels below a cell a slot of Prefix.Child is.
func depthOf(slot int) int { return bits.Len(uint(slot+2)) - 1 } //nolint:gosec // not negative

// nested returns the slot, below one cell, of what is at a slot below a cell at
// slot of.
func nested(of, slot int) int {
	n := depthOf(slot)
	return (of+2)<<n - 2 + (slot + 2 - 1<<n)
}

// slotOf returns the slot of a prefix below p: see Child.
func (p Prefix) slotOf(below Prefix) int {
	slot := -1
	for level := int(p.Level); level < int(below.Level); level++ {
		slot = 2*slot + 2 + below.Key.bits(level, 1)
	}
	return slot
}

// properChildren returns those of some children that can be below a cell: a
// stranger may name any slot.
func properChildren(id CellID, children []Child) []Child {
	return slices.DeleteFunc(slices.Clone(children), func(c Child) bool {
		return c.Index < 0 || depthOf(c.Index) > maxDepthBelow || int(id.Prefix.Level)+depthOf(c.Index) > maxLevel
	})
}

// tellable tells whether children are such as a table may tell of that is to be
// passed over.
func (s *Schema) tellable(id CellID, children []Child) bool {
	if len(children) > maxBelow || len(properChildren(id, children)) < len(children) {
		return false
	}
	for i, c := range children {
		if s.CheckSummary(c.Summary) != nil || slices.ContainsFunc(children[:i], func(d Child) bool { return d.Index == c.Index }) {
			return false
		}
	}
	return true
}

// listing returns the cells below a cell that queries are told of, ascending by
// slot, with all of their mirrors that are known. It stays as it is until what is
// known of them changes.
func (c *cell) listing(s *Schema) []Child {
	if !c.listedNow {
		c.listed, c.listedNow = c.list(s), true
	}
	return c.listed
}

func (c *cell) list(s *Schema) (list []Child) {
	passed := &c.through
	var slots []int // of those that may be passed over
	for i := range c.children {
		passed[i] = nil
		if len(c.children[i]) == 0 {
			continue
		}
		if passed[i] = c.passed(s, i); passed[i] != nil {
			slots = append(slots, i)
		}
		child := c.child(s, i)
		child.Mirrors.List = c.mirrorsOf(i)
		list = append(list, child)
	}
	slices.SortStableFunc(slots, func(a, b int) int { return len(passed[a]) - len(passed[b]) })
	size := 0
	for _, i := range slots {
		if size += bytesBelow(passed[i]); len(list)+len(passed[i])-1 > maxListed || size > maxListedBytes {
			break
		}
		at := slices.IndexFunc(list, func(c Child) bool { return c.Index == i })
		list = append(slices.Delete(list, at, at+1), passed[i]...)
	}
	for _, child := range c.deep {
		list = append(list, child)
	}
	slices.SortFunc(list, func(a, b Child) int { return cmp.Compare(a.Index, b.Index) })
	return list
}

// pass returns which of the children that are listed a query may pass over, and
// the cells below them that fit it: those of which the fewest do, as long as
// there are not more cells to be read than a reply lists.
func (c *cell) pass(s *Schema, fits func(Child) bool) (passed []int, below []Child) {
	fitting := make(map[int][]Child)
	count, size := 0, bytesBelow(c.listing(s))
	for _, child := range c.listing(s) {
		if !fits(child) {
			continue
		}
		count++
		if child.Index >= Slots || c.through[child.Index] == nil {
			continue
		}
		passed = append(passed, child.Index)
		for _, b := range c.through[child.Index] {
			if fits(b) {
				fitting[child.Index] = append(fitting[child.Index], b)
			}
		}
	}
	slices.SortStableFunc(passed, func(a, b int) int { return len(fitting[a]) - len(fitting[b]) })
	for i, at := range passed {
		count += len(fitting[at]) - 1
		if size += bytesBelow(fitting[at]); count > maxListed || size > maxListedBytes {
			return passed[:i], below
		}
		below = append(below, fitting[at]...)
	}
	return passed, below
}

// bytesBelow is about what children take in a reply.
func bytesBelow(children []Child) (size int) {
	for _, c := range children {
		c.Mirrors = DrawMirrors(c.Mirrors.List, 0)
		size += c.bytes()
	}
	return size
}

// passed returns what stands in the place of the child at a slot, nil unless it
// is to be passed over: all holders that told of it told of the cells below it,
// and these may have every ad that was sent down there.
func (c *cell) passed(s *Schema, slot int) (list []Child) {
	tellers, sent := 0, s.NewSummary()
	told := make(map[int][]Child)
	for _, e := range c.children[slot] {
		if e.holder.ID.IsZero() {
			sent.unite(e.summary)
			continue
		}
		if len(e.below) == 0 {
			return nil
		}
		tellers++
		for _, below := range e.below {
			told[below.Index] = append(told[below.Index], below)
		}
	}
	if tellers < 2 {
		return nil
	}
	all := s.NewSummary()
	for at, children := range told {
		if depthOf(slot)+depthOf(at) > maxDepthBelow {
			return nil // nobody takes in what is so deep
		}
		child := merge(s, children)
		child.Index = nested(slot, at)
		child.Holders = closest(CellID{Tree: c.id.Tree, Prefix: c.id.Prefix.Child(child.Index)}, child.Holders)
		list = append(list, child)
		all.unite(child.Summary)
	}
	if !all.Covers(sent) {
		return nil
	}
	slices.SortFunc(list, func(a, b Child) int { return cmp.Compare(a.Index, b.Index) })
	return list
}

// merge unites what several told of one cell. It has as many ads as two of them
// agree on.
func merge(s *Schema, told []Child) Child {
	out := Child{Summary: s.NewSummary()}
	counts := make([]uint32, len(told))
	for i, t := range told {
		out.Summary.unite(t.Summary)
		counts[i] = t.Summary.Count
		for _, holder := range t.Holders {
			if !slices.ContainsFunc(out.Holders, func(c dht.Contact) bool { return c.ID == holder.ID }) {
				out.Holders = append(out.Holders, holder)
			}
		}
		for _, m := range t.Mirrors.List {
			if !slices.ContainsFunc(out.Mirrors.List, func(n Mirror) bool { return n.ID == m.ID && n.Of == m.Of }) {
				out.Mirrors.List = append(out.Mirrors.List, m)
			}
		}
	}
	slices.Sort(counts)
	out.Summary.Count = counts[max(0, len(counts)-2)]
	return out
}

// standIns returns what a table tells the one above of the cells below it, nil if
// it should be read itself: it answers for all of them, has many, knows them for
// a short time only, or has ads that are on their way down.
func (h *Holder) standIns(now time.Time, c *cell) []Child {
	if !c.inner || c.id.Tree == "" || c.id.Prefix.Level == 0 || !c.id.Prefix.table() || c.gathering != nil ||
		now.Sub(c.born) < h.cfg.summaryLife() || slices.ContainsFunc(c.leases, lease.stuck) {
		return nil
	}
	if !h.schema.tellable(c.id, c.listing(h.schema)) {
		return nil
	}
	list := slices.Clone(c.listing(h.schema))
	for i := range list {
		list[i].Holders = closest(CellID{Tree: c.id.Tree, Prefix: c.id.Prefix.Child(list[i].Index)}, slices.Clone(list[i].Holders))
		list[i].Mirrors = DrawMirrors(list[i].Mirrors.List, c.turn)
	}
	if bytesBelow(list) > maxBelowBytes {
		return nil // whose addresses make it so large must not hide the cell
	}
	return list
}

// stuck tells whether an ad has been here for a while and not come down to a
// leaf.
func (l lease) stuck() bool { return !l.settled && l.ticks >= settleTicks }

// toldOf returns how many cells tables below told of that are to be passed over.
func (c *cell) toldOf() (n int) {
	for _, entries := range c.children {
		for _, e := range entries {
			n += len(e.below)
		}
	}
	return n
}

// lags tells whether the table above knows too little of the cells below this
// one, which it passes over.
func (c *cell) lags(s *Schema) bool {
	if len(c.toldBelow) == 0 {
		return false
	}
	for _, child := range c.listing(s) {
		at := slices.IndexFunc(c.toldBelow, func(t Child) bool { return t.Index == child.Index })
		if at < 0 || !c.toldBelow[at].Summary.Covers(child.Summary) {
			return true
		}
	}
	return false
}

// toRead returns the cells below that a query should read, as one of the holders
// says.
func (r *CellReply) toRead() []Child {
	if len(r.Passed) == 0 {
		return r.Children
	}
	list := slices.DeleteFunc(slices.Clone(r.Children), func(c Child) bool { return slices.Contains(r.Passed, c.Index) })
	return append(list, r.Below...)
}
