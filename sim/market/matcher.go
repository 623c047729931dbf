package market

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
)

// A verdict tells whether a condition holds for server i.
type verdict func(i int) search.Truth

// A condition is a verdict with what it costs, in about nanoseconds: the
// cheapest of a conjunction is asked first.
type condition struct {
	verdict
	cost int
}

// Matcher returns whether server i satisfies p, with the three values of
// search.Schema.Eval: what is Unknown does not match. A nil p is satisfied by
// every server. p must have passed the schema's Check. What it returns looks
// at the servers as they are when it is called.
func (m *Market) Matcher(p search.Predicate) func(i int) bool {
	var all []condition
	for _, q := range search.Conjuncts(p) {
		all = append(all, m.compile(q))
	}
	slices.SortStableFunc(all, func(a, b condition) int { return cmp.Compare(a.cost, b.cost) })
	return func(i int) bool {
		for _, c := range all {
			if c.verdict(i) != search.True {
				return false
			}
		}
		return true
	}
}

func always(t search.Truth) condition {
	return condition{func(int) search.Truth { return t }, 1}
}

// compile turns a predicate into a condition on columns.
func (m *Market) compile(p search.Predicate) condition {
	switch p := p.(type) {
	case search.And:
		return m.all(p, search.True, search.False)
	case search.Or:
		return m.all(p, search.False, search.True)
	case search.Not:
		of := m.compile(p.Of)
		return condition{func(i int) search.Truth { return -of.verdict(i) }, of.cost + 1}
	case search.Has:
		return m.has(p.Dim)
	case search.Compare:
		if col, ok := m.numbers[p.Dim]; ok {
			return compareNumber(col, p)
		}
		if c, ok := m.compileIdentity(p.Dim, []search.Value{p.Value}, p.Op == search.OpNotEqual); ok {
			return c
		}
		return m.compileText(p.Dim, func(v search.Value) bool { return holds(p.Op, m.compare(p.Dim, v, p.Value)) })
	case search.Range:
		if col, ok := m.numbers[p.Dim]; ok {
			return between(col, p.Low, p.High, search.True)
		}
	case search.In:
		if col, ok := m.numbers[p.Dim]; ok {
			return oneOf(col, p.Values)
		}
		if c, ok := m.compileIdentity(p.Dim, p.Values, false); ok {
			return c
		}
		return m.compileText(p.Dim, func(v search.Value) bool {
			return slices.ContainsFunc(p.Values, func(w search.Value) bool { return m.compare(p.Dim, v, w) == 0 })
		})
	case search.Contains:
		return m.compileText(p.Dim, func(v search.Value) bool {
			set, _ := v.Set()
			return slices.Contains(set, p.Member)
		})
	case search.Within:
		return m.within(p)
	case search.RTT:
		return m.near(p)
	}
	return always(search.Unknown)
}

// all is the conjunction of ps where start is True, the disjunction where it
// is False; a member that comes out as end decides.
func (m *Market) all(ps []search.Predicate, start, end search.Truth) condition {
	members, cost := make([]condition, len(ps)), 1
	for k, p := range ps {
		members[k] = m.compile(p)
		cost += members[k].cost
	}
	slices.SortStableFunc(members, func(a, b condition) int { return cmp.Compare(a.cost, b.cost) })
	return condition{func(i int) search.Truth {
		t := start
		for _, c := range members {
			switch c.verdict(i) {
			case end:
				return end
			case search.Unknown:
				t = search.Unknown
			default:
			}
		}
		return t
	}, cost}
}

func (m *Market) has(dim string) condition {
	known := func(known func(i int) bool) condition {
		return condition{func(i int) search.Truth { return truth(known(i)) }, 3}
	}
	if col, ok := m.numbers[dim]; ok {
		return known(func(i int) bool { return !isMissing(col[i]) })
	}
	if col, ok := m.texts[dim]; ok {
		return known(func(i int) bool { return col.codes[i] != 0 })
	}
	switch {
	case dim == search.DimServer:
		return always(search.True)
	case dim == search.DimOwner:
		return known(func(i int) bool { return m.owner[i] != 0 })
	case dim == search.DimPlace && m.places != nil:
		return known(func(i int) bool { return !isMissing(m.places[i].lat) })
	case dim == search.DimCoordinate && m.positions != nil:
		return known(func(i int) bool { return !isMissing(m.positions[i].height) })
	default:
		return always(search.False)
	}
}

func truth(b bool) search.Truth {
	if b {
		return search.True
	}
	return search.False
}

// compareNumber turns a comparison into an interval, both ends included.
func compareNumber(col numbers, p search.Compare) condition {
	x, _ := p.Value.Number()
	inf := math.Inf(1)
	switch p.Op {
	case search.OpEqual:
		return between(col, x, x, search.True)
	case search.OpNotEqual:
		return between(col, x, x, search.False)
	case search.OpLess:
		return between(col, -inf, math.Nextafter(x, -inf), search.True)
	case search.OpLessEqual:
		return between(col, -inf, x, search.True)
	case search.OpGreater:
		return between(col, math.Nextafter(x, inf), inf, search.True)
	default:
		return between(col, x, inf, search.True)
	}
}

// between comes out as inside for low ≤ x ≤ high.
func between(col numbers, low, high float64, inside search.Truth) condition {
	return condition{func(i int) search.Truth {
		x := float64(col[i])
		switch {
		case x >= low && x <= high:
			return inside
		case x != x: // missing
			return search.Unknown
		default:
			return -inside
		}
	}, 2}
}

func oneOf(col numbers, values []search.Value) condition {
	list := make([]float64, len(values))
	for k, v := range values {
		list[k], _ = v.Number()
	}
	return condition{func(i int) search.Truth {
		if isMissing(col[i]) {
			return search.Unknown
		}
		return truth(slices.Contains(list, float64(col[i])))
	}, 4}
}

// compileText decides once for every text of a dictionary.
func (m *Market) compileText(dim string, ok func(search.Value) bool) condition {
	if col, known := m.texts[dim]; known {
		table := make([]search.Truth, len(col.values))
		for code := 1; code < len(table); code++ {
			table[code] = truth(ok(col.values[code]))
		}
		codes := col.codes
		return condition{func(i int) search.Truth {
			if code := int(codes[i]); code < len(table) {
				return table[code]
			}
			return search.Unknown
		}, 3}
	}
	return always(search.Unknown)
}

// compileIdentity is whether owner or server is one of values, or is none of
// them; ok is false for other dimensions.
func (m *Market) compileIdentity(dim string, values []search.Value, none bool) (c condition, ok bool) {
	inside := truth(!none)
	switch dim {
	case search.DimOwner:
		return m.oneOfOwners(values, inside), true
	case search.DimServer:
		return m.oneOfServers(values, inside), true
	default:
		return condition{}, false
	}
}

// oneOfOwners comes out as inside for the owners of that name.
func (m *Market) oneOfOwners(values []search.Value, inside search.Truth) condition {
	var codes []uint32
	for _, v := range values {
		name, _ := v.Text()
		if code := m.ownerCode(name); code != 0 {
			codes = append(codes, code)
		}
	}
	return condition{func(i int) search.Truth {
		switch {
		case m.owner[i] == 0:
			return search.Unknown
		case slices.Contains(codes, m.owner[i]):
			return inside
		default:
			return -inside
		}
	}, 3}
}

// oneOfServers comes out as inside for the servers with those identities. The
// hash rules out all but one in 2^64 others.
func (m *Market) oneOfServers(values []search.Value, inside search.Truth) condition {
	var ids []dht.PeerID
	var hashes []uint64
	for _, v := range values {
		name, _ := v.Text()
		if id, err := dht.ParsePeerID(name); err == nil && id.String() == name {
			ids, hashes = append(ids, id), append(hashes, hashOf(id))
		}
	}
	return condition{func(i int) search.Truth {
		if slices.Contains(hashes, m.hashes[i]) && slices.Contains(ids, m.peerOf(i)) {
			return inside
		}
		return -inside
	}, 3}
}

// compare orders two texts or versions of a dimension.
func (m *Market) compare(dim string, v, w search.Value) int {
	a, _ := v.Text()
	b, _ := w.Text()
	if d, _ := m.schema.Dimension(dim); d.Kind == search.KindVersion {
		return versionOf(a).compare(versionOf(b))
	}
	return strings.Compare(a, b)
}

func holds(op search.Op, c int) bool {
	switch op {
	case search.OpEqual:
		return c == 0
	case search.OpNotEqual:
		return c != 0
	case search.OpLess:
		return c < 0
	case search.OpLessEqual:
		return c <= 0
	case search.OpGreater:
		return c > 0
	default:
		return c >= 0
	}
}

const (
	kmPerDegree = 6371.0088 * math.Pi / 180
	// slack covers the rounding of the quick tests below; within it the exact
	// function decides.
	slack = 1e-6
)

// within asks for the latitude first: it alone rules most places out.
func (m *Market) within(p search.Within) condition {
	if m.places == nil || p.Dim != search.DimPlace {
		return always(search.Unknown)
	}
	band := p.Km/kmPerDegree + slack
	return condition{func(i int) search.Truth {
		at := m.places[i]
		if isMissing(at.lat) {
			return search.Unknown
		}
		if math.Abs(float64(at.lat)-p.Center.Lat) > band {
			return search.False
		}
		return truth(search.Distance(at.place(), p.Center) <= p.Km)
	}, 40}
}

func (m *Market) near(p search.RTT) condition {
	if m.positions == nil || p.Dim != search.DimCoordinate {
		return always(search.Unknown)
	}
	most := p.Most.Seconds()
	return condition{func(i int) search.Truth {
		at := &m.positions[i]
		if isMissing(at.height) {
			return search.Unknown
		}
		for k := range p.To {
			rtt := at.rtt(&p.To[k])
			if rtt > most+slack {
				return search.False
			}
			if rtt > most-slack && search.PredictRTT(at.coordinate(), p.To[k]) > p.Most {
				return search.False
			}
		}
		return search.True
	}, 20 * len(p.To)}
}

// rtt returns about search.PredictRTT, in seconds.
func (p *position) rtt(to *dht.Coordinate) float64 {
	var sum float64
	for k, x := range p.vec {
		d := float64(x) - to.Vec[k]
		sum += d * d
	}
	return math.Sqrt(sum) + float64(p.height) + to.Height
}
