package cel

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
)

// Format returns p as text in the units that people use. name tells what the
// host at a coordinate is called; where it says "", or is nil, the coordinate
// itself is written. Compile(Format(p)) == p for every p that Compile returns,
// if it resolves what name says.
func Format(schema *search.Schema, p search.Predicate, name func(dht.Coordinate) string) string {
	f := formatter{schema: schema, name: name}
	return f.text(p)
}

// FormatValue returns a dimension's value in the units that people use.
func FormatValue(schema *search.Schema, dim string, v search.Value) string {
	d, _ := schema.Dimension(dim)
	if x, ok := v.Number(); ok {
		return formatNumber(x, d.Unit)
	}
	return v.String()
}

type formatter struct {
	schema *search.Schema
	name   func(dht.Coordinate) string
}

func (f formatter) text(p search.Predicate) string {
	switch p := p.(type) {
	case nil:
		return "true"
	case search.And:
		return f.join(p, " && ", "true")
	case search.Or:
		return f.join(p, " || ", "false")
	case search.Not:
		if rtt, ok := p.Of.(search.RTT); ok {
			return f.rtt(rtt, ">=", ">")
		}
		return "!(" + f.text(p.Of) + ")"
	case search.Compare:
		return p.Dim + " " + string(p.Op) + " " + f.value(p.Dim, p.Value)
	case search.Range:
		return f.value(p.Dim, search.Number(p.Low)) + " <= " + p.Dim + " <= " + f.value(p.Dim, search.Number(p.High))
	case search.In:
		list := make([]string, len(p.Values))
		for i, v := range p.Values {
			list[i] = f.value(p.Dim, v)
		}
		return p.Dim + " in [" + strings.Join(list, ", ") + "]"
	case search.Contains:
		return strconv.Quote(p.Member) + " in " + p.Dim
	case search.Within:
		return "within(" + formatPlace(p.Center) + ", " + plain(p.Km) + ")"
	case search.RTT:
		return f.rtt(p, "<", "<=")
	case search.Has:
		return "has(" + p.Dim + ")"
	default:
		return p.String()
	}
}

// join writes the members of a conjunction or disjunction.
func (f formatter) join(ps []search.Predicate, operator, empty string) string {
	if len(ps) == 0 {
		return empty
	}
	text := make([]string, len(ps))
	for i, p := range ps {
		text[i] = f.text(p)
		switch p := p.(type) {
		case search.And:
			if len(p) > 0 {
				text[i] = "(" + text[i] + ")"
			}
		case search.Or:
			if len(p) > 0 {
				text[i] = "(" + text[i] + ")"
			}
		default:
		}
	}
	return strings.Join(text, operator)
}

func (f formatter) value(dim string, v search.Value) string {
	if text, ok := v.Text(); ok {
		return strconv.Quote(text)
	}
	return FormatValue(f.schema, dim, v)
}

// rtt writes a bound with the operator without equality where that is rounder.
func (f formatter) rtt(p search.RTT, strict, loose string) string {
	hosts := make([]string, len(p.To))
	for i, at := range p.To {
		name := ""
		if f.name != nil {
			name = f.name(at)
		}
		if name == "" {
			name = formatCoordinate(at)
		}
		hosts[i] = strconv.Quote(name)
	}
	text := "rtt(" + strings.Join(hosts, ", ") + ") "
	if (p.Most+1)%time.Microsecond == 0 {
		return text + strict + " " + formatTime(p.Most+1)
	}
	return text + loose + " " + formatTime(p.Most)
}

// formatPlace writes the name of a city, or latitude and longitude.
func formatPlace(at search.Place) string {
	known := places()
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if known[name] == at {
			return strconv.Quote(name)
		}
	}
	return plain(at.Lat) + ", " + plain(at.Lon)
}

// plain writes a number without a unit.
func plain(x float64) string {
	if x == 0 {
		return "0"
	}
	return search.Number(x).String()
}

// formatNumber writes x, which is in unit, as the shortest number of at least 1
// with a unit that reads as x again.
func formatNumber(x float64, of search.Unit) string {
	best := plain(x)
	if x == 0 {
		return best
	}
	const worst = 1 << 10
	least := worst
	for _, u := range units {
		if u.of != of {
			continue
		}
		text, ok := inUnit(math.Abs(x), u)
		if !ok {
			continue
		}
		length := len(text)
		if math.Abs(x) < u.factor {
			length += worst / 2 // only where no smaller unit does
		}
		if length < least {
			best, least = text, length
			if x < 0 {
				best = "-" + text
			}
		}
	}
	return best
}

// inUnit writes x > 0 in a unit; not ok if that would read as another number
// or takes many digits.
func inUnit(x float64, u unit) (text string, ok bool) {
	q := x / u.factor
	if q < 1e-6 || q >= 1e15 {
		return "", false
	}
	text = strconv.FormatFloat(q, 'f', -1, 64)
	back, err := strconv.ParseFloat(text, 64)
	return text + u.name, err == nil && back*u.factor == x
}

// formatTime writes a round trip time.
func formatTime(d time.Duration) string {
	if d%time.Second == 0 {
		return strconv.FormatInt(int64(d/time.Second), 10) + "s"
	}
	return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', -1, 64) + "ms"
}
