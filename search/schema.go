package search

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/xenoserver/xeno/dht"
)

// ErrBadSchema reports a schema that contradicts itself.
var ErrBadSchema = errors.New("search: bad schema")

// A Kind is the type of a dimension's values.
type Kind string

// The kinds of dimensions.
const (
	KindNumber     Kind = "number"     // a float64 in the dimension's unit
	KindVersion    Kind = "version"    // dotted numbers, ordered piece by piece
	KindEnum       Kind = "enum"       // one of Values
	KindSet        Kind = "set"        // any number of short texts
	KindPlace      Kind = "place"      // latitude and longitude
	KindCoordinate Kind = "coordinate" // network coordinate
	KindText       Kind = "text"       // an identifier: equal or not, no order
)

// A Unit is what a number counts. It decides which unit literals a query may
// compare the number with.
type Unit string

// The units of numbers.
const (
	UnitNone    Unit = ""       // a count or a ratio
	UnitBytes   Unit = "B"      // bytes
	UnitRate    Unit = "B/s"    // bytes a second
	UnitShare   Unit = "ms/s"   // CPU milliseconds a second
	UnitSeconds Unit = "s"      // seconds
	UnitHour    Unit = "/h"     // currency an hour
	UnitGiBHour Unit = "/GiB/h" // currency for a GiB for an hour
	UnitGiB     Unit = "/GiB"   // currency for a GiB
)

// A Scale says how a number's range is divided into keys and occupancy
// buckets. It never changes an answer, only what the answer costs.
type Scale string

// The scales.
const (
	ScaleLinear Scale = "linear"
	ScaleLog    Scale = "log" // equal ratios get equal room; Min must be positive
)

// A Dimension is one searchable attribute.
type Dimension struct {
	Name string // identifier of the query language: [a-z][a-z0-9_]*
	Kind Kind
	Unit Unit    // KindNumber
	Min  float64 // KindNumber: values outside Min to Max are allowed, but share the outermost keys
	Max  float64
	// Scale is linear where empty.
	Scale Scale
	// Values are the names an enumeration knows, in their order; for a set,
	// the members that a query may misspell (others are allowed).
	Values []string
	// Tree tells whether ads are ordered by this dimension in a tree of its
	// own. A tree makes a query selective in the dimension cheap, and costs
	// every server r renewals a minute; any query works without.
	Tree bool
	Doc  string // one line, for people
}

// A Tree orders ads by one dimension or by several interleaved.
type Tree struct {
	Name string   // keyspace of its cells is "tree/" + Name
	Dims []string // the dimensions, most significant bit from the first
}

// Keyspace returns the keyspace of the tree's cells.
func (t Tree) Keyspace() dht.Keyspace { return dht.Keyspace("tree/" + t.Name) }

// A Schema says what ads may claim and queries may ask. It is fixed for a
// network: participants with different schemas do not find each other's ads.
// Use NewSchema; a Schema is immutable and may be used at once.
type Schema struct {
	dims        []Dimension
	trees       []Tree
	index       map[string]int
	layout      *layout   // of the attributes of its ads
	slots       []int     // where in the layout a dimension is
	named       [][]Value // the Values of a dimension as texts
	axes        []int     // first of the words of a coordinate's axes in an occupancy, by dimension
	words       int       // words of an occupancy
	fingerprint uint64
}

// NewSchema checks dims and composites and returns the schema: one tree for
// every dimension that wants one, in order, then the composites. The dimension
// "server" must be there, with a tree. The error wraps ErrBadSchema.
func NewSchema(dims []Dimension, composites ...Tree) (*Schema, error) {
	if len(dims) > maxDimensions {
		return nil, fmt.Errorf("%w: %d dimensions, limit %d", ErrBadSchema, len(dims), maxDimensions)
	}
	s := &Schema{dims: slices.Clone(dims), index: make(map[string]int, len(dims))}
	for i, d := range s.dims {
		if err := d.check(); err != nil {
			return nil, fmt.Errorf("%w: dimension %q: %w", ErrBadSchema, d.Name, err)
		}
		if _, twice := s.index[d.Name]; twice {
			return nil, fmt.Errorf("%w: dimension %q stands twice", ErrBadSchema, d.Name)
		}
		s.index[d.Name] = i
		if d.Tree {
			s.trees = append(s.trees, Tree{Name: d.Name, Dims: []string{d.Name}})
		}
	}
	if d, ok := s.Dimension(DimServer); !ok || d.Kind != KindText || !d.Tree {
		return nil, fmt.Errorf("%w: the text dimension %q with a tree is missing", ErrBadSchema, DimServer)
	}
	for _, t := range composites {
		if len(t.Dims) < 2 || len(t.Dims) > maxTreeDims {
			return nil, fmt.Errorf("%w: tree %q of %d dimensions, 2 to %d", ErrBadSchema, t.Name, len(t.Dims), maxTreeDims)
		}
		for _, name := range t.Dims {
			if _, ok := s.index[name]; !ok {
				return nil, fmt.Errorf("%w: tree %q orders by %q, which is no dimension", ErrBadSchema, t.Name, name)
			}
		}
		if _, ok := s.Tree(t.Name); ok || !isName(t.Name) {
			return nil, fmt.Errorf("%w: tree name %q is taken or malformed", ErrBadSchema, t.Name)
		}
		s.trees = append(s.trees, Tree{Name: t.Name, Dims: slices.Clone(t.Dims)})
	}
	s.layOut()
	s.words, s.axes = len(s.dims), make([]int, len(s.dims))
	for i, d := range s.dims {
		if d.Kind == KindCoordinate {
			s.axes[i] = s.words
			s.words += len(dht.Coordinate{}.Vec)
		}
	}
	s.fingerprint = s.hash()
	return s, nil
}

// layOut says where the values of an ad lie. The owner has a place even where
// it is no dimension: Open derives it.
func (s *Schema) layOut() {
	names := []string{DimOwner}
	for _, d := range s.dims {
		names = append(names, d.Name)
		texts := make([]Value, len(d.Values))
		for i, name := range d.Values {
			texts[i] = Text(name)
		}
		s.named = append(s.named, texts)
	}
	slices.Sort(names)
	s.layout, s.slots = &layout{slices.Compact(names)}, make([]int, len(s.dims))
	for i, d := range s.dims {
		s.slots[i], _ = s.layout.find(d.Name)
	}
}

// Fingerprint tells schemas apart: summaries and keys of one mean nothing in
// another.
func (s *Schema) Fingerprint() uint64 { return s.fingerprint }

// hash covers everything that keys and summaries depend on.
func (s *Schema) hash() uint64 {
	h := sha256.New()
	fmt.Fprintf(h, "keys %d\n", keyLayout)
	for _, d := range s.dims {
		fmt.Fprintf(h, "%q %q %q %v %v %q %q\n", d.Name, d.Kind, d.Unit, d.Min, d.Max, d.Scale, d.Values)
	}
	for _, t := range s.trees {
		fmt.Fprintf(h, "%q %q\n", t.Name, t.Dims)
	}
	return binary.BigEndian.Uint64(h.Sum(nil))
}

// Dimensions returns the dimensions in order. The caller must not change them.
func (s *Schema) Dimensions() []Dimension { return s.dims }

// Words returns how many words the occupancy of a Summary has.
func (s *Schema) Words() int { return s.words }

// Trees returns the trees in order. The caller must not change them.
func (s *Schema) Trees() []Tree { return s.trees }

// Dimension returns the dimension of that name.
func (s *Schema) Dimension(name string) (Dimension, bool) {
	i, ok := s.index[name]
	if !ok {
		return Dimension{}, false
	}
	return s.dims[i], true
}

// Tree returns the tree of that name.
func (s *Schema) Tree(name string) (Tree, bool) {
	for _, t := range s.trees {
		if t.Name == name {
			return t, true
		}
	}
	return Tree{}, false
}

func (d Dimension) check() error {
	if !isName(d.Name) {
		return fmt.Errorf("the name must be a lower-case identifier of at most %d characters", maxName)
	}
	switch d.Kind {
	case KindNumber:
		if !(d.Min < d.Max) || math.IsInf(d.Max-d.Min, 0) {
			return fmt.Errorf("range %g to %g is empty or infinite", d.Min, d.Max)
		}
		switch d.Scale {
		case "", ScaleLinear:
		case ScaleLog:
			if d.Min <= 0 {
				return fmt.Errorf("a logarithmic range cannot begin at %g", d.Min)
			}
		default:
			return fmt.Errorf("unknown scale %q", d.Scale)
		}
	case KindEnum:
		if len(d.Values) == 0 {
			return errors.New("an enumeration needs values")
		}
	case KindVersion, KindSet, KindPlace, KindCoordinate, KindText:
	default:
		return fmt.Errorf("unknown kind %q", d.Kind)
	}
	return nil
}

// isName tells whether s can name a dimension or a tree.
func isName(s string) bool {
	if s == "" || len(s) > maxName || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}
