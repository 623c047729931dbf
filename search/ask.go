package search

import (
	"encoding/binary"
	"slices"
	"time"
)

// ask evaluates a query on one cell.
func (h *Holder) ask(now time.Time, q CellQuery) CellReply {
	conjuncts := Conjuncts(q.Query.Where)
	reply := CellReply{Excluded: make([]uint32, len(conjuncts)), Pruned: make([]uint32, len(conjuncts))}
	c := h.cells[q.Cell]
	if r := h.replicas[q.Cell]; c == nil && r.serves(now) {
		r.asks++
		h.stats.Reflected++
		c, reply.Mirrored, reply.Mirrors = r.cell, true, r.beside
	}
	if c == nil {
		h.want(now, q.Cell)
		return reply
	}
	c.turn++
	if !reply.Mirrored {
		c.asks++
		reply.Mirrors = h.ownMirrors(c)
	}
	reply.Known, reply.Inner, reply.Age = true, c.inner, now.Sub(c.born)
	if c.answersForAll(now, q) {
		reply.Inner, reply.Gathered, reply.Age = false, true, c.ageOfAll(now)
		h.stats.Summed++
	}
	h.evaluate(now, c, q, &reply)
	return reply
}

// evaluate evaluates a query on the ads of a cell, and if the reply is for all
// cells below on theirs.
func (h *Holder) evaluate(now time.Time, c *cell, q CellQuery, reply *CellReply) {
	conjuncts, inner := Conjuncts(q.Query.Where), reply.Inner
	ord, table := h.schema.order(&q.Query), inner && c.id.Prefix.table()
	var matches []*Signed
	var sample census
	t, _ := h.schema.Tree(c.id.Tree)
	consider := func(l lease) {
		if !now.Before(l.until) {
			return
		}
		reply.Total++
		ad := h.newest(l.ad)
		if (q.Sample || q.Count && table) && len(reply.Sample) < SampleAds(h.cfg.LeafAds) {
			reply.Sample = append(reply.Sample, ad) // leases are in the order of hashes
		}
		match := h.schema.tally(conjuncts, ad.Ad, reply.Excluded)
		if inner && c.id.Tree != "" {
			sample = append(sample, sampledAd{h.schema.KeyOf(t, ad), match})
		}
		if match {
			reply.Digest ^= l.digest()
			matches = append(matches, ad)
		} else if q.Explain && len(reply.ExcludedAds) < maxExcluded {
			reply.ExcludedAds = append(reply.ExcludedAds, ad)
		}
	}
	if reply.Gathered {
		c.eachAd(consider)
	} else {
		for _, l := range c.leases {
			consider(l)
		}
	}
	reply.Matched = uint32(len(matches))
	if !q.Count || !table {
		reply.Ads, reply.More = ord.page(matches, q)
	}
	if reply.Gathered {
		return
	}
	list := func(to []Child, child Child) []Child {
		child.Sampled, child.Matched = sample.count(c.id.Prefix.Child(child.Index))
		child.Holders = child.Holders[:min(len(child.Holders), Replicas)]
		child.Mirrors = DrawMirrors(child.Mirrors.List, c.turn)
		return append(to, child)
	}
	passed, below := c.pass(h.schema, func(child Child) bool {
		return h.schema.pruner(conjuncts, child.Summary) < 0 && h.schema.missed(CellID{Tree: c.id.Tree, Prefix: c.id.Prefix.Child(child.Index)}, conjuncts) < 0
	})
	for _, child := range c.listing(h.schema) {
		if i := h.schema.pruner(conjuncts, child.Summary); i >= 0 && !q.Whole {
			reply.Pruned[i] += child.Summary.Count
			continue
		}
		reply.Children = list(reply.Children, child)
	}
	reply.Passed = passed
	for _, child := range below {
		reply.Below = list(reply.Below, child)
	}
}

// A census is the sample of an inner cell.
type census []sampledAd

// A sampledAd is where an ad of it stands, and whether it matches.
type sampledAd struct {
	key   Key
	match bool
}

// count returns how many of the sample lie in a cell below, and match.
func (n census) count(below Prefix) (sampled, matched uint32) {
	for _, ad := range n {
		if below.Contains(ad.key) {
			sampled++
			if ad.match {
				matched++
			}
		}
	}
	return sampled, matched
}

// pruner returns the first conjunct that no ad of the range can satisfy, -1
// if there is none.
func (s *Schema) pruner(conjuncts []Predicate, m Summary) int {
	return slices.IndexFunc(conjuncts, func(p Predicate) bool { return !s.CanMatch(p, m) })
}

// tally tells whether ad satisfies all conjuncts, and counts those it fails.
func (s *Schema) tally(conjuncts []Predicate, ad *Ad, excluded []uint32) bool {
	match := true
	for i, p := range conjuncts {
		if s.Eval(p, ad) != True {
			excluded[i]++
			match = false
		}
	}
	return match
}

// page returns the matches behind the cursor, in order, up to the limit of
// the query and of a reply.
func (o order) page(matches []*Signed, q CellQuery) (ads []*Signed, more bool) {
	o.sort(matches)
	if q.After != nil {
		after := o.standingOf(q.After.Value, q.After.Hash)
		matches = slices.DeleteFunc(matches, func(ad *Signed) bool { return o.compare(o.standing(ad), after) <= 0 })
	}
	size := 0
	for i, ad := range matches {
		size += ad.size
		if q.Query.Limit > 0 && i >= q.Query.Limit || size > maxReplyBytes && i > 0 {
			return matches[:i], true
		}
	}
	return matches, false
}

// cursor returns where a reply that ends with ad stops.
func (o order) cursor(ad *Signed) *Cursor {
	st := o.standing(ad)
	if v, ok := ad.Ad.Attribute(o.dim.Name); ok && !o.none() {
		st.value = v
	}
	return &Cursor{Value: st.value, Hash: st.hash}
}

// digest is what a lease adds to that of its cell.
func (l lease) digest() uint64 { return binary.BigEndian.Uint64(l.ad.hash[:8]) }
