package cel

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
)

// flipped are the comparisons as they read from the other side.
var flipped = map[search.Op]search.Op{
	search.OpEqual: search.OpEqual, search.OpNotEqual: search.OpNotEqual,
	search.OpLess: search.OpGreater, search.OpLessEqual: search.OpGreaterEqual,
	search.OpGreater: search.OpLess, search.OpGreaterEqual: search.OpLessEqual,
}

var comparisons = map[string]search.Op{
	operators.Equals: search.OpEqual, operators.NotEquals: search.OpNotEqual,
	operators.Less: search.OpLess, operators.LessEquals: search.OpLessEqual,
	operators.Greater: search.OpGreater, operators.GreaterEquals: search.OpGreaterEqual,
}

const functionNames = "the functions are has, within and rtt"

// predicate translates an expression that is true or false.
func (c *compiler) predicate(e ast.Expr) (search.Predicate, error) {
	switch e.Kind() {
	case ast.CallKind:
		return c.call(e)
	case ast.IdentKind:
		d, err := c.dimension(e)
		if err != nil {
			return nil, err
		}
		return nil, c.fail(e, d.Name+" is a "+string(d.Kind)+", not a condition", "compare it, such as "+example(d))
	case ast.LiteralKind:
		if b, ok := e.AsLiteral().(types.Bool); ok {
			if b {
				return search.And{}, nil
			}
			return search.Or{}, nil
		}
		return nil, c.fail(e, "a value alone is not a condition", "compare a dimension with it")
	default:
		return nil, c.fail(e, "this is not a condition", "write comparisons joined by &&, || and !")
	}
}

func (c *compiler) call(e ast.Expr) (search.Predicate, error) {
	name, args := e.AsCall().FunctionName(), e.AsCall().Args()
	if op, ok := comparisons[name]; ok {
		return c.compare(e, op, args[0], args[1])
	}
	switch name {
	case operators.LogicalAnd, operators.LogicalOr:
		a, err := c.predicate(args[0])
		if err != nil {
			return nil, err
		}
		b, err := c.predicate(args[1])
		if err != nil {
			return nil, err
		}
		if name == operators.LogicalAnd {
			return search.And(append(members[search.And](a), members[search.And](b)...)), nil
		}
		return search.Or(append(members[search.Or](a), members[search.Or](b)...)), nil
	case operators.LogicalNot:
		p, err := c.predicate(args[0])
		return search.Not{Of: p}, err
	case operators.In:
		return c.in(e, args[0], args[1])
	case "has":
		return c.has(e, args)
	case "within":
		return c.within(e, args)
	case "rtt":
		return nil, c.fail(e, "rtt() is a time, not a condition", `compare it, such as rtt("me") < 30ms`)
	default:
		return nil, c.fail(e, "unknown function or operator "+quote(strings.Trim(name, "_@")), functionNames)
	}
}

// members returns those of p if it is such a list, else p alone.
func members[L interface {
	~[]search.Predicate
	search.Predicate
}](p search.Predicate) []search.Predicate {
	if l, ok := p.(L); ok && len(l) > 0 {
		return l
	}
	return []search.Predicate{p}
}

// dimension returns the one that an identifier names.
func (c *compiler) dimension(e ast.Expr) (search.Dimension, error) {
	if e.Kind() != ast.IdentKind {
		return search.Dimension{}, c.fail(e, "expected the name of a dimension here", "")
	}
	d, ok := c.schema.Dimension(e.AsIdent())
	if !ok {
		return d, c.fail(e, "no dimension "+quote(e.AsIdent())+" in the schema", suggest(e.AsIdent(), names(c.schema)))
	}
	return d, nil
}

// compare translates a comparison, whichever side the dimension is on.
func (c *compiler) compare(e ast.Expr, op search.Op, left, right ast.Expr) (search.Predicate, error) {
	if isLiteral(left) && !isLiteral(right) {
		left, right, op = right, left, flipped[op]
	}
	if left.Kind() == ast.CallKind && left.AsCall().FunctionName() == "rtt" {
		return c.rtt(left, op, right)
	}
	d, err := c.dimension(left)
	if err != nil {
		return nil, err
	}
	if right.Kind() == ast.IdentKind {
		if _, ok := c.schema.Dimension(right.AsIdent()); ok {
			return nil, c.fail(right, "two dimensions cannot be compared with each other", "compare each with a value")
		}
		return nil, c.fail(right, quote(right.AsIdent())+" is neither a value nor a dimension", "put text in quotes")
	}
	v, err := c.value(d, right)
	if err != nil {
		return nil, err
	}
	ordered := op != search.OpEqual && op != search.OpNotEqual
	switch d.Kind {
	case search.KindNumber, search.KindVersion:
	case search.KindText, search.KindEnum:
		if ordered {
			return nil, c.fail(e, d.Name+" is a "+string(d.Kind)+", which has no order", "use == or !=, or in [ … ]")
		}
	default:
		return nil, c.fail(e, d.Name+" is a "+string(d.Kind)+" and cannot be compared", "write "+example(d))
	}
	return search.Compare{Dim: d.Name, Op: op, Value: v}, nil
}

func isLiteral(e ast.Expr) bool {
	if e.Kind() == ast.CallKind && e.AsCall().FunctionName() == operators.Negate {
		return isLiteral(e.AsCall().Args()[0])
	}
	return e.Kind() == ast.LiteralKind
}

// in translates «"linux" in environments» and «country in ["DE", "NO"]».
func (c *compiler) in(e, left, right ast.Expr) (search.Predicate, error) {
	if right.Kind() == ast.ListKind {
		d, err := c.dimension(left)
		if err != nil {
			return nil, err
		}
		switch d.Kind {
		case search.KindNumber, search.KindVersion, search.KindText, search.KindEnum:
		default:
			return nil, c.fail(left, d.Name+" is a "+string(d.Kind), "write "+example(d))
		}
		p := search.In{Dim: d.Name}
		for _, m := range right.AsList().Elements() {
			v, err := c.value(d, m)
			if err != nil {
				return nil, err
			}
			p.Values = append(p.Values, v)
		}
		return p, nil
	}
	d, err := c.dimension(right)
	if err != nil {
		return nil, err
	}
	if d.Kind != search.KindSet {
		return nil, c.fail(right, d.Name+" is a "+string(d.Kind)+", not a set", "write "+example(d))
	}
	text, ok := literalText(left)
	if !ok {
		return nil, c.fail(left, "expected a text in quotes here", "write "+example(d))
	}
	if near := suggest(text, d.Values); near != "" && !slices.Contains(d.Values, text) {
		return nil, c.fail(left, quote(text)+" is not among the usual members of "+d.Name, near)
	}
	_ = e
	return search.Contains{Dim: d.Name, Member: text}, nil
}

func (c *compiler) has(e ast.Expr, args []ast.Expr) (search.Predicate, error) {
	if len(args) != 1 {
		return nil, c.fail(e, "has() takes one dimension", "such as has(free_gpu)")
	}
	d, err := c.dimension(args[0])
	if err != nil {
		return nil, err
	}
	return search.Has{Dim: d.Name}, nil
}

func (c *compiler) within(e ast.Expr, args []ast.Expr) (search.Predicate, error) {
	if len(args) == 2 {
		return c.withinCity(args[0], args[1])
	}
	if len(args) != 3 {
		return nil, c.fail(e, "within() takes latitude, longitude and kilometres, or a city and kilometres",
			`such as within(59.9, 10.7, 500) or within("Oslo", 500)`)
	}
	var nums [3]float64
	for i, a := range args {
		f, _, err := c.number(a)
		if err != nil {
			return nil, c.fail(a, "expected a number here", "degrees, degrees and kilometres")
		}
		nums[i] = f
	}
	limits := [3][2]float64{{-90, 90}, {-180, 180}, {0, 20100}}
	for i, l := range limits {
		if nums[i] < l[0] || nums[i] > l[1] {
			return nil, c.fail(args[i], fmt.Sprintf("%g is not between %g and %g", nums[i], l[0], l[1]), "degrees, degrees and kilometres")
		}
	}
	return search.Within{Dim: search.DimPlace, Center: search.Place{Lat: nums[0], Lon: nums[1]}, Km: nums[2]}, nil
}

// withinCity translates «within("Oslo", 500)».
func (c *compiler) withinCity(city, km ast.Expr) (search.Predicate, error) {
	name, ok := literalText(city)
	if !ok {
		return nil, c.fail(city, "expected a city in quotes here", `such as within("Oslo", 500)`)
	}
	known := places()
	center, ok := known[name]
	if !ok {
		hint := suggest(name, slices.Sorted(maps.Keys(known)))
		if hint == "" {
			hint = "write latitude and longitude instead"
		}
		return nil, c.fail(city, "no city "+quote(name)+" is known", hint)
	}
	f, u, err := c.number(km)
	if err != nil || u.name != "" || f < 0 || f > 20100 {
		return nil, c.fail(km, "expected kilometres here, 0 to 20100", "")
	}
	return search.Within{Dim: search.DimPlace, Center: center, Km: f}, nil
}

// maxHosts bounds the hosts of one rtt().
const maxHosts = 8

// rtt translates «rtt("peer", …) < 30ms».
func (c *compiler) rtt(e ast.Expr, op search.Op, bound ast.Expr) (search.Predicate, error) {
	args := e.AsCall().Args()
	if len(args) == 0 || len(args) > maxHosts {
		return nil, c.fail(e, fmt.Sprintf("rtt() takes 1 to %d hosts", maxHosts), `such as rtt("me")`)
	}
	if op != search.OpLess && op != search.OpLessEqual {
		return nil, c.fail(e, "rtt() can only be bounded from above", `such as rtt("me") < 30ms`)
	}
	f, u, err := c.number(bound)
	if err != nil || u.of != search.UnitSeconds {
		return nil, c.fail(bound, "expected a time here", "such as 30ms")
	}
	if f <= 0 || f > 60 {
		return nil, c.fail(bound, "a round trip takes more than 0 and at most 60 s", "")
	}
	p := search.RTT{Dim: search.DimCoordinate, Most: time.Duration(f * float64(time.Second))}
	if op == search.OpLess {
		p.Most-- // a nanosecond
	}
	for _, a := range args {
		host, ok := literalText(a)
		if !ok {
			return nil, c.fail(a, "expected a host in quotes here", `"me", or a peer ID`)
		}
		if c.resolve == nil {
			return nil, c.fail(a, "hosts cannot be resolved here", "")
		}
		var at dht.Coordinate
		if at, err = c.resolve(host); err != nil {
			return nil, c.fail(a, err.Error(), "")
		}
		p.To = append(p.To, at)
	}
	return p, nil
}
