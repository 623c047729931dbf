package cel

import (
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"github.com/xenoserver/xeno/search"
)

// value translates a literal to compare dimension d with.
func (c *compiler) value(d search.Dimension, e ast.Expr) (search.Value, error) {
	if d.Kind == search.KindNumber {
		f, u, err := c.number(e)
		if err != nil {
			return search.Value{}, c.fail(e, d.Name+" is a number", "write "+example(d))
		}
		if u.name != "" && u.of != d.Unit {
			return search.Value{}, c.fail(e, d.Name+" "+counts(d.Unit)+", "+quote(u.name)+" does not fit", "write "+example(d))
		}
		return search.Number(f), nil
	}
	if e.Kind() == ast.ListKind {
		return search.Value{}, c.fail(e, "a list is not a value", "write "+d.Name+" in [ … ]")
	}
	text, ok := literalText(e)
	if !ok && d.Kind == search.KindVersion {
		text, ok = c.plainNumber(e)
	}
	if !ok {
		return search.Value{}, c.fail(e, d.Name+" is a "+string(d.Kind), "write "+example(d))
	}
	if d.Kind == search.KindEnum && !slices.Contains(d.Values, text) {
		hint := suggest(text, d.Values)
		if hint == "" {
			hint = "it is one of " + strings.Join(d.Values, ", ")
		}
		return search.Value{}, c.fail(e, quote(text)+" is no value of "+d.Name, hint)
	}
	if d.Kind == search.KindVersion && (text == "" || !isDigit(rune(text[0]))) {
		return search.Value{}, c.fail(e, quote(text)+" is not a version", "write "+example(d))
	}
	return search.Text(text), nil
}

// number returns a number literal and its unit, which is zero where it has none.
func (c *compiler) number(e ast.Expr) (float64, unit, error) {
	if e.Kind() == ast.CallKind && e.AsCall().FunctionName() == operators.Negate {
		f, u, err := c.number(e.AsCall().Args()[0])
		return -f, u, err
	}
	if e.Kind() != ast.LiteralKind {
		return 0, unit{}, errNotLiteral
	}
	var u unit
	if r, ok := c.info.GetOffsetRange(e.ID()); ok {
		u = c.src.units[int(r.Start)]
	}
	switch v := e.AsLiteral().(type) {
	case types.Double:
		return float64(v), u, nil
	case types.Int:
		return float64(v), u, nil
	case types.Uint:
		return float64(v), u, nil
	default:
		return 0, unit{}, errNotLiteral
	}
}

// plainNumber returns a number without a unit as it is written, for versions:
// 6.10 is not 6.1.
func (c *compiler) plainNumber(e ast.Expr) (string, bool) {
	_, u, err := c.number(e)
	r, ok := c.info.GetOffsetRange(e.ID())
	if err != nil || u.name != "" || !ok || e.Kind() != ast.LiteralKind {
		return "", false
	}
	text := c.src.text[r.Start:]
	end := 0
	for end < len(text) && (isDigit(text[end]) || text[end] == '.') {
		end++
	}
	if end == 0 || end < len(text) && isWord(text[end]) { // a sign, or an exponent
		return "", false
	}
	return string(text[:end]), true
}

func literalText(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().(types.String)
	return string(s), ok
}

// counts says what a unit is about.
func counts(u search.Unit) string {
	switch u {
	case search.UnitNone:
		return "is a plain number"
	case search.UnitBytes:
		return "is in bytes"
	case search.UnitRate:
		return "is in bytes a second"
	case search.UnitShare:
		return "is in CPU milliseconds a second"
	case search.UnitSeconds:
		return "is a time"
	case search.UnitHour:
		return "is a price an hour"
	case search.UnitGiBHour:
		return "is a price of a GiB for an hour"
	case search.UnitGiB:
		return "is a price of a GiB"
	default:
		return "is in " + string(u)
	}
}

// example is a condition on d that compiles.
func example(d search.Dimension) string {
	switch d.Kind {
	case search.KindNumber:
		return d.Name + " >= " + exampleNumber(d.Unit)
	case search.KindVersion:
		return d.Name + ` >= "12"`
	case search.KindEnum:
		return d.Name + " == " + strconv.Quote(d.Values[0])
	case search.KindSet:
		member := "…"
		if len(d.Values) > 0 {
			member = d.Values[0]
		}
		return strconv.Quote(member) + " in " + d.Name
	case search.KindPlace:
		return "within(59.9, 10.7, 500)"
	case search.KindCoordinate:
		return `rtt("me") < 30ms`
	default:
		return d.Name + ` == "…"`
	}
}

func exampleNumber(u search.Unit) string {
	switch u {
	case search.UnitBytes:
		return "4GiB"
	case search.UnitRate:
		return "10MB/s"
	case search.UnitShare:
		return "500ms/s"
	case search.UnitSeconds:
		return "1h"
	case search.UnitHour:
		return "0.02/h"
	case search.UnitGiBHour:
		return "0.01/GiB/h"
	case search.UnitGiB:
		return "0.05/GiB"
	default:
		return "4"
	}
}
