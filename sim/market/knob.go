package market

import (
	"math"
	"slices"
	"sort"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
)

// A knob is a condition that the draft's server satisfies, and that ever fewer
// others do as tight goes from 0 to 1; nil where it says nothing.
type knob func(tight float64) search.Predicate

// A manner is how a condition asks about a dimension.
type manner uint8

const (
	atLeast manner = iota
	atMost
	equal
	among  // equal, or one of several
	member // of a set
	newer  // a version
	around // a place
)

// A kind is a dimension and how it is asked about.
type kind struct {
	dim      string
	manner   manner
	resource bool // replaced by real requests where there are some
}

// kinds says what people ask about, and how often.
var kinds = []choice[kind]{
	{0.15, kind{"free_cpu", atLeast, true}},
	{0.15, kind{"free_memory", atLeast, true}},
	{0.06, kind{"free_disk", atLeast, true}},
	{0.04, kind{"free_network", atLeast, true}},
	{0.05, kind{"free_gpu", atLeast, true}},
	{0.02, kind{"total_cpu", atLeast, true}},
	{0.01, kind{"gpu_memory", atLeast, true}},
	{0.13, kind{"price_hour", atMost, false}},
	{0.03, kind{"price_cpu", atMost, false}},
	{0.06, kind{"reputation", atLeast, false}},
	{0.03, kind{"uptime", atLeast, false}},
	{0.01, kind{"load", atMost, false}},
	{0.05, kind{"arch", equal, false}},
	{0.06, kind{"country", among, false}},
	{0.07, kind{"environments", member, false}},
	{0.03, kind{"os", equal, false}},
	{0.02, kind{"kernel", newer, false}},
	{0.01, kind{"hypervisor", equal, false}},
	{0.02, kind{search.DimPlace, around, false}},
}

// turnable returns a knob of a kind, nil where the server lacks the dimension.
func (d *draft) turnable(k kind) knob {
	switch k.manner {
	case atLeast:
		return d.atLeast(k.dim)
	case atMost:
		return d.atMost(k.dim)
	case equal:
		return d.equal(k.dim)
	case among:
		return d.oneOf(k.dim)
	case member:
		return d.member(k.dim)
	case newer:
		return d.newer(k.dim)
	default:
		return d.around(k.dim)
	}
}

// share is about the part of the servers that a condition of the kind leaves
// where it is as tight as server i allows; 1 where it does not depend on it.
func (m *Market) share(i int, k kind) float64 {
	sorted := m.quantiles[k.dim]
	x, ok := m.Value(i, k.dim).Number()
	if !ok || len(sorted) == 0 {
		return 1
	}
	below := sort.Search(len(sorted), func(j int) bool { return float64(sorted[j]) >= x })
	if k.manner == atMost {
		below = len(sorted) - sort.Search(len(sorted), func(j int) bool { return float64(sorted[j]) > x })
	}
	return (float64(len(sorted)-below) + 0.1) / float64(len(m.sample))
}

// emphasis is how strongly one knob turns when all are turned together.
func (d *draft) emphasis() float64 { return math.Pow(2, 3*d.rng.Float64()-1.5) }

// atLeast asks for a number of at least a quantile.
func (d *draft) atLeast(dim string) knob {
	x, ok := d.m.Value(d.server, dim).Number()
	sorted := d.m.quantiles[dim]
	if !ok || len(sorted) == 0 {
		return nil
	}
	place := sort.Search(len(sorted), func(k int) bool { return float64(sorted[k]) >= x })
	emphasis := d.emphasis()
	return func(tight float64) search.Predicate {
		least := sorted[min(int(float64(place)*math.Pow(tight, emphasis)), len(sorted)-1)]
		if least == sorted[0] {
			return nil
		}
		return search.Compare{Dim: dim, Op: search.OpGreaterEqual, Value: search.Number(min(float64(least), x))}
	}
}

// atMost asks for a number of at most a quantile.
func (d *draft) atMost(dim string) knob {
	x, ok := d.m.Value(d.server, dim).Number()
	sorted := d.m.quantiles[dim]
	if !ok || len(sorted) == 0 {
		return nil
	}
	place := sort.Search(len(sorted), func(k int) bool { return float64(sorted[k]) > x }) - 1
	last := len(sorted) - 1
	emphasis := d.emphasis()
	return func(tight float64) search.Predicate {
		most := sorted[max(0, last-int(float64(last-place)*math.Pow(tight, emphasis)))]
		if most == sorted[last] {
			return nil
		}
		return search.Compare{Dim: dim, Op: search.OpLessEqual, Value: search.Number(max(float64(most), x))}
	}
}

// fixed is a knob that does not turn.
func fixed(p search.Predicate) knob { return func(float64) search.Predicate { return p } }

// equal asks for the server's own text.
func (d *draft) equal(dim string) knob {
	v := d.m.Value(d.server, dim)
	if v.IsZero() {
		return nil
	}
	return fixed(search.Compare{Dim: dim, Op: search.OpEqual, Value: v})
}

// oneOf asks for the server's own text, half of the times among others.
func (d *draft) oneOf(dim string) knob {
	v := d.m.Value(d.server, dim)
	if v.IsZero() || d.rng.IntN(2) == 0 {
		return d.equal(dim)
	}
	values := []search.Value{v}
	for range 1 + d.rng.IntN(4) {
		w := d.m.Value(d.rng.IntN(d.m.servers), dim)
		if !w.IsZero() && !slices.ContainsFunc(values, w.Equal) {
			values = append(values, w)
		}
	}
	return fixed(search.In{Dim: dim, Values: values})
}

// member asks for a member of the server's set.
func (d *draft) member(dim string) knob {
	set, ok := d.m.Value(d.server, dim).Set()
	if !ok || len(set) == 0 {
		return nil
	}
	return fixed(search.Contains{Dim: dim, Member: set[d.rng.IntN(len(set))]})
}

// newer asks for a version of at least another server's, or the server's own
// where that is older.
func (d *draft) newer(dim string) knob {
	own, ok := d.m.Value(d.server, dim).Text()
	if !ok {
		return nil
	}
	least := own
	if other, ok := d.m.Value(d.rng.IntN(d.m.servers), dim).Text(); ok && versionOf(other).compare(versionOf(own)) < 0 {
		least = other
	}
	return fixed(search.Compare{Dim: dim, Op: search.OpGreaterEqual, Value: search.Text(least)})
}

// around asks for places 20 to 20,000 km from the server's.
func (d *draft) around(dim string) knob {
	center, ok := d.m.Value(d.server, dim).Place()
	if !ok {
		return nil
	}
	return func(tight float64) search.Predicate {
		return search.Within{Dim: dim, Center: center, Km: math.Round(20 * math.Pow(1000, 1-tight))}
	}
}

// aimAt chooses one to three hosts, mostly in one part of the world, a server
// near them, and whether to ask for a round trip time, for the order, or both.
// It reports false where servers drawn have no coordinates.
func (d *draft) aimAt() bool {
	first, ok := d.coordinate(d.rng.IntN(d.m.servers))
	if !ok {
		return false
	}
	d.targets = []dht.Coordinate{first}
	for range d.rng.IntN(3) {
		if other, server := d.nearest(8); server >= 0 {
			d.targets = append(d.targets, other)
		}
	}
	if _, d.server = d.nearest(64); d.server < 0 {
		return false
	}
	d.ordered = d.rng.IntN(3) > 0
	if !d.ordered || d.rng.IntN(2) == 0 {
		d.knobs = append(d.knobs, d.within())
	}
	return true
}

func (d *draft) coordinate(server int) (dht.Coordinate, bool) {
	return d.m.Value(server, search.DimCoordinate).Coordinate()
}

// nearest returns, of some servers drawn, the one whose longest round trip to
// the targets is the least; -1 where none has a coordinate.
func (d *draft) nearest(drawn int) (best dht.Coordinate, server int) {
	server = -1
	for range drawn {
		i := d.rng.IntN(d.m.servers)
		if c, ok := d.coordinate(i); ok && (server < 0 || d.farthest(c) < d.farthest(best)) {
			best, server = c, i
		}
	}
	return best, server
}

// farthest is the longest round trip from c to the targets.
func (d *draft) farthest(c dht.Coordinate) (most time.Duration) {
	for _, to := range d.targets {
		most = max(most, search.PredictRTT(c, to))
	}
	return most
}

// within asks for round trips of whole milliseconds, up to 0.4 s more than the
// server's own.
func (d *draft) within() knob {
	own, _ := d.coordinate(d.server)
	base, targets := d.farthest(own), d.targets
	return func(tight float64) search.Predicate {
		spare := time.Duration((1 - tight) * (1 - tight) * 0.4 * float64(time.Second))
		return search.RTT{Dim: search.DimCoordinate, To: targets, Most: (base + spare + time.Millisecond).Truncate(time.Millisecond)}
	}
}
