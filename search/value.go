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

// shape is how a value is written.
type shape uint8

const (
	shapeNone shape = iota
	shapeNumber
	shapeText
	shapeSet
	shapePlace
	shapeCoordinate
)

// A Value is what an ad claims for one dimension. Values are immutable and
// made by Number, Text, Set, PlaceAt and CoordinateAt; the zero Value is none.
// In DAG-CBOR a number is a float, text (also versions and enumerations) a
// string, a set an ascending array, a place and a coordinate maps.
type Value struct {
	shape shape
	num   float64
	text  string
	set   []string
	place Place
	coord *dht.Coordinate
}

// Number returns a number in its dimension's unit.
func Number(f float64) Value { return Value{shape: shapeNumber, num: f} }

// Text returns a text, a version or a member of an enumeration.
func Text(s string) Value { return Value{shape: shapeText, text: s} }

// Set returns the set of members, each once.
func Set(members ...string) Value {
	set := slices.Clone(members)
	slices.Sort(set)
	return Value{shape: shapeSet, set: slices.Compact(set)}
}

// PlaceAt returns a place.
func PlaceAt(lat, lon float64) Value { return Value{shape: shapePlace, place: Place{lat, lon}} }

// CoordinateAt returns a network coordinate.
func CoordinateAt(c dht.Coordinate) Value { return Value{shape: shapeCoordinate, coord: &c} }

// IsZero tells whether v is none.
func (v Value) IsZero() bool { return v.shape == shapeNone }

// Number returns the number, if v is one.
func (v Value) Number() (float64, bool) { return v.num, v.shape == shapeNumber }

// Text returns the text, version or enumeration member, if v is one.
func (v Value) Text() (string, bool) { return v.text, v.shape == shapeText }

// Set returns a copy of the members, if v is a set.
func (v Value) Set() ([]string, bool) { return slices.Clone(v.set), v.shape == shapeSet }

// Place returns the place, if v is one.
func (v Value) Place() (Place, bool) { return v.place, v.shape == shapePlace }

// Coordinate returns the network coordinate, if v is one.
func (v Value) Coordinate() (dht.Coordinate, bool) {
	if v.shape != shapeCoordinate {
		return dht.Coordinate{}, false
	}
	return *v.coord, true
}

// Equal tells whether v and w are the same value.
func (v Value) Equal(w Value) bool {
	if v.shape != w.shape {
		return false
	}
	if v.shape == shapeCoordinate {
		return *v.coord == *w.coord
	}
	return v.num == w.num && v.text == w.text && v.place == w.place && slices.Equal(v.set, w.set)
}

// String returns the value for people.
func (v Value) String() string {
	switch v.shape {
	case shapeNumber:
		if a := math.Abs(v.num); a >= 1e-6 && a < 1e15 || a == 0 {
			return strconv.FormatFloat(v.num, 'f', -1, 64)
		}
		return strconv.FormatFloat(v.num, 'g', -1, 64)
	case shapeText:
		return v.text
	case shapeSet:
		return "{" + strings.Join(v.set, ", ") + "}"
	case shapePlace:
		return fmt.Sprintf("%.4f, %.4f", v.place.Lat, v.place.Lon)
	case shapeCoordinate:
		return fmt.Sprintf("%.4f", v.coord.Vec)
	default:
		return "none"
	}
}

// check returns an error that wraps ErrBadValue unless v suits d.
func (v Value) check(d Dimension) error {
	want, ok := shapeText, true
	switch d.Kind {
	case KindNumber:
		want, ok = shapeNumber, !math.IsNaN(v.num) && !math.IsInf(v.num, 0)
	case KindVersion:
		_, ok = parseVersion(v.text)
	case KindEnum:
		ok = slices.Contains(d.Values, v.text)
	case KindText:
		ok = v.text != "" && len(v.text) <= maxText
	case KindSet:
		want, ok = shapeSet, checkSet(v.set)
	case KindPlace:
		want, ok = shapePlace, math.Abs(v.place.Lat) <= 90 && math.Abs(v.place.Lon) <= 180
	case KindCoordinate:
		want, ok = shapeCoordinate, v.coord != nil && checkCoordinate(*v.coord)
	}
	if v.shape != want || !ok {
		return fmt.Errorf("%w: %.80s is no %s for %s", ErrBadValue, v, d.Kind, d.Name)
	}
	return nil
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
	switch v.shape {
	case shapeNumber:
		return v.num
	case shapeText:
		return v.text
	case shapeSet:
		return append([]string{}, v.set...)
	case shapePlace:
		return v.place
	case shapeCoordinate:
		c := v.coord
		return coordinateForm{c.Vec[:], c.Error, c.Adjustment, c.Height}
	default:
		return nil
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
		return Value{shape: shapeSet, set: set}, nil
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
