// Package cel turns queries written as text into predicates of package search.
//
// The syntax is that of the Common Expression Language (cel.dev), without its
// macros: dimensions are identifiers, conditions are joined by &&, || and !,
// compared by ==, !=, <, <=, > and >=, and sets are asked with in. To it come
// and, or and not in words, ranges as 2 <= free_cpu <= 8, numbers with units
// (4GiB, 30ms, 0.02/h) and the functions
//
//	has(dimension)                  the ad says something about it
//	within(latitude, longitude, km) the server stands within a distance
//	within("city", km)              the same of one of the world's large cities
//	rtt("peer", …) < 30ms           the longest predicted round trip to peers
//
// What does not compile gives an *Error that points at the place. Format is the
// way back, from a predicate to text.
package cel

import (
	"errors"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
)

// Limits of a query's text.
const (
	maxText      = 4096 // runes: hundreds of conditions
	maxRecursion = 40   // of parentheses and operators
)

// A Resolver returns the network coordinate of a host that rtt() names. Hosts
// of the form "@x,y,…+height", in seconds, are coordinates themselves and never
// reach it.
type Resolver func(host string) (dht.Coordinate, error)

// Compile returns the predicate that text describes, checked against schema.
// resolve may be nil where rtt() is not to be used. The error is an *Error.
func Compile(schema *search.Schema, text string, resolve Resolver) (search.Predicate, error) {
	src, err := rewrite(text)
	if err != nil {
		return nil, err
	}
	env, err := cel.NewCustomEnv(cel.ClearMacros(), cel.ParserRecursionLimit(maxRecursion), cel.ParserExpressionSizeLimit(2*maxText))
	if err != nil {
		return nil, &Error{Message: "set up the parser: " + err.Error()}
	}
	parsed, issues := env.Parse(string(src.text))
	if issues != nil && issues.Err() != nil {
		return nil, src.syntaxError(issues)
	}
	c := compiler{schema: schema, resolve: resolve, src: src, info: parsed.NativeRep().SourceInfo()}
	p, err := c.predicate(parsed.NativeRep().Expr())
	if err != nil {
		return nil, err
	}
	if err := schema.Check(search.Query{Where: p}); err != nil {
		return nil, src.errorAt(0, strings.TrimPrefix(err.Error(), search.ErrBadQuery.Error()+": "), "")
	}
	return p, nil
}

// OrderBy reads what to sort by: a dimension, with a minus before it or desc
// behind it for the greatest first; "latency" stands for the network
// coordinate. The error is an *Error.
func OrderBy(schema *search.Schema, text string) (dim string, desc bool, err error) {
	name := strings.TrimSpace(text)
	src := source{original: []rune(text)}
	if len(src.original) > maxText {
		return "", false, src.errorAt(0, "an order is the name of a dimension", "")
	}
	if rest, ok := strings.CutPrefix(name, "-"); ok {
		name, desc = strings.TrimSpace(rest), true
	} else if rest, ok := strings.CutSuffix(name, " desc"); ok {
		name, desc = strings.TrimSpace(rest), true
	}
	if name == "latency" || name == "rtt" {
		name = search.DimCoordinate
	}
	d, ok := schema.Dimension(name)
	if !ok {
		return "", false, src.errorAt(0, "order by "+quote(name)+": no such dimension", suggest(name, names(schema)))
	}
	switch d.Kind {
	case search.KindNumber, search.KindVersion, search.KindCoordinate:
		return name, desc, nil
	default:
		return "", false, src.errorAt(0, name+" is a "+string(d.Kind)+", which has no order", "order by a number, a version or latency")
	}
}

// syntaxError reports the first issue of the parser, in the user's text.
func (s *source) syntaxError(issues *cel.Issues) error {
	errs := issues.Errors()
	if len(errs) == 0 {
		return &Error{Message: issues.Err().Error()}
	}
	first := errs[0]
	offset := 0
	if loc := common.NewTextSource(string(s.text)); loc != nil {
		if at, ok := loc.LocationOffset(first.Location); ok {
			offset = int(at)
		}
	}
	msg, _, _ := strings.Cut(first.Message, "\n")
	msg = strings.TrimPrefix(msg, "Syntax error: ")
	msg, _, _ = strings.Cut(msg, " expecting {") // a list of all that may stand there
	if len(msg) > 200 {
		msg = msg[:200]
	}
	at := s.back(offset)
	return s.errorAt(at, "syntax error: "+msg, s.syntaxHint(at))
}

// syntaxHint guesses what was meant where the parser stopped.
func (s *source) syntaxHint(at int) string {
	before, after := string(s.original[:at]), string(s.original[at:])
	switch {
	case strings.HasPrefix(after, "=>"):
		return "write >="
	case strings.HasPrefix(after, "=<"):
		return "write <="
	case strings.HasPrefix(after, "="):
		return "write == to compare"
	case strings.HasPrefix(after, "&"):
		return "write && or and"
	case strings.HasPrefix(after, "|"):
		return "write || or or"
	case strings.HasPrefix(after, ">") && strings.HasSuffix(before, "<"):
		return "write !="
	case strings.HasPrefix(after, "not"):
		return "write !( … ) around the condition"
	case strings.HasPrefix(after, `"`), strings.HasPrefix(after, "'"):
		return "is the quote closed?"
	case beginsWithUnit(after) && before != "" && strings.ContainsAny(before[len(before)-1:], " \t"):
		return "write a unit directly behind its number"
	case after != "" && isLetter([]rune(after)[0]):
		return "join conditions with && or ||"
	default:
		return ""
	}
}

// A compiler translates one parsed text.
type compiler struct {
	schema  *search.Schema
	resolve Resolver
	src     *source
	info    *ast.SourceInfo
}

// at returns where an expression stands in the user's text.
func (c *compiler) at(e ast.Expr) int {
	if r, ok := c.info.GetOffsetRange(e.ID()); ok {
		return c.src.back(int(r.Start))
	}
	return 0
}

func (c *compiler) fail(e ast.Expr, message, hint string) error {
	return c.src.errorAt(c.at(e), message, hint)
}

var errNotLiteral = errors.New("not a literal")

func names(s *search.Schema) []string {
	var out []string
	for _, d := range s.Dimensions() {
		out = append(out, d.Name)
	}
	return out
}
