package search

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// ErrBadSummary reports a summary that is none of the schema.
var ErrBadSummary = errors.New("search: bad summary")

// A Summary says what a range of a tree may hold. It may claim too much, never
// too little.
type Summary struct {
	Count uint32
	// Occupancy has 64 bits for each dimension of the schema, in order: bit i
	// is set if an ad lies in the i-th 64th of the dimension's range (for a
	// set: has member i; for a place: 32 bands of latitude, then 32 of
	// longitude; for a coordinate: 8 bands of its height). Behind them are 64
	// bands of each axis of each coordinate.
	Occupancy []uint64
	// Balls hold the coordinates of all ads, at most MaxBalls for each dimension:
	// occupancy knows each axis apart, and clusters in eight dimensions leave little
	// empty on any one. Of a dimension that is in use but has no balls nothing is
	// known but its occupancy. Summaries share them; they are never written to.
	Balls []Ball
}

// NewSummary returns the summary of nothing.
func (s *Schema) NewSummary() Summary { return Summary{Occupancy: make([]uint64, s.words)} }

// add widens m by an ad.
func (s *Schema) add(m *Summary, ad *Ad) {
	m.Count++
	for i, d := range s.dims {
		v := s.value(ad, i)
		if v.IsZero() {
			continue
		}
		if d.Kind == KindCoordinate {
			at := v.coord()
			for axis, x := range at.Vec {
				m.Occupancy[s.axes[i]+axis] |= 1 << coordinateBand(x, 64)
			}
			if b := ballOf(i, *at); !m.vague(b.Dim) {
				m.Balls = Enclose(m.Balls, []Ball{b})
			}
		}
		m.Occupancy[i] |= d.occupancy(v)
	}
}

// unite widens the occupancy and the balls of m by those of n.
func (m *Summary) unite(n Summary) {
	own, more := m.clearOf(n), n.clearOf(*m)
	if m.Balls = more; len(own) > 0 {
		m.Balls = Enclose(own, more)
	}
	for i, b := range n.Occupancy[:min(len(n.Occupancy), len(m.Occupancy))] {
		m.Occupancy[i] |= b
	}
}

// vague tells whether m may have coordinates in a dimension, but does not say in
// which balls.
func (m Summary) vague(dim uint8) bool {
	return int(dim) < len(m.Occupancy) && m.Occupancy[dim] != 0 &&
		!slices.ContainsFunc(m.Balls, func(b Ball) bool { return b.Dim == dim })
}

// clearOf returns the balls of m without those of dimensions in which n is vague:
// so are both together.
func (m Summary) clearOf(n Summary) []Ball {
	vague := func(b Ball) bool { return n.vague(b.Dim) }
	if !slices.ContainsFunc(m.Balls, vague) {
		return m.Balls
	}
	return slices.DeleteFunc(slices.Clone(m.Balls), vague)
}

// Covers tells whether everything n may hold, m may hold. It may be false though
// that is so: where several balls of m together hold one of n.
func (m Summary) Covers(n Summary) bool {
	for i, b := range n.Occupancy {
		if b&^m.Occupancy[i] != 0 {
			return false
		}
	}
	for i := range n.Balls {
		if b := &n.Balls[i]; !m.vague(b.Dim) && !held(m.Balls, b) {
			return false
		}
	}
	return len(m.clearOf(n)) == len(m.Balls)
}

// equal tells whether two summaries hold the same, besides their counts.
func (m Summary) equal(n Summary) bool {
	return slices.Equal(m.Occupancy, n.Occupancy) && slices.Equal(m.Balls, n.Balls)
}

// CheckSummary returns an error unless the summary is one of this schema. It
// wraps ErrBadSummary.
func (s *Schema) CheckSummary(m Summary) error {
	if len(m.Occupancy) != s.words {
		return fmt.Errorf("%w: %d words of occupancy, want %d", ErrBadSummary, len(m.Occupancy), s.words)
	}
	var count [maxDimensions]int
	for _, b := range m.Balls {
		if int(b.Dim) >= len(s.dims) || s.dims[b.Dim].Kind != KindCoordinate {
			return fmt.Errorf("%w: a ball in dimension %d, which has no coordinates", ErrBadSummary, b.Dim)
		}
		if count[b.Dim]++; count[b.Dim] > MaxBalls {
			return fmt.Errorf("%w: more than %d balls in dimension %d", ErrBadSummary, MaxBalls, b.Dim)
		}
	}
	return nil
}

// sameLook tells whether two ads of one server differ at most in numbers and
// coordinates that no summary tells apart. What has no order, or hardly ever
// changes, must be equal: it is asked for as it is.
func (s *Schema) sameLook(a, b *Signed) bool {
	if !slices.Equal(a.Ad.Addrs, b.Ad.Addrs) || !bytes.Equal(a.Ad.Credential, b.Ad.Credential) {
		return false
	}
	for i, d := range s.dims {
		if d.Kind == KindNumber || d.Kind == KindCoordinate {
			continue
		}
		if !s.value(a.Ad, i).Equal(s.value(b.Ad, i)) {
			return false
		}
	}
	x, y := s.NewSummary(), s.NewSummary()
	s.add(&x, a.Ad)
	s.add(&y, b.Ad)
	return x.equal(y)
}

// occupancy returns the bits of a value.
func (d Dimension) occupancy(v Value) uint64 {
	switch d.Kind {
	case KindSet:
		return d.setBits(v.set())
	case KindPlace:
		at := v.place()
		return 1<<placeBand(at.Lat, 90, placeBands) | 1<<(placeBands+placeBand(at.Lon, 180, placeBands))
	case KindCoordinate:
		return 1 << heightBand(v.coord().Height)
	default:
		return 1 << int(d.fraction(v)*64)
	}
}

// possible says what a condition may come out as for some ad of a range.
type possible struct{ yes, no bool }

// CanMatch tells whether a range with summary m may hold an ad that matches p.
func (s *Schema) CanMatch(p Predicate, m Summary) bool {
	return p == nil || m.Count > 0 && s.outcomes(p, m).yes
}

// outcomes is Eval over all ads of a range at once. Members of a conjunction
// are judged each alone, which can only claim too much.
func (s *Schema) outcomes(p Predicate, m Summary) possible {
	switch p := p.(type) {
	case And:
		all := possible{yes: true}
		for _, q := range p {
			o := s.outcomes(q, m)
			all.yes, all.no = all.yes && o.yes, all.no || o.no
		}
		return all
	case Or:
		some := possible{no: true}
		for _, q := range p {
			o := s.outcomes(q, m)
			some.yes, some.no = some.yes || o.yes, some.no && o.no
		}
		return some
	case Not:
		o := s.outcomes(p.Of, m)
		return possible{yes: o.no, no: o.yes}
	case Compare, Range, In, Contains, Within, RTT, Has:
	}
	i, ok := s.index[dimOf(p)]
	if !ok || i >= len(m.Occupancy) {
		return possible{}
	}
	set := m.Occupancy[i]
	if _, ok := p.(Has); ok {
		return possible{yes: set != 0, no: true}
	}
	if s.dims[i].Kind == KindSet {
		// One bit stands for a member, not for a range of values.
		has := set&s.dims[i].occupancyOf(p) != 0
		return possible{yes: has, no: true}
	}
	switch s.dims[i].Kind {
	case KindPlace:
		return possible{yes: set != 0 && reaches(p, set), no: true}
	case KindCoordinate:
		return possible{yes: set != 0 && s.near(p, i, m), no: true}
	default:
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

// reaches tells whether a place in the occupied bands may satisfy p.
func reaches(p Predicate, set uint64) bool {
	w, ok := p.(Within)
	if !ok {
		return true
	}
	lat, lon := withinBands(w, placeBands)
	return set&lat != 0 && set>>placeBands&lon != 0
}

// withinBands returns which of n bands of latitude and of longitude the circle
// of p touches; n is at most 64.
func withinBands(p Within, n int) (lat, lon uint64) {
	rows, columns := withinRanges(p, n)
	for _, r := range rows {
		lat |= r.set()
	}
	for _, r := range columns {
		lon |= r.set()
	}
	return lat, lon
}

// withinRanges is withinBands for any number of bands.
func withinRanges(p Within, n int) (lat, lon []bandRange) {
	const slack = 1e-6 // degrees, for what rounding may lose
	angle := min(p.Km/earthKm, math.Pi) + slack*math.Pi/180
	lat = appendBands(nil, p.Center.Lat, angle*180/math.Pi+slack, 90, n)
	reach := 180.0
	// The circle's widest parallel is nearer to the pole than its centre;
	// a circle around a pole has all longitudes.
	if nearest := math.Abs(p.Center.Lat)*math.Pi/180 + angle; nearest < math.Pi/2 {
		reach = math.Asin(min(1, math.Sin(angle)/math.Cos(p.Center.Lat*math.Pi/180)))*180/math.Pi + slack
	}
	for _, around := range []float64{0, -360, 360} {
		lon = appendBands(lon, p.Center.Lon+around, reach, 180, n)
	}
	return lat, lon
}

// A bandRange is some adjacent bands, from first to last.
type bandRange struct{ first, last int }

// set returns the range as bits.
func (r bandRange) set() uint64 { return ^uint64(0) >> (63 - r.last) &^ (1<<r.first - 1) }

// appendBands adds which of n bands from -most to most the interval of width
// reach on both sides of x touches.
func appendBands(to []bandRange, x, reach, most float64, n int) []bandRange {
	if x+reach < -most || x-reach > most {
		return to
	}
	return append(to, bandRange{placeBand(x-reach, most, n), placeBand(x+reach, most, n)})
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
		if k := s.dims[i].Kind; k == KindPlace || k == KindCoordinate {
			part *= s.guess(q, s.dims[i])
			continue
		}
		yes, _ := s.dims[i].split(q)
		part *= (float64(bits.OnesCount64(m.Occupancy[i]&yes)) + 0.1) / (float64(bits.OnesCount64(m.Occupancy[i])) + 0.1)
	}
	return part
}

const (
	// samplePrior is how many ads of a sample the buckets in use weigh as much
	// as.
	samplePrior = 2
	// usualChance is the chance that a range has matches which its buckets in use
	// allow.
	usualChance = 0.8
)

// expect estimates how many ads of a child match p, if any do: from the sample
// of its parent, and as far as that is small from the buckets in use. It
// returns the chance of that, too: where no ad of the sample matches, p may
// want together what the child has apart.
func (s *Schema) expect(p Predicate, m Summary, c Child) (ads, chance float64) {
	share := s.share(p, m)
	part := (float64(c.Matched) + samplePrior*share) / (float64(c.Sampled) + samplePrior)
	if chance = 1; c.Matched == 0 {
		chance = chanceOf(share, float64(c.Sampled))
	}
	return float64(m.Count) * min(1, part), chance
}

// chanceOf returns the chance that a range has matches, about the share that is
// thought, if none of so many ads of a sample matches.
func chanceOf(share, sampled float64) float64 {
	none := usualChance * math.Pow(1-min(1, share), sampled)
	return none / (none + 1 - usualChance)
}
