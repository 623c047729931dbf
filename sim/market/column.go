package market

import (
	"fmt"
	"math"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
)

// A numbers column has one number a server; NaN where it is missing. Ads claim
// the numbers as they were rounded to be stored.
type numbers []float32

var missing = float32(math.NaN())

// A texts column has one code a server for a value of a dictionary: a text, a
// version, a member of an enumeration or a whole set. Code 0 is missing.
type texts struct {
	codes  []uint16
	values []search.Value
	names  []string // as looked up
	index  map[string]uint16
}

func newTexts(n int) *texts {
	return &texts{codes: make([]uint16, n), values: make([]search.Value, 1), names: make([]string, 1), index: make(map[string]uint16)}
}

// add returns the code of v, a new one where v is new.
func (t *texts) add(name string, v search.Value) (uint16, error) {
	if name == "" {
		return 0, nil
	}
	if code, ok := t.index[name]; ok {
		return code, nil
	}
	if len(name) > maxText {
		return 0, fmt.Errorf("a text of %d bytes, limit %d", len(name), maxText)
	}
	if len(t.values) > maxTexts {
		return 0, fmt.Errorf("more than %d different values", maxTexts)
	}
	code := uint16(len(t.values))
	t.values, t.names, t.index[name] = append(t.values, v), append(t.names, name), code
	return code, nil
}

// set gives server i a text, none where it is empty.
func (t *texts) set(i int, text string) error {
	code, err := t.add(text, search.Text(text))
	t.codes[i] = code
	return err
}

// A point is a place; the latitude is NaN where it is missing.
type point struct{ lat, lon float32 }

func (p point) place() search.Place { return search.Place{Lat: float64(p.lat), Lon: float64(p.lon)} }

// A position is a network coordinate without adjustment; the height is NaN
// where it is missing.
type position struct {
	vec         [dht.CoordinateDims]float32
	err, height float32
}

func newPosition(c dht.Coordinate) position {
	p := position{err: float32(c.Error), height: float32(c.Height)}
	for i, x := range c.Vec {
		p.vec[i] = float32(x)
	}
	return p
}

func (p *position) coordinate() dht.Coordinate {
	c := dht.Coordinate{Error: float64(p.err), Height: float64(p.height)}
	for i, x := range p.vec {
		c.Vec[i] = float64(x)
	}
	return c
}

func isMissing(x float32) bool { return x != x }
