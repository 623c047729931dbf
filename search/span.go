package search

import "slices"

// A span is the part of a dimension's range that a cell's place in its tree
// leaves: fractions from low to high.
type span struct{ low, high float64 }

// rounding is what the arithmetic of keys may lose of a fraction.
const rounding = 1e-9

// spanOf returns what the prefix of a cell says of a dimension that its tree
// orders by: finer than occupancy, the deeper the cell. It is false where the
// prefix says nothing, since the tree has other dimensions or the cell may
// hold ads that lack this one.
func (s *Schema) spanOf(c CellID, dim string) (span, bool) {
	t, ok := s.Tree(c.Tree)
	if !ok {
		return span{}, false
	}
	for i, name := range t.Dims {
		if name != dim {
			continue
		}
		if bits, ok := s.interleaved(t); ok {
			return interleavedSpan(c.Prefix, bits, i, len(t.Dims))
		}
		d, _ := s.Dimension(dim)
		return singleSpan(c.Prefix, d.keyBits())
	}
	return span{}, false
}

// singleSpan undoes KeyOf: the first bits are a position, of which those below
// a 16th stand for ads without a value.
func singleSpan(p Prefix, bits int) (span, bool) {
	known := min(int(p.Level), bits)
	if known < 4 {
		return span{}, false
	}
	first := 0
	for i := range known {
		first = first<<1 | p.Key.bits(i, 1)
	}
	low := 1 << (bits - 4)
	first <<= bits - known
	last := first + 1<<(bits-known)
	if first < low {
		return span{}, false
	}
	return span{float64(first-low)/float64(15*low) - rounding, float64(last-low)/float64(15*low) + rounding}, true
}

// interleavedSpan undoes interleavedKey for the i-th of n dimensions, of whose
// positions the first stands for ads without a value.
func interleavedSpan(p Prefix, bits, i, n int) (span, bool) {
	each, known, first := bits/n, 0, 0
	for bit := i; bit < min(int(p.Level), bits); bit += n {
		first = first<<1 | p.Key.bits(bit, 1)
		known++
	}
	first <<= each - known
	last := first + 1<<(each-known) - 1
	if first == 0 {
		return span{}, false
	}
	most := float64(int(1)<<each - 1)
	return span{float64(first-1)/most - rounding, float64(last)/most + rounding}, true
}

// misses tells whether no ad of a cell can satisfy a condition, for its place
// in the tree.
func (s *Schema) misses(c CellID, p Predicate) bool {
	if or, ok := p.(Or); ok {
		for _, q := range or {
			if !s.misses(c, q) {
				return false
			}
		}
		return true
	}
	d, ok := s.Dimension(dimOf(p))
	if !ok {
		return false
	}
	at, ok := s.spanOf(c, d.Name)
	return ok && d.outside(at, p)
}

// outside tells whether no value within a span can satisfy a condition.
func (d Dimension) outside(at span, p Predicate) bool {
	ordered := d.Kind == KindNumber || d.Kind == KindVersion
	switch p := p.(type) {
	case Compare:
		f := d.fraction(p.Value)
		switch p.Op {
		case OpLess, OpLessEqual:
			return ordered && at.low > f
		case OpGreater, OpGreaterEqual:
			return ordered && at.high < f
		case OpEqual:
			return at.low > f || at.high < f
		default:
			return false
		}
	case Range:
		return p.Low > p.High || at.low > d.numberFraction(p.High) || at.high < d.numberFraction(p.Low)
	case In:
		for _, v := range p.Values {
			if f := d.fraction(v); at.low <= f && f <= at.high {
				return false
			}
		}
		return true
	case Within:
		lat, lon := withinRanges(p, placeFine)
		return !at.crosses(lat, lon, 0, 0, 0, placeFine)
	default:
		return false
	}
}

// crosses tells whether a span of places has one in the given bands of latitude
// and of longitude. Looked at are n bands of each from y and x on, whose bits
// interleave makes numbers from z on.
func (at span) crosses(lat, lon []bandRange, z, y, x, n int) bool {
	const all = placeFine * placeFine
	low, high := float64(z)/all, float64(z+n*n)/all
	if low > at.high || high < at.low || !overlap(lat, y, n) || !overlap(lon, x, n) {
		return false
	}
	if n == 1 || low >= at.low && high <= at.high {
		return true
	}
	n /= 2
	for i := range 4 {
		if at.crosses(lat, lon, z+i*n*n, y+i/2*n, x+i%2*n, n) {
			return true
		}
	}
	return false
}

// overlap tells whether any of the ranges has one of n bands from x on.
func overlap(ranges []bandRange, x, n int) bool {
	return slices.ContainsFunc(ranges, func(r bandRange) bool { return r.first < x+n && r.last >= x })
}

// missed returns the first conjunct that no ad of a cell can satisfy for its
// place in the tree, -1 if there is none.
func (s *Schema) missed(c CellID, conjuncts []Predicate) int {
	for i, p := range conjuncts {
		if s.misses(c, p) {
			return i
		}
	}
	return -1
}

// keyBound returns the best rank that an ad of a cell can have for its place
// in the tree, false where that says nothing.
func (o order) keyBound(c CellID) (float64, bool) {
	if o.none() || o.dim.Kind != KindNumber && o.dim.Kind != KindVersion {
		return 0, false
	}
	at, ok := o.schema.spanOf(c, o.dim.Name)
	switch {
	case !ok:
		return 0, false
	case o.query.Desc:
		return -at.high, true
	default:
		return at.low, true
	}
}
