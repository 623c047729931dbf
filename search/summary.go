package search

import (
	"math"
	"math/bits"
	"slices"

	"github.com/xenoserver/xeno/dht"
)

// A Summary says what a range of a tree may hold. It may claim too much, never
// too little.
type Summary struct {
	Count uint32
	// Occupancy has 64 bits for each dimension of the schema, in order: bit i
	// is set if an ad lies in the i-th 64th of the dimension's range (for a
	// set: has member i; for a place and a coordinate: lies in field i of an
	// 8 × 8 grid).
	Occupancy []uint64
}

// NewSummary returns the summary of nothing.
func (s *Schema) NewSummary() Summary { return Summary{Occupancy: make([]uint64, len(s.dims))} }

// add widens m by an ad.
func (s *Schema) add(m *Summary, ad *Ad) {
	m.Count++
	for i, d := range s.dims {
		v, ok := ad.Attribute(d.Name)
		if !ok {
			continue
		}
		m.Occupancy[i] |= d.occupancy(v)
	}
}

// unite widens the occupancy of m by that of n.
func (m *Summary) unite(n Summary) {
	for i, b := range n.Occupancy[:min(len(n.Occupancy), len(m.Occupancy))] {
		m.Occupancy[i] |= b
	}
}

// covers tells whether everything n may hold, m may hold.
func (m Summary) covers(n Summary) bool {
	for i, b := range n.Occupancy {
		if b&^m.Occupancy[i] != 0 {
			return false
		}
	}
	return true
}

// sameOccupancy tells whether two ads of one server look the same to every
// summary, so that a change from one to the other concerns only the cells that
// hold it.
func (s *Schema) sameOccupancy(a, b *Signed) bool {
	x, y := s.NewSummary(), s.NewSummary()
	s.add(&x, a.Ad)
	s.add(&y, b.Ad)
	return slices.Equal(x.Occupancy, y.Occupancy)
}

// occupancy returns the bits of a value.
func (d Dimension) occupancy(v Value) uint64 {
	switch d.Kind {
	case KindSet:
		return d.setBits(v.set)
	case KindPlace:
		return 1 << (placeBand(v.place.Lat, 90, placeCoarse)*placeCoarse + placeBand(v.place.Lon, 180, placeCoarse))
	case KindCoordinate:
		return 1 << (coordinateBand(v.coord.Vec[0], placeCoarse)*placeCoarse + coordinateBand(v.coord.Vec[1], placeCoarse))
	default:
		return 1 << int(d.fraction(v)*64)
	}
}

// possible says what a condition may come out as for some ad of a range.
type possible struct{ yes, no bool }

// CanMatch tells whether a range with summary m may hold an ad that matches p.
func (s *Schema) CanMatch(p Predicate, m Summary) bool {
	return p == nil || m.Count > 0 && s.outcomes(p, m.Occupancy).yes
}

// outcomes is Eval over all ads of a range at once. Members of a conjunction
// are judged each alone, which can only claim too much.
func (s *Schema) outcomes(p Predicate, occupancy []uint64) possible {
	switch p := p.(type) {
	case And:
		all := possible{yes: true}
		for _, q := range p {
			o := s.outcomes(q, occupancy)
			all.yes, all.no = all.yes && o.yes, all.no || o.no
		}
		return all
	case Or:
		some := possible{no: true}
		for _, q := range p {
			o := s.outcomes(q, occupancy)
			some.yes, some.no = some.yes || o.yes, some.no && o.no
		}
		return some
	case Not:
		o := s.outcomes(p.Of, occupancy)
		return possible{yes: o.no, no: o.yes}
	case Compare, Range, In, Contains, Within, RTT, Has:
	}
	i, ok := s.index[dimOf(p)]
	if !ok || i >= len(occupancy) {
		return possible{}
	}
	set := occupancy[i]
	if _, ok := p.(Has); ok {
		return possible{yes: set != 0, no: true}
	}
	if s.dims[i].Kind == KindSet {
		// One bit stands for a member, not for a range of values.
		has := set&s.dims[i].occupancyOf(p) != 0
		return possible{yes: has, no: true}
	}
	yes, no := s.dims[i].split(p)
	return possible{yes: set&yes != 0, no: set&no != 0}
}

// occupancyOf returns the bit of a Contains.
func (d Dimension) occupancyOf(p Predicate) uint64 {
	if c, ok := p.(Contains); ok {
		return d.memberBit(c.Member)
	}
	return ^uint64(0)
}

// split returns in which buckets a value may satisfy p, and in which it may not.
func (d Dimension) split(p Predicate) (yes, no uint64) {
	switch p := p.(type) {
	case Compare:
		return d.splitCompare(p)
	case Range:
		low := d.occupancy(Number(p.Low))
		high := d.occupancy(Number(p.High))
		if p.Low > p.High {
			return 0, ^uint64(0)
		}
		between := (high | (high - 1)) &^ (low - 1)
		// The bounds' own buckets may hold both; the outermost reach beyond.
		return between, ^between | low | high
	case In:
		for _, v := range p.Values {
			yes |= d.occupancy(v)
		}
		return yes, ^uint64(0)
	case Within:
		return splitGrid(func(i int) (least, most float64) { return placeField(i, p.Center) }, p.Km)
	case RTT:
		yes = ^uint64(0)
		for _, to := range p.To {
			y, _ := splitGrid(func(i int) (least, most float64) {
				return coordinateField(i, to) + to.Height, math.Inf(1)
			}, p.Most.Seconds()+1e-9)
			yes &= y
		}
		return yes, ^uint64(0)
	default:
		return ^uint64(0), ^uint64(0)
	}
}

func (d Dimension) splitCompare(p Compare) (yes, no uint64) {
	b := d.occupancy(p.Value)
	less, more := b-1, ^(b | (b - 1))
	switch p.Op {
	case OpEqual:
		return b, ^uint64(0)
	case OpNotEqual:
		return ^uint64(0), b
	case OpLess, OpLessEqual:
		return less | b, more | b
	default:
		return more | b, less | b
	}
}

// splitGrid asks every field of a grid for the least and the most distance
// that a point in it can have, and compares with limit.
func splitGrid(field func(i int) (least, most float64), limit float64) (yes, no uint64) {
	for i := range 64 {
		least, most := field(i)
		if least <= limit {
			yes |= 1 << i
		}
		if most > limit {
			no |= 1 << i
		}
	}
	return yes, no
}

// placeField bounds the distance in kilometres from center to the points of
// field i: a point is at most half a field's sides from its middle, going
// along a meridian and then a parallel.
func placeField(i int, center Place) (least, most float64) {
	const side = 180.0 / placeCoarse
	lat, lon := -90+side*(float64(i/placeCoarse)+0.5), -180+2*side*(float64(i%placeCoarse)+0.5)
	nearEquator := max(0, math.Abs(lat)-side/2) * math.Pi / 180
	radius := earthKm*math.Pi/180*(side/2+side*math.Cos(nearEquator)) + 1
	middle := Distance(Place{lat, lon}, center)
	return middle - radius, middle + radius
}

// coordinateField bounds the distance in seconds from a coordinate to the
// points of field i from below: the distance in the two dimensions of the grid.
func coordinateField(i int, to dht.Coordinate) float64 {
	gap := func(band int, x float64) float64 {
		const width = 2 * coordinateSpan / placeCoarse
		low, high := -coordinateSpan+width*float64(band), -coordinateSpan+width*float64(band+1)
		if band == 0 {
			low = math.Inf(-1)
		}
		if band == placeCoarse-1 {
			high = math.Inf(1)
		}
		return max(0, low-x, x-high)
	}
	return math.Hypot(gap(i/placeCoarse, to.Vec[0]), gap(i%placeCoarse, to.Vec[1])) - 1e-9
}

// share estimates which part of a range matches p from the buckets in use,
// taking conjuncts as independent. It steers the order of reading only.
func (s *Schema) share(p Predicate, m Summary) float64 {
	part := 1.0
	for _, q := range Conjuncts(p) {
		i, ok := s.index[dimOf(q)]
		if !ok || i >= len(m.Occupancy) || m.Occupancy[i] == 0 || s.dims[i].Kind == KindSet {
			continue
		}
		yes, _ := s.dims[i].split(q)
		part *= (float64(bits.OnesCount64(m.Occupancy[i]&yes)) + 0.1) / (float64(bits.OnesCount64(m.Occupancy[i])) + 0.1)
	}
	return part
}

// expect estimates how many ads of a child match p: from the sample of its
// parent, and as far as that is small from the buckets in use.
func (s *Schema) expect(p Predicate, m Summary, c Child) float64 {
	const prior = 2 // ads that the buckets weigh as much as
	part := (float64(c.Matched) + prior*s.share(p, m)) / (float64(c.Sampled) + prior)
	return float64(m.Count) * min(1, part)
}
