package search

import (
	"strconv"
	"strings"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// A Predicate is a condition on an ad. It is one of And, Or, Not, Compare,
// Range, In, Contains, Within, RTT and Has. Predicates are immutable. They
// evaluate in three values: a condition on an attribute that the ad lacks is
// Unknown, and what is Unknown at the end does not match.
//
//sumtype:decl
type Predicate interface {
	// String returns the predicate in the syntax of the query language.
	String() string
	predicate()
}

// And holds where all of its members hold; empty, everywhere.
type And []Predicate

// Or holds where one of its members holds; empty, nowhere.
type Or []Predicate

// Not holds where its operand is False; of Unknown it is Unknown.
type Not struct{ Of Predicate }

// An Op is a comparison.
type Op string

// The comparisons. Text and enumerations know only == and !=.
const (
	OpEqual        Op = "=="
	OpNotEqual     Op = "!="
	OpLess         Op = "<"
	OpLessEqual    Op = "<="
	OpGreater      Op = ">"
	OpGreaterEqual Op = ">="
)

// Compare compares an ad's number, version, text or enumeration with Value.
type Compare struct {
	Dim   string
	Op    Op
	Value Value
}

// Range holds where a number lies between Low and High, both included.
type Range struct {
	Dim       string
	Low, High float64
}

// In holds where a number, version, text or enumeration equals one of Values.
type In struct {
	Dim    string
	Values []Value
}

// Contains holds where a set has Member.
type Contains struct {
	Dim    string
	Member string
}

// Within holds where a place is at most Km kilometres from Center on the
// great circle.
type Within struct {
	Dim    string
	Center Place
	Km     float64
}

// RTT holds where the round trip times predicted between the ad's network
// coordinate and each of To are all at most Most.
type RTT struct {
	Dim  string
	To   []dht.Coordinate
	Most time.Duration
}

// Has holds where the ad has a value for Dim; it is never Unknown.
type Has struct{ Dim string }

func (And) predicate()      {}
func (Or) predicate()       {}
func (Not) predicate()      {}
func (Compare) predicate()  {}
func (Range) predicate()    {}
func (In) predicate()       {}
func (Contains) predicate() {}
func (Within) predicate()   {}
func (RTT) predicate()      {}
func (Has) predicate()      {}

// Conjuncts returns the members that must all hold for p to hold.
func Conjuncts(p Predicate) []Predicate {
	and, ok := p.(And)
	if !ok {
		if p == nil {
			return nil
		}
		return []Predicate{p}
	}
	var all []Predicate
	for _, q := range and {
		all = append(all, Conjuncts(q)...)
	}
	return all
}

func (p And) String() string { return join(p, " && ", "true") }

func (p Or) String() string { return join(p, " || ", "false") }

func (p Not) String() string { return "!(" + p.Of.String() + ")" }

func (p Compare) String() string { return p.Dim + " " + string(p.Op) + " " + literal(p.Value) }

func (p Range) String() string {
	return p.Dim + " >= " + Number(p.Low).String() + " && " + p.Dim + " <= " + Number(p.High).String()
}

func (p In) String() string {
	text := make([]string, len(p.Values))
	for i, v := range p.Values {
		text[i] = literal(v)
	}
	return p.Dim + " in [" + strings.Join(text, ", ") + "]"
}

func (p Contains) String() string { return strconv.Quote(p.Member) + " in " + p.Dim }

func (p Within) String() string {
	f := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
	return "within(" + f(p.Center.Lat) + ", " + f(p.Center.Lon) + ", " + f(p.Km) + ")"
}

func (p RTT) String() string {
	return "rtt(" + strconv.Itoa(len(p.To)) + " hosts) <= " + p.Most.String()
}

func (p Has) String() string { return "has(" + p.Dim + ")" }

func join(ps []Predicate, sep, empty string) string {
	if len(ps) == 0 {
		return empty
	}
	text := make([]string, len(ps))
	for i, p := range ps {
		text[i] = p.String()
		switch p.(type) {
		case And, Or, Range:
			if len(ps) > 1 {
				text[i] = "(" + text[i] + ")"
			}
		default:
		}
	}
	return strings.Join(text, sep)
}

func literal(v Value) string {
	if s, ok := v.Text(); ok {
		return strconv.Quote(s)
	}
	return v.String()
}

// nodesOf returns how many conditions a predicate has, as checkShape counts them.
func nodesOf(p Predicate) (n int) {
	switch p := p.(type) {
	case And:
		for _, q := range p {
			n += nodesOf(q)
		}
	case Or:
		for _, q := range p {
			n += nodesOf(q)
		}
	case Not:
		n = nodesOf(p.Of)
	case In:
		n = len(p.Values) / 4
	case Compare, Range, Contains, Within, RTT, Has:
	}
	return n + 1
}
