package search

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// A Truth is the outcome of a condition on one ad.
type Truth int8

// The truths, in the order of Kleene's logic: and is the minimum, or the
// maximum.
const (
	False Truth = iota - 1
	Unknown
	True
)

func truth(b bool) Truth {
	if b {
		return True
	}
	return False
}

// Matches tells whether ad satisfies p; a nil p is satisfied by every ad.
func (s *Schema) Matches(p Predicate, ad *Ad) bool { return p == nil || s.Eval(p, ad) == True }

// Eval evaluates p on ad in three values.
func (s *Schema) Eval(p Predicate, ad *Ad) Truth {
	switch p := p.(type) {
	case And:
		t := True
		for _, q := range p {
			if t = min(t, s.Eval(q, ad)); t == False {
				break
			}
		}
		return t
	case Or:
		t := False
		for _, q := range p {
			if t = max(t, s.Eval(q, ad)); t == True {
				break
			}
		}
		return t
	case Not:
		return -s.Eval(p.Of, ad)
	case Compare, Range, In, Contains, Within, RTT, Has:
	}
	var v Value
	i, ok := s.index[dimOf(p)]
	if ok {
		v = s.value(ad, i)
	}
	if _, has := p.(Has); has {
		return truth(!v.IsZero())
	}
	if v.IsZero() {
		return Unknown
	}
	return evalLeaf(p, v, s.dims[i].Kind)
}

// evalLeaf evaluates a condition on the value of its dimension.
func evalLeaf(p Predicate, v Value, kind Kind) Truth {
	switch p := p.(type) {
	case Compare:
		return truth(p.Op.holds(compareValues(v, p.Value, kind)))
	case Range:
		return truth(v.num >= p.Low && v.num <= p.High)
	case In:
		return truth(slices.ContainsFunc(p.Values, func(w Value) bool { return compareValues(v, w, kind) == 0 }))
	case Contains:
		_, found := slices.BinarySearch(v.set(), p.Member)
		return truth(found)
	case Within:
		return truth(Distance(v.place(), p.Center) <= p.Km)
	case RTT:
		at := v.coord()
		if at == nil {
			return Unknown
		}
		for _, to := range p.To {
			if PredictRTT(*at, to) > p.Most {
				return False
			}
		}
		return True
	default:
		return Unknown
	}
}

// holds tells whether a comparison that came out as c satisfies op.
func (op Op) holds(c int) bool {
	switch op {
	case OpEqual:
		return c == 0
	case OpNotEqual:
		return c != 0
	case OpLess:
		return c < 0
	case OpLessEqual:
		return c <= 0
	case OpGreater:
		return c > 0
	case OpGreaterEqual:
		return c >= 0
	default:
		return false
	}
}

func compareValues(v, w Value, kind Kind) int {
	switch kind {
	case KindNumber:
		return cmp.Compare(v.num, w.num)
	case KindVersion:
		return compareVersions(v.text(), w.text())
	default:
		return strings.Compare(v.text(), w.text())
	}
}

// dimOf returns the dimension that a leaf of a predicate is about.
func dimOf(p Predicate) string {
	switch p := p.(type) {
	case Compare:
		return p.Dim
	case Range:
		return p.Dim
	case In:
		return p.Dim
	case Contains:
		return p.Dim
	case Within:
		return p.Dim
	case RTT:
		return p.Dim
	case Has:
		return p.Dim
	default:
		return ""
	}
}

func (s *Schema) kind(dim string) Kind {
	d, _ := s.Dimension(dim)
	return d.Kind
}

// earthKm is the mean radius of the Earth (IUGG).
const earthKm = 6371.0088

// Distance returns the great-circle distance in kilometres (haversine).
func Distance(a, b Place) float64 {
	const rad = math.Pi / 180
	sinLat, sinLon := math.Sin((b.Lat-a.Lat)*rad/2), math.Sin((b.Lon-a.Lon)*rad/2)
	h := sinLat*sinLat + math.Cos(a.Lat*rad)*math.Cos(b.Lat*rad)*sinLon*sinLon
	return 2 * earthKm * math.Asin(math.Sqrt(min(1, h)))
}

// PredictRTT returns the round trip time that two coordinates predict:
// Euclidean distance and both heights. It leaves out their adjustments, which
// may be negative, so that a bound on the distance bounds the prediction.
func PredictRTT(a, b dht.Coordinate) time.Duration {
	var sum float64
	for i := range a.Vec {
		d := a.Vec[i] - b.Vec[i]
		sum += d * d
	}
	return time.Duration((math.Sqrt(sum) + a.Height + b.Height) * float64(time.Second))
}

// checkPredicate returns an error that wraps ErrBadQuery unless every name in
// p is in the schema and every value suits it.
func (s *Schema) checkPredicate(p Predicate) error {
	if p == nil {
		return nil
	}
	if err := checkShape(p); err != nil {
		return fmt.Errorf("%w: %w", ErrBadQuery, err)
	}
	return s.checkNames(p)
}

func (s *Schema) checkNames(p Predicate) error {
	switch p := p.(type) {
	case And:
		return s.checkAll(p)
	case Or:
		return s.checkAll(p)
	case Not:
		return s.checkNames(p.Of)
	case Compare, Range, In, Contains, Within, RTT, Has:
	}
	d, ok := s.Dimension(dimOf(p))
	if !ok {
		return fmt.Errorf("%w: %.40q is not in the schema of this network", ErrBadQuery, dimOf(p))
	}
	if err := checkLeaf(p, d); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrBadQuery, d.Name, err)
	}
	return nil
}

func (s *Schema) checkAll(ps []Predicate) error {
	for _, p := range ps {
		if err := s.checkNames(p); err != nil {
			return err
		}
	}
	return nil
}

// checkLeaf checks that a condition suits its dimension.
func checkLeaf(p Predicate, d Dimension) error {
	ordered := d.Kind == KindNumber || d.Kind == KindVersion
	unsuited := fmt.Errorf("%w: %s does not apply to a %s", ErrBadValue, p, d.Kind)
	switch p := p.(type) {
	case Compare:
		if !ordered && (p.Op != OpEqual && p.Op != OpNotEqual || d.Kind != KindText && d.Kind != KindEnum) {
			return unsuited
		}
		return p.Value.check(d)
	case In:
		if !ordered && d.Kind != KindText && d.Kind != KindEnum {
			return unsuited
		}
		for _, v := range p.Values {
			if err := v.check(d); err != nil {
				return err
			}
		}
	case Range:
		if d.Kind != KindNumber || math.IsNaN(p.Low) || math.IsNaN(p.High) {
			return unsuited
		}
	case Contains:
		if d.Kind != KindSet || p.Member == "" || len(p.Member) > maxText {
			return unsuited
		}
	case Within:
		if d.Kind != KindPlace || !(p.Km >= 0) || math.IsInf(p.Km, 0) {
			return unsuited
		}
		return PlaceAt(p.Center.Lat, p.Center.Lon).check(d)
	case RTT:
		if d.Kind != KindCoordinate || p.Most < 0 || len(p.To) == 0 || len(p.To) > MaxTargets ||
			slices.ContainsFunc(p.To, func(c dht.Coordinate) bool { return !checkCoordinate(c) }) {
			return unsuited
		}
	case Has, And, Or, Not:
	}
	return nil
}
