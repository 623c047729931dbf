package search

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
)

// ErrBadPredicate reports bytes that are no predicate, or one beyond limits.
var ErrBadPredicate = errors.New("search: bad predicate")

// EncodePredicate returns p as deterministic DAG-CBOR; nil is And{}. The error
// wraps ErrBadPredicate where p is larger than MaxPredicate or the codec's depth.
func EncodePredicate(p Predicate) ([]byte, error) {
	if p == nil {
		p = And{}
	}
	if err := checkShape(p); err != nil {
		return nil, err
	}
	b, err := ledger.Encode(plainPredicate(p))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadPredicate, err)
	}
	if len(b) > MaxPredicate {
		return nil, fmt.Errorf("%w: %d bytes, limit %d: shorten the condition", ErrBadPredicate, len(b), MaxPredicate)
	}
	return b, nil
}

// DecodePredicate is the inverse of EncodePredicate. It checks form and
// limits; whether the schema knows the names is Schema.Check's to say. The
// error wraps ErrBadPredicate.
func DecodePredicate(b []byte) (Predicate, error) {
	if len(b) > MaxPredicate {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrBadPredicate, len(b), MaxPredicate)
	}
	var plain any
	if err := ledger.Decode(b, &plain); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadPredicate, err)
	}
	p, err := predicateOf(plain, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadPredicate, err)
	}
	if err := checkShape(p); err != nil {
		return nil, err
	}
	return p, nil
}

// checkShape bounds the depth and the number of nodes of p.
func checkShape(p Predicate) error {
	nodes := 0
	var walk func(p Predicate, depth int) error
	walk = func(p Predicate, depth int) error {
		nodes++
		if nodes > maxNodes || depth > maxDepth {
			return fmt.Errorf("%w: more than %d conditions, or nested deeper than %d", ErrBadPredicate, maxNodes, maxDepth)
		}
		switch p := p.(type) {
		case And:
			return walkAll(p, depth+1, walk)
		case Or:
			return walkAll(p, depth+1, walk)
		case Not:
			return walk(p.Of, depth+1)
		case In:
			nodes += len(p.Values) / 4
		case Compare, Range, Contains, Within, RTT, Has:
		case nil:
			return fmt.Errorf("%w: an empty place", ErrBadPredicate)
		}
		return nil
	}
	return walk(p, 0)
}

func walkAll(ps []Predicate, depth int, walk func(Predicate, int) error) error {
	for _, p := range ps {
		if err := walk(p, depth); err != nil {
			return err
		}
	}
	return nil
}

// plainPredicate returns p as nested arrays.
func plainPredicate(p Predicate) []any {
	switch p := p.(type) {
	case And:
		return plainMembers("and", p)
	case Or:
		return plainMembers("or", p)
	case Not:
		return []any{"not", plainPredicate(p.Of)}
	case Compare:
		return []any{"cmp", p.Dim, string(p.Op), p.Value.plain()}
	case Range:
		return []any{"range", p.Dim, p.Low, p.High}
	case In:
		a := []any{"in", p.Dim}
		for _, v := range p.Values {
			a = append(a, v.plain())
		}
		return a
	case Contains:
		return []any{"contains", p.Dim, p.Member}
	case Within:
		return []any{"within", p.Dim, p.Center.Lat, p.Center.Lon, p.Km}
	case RTT:
		a := []any{"rtt", p.Dim, int64(p.Most)}
		for _, c := range p.To {
			target := make([]any, 0, len(c.Vec)+1)
			for _, x := range c.Vec {
				target = append(target, x)
			}
			a = append(a, append(target, c.Height))
		}
		return a
	case Has:
		return []any{"has", p.Dim}
	default:
		panic(fmt.Sprintf("search: unknown predicate %T", p))
	}
}

func plainMembers(kind string, ps []Predicate) []any {
	a := []any{kind}
	for _, p := range ps {
		a = append(a, plainPredicate(p))
	}
	return a
}

// predicateOf is the inverse of plainPredicate.
func predicateOf(plain any, depth int) (Predicate, error) {
	a, ok := plain.([]any)
	if !ok || len(a) == 0 || depth > maxDepth {
		return nil, errors.New("a condition is an array, and not nested that deep")
	}
	kind, _ := a[0].(string)
	f := fields{a: a[1:]}
	var p Predicate
	switch kind {
	case "and", "or":
		members := make([]Predicate, len(f.a))
		for i, m := range f.a {
			var err error
			if members[i], err = predicateOf(m, depth+1); err != nil {
				return nil, err
			}
		}
		if kind == "and" {
			return And(members), nil
		}
		return Or(members), nil
	case "not":
		of, err := predicateOf(f.next(), depth+1)
		if err != nil {
			return nil, err
		}
		p = Not{of}
	case "cmp":
		p = Compare{Dim: f.text(), Op: f.op(), Value: f.value()}
	case "range":
		p = Range{Dim: f.text(), Low: f.number(), High: f.number()}
	case "in":
		p = In{Dim: f.text(), Values: f.values()}
	case "contains":
		p = Contains{Dim: f.text(), Member: f.text()}
	case "within":
		p = Within{Dim: f.text(), Center: Place{f.number(), f.number()}, Km: f.number()}
	case "rtt":
		p = RTT{Dim: f.text(), Most: f.duration(), To: f.targets()}
	case "has":
		p = Has{Dim: f.text()}
	default:
		return nil, fmt.Errorf("unknown condition %.20q", kind)
	}
	if f.bad || len(f.a) != 0 {
		return nil, fmt.Errorf("malformed %q", kind)
	}
	return p, nil
}

// fields takes typed members off an array; bad says that one did not suit.
type fields struct {
	a   []any
	bad bool
}

func (f *fields) next() any {
	if len(f.a) == 0 {
		f.bad = true
		return nil
	}
	x := f.a[0]
	f.a = f.a[1:]
	return x
}

func (f *fields) text() string {
	s, ok := f.next().(string)
	f.bad = f.bad || !ok || len(s) > maxText
	return s
}

func (f *fields) number() float64 {
	x, ok := f.next().(float64)
	f.bad = f.bad || !ok
	return x
}

func (f *fields) op() Op {
	op := Op(f.text())
	switch op {
	case OpEqual, OpNotEqual, OpLess, OpLessEqual, OpGreater, OpGreaterEqual:
	default:
		f.bad = true
	}
	return op
}

func (f *fields) value() Value {
	v, err := valueOf(f.next())
	f.bad = f.bad || err != nil
	return v
}

func (f *fields) values() []Value {
	var vs []Value
	f.bad = f.bad || len(f.a) > MaxList
	for len(f.a) > 0 && !f.bad {
		vs = append(vs, f.value())
	}
	return vs
}

func (f *fields) duration() time.Duration {
	switch n := f.next().(type) {
	case uint64:
		f.bad = f.bad || n > math.MaxInt64
		return time.Duration(n)
	case int64:
		return time.Duration(n)
	default:
		f.bad = true
		return 0
	}
}

func (f *fields) targets() []dht.Coordinate {
	var to []dht.Coordinate
	f.bad = f.bad || len(f.a) == 0 || len(f.a) > MaxTargets
	for len(f.a) > 0 && !f.bad {
		list, _ := f.next().([]any)
		inner := fields{a: list}
		var c dht.Coordinate
		for i := range c.Vec {
			c.Vec[i] = inner.number()
		}
		c.Height = inner.number()
		f.bad = inner.bad || len(inner.a) != 0
		to = append(to, c)
	}
	return to
}
