package search

import (
	"slices"

	"github.com/xenoserver/xeno/dht"
)

// maxDetours is how many other trees a query takes around cells that are lost.
const maxDetours = 2

// name notes who tells of the cell.
func (v *visit) name(teller dht.PeerID) {
	if len(v.tellers) < maxEntries && !slices.Contains(v.tellers, teller) {
		v.tellers = append(v.tellers, teller)
	}
}

// lost tells whether a cell that may change the answer was read in vain: nobody
// who should have it answers, or none of them has it, though as many holders of
// the table above as are asked tell that it has ads, or all of fewer that have
// been such for long. Those who had it may all have died; until the publishers
// renew, its ads are in the other trees only. Of one teller beside others the
// cell may be imagined, or long empty.
func (s *Seeker) lost(v *visit) bool {
	if v.known || !s.reads(v) || !s.wants(v) || !s.done(v) {
		return false
	}
	if v.answers == 0 || v.cell.Prefix.Level == 0 {
		return true
	}
	if v.above == nil || len(v.tellers) == 0 {
		return false
	}
	enough := v.above.settled
	if v.above.glimpsed {
		enough++
	}
	return len(v.tellers) >= max(1, min(enough, s.witnesses()))
}

// detour takes another tree when all was read of this one but cells that are
// lost: every ad is in every tree. What was found stays.
func (s *Seeker) detour() bool {
	if !s.missed || s.tree == "" || s.enough() || !s.complete() || len(s.lossy) >= maxDetours {
		return false
	}
	s.missed = false
	if !slices.ContainsFunc(s.list, s.lost) {
		return false
	}
	s.lossy = append(s.lossy, s.tree)
	tree := s.another()
	if tree == "" {
		s.lossy = s.lossy[:len(s.lossy)-1]
		return false
	}
	s.tree, s.turned = tree, true
	s.visit(Root(tree))
	return true
}

// another returns the best tree that has not lost cells; without a sample the
// first one.
func (s *Seeker) another() string {
	if s.outline != nil {
		return s.best()
	}
	for _, t := range s.schema.trees {
		if !s.avoids(t.Name) {
			return t.Name
		}
	}
	return ""
}

// avoids tells whether a tree is not to be taken, or not again: cells of it are
// lost, or nobody has its root.
func (s *Seeker) avoids(tree string) bool {
	if slices.Contains(s.lossy, tree) {
		return true
	}
	v := s.visits[Root(tree)]
	return v != nil && !v.known && !v.glimpsed && (s.dead(v) || v.started && s.done(v))
}

// barren tells whether nobody who was asked has any cell.
func (s *Seeker) barren() bool {
	return !slices.ContainsFunc(s.list, func(v *visit) bool { return v.known || v.glimpsed || v.answers == 0 && v.started })
}
