package search

import (
	"math"
	"time"
)

// best returns the tree with the least estimate among those that are not late
// or lossy.
func (s *Seeker) best() (tree string) {
	least := math.Inf(1)
	for _, t := range s.schema.trees {
		if s.avoids(t.Name) {
			continue
		}
		reads, known := s.left(t)
		if !known {
			reads += rootCost
		}
		if reads < least && (known || !s.late[t.Name]) {
			tree, least = t.Name, reads
		}
	}
	return tree
}

// left estimates how many cells of a tree have still to be read, and tells
// whether its root is known.
func (s *Seeker) left(t Tree) (reads float64, known bool) {
	children, known := s.root(t.Name)
	if !known {
		return s.outline.estimate(t, s.outline.unseen()), false
	}
	p := prospect{part: s.partOf(t, children), found: float64(len(s.active))}
	inOrder := s.query.Limit > 0 && !s.order.none() && s.order.dim.Kind != KindCoordinate && s.outline.orders(t, s.query.OrderBy)
	needed := 1.0 // the chance that a cell must be read
	for _, v := range s.rank() {
		if v.cell.Tree != t.Name || v.cell.Prefix.Level == 0 || s.done(v) || !s.wants(v) {
			continue
		}
		n := float64(v.summary.Count)
		switch {
		case n <= GatherAds && v.started: // it is read in any case
		case n <= GatherAds && s.nearer(v):
			p.certain++
		case n <= GatherAds:
			p.leaves += needed
		default:
			n = leavesIn(n, GatherAds)
			p.room += needed * n
			if s.query.Limit == 0 && s.sure(t, v) {
				p.inside += n
			}
		}
		if missing := float64(s.query.Limit) - s.settled(v.bound); inOrder {
			needed *= 1 - v.chance*min(1, s.outline.seen*v.expect/max(1, missing))
		}
	}
	return s.outline.estimate(t, p), true
}

// nearer tells whether a cell may have something nearer than everything that was
// found, which is enough but for that.
func (s *Seeker) nearer(v *visit) bool {
	return s.query.Limit > 0 && len(s.active) >= s.query.Limit && s.order.dim.Kind == KindCoordinate && v.bound < s.sorted()[0].standing.rank
}

// partOf estimates how much of all ads lies within the range of a query in a
// tree, from the buckets that the children of its root use; 0 where they tell
// little.
func (s *Seeker) partOf(t Tree, children []Child) float64 {
	var own And
	for i, c := range s.outline.sets {
		if !s.outline.sorts(t, c) {
			continue
		}
		switch s.schema.kind(dimOf(s.conjuncts[i])) {
		case KindNumber, KindVersion, KindEnum, KindText:
		default:
			return 0 // a junction, or of a kind whose buckets are not those of values
		}
		own = append(own, s.conjuncts[i])
	}
	if len(own) == 0 {
		return 0
	}
	ads := 0.0
	for _, c := range children {
		if s.schema.pruner(s.conjuncts, c.Summary) < 0 {
			ads += float64(c.Summary.Count) * s.schema.share(own, c.Summary)
		}
	}
	return min(1, ads/s.outline.total)
}

// sure tells whether all ads of a cell lie within the range of a query in a
// tree.
func (s *Seeker) sure(t Tree, v *visit) bool {
	for i, c := range s.outline.sets {
		if s.outline.sorts(t, c) && s.schema.outcomes(s.conjuncts[i], v.summary).no {
			return false
		}
	}
	return true
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
			if s.scouts(now, tree) {
				return
			}
			if s.best() != tree {
				continue
			}
			s.tree = tree
			return
		}
		if s.rootAwaited(now, v) {
			return
		}
		s.late[tree] = true
	}
}

// scoutLeast is from how many reads on a tree is taken only when the root of the
// order's own tree was asked as well: that may show that few reads will do, where
// the sample has too few matches to tell.
const scoutLeast = 20

// scouts tells whether the root of the order's tree is awaited before another
// tree is taken, of which much must be read.
func (s *Seeker) scouts(now time.Time, tree string) bool {
	own, ok := s.schema.Tree(s.query.OrderBy)
	if !ok || s.query.Limit == 0 || s.order.none() || s.order.dim.Kind == KindCoordinate || own.Name == tree {
		return false
	}
	t, _ := s.schema.Tree(tree)
	if reads, _ := s.left(t); reads < scoutLeast {
		return false
	}
	v := s.visit(Root(own.Name))
	return v.answers == 0 && !v.glimpsed && s.rootAwaited(now, v)
}

// rootAwaited tells whether the root of a tree that may be taken is asked now, or may
// still answer in time.
func (s *Seeker) rootAwaited(now time.Time, v *visit) bool {
	due := v.lastAsk.Add(2 * v.patience)
	switch {
	case s.dead(v):
		return false
	case v.lastAsk.IsZero():
		return true
	case now.Before(due):
		s.effects = append(s.effects, Wake{At: due})
		return true
	default:
		return false
	}
}

const (
	// turnGain is how many times fewer reads than its tree has left another one
	// must promise: what was not read yet always looks better. Where everything
	// is wanted what was found saves nothing of it, and turnAll counts.
	turnGain, turnAll = 1.5, 2
	// turnLeast is how many reads must be left that other trees are looked at.
	turnLeast = 4
	// evidencePrior is how many matches as expected what the sample tells weighs
	// as much as.
	evidencePrior = 2
)

// turn takes another tree where what was read contradicts what the sample and
// the root had promised, so much that to begin anew is cheaper. What was found
// stays; complete is the answer when the other tree was read. It turns once: a
// second time would mostly be back.
func (s *Seeker) turn() {
	if !s.doubt || s.outline == nil || s.turned || s.again || s.enough() {
		return
	}
	s.doubt = false
	s.learn()
	t, _ := s.schema.Tree(s.tree)
	left, known := s.left(t)
	if !known || left < turnLeast {
		return
	}
	tree := s.best()
	if tree == "" || tree == s.tree {
		return
	}
	t, _ = s.schema.Tree(tree)
	reads, known := s.left(t)
	if !known {
		reads += rootCost
	}
	if s.outline.goal < 1 && s.outline.orders(t, s.query.OrderBy) {
		// Its first cells promise as if what comes first in the order matched as
		// often as the rest; the sample tells how far the order is read.
		reads = max(reads, s.outline.estimate(t, s.outline.unseen()))
	}
	gain := turnGain
	if s.query.Limit == 0 {
		gain = turnAll
	}
	if gain*reads < left {
		s.tree, s.turned = tree, true
		s.visit(Root(tree))
	}
}

// learn corrects the outline by the leaves that were read: by how many matches
// they had of those that were expected, and where they are the first in the
// order, by how many are still missing. A liar can make a query turn once, not
// miss anything.
func (s *Seeker) learn() {
	o := s.outline
	expected, matched, passed := 0.0, 0.0, 0.0
	for _, v := range s.list {
		if v.answers == 0 || v.inner || v.cell.Prefix.Level == 0 {
			continue
		}
		expected += v.expect * v.chance
		matched += float64(v.matched)
		if t, _ := s.schema.Tree(v.cell.Tree); len(t.Dims) == 1 && t.Dims[0] == s.query.OrderBy && s.order.dim.Kind != KindCoordinate {
			passed += float64(v.total)
		}
	}
	o.seen = min(1, (matched+evidencePrior)/(expected+evidencePrior))
	if found := len(s.active); o.goal < 1 && found < s.query.Limit {
		o.extend(passed / o.total * float64(s.query.Limit) / float64(found+1))
	}
}
