package search

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/xenoserver/xeno/ledger"
)

// Attributes are the claims of an ad: a value for each of some dimensions.
// They are immutable, made by AttributesOf and Schema.Attributes; the zero
// Attributes are none. In DAG-CBOR and JSON they are a map.
type Attributes struct {
	layout *layout
	values []Value // by place in the layout; none where nothing is claimed
}

// A layout says which value is of which dimension. A schema has one for all
// ads that it opens, as whoever holds thousands of them cannot afford the
// names, or a map, for each.
type layout struct {
	names []string // ascending
}

// find returns the place of a dimension.
func (l *layout) find(dim string) (int, bool) {
	if l == nil {
		return 0, false
	}
	return slices.BinarySearchFunc(l.names, dim, strings.Compare)
}

// AttributesOf returns the values of m by the names of their dimensions.
func AttributesOf(m map[string]Value) Attributes {
	a := Attributes{layout: &layout{slices.Sorted(maps.Keys(m))}, values: make([]Value, len(m))}
	for i, name := range a.layout.names {
		a.values[i] = m[name]
	}
	return a
}

// Get returns the value for a dimension, none where there is no claim.
func (a Attributes) Get(dim string) Value {
	if i, ok := a.layout.find(dim); ok {
		return a.values[i]
	}
	return Value{}
}

// With returns a with another value for a dimension: without a claim for it if
// v is none.
func (a Attributes) With(dim string, v Value) Attributes {
	if i, ok := a.layout.find(dim); ok {
		a.values = slices.Clone(a.values)
		a.values[i] = v
		return a
	}
	if v.IsZero() {
		return a
	}
	all := a.plain()
	if all == nil {
		all = make(map[string]Value, 1)
	}
	all[dim] = v
	return AttributesOf(all)
}

// All ranges over the claims in the order of their dimensions' names.
func (a Attributes) All() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		for i, v := range a.values {
			if !v.IsZero() && !yield(a.layout.names[i], v) {
				return
			}
		}
	}
}

// Len returns how many claims there are.
func (a Attributes) Len() (n int) {
	for range a.All() {
		n++
	}
	return n
}

// Equal tells whether a and b claim the same.
func (a Attributes) Equal(b Attributes) bool {
	for dim, v := range a.All() {
		if !v.Equal(b.Get(dim)) {
			return false
		}
	}
	return a.Len() == b.Len()
}

// plain returns the attributes as a codec sees them.
func (a Attributes) plain() map[string]Value {
	if a.layout == nil {
		return nil
	}
	return maps.Collect(a.All())
}

// attributesOf is the inverse of plain, from what a codec has decoded.
func attributesOf(plain map[string]Value) (Attributes, error) {
	for dim, v := range plain {
		if v.IsZero() {
			return Attributes{}, fmt.Errorf("%w: none for %.40q", ErrBadValue, dim)
		}
	}
	return AttributesOf(plain), nil
}

// MarshalCBOR implements cbor.Marshaler.
func (a Attributes) MarshalCBOR() ([]byte, error) { return ledger.Encode(a.plain()) }

// UnmarshalCBOR implements cbor.Unmarshaler.
func (a *Attributes) UnmarshalCBOR(b []byte) error {
	var plain map[string]Value
	err := ledger.Decode(b, &plain)
	if err == nil {
		*a, err = attributesOf(plain)
	}
	return err
}

// MarshalJSON implements json.Marshaler, in the shapes of the DAG-CBOR form.
func (a Attributes) MarshalJSON() ([]byte, error) { return json.Marshal(a.plain()) }

// UnmarshalJSON implements json.Unmarshaler.
func (a *Attributes) UnmarshalJSON(b []byte) error {
	var plain map[string]Value
	err := json.Unmarshal(b, &plain)
	if err == nil {
		*a, err = attributesOf(plain)
	}
	return err
}

// Attributes returns the claims that all yields, each dimension once, in the
// schema's own layout: those for dimensions that it lacks are left out.
func (s *Schema) Attributes(all iter.Seq2[string, Value]) Attributes {
	a := Attributes{layout: s.layout, values: make([]Value, len(s.layout.names))}
	for dim, v := range all {
		if i, ok := s.index[dim]; ok {
			a.values[s.slots[i]] = v
		}
	}
	return a
}

// intern makes attributes that were just decoded, and are nobody else's yet, of
// the names that the schema has already, so that ads do not each bring their own.
func (s *Schema) intern(a Attributes) {
	for at, dim := range a.layout.names {
		i := s.index[dim]
		switch rest := a.values[at].rest.(type) {
		case string:
			if n := slices.Index(s.dims[i].Values, rest); n >= 0 {
				a.values[at] = s.named[i][n]
			}
		case []string:
			for k, m := range rest {
				if n := slices.Index(s.dims[i].Values, m); n >= 0 {
					rest[k] = s.dims[i].Values[n]
				}
			}
		}
	}
}

// value returns what ad claims for dimension i, none where it does not.
func (s *Schema) value(ad *Ad, i int) Value {
	if ad.Attributes.layout == s.layout {
		return ad.Attributes.values[s.slots[i]]
	}
	return ad.Attributes.Get(s.dims[i].Name)
}
