package search

import (
	"cmp"
	"math"
	"slices"
)

// maxCandidates bounds the trees whose roots a query asks when it knows
// nothing: one will do, another is for the case that it is slow or the better
// guess.
const maxCandidates = 3

// candidates returns the trees worth comparing for q, the most promising
// first, judged from the query alone. There is always one.
func (s *Schema) candidates(q Query) []string {
	type guess struct {
		tree string
		part float64
	}
	parts := make(map[string]float64)
	for _, p := range Conjuncts(q.Where) {
		dim := dimOf(p)
		if or, ok := p.(Or); ok && len(or) > 0 {
			dim = dimOf(or[0])
			for _, q := range or {
				if dimOf(q) != dim {
					dim = ""
				}
			}
		}
		if i, ok := s.index[dim]; ok {
			before, seen := parts[dim]
			if !seen {
				before = 1
			}
			parts[dim] = before * s.guess(p, s.dims[i])
		}
	}
	var guesses []guess
	for _, t := range s.trees {
		part, seen := 1.0, false
		for _, dim := range t.Dims {
			if f, ok := parts[dim]; ok {
				part, seen = part*f, true
			}
		}
		if len(t.Dims) == 1 && t.Dims[0] == q.OrderBy && q.Limit > 0 {
			part, seen = part*0.3, true
		}
		if seen {
			guesses = append(guesses, guess{t.Name, part})
		}
	}
	slices.SortStableFunc(guesses, func(a, b guess) int { return cmp.Compare(a.part, b.part) })
	var trees []string
	for _, g := range guesses[:min(len(guesses), maxCandidates)] {
		trees = append(trees, g.tree)
	}
	if len(trees) == 0 {
		trees = []string{DimServer}
	}
	return trees
}

// guess estimates which part of all ads satisfies p, without having seen any.
func (s *Schema) guess(p Predicate, d Dimension) float64 {
	switch p := p.(type) {
	case Or:
		sum := 0.0
		for _, q := range p {
			sum += s.guess(q, d)
		}
		return min(1, sum)
	case Not:
		return 0.8
	case In:
		return min(1, 0.05*float64(len(p.Values)))
	case Compare:
		if p.Op == OpEqual {
			return 0.05
		}
	case Within:
		// Ten times its part of the Earth: servers are where people are.
		return min(1, 10*(1-math.Cos(min(math.Pi, p.Km/earthKm)))/2+0.001)
	case RTT:
		return min(1, math.Pow(p.Most.Seconds()/0.2, 2)+0.001)
	case Has, Contains, And:
		return 0.7
	case Range:
	}
	yes, _ := d.split(p)
	n := 0
	for ; yes != 0; yes &= yes - 1 {
		n++
	}
	return float64(n) / 64
}
