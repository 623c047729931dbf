package search

import (
	"math"
	"slices"
	"time"
)

// An outline is what a sample of all ads tells of a query. All roots have the
// same sample, so one tells what every tree is worth.
type outline struct {
	parts []float64 // how much of all ads satisfies each conjunct
	match float64   // how much matches
	total float64   // how many ads there are
}

// outline judges a query by a sample.
func (s *Schema) outline(q Query, m Sample) *outline {
	if len(m.Ads) == 0 {
		return nil
	}
	conjuncts := Conjuncts(q.Where)
	o := &outline{parts: make([]float64, len(conjuncts)), total: float64(max(m.Total, len(m.Ads)))}
	for _, ad := range m.Ads {
		match := 1.0
		for i, p := range conjuncts {
			if s.Eval(p, ad.Ad) == True {
				o.parts[i]++
			} else {
				match = 0
			}
		}
		o.match += match
	}
	n := float64(len(m.Ads))
	// What is not in the sample may be half of one ad in it.
	for i := range o.parts {
		o.parts[i] = (o.parts[i] + 0.5) / (n + 1)
	}
	o.match = (o.match + 0.5) / (n + 1)
	return o
}

// boundary is how many times the cells within a condition's range are read
// besides, because they lie across its border, for each dimension of a tree.
const boundary = 1.5

// estimate returns how many leaf cells a query reads in a tree. children are
// those of the root; none if it is not known.
func (o *outline) estimate(s *Schema, q Query, t Tree, children []Child) float64 {
	part, dims := 1.0, float64(len(t.Dims))
	for i, p := range Conjuncts(q.Where) {
		inside := true
		for _, name := range Mentioned(p) {
			inside = inside && slices.Contains(t.Dims, name)
		}
		if inside {
			part *= o.parts[i]
		}
	}
	reads := o.total / (leafAds / 2)
	if len(children) > 0 {
		reads, _ = s.outlook(q.Where, children)
	}
	reads = min(reads, 1+o.total*part*math.Pow(boundary, dims)/(leafAds/2))
	if q.Limit == 0 || q.OrderBy != "" && !slices.Contains(t.Dims, q.OrderBy) {
		return reads
	}
	return min(reads, 1+reads*float64(q.Limit)*math.Sqrt(dims)/(o.total*min(o.match, part)+0.5))
}

// best returns the tree with the least estimate among those that are not late.
func (s *Seeker) best() (tree string) {
	least := math.Inf(1)
	for _, t := range s.schema.trees {
		children, known := s.root(t.Name)
		reads := s.outline.estimate(s.schema, s.query, t, children)
		if !known {
			reads += rootCost
		}
		if reads < least && !s.late[t.Name] {
			tree, least = t.Name, reads
		}
	}
	return tree
}

// rootCost is how many reads a tree must save that its root is asked when
// another's has answered.
const rootCost = 1.5

// outlined chooses the tree by the sample, unless its root is awaited, or
// every root was waited for in vain.
func (s *Seeker) outlined(now time.Time) {
	for range s.schema.trees {
		tree := s.best()
		if tree == "" {
			return
		}
		v := s.visit(Root(tree))
		if v.answers > 0 || v.glimpsed {
			s.tree = tree
			return
		}
		if v.lastAsk.IsZero() && !s.dead(v) {
			return // it is asked now
		}
		if due := v.lastAsk.Add(2 * v.patience); !s.dead(v) && now.Before(due) {
			s.effects = append(s.effects, Wake{At: due})
			return
		}
		s.late[tree] = true
	}
}

const (
	// disappointment is how many times as many cells as estimated are read
	// before another tree is considered, and besides those disappointingReads.
	disappointment, disappointingReads = 2, 8
	// maxTrees bounds how many trees one query goes through.
	maxTrees = 3
)

// reconsider goes over to another tree where the estimate for this one, which
// takes conditions and order for independent, was far too good, and another
// one's range alone promises less than what was read already.
func (s *Seeker) reconsider() {
	if s.outline == nil || s.tree == "" || s.query.Limit == 0 || len(s.tried) >= maxTrees {
		return
	}
	t, _ := s.schema.Tree(s.tree)
	children, _ := s.root(s.tree)
	read, left := 0.0, 0.0
	for _, v := range s.list {
		switch {
		case v.cell.Tree != s.tree:
		case s.done(v):
			read++
		case s.wants(v):
			left += math.Ceil(float64(v.summary.Count) / (leafAds / 2))
		}
	}
	if read < disappointingReads+disappointment*s.outline.estimate(s.schema, s.query, t, children) {
		return
	}
	whole := s.query
	whole.Limit = 0
	least, best := min(read, left), ""
	for _, t := range s.schema.trees {
		children, _ := s.root(t.Name)
		if reads := s.outline.estimate(s.schema, whole, t, children); reads < least && !s.tried[t.Name] && !s.late[t.Name] {
			least, best = reads, t.Name
		}
	}
	if best != "" {
		s.tried[s.tree], s.tried[best] = true, true
		s.tree = best
		s.visit(Root(best))
	}
}
