package search

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
)

// ErrBadValue reports a value that its dimension does not allow.
var ErrBadValue = errors.New("search: bad value")

// A Place is a point on Earth in degrees.
type Place struct {
	Lat float64 `cbor:"lat" json:"lat"` // -90 to 90, north is positive
	Lon float64 `cbor:"lon" json:"lon"` // -180 to 180, east is positive
}

// A Value is what an ad claims for one dimension. Values are immutable and
// made by Number, Text, Set, PlaceAt and CoordinateAt; the zero Value is none.
// In DAG-CBOR a number is a float, text (also versions and enumerations) a
// string, a set an ascending array, a place and a coordinate maps.
//
// Most values are numbers, and an ad has forty values: what the others need is
// behind a pointer.
type Value struct {
	num  float64
	rest any // isNumber, string, []string, Place or *dht.Coordinate; nil for none
}

// isNumber is the rest of a number.
type isNumber struct{}

// Number returns a number in its dimension's unit.
func Number(f float64) Value { return Value{num: f, rest: isNumber{}} }

// Text returns a text, a version or a member of an enumeration.
func Text(s string) Value { return Value{rest: s} }

// Set returns the set of members, each once.
func Set(members ...string) Value {
	set := slices.Clone(members)
	slices.Sort(set)
	return Value{rest: slices.Compact(set)}
}

// PlaceAt returns a place.
func PlaceAt(lat, lon float64) Value { return Value{rest: Place{lat, lon}} }

// CoordinateAt returns a network coordinate.
func CoordinateAt(c dht.Coordinate) Value { return Value{rest: &c} }

// IsZero tells whether v is none.
func (v Value) IsZero() bool { return v.rest == nil }

// Number returns the number, if v is one.
func (v Value) Number() (float64, bool) {
	_, ok := v.rest.(isNumber)
	return v.num, ok
}

// Text returns the text, version or enumeration member, if v is one.
func (v Value) Text() (string, bool) {
	s, ok := v.rest.(string)
	return s, ok
}

// Set returns a copy of the members, if v is a set.
func (v Value) Set() ([]string, bool) {
	set, ok := v.rest.([]string)
	return slices.Clone(set), ok
}

// Place returns the place, if v is one.
func (v Value) Place() (Place, bool) {
	p, ok := v.rest.(Place)
	return p, ok
}

// Coordinate returns the network coordinate, if v is one.
func (v Value) Coordinate() (dht.Coordinate, bool) {
	if c := v.coord(); c != nil {
		return *c, true
	}
	return dht.Coordinate{}, false
}

// text, set, place and coord return what the value is, zero if it is another.

func (v Value) text() string {
	s, _ := v.rest.(string)
	return s
}

func (v Value) set() []string {
	set, _ := v.rest.([]string)
	return set
}

func (v Value) place() Place {
	p, _ := v.rest.(Place)
	return p
}

func (v Value) coord() *dht.Coordinate {
	c, _ := v.rest.(*dht.Coordinate)
	return c
}

// Equal tells whether v and w are the same value.
func (v Value) Equal(w Value) bool {
	switch rest := v.rest.(type) {
	case []string:
		set, ok := w.rest.([]string)
		return ok && slices.Equal(rest, set)
	case *dht.Coordinate:
		c := w.coord()
		return c != nil && *rest == *c
	default:
		return v.num == w.num && v.rest == w.rest
	}
}

// String returns the value for people.
func (v Value) String() string {
	switch rest := v.rest.(type) {
	case isNumber:
		if a := math.Abs(v.num); a >= 1e-6 && a < 1e15 || a == 0 {
			return strconv.FormatFloat(v.num, 'f', -1, 64)
		}
		return strconv.FormatFloat(v.num, 'g', -1, 64)
	case string:
		return rest
	case []string:
		return "{" + strings.Join(rest, ", ") + "}"
	case Place:
		return fmt.Sprintf("%.4f, %.4f", rest.Lat, rest.Lon)
	case *dht.Coordinate:
		return fmt.Sprintf("%.4f", rest.Vec)
	default:
		return "none"
	}
}

// check returns an error that wraps ErrBadValue unless v suits d.
func (v Value) check(d Dimension) error {
	var ok bool
	switch rest := v.rest.(type) {
	case isNumber:
		ok = d.Kind == KindNumber && !math.IsNaN(v.num) && !math.IsInf(v.num, 0)
	case string:
		ok = checkText(rest, d)
	case []string:
		ok = d.Kind == KindSet && checkSet(rest)
	case Place:
		ok = d.Kind == KindPlace && math.Abs(rest.Lat) <= 90 && math.Abs(rest.Lon) <= 180
	case *dht.Coordinate:
		ok = d.Kind == KindCoordinate && checkCoordinate(*rest)
	}
	if !ok {
		return fmt.Errorf("%w: %.80s is no %s for %s", ErrBadValue, v, d.Kind, d.Name)
	}
	return nil
}

// checkText tells whether d is of texts and s one of them.
func checkText(s string, d Dimension) (ok bool) {
	switch d.Kind {
	case KindVersion:
		_, ok = parseVersion(s)
	case KindEnum:
		ok = slices.Contains(d.Values, s)
	case KindText:
		ok = s != "" && len(s) <= maxText
	case KindNumber, KindSet, KindPlace, KindCoordinate:
	}
	return ok
}

// checkSet tells whether set is within limits, ascending and without repetition.
func checkSet(set []string) bool {
	if len(set) > maxSet {
		return false
	}
	for i, m := range set {
		if m == "" || len(m) > maxText || i > 0 && set[i-1] >= m {
			return false
		}
	}
	return true
}

// checkCoordinate tells whether c is finite and within half a minute, which
// no round trip on Earth exceeds.
func checkCoordinate(c dht.Coordinate) bool {
	const most = 30
	ok := c.Height >= 0 && c.Height <= most && math.Abs(c.Adjustment) <= most && c.Error >= 0 && c.Error <= most
	for _, x := range c.Vec {
		ok = ok && math.Abs(x) <= most
	}
	return ok
}

// coordinateForm is a coordinate in DAG-CBOR and JSON.
type coordinateForm struct {
	Vec        []float64 `cbor:"vec" json:"vec"`
	Error      float64   `cbor:"error" json:"error"`
	Adjustment float64   `cbor:"adjustment" json:"adjustment"`
	Height     float64   `cbor:"height" json:"height"`
}

// MarshalCBOR implements cbor.Marshaler.
func (v Value) MarshalCBOR() ([]byte, error) { return ledger.Encode(v.plain()) }

// UnmarshalCBOR implements cbor.Unmarshaler.
func (v *Value) UnmarshalCBOR(b []byte) error {
	var plain any
	if err := ledger.Decode(b, &plain); err != nil {
		return err
	}
	got, err := valueOf(plain)
	if err != nil {
		return err
	}
	*v = got
	return nil
}

// MarshalJSON implements json.Marshaler, in the shapes of the DAG-CBOR form.
func (v Value) MarshalJSON() ([]byte, error) { return json.Marshal(v.plain()) }

// UnmarshalJSON implements json.Unmarshaler.
func (v *Value) UnmarshalJSON(b []byte) error {
	var plain any
	if err := json.Unmarshal(b, &plain); err != nil {
		return err
	}
	got, err := valueOf(plain)
	if err != nil {
		return err
	}
	*v = got
	return nil
}

// plain returns the value as a codec sees it.
func (v Value) plain() any {
	switch rest := v.rest.(type) {
	case isNumber:
		return v.num
	case []string:
		return append([]string{}, rest...)
	case *dht.Coordinate:
		return coordinateForm{rest.Vec[:], rest.Error, rest.Adjustment, rest.Height}
	default:
		return rest
	}
}

// valueOf is the inverse of plain, from what a codec decodes without a type.
func valueOf(plain any) (Value, error) {
	bad := fmt.Errorf("%w: a %T", ErrBadValue, plain)
	switch p := plain.(type) {
	case float64:
		return Number(p), nil
	case string:
		return Text(p), nil
	case []any:
		set := make([]string, len(p))
		for i, m := range p {
			s, ok := m.(string)
			if !ok {
				return Value{}, bad
			}
			set[i] = s
		}
		return Value{rest: set}, nil
	case map[string]any:
		if lat, ok := p["lat"].(float64); ok {
			lon, ok := p["lon"].(float64)
			if !ok || len(p) != 2 {
				return Value{}, bad
			}
			return PlaceAt(lat, lon), nil
		}
		c, ok := coordinateOf(p)
		if !ok {
			return Value{}, bad
		}
		return CoordinateAt(c), nil
	default:
		return Value{}, bad
	}
}

func coordinateOf(p map[string]any) (c dht.Coordinate, ok bool) {
	vec, _ := p["vec"].([]any)
	if len(vec) != len(c.Vec) || len(p) != 4 {
		return c, false
	}
	for i, x := range vec {
		if c.Vec[i], ok = x.(float64); !ok {
			return c, false
		}
	}
	for name, to := range map[string]*float64{"error": &c.Error, "adjustment": &c.Adjustment, "height": &c.Height} {
		if *to, ok = p[name].(float64); !ok {
			return c, false
		}
	}
	return c, true
}
