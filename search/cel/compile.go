package cel

import (
	"fmt"
	"maps"
	"math"
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
			return conjunction(append(members[search.And](a), members[search.And](b)...)), nil
		}
		return search.Or(append(members[search.Or](a), members[search.Or](b)...)), nil
	case operators.LogicalNot:
		p, err := c.predicate(args[0])
		return search.Not{Of: p}, err
	case operators.In:
		return c.in(args[0], args[1])
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

// conjunction returns what holds where all members do. A number's lower and
// upper bound become one range.
func conjunction(members []search.Predicate) search.Predicate {
	var out search.And
	for _, p := range members {
		bound, ok := p.(search.Compare)
		at := -1
		if ok {
			at = slices.IndexFunc(out, func(q search.Predicate) bool { return opposite(q, bound) })
		}
		if at < 0 {
			out = append(out, p)
			continue
		}
		low, high := out[at].(search.Compare), bound
		if bound.Op == search.OpGreaterEqual {
			low, high = high, low
		}
		from, _ := low.Value.Number()
		to, _ := high.Value.Number()
		out[at] = search.Range{Dim: bound.Dim, Low: from, High: to}
	}
	if len(out) == 1 {
		return out[0]
	}
	return out
}

// opposite tells whether p and q bound the same number from different sides,
// both including the bound.
func opposite(p search.Predicate, q search.Compare) bool {
	other, ok := p.(search.Compare)
	if _, number := q.Value.Number(); !ok || !number || other.Dim != q.Dim {
		return false
	}
	return other.Op == search.OpLessEqual && q.Op == search.OpGreaterEqual ||
		other.Op == search.OpGreaterEqual && q.Op == search.OpLessEqual
}

// dimension returns the one that an identifier names.
func (c *compiler) dimension(e ast.Expr) (search.Dimension, error) {
	if e.Kind() != ast.IdentKind {
		hint := ""
		if text, ok := literalText(e); ok {
			if _, ok := c.schema.Dimension(text); ok {
				hint = "write " + text + " without quotes"
			}
		} else if e.Kind() == ast.CallKind {
			hint = "there is no arithmetic; compare a dimension with a value"
			name := e.AsCall().FunctionName()
			if _, ok := comparisons[name]; ok {
				hint = "join comparisons with &&, or write a range as 2 <= free_cpu <= 8"
			} else if name == operators.LogicalNot {
				hint = "! and not bind closer than comparisons; put the condition in parentheses"
			}
		}
		return search.Dimension{}, c.fail(e, "expected the name of a dimension here", hint)
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
	if inner, ok := chained(left, op); ok {
		return c.between(left, inner, op, right)
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

// chained tells whether left, to the left of op, is itself a comparison in the
// same direction, as in «2 <= free_cpu <= 8», and returns its operator.
func chained(left ast.Expr, op search.Op) (inner search.Op, ok bool) {
	if left.Kind() != ast.CallKind {
		return "", false
	}
	inner, ok = comparisons[left.AsCall().FunctionName()]
	if !ok || !isLiteral(left.AsCall().Args()[0]) {
		return "", false
	}
	rising := func(op search.Op) bool { return op == search.OpLess || op == search.OpLessEqual }
	falling := func(op search.Op) bool { return op == search.OpGreater || op == search.OpGreaterEqual }
	return inner, rising(op) && rising(inner) || falling(op) && falling(inner)
}

// between translates a chained comparison.
func (c *compiler) between(left ast.Expr, inner, op search.Op, right ast.Expr) (search.Predicate, error) {
	low, middle := left.AsCall().Args()[0], left.AsCall().Args()[1]
	a, err := c.compare(left, inner, low, middle)
	if err != nil {
		return nil, err
	}
	b, err := c.compare(left, op, middle, right)
	if err != nil {
		return nil, err
	}
	return conjunction([]search.Predicate{a, b}), nil
}

func isLiteral(e ast.Expr) bool {
	if e.Kind() == ast.CallKind && e.AsCall().FunctionName() == operators.Negate {
		return isLiteral(e.AsCall().Args()[0])
	}
	return e.Kind() == ast.LiteralKind
}

// in translates «"linux" in environments» and «country in ["DE", "NO"]».
func (c *compiler) in(left, right ast.Expr) (search.Predicate, error) {
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
	if left.Kind() == ast.IdentKind && isLiteral(right) {
		return nil, c.fail(right, "expected a list here", `such as ["a", "b"]`)
	}
	d, err := c.dimension(right)
	if err != nil {
		return nil, err
	}
	if d.Kind != search.KindSet {
		return nil, c.fail(right, d.Name+" is a "+string(d.Kind)+", not a set", "write "+example(d))
	}
	if left.Kind() == ast.CallKind {
		_, err := c.dimension(left) // says what is wrong with an operator there
		return nil, err
	}
	text, ok := literalText(left)
	if !ok {
		return nil, c.fail(left, "expected a text in quotes here", "write "+example(d))
	}
	if near := suggest(text, d.Values); near != "" && !slices.Contains(d.Values, text) {
		return nil, c.fail(left, quote(text)+" is not among the usual members of "+d.Name, near)
	}
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
		f, u, err := c.number(a)
		if err != nil || u.name != "" && (i < 2 || u.of != unitKm) {
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
	if err != nil || u.name != "" && u.of != unitKm || f < 0 || f > 20100 {
		return nil, c.fail(km, "expected kilometres here, 0 to 20100", "")
	}
	return search.Within{Dim: search.DimPlace, Center: center, Km: f}, nil
}

// maxHosts bounds the hosts of one rtt().
const maxHosts = 8

// maxRTT bounds what rtt() is compared with, in seconds; no round trip on Earth
// takes longer.
const maxRTT = 60

// rtt translates «rtt("peer", …) < 30ms», and the same with >.
func (c *compiler) rtt(e ast.Expr, op search.Op, bound ast.Expr) (search.Predicate, error) {
	if op == search.OpEqual || op == search.OpNotEqual {
		return nil, c.fail(e, "rtt() is an estimate, never equal to anything", `bound it, such as rtt("me") < 30ms`)
	}
	args := e.AsCall().Args()
	if len(args) == 0 || len(args) > maxHosts {
		return nil, c.fail(e, fmt.Sprintf("rtt() takes 1 to %d hosts", maxHosts), `such as rtt("me")`)
	}
	f, u, err := c.number(bound)
	if err != nil || u.of != search.UnitSeconds {
		return nil, c.fail(bound, "expected a time here", "such as 30ms")
	}
	p := search.RTT{Dim: search.DimCoordinate, Most: time.Duration(math.Round(f * float64(time.Second)))}
	if op == search.OpLess || op == search.OpGreaterEqual {
		p.Most-- // a nanosecond
	}
	if p.Most < 0 || f > maxRTT {
		return nil, c.fail(bound, fmt.Sprintf("a round trip takes more than 0 and at most %d s", maxRTT), "")
	}
	for _, a := range args {
		at, err := c.host(a)
		if err != nil {
			return nil, err
		}
		p.To = append(p.To, at)
	}
	if op == search.OpGreater || op == search.OpGreaterEqual {
		return search.Not{Of: p}, nil
	}
	return p, nil
}

// host returns where a host of rtt() is.
func (c *compiler) host(e ast.Expr) (dht.Coordinate, error) {
	name, ok := literalText(e)
	if !ok {
		return dht.Coordinate{}, c.fail(e, "expected a host in quotes here", `"me", or a peer ID`)
	}
	if strings.HasPrefix(name, "@") {
		at, err := parseCoordinate(name)
		if err != nil {
			return at, c.fail(e, err.Error(), "")
		}
		return at, nil
	}
	if c.resolve == nil {
		return dht.Coordinate{}, c.fail(e, "hosts cannot be resolved here", "")
	}
	at, err := c.resolve(name)
	if err != nil {
		return at, c.fail(e, err.Error(), "")
	}
	return bare(at), nil
}
