package market

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
)

// A draft is a query in the making, around one server that matches it.
type draft struct {
	m     *Market
	class string
	how   *Asking
	rng   *rand.Rand

	server  int
	targets []dht.Coordinate // Proximity
	ordered bool             // Proximity: by latency
	knobs   []knob
}

// query tries servers and conditions until the count falls into the class.
func (d *draft) query() (search.Query, error) {
	low, high := d.m.bounds(d.class)
	for range maxTries {
		if !d.begin() {
			continue
		}
		want := d.aim(low, high)
		if where, ok := d.tighten(want, low, high); ok && len(search.Conjuncts(where)) > 0 {
			return d.finish(where), nil
		}
	}
	return search.Query{}, fmt.Errorf("%w: class %s: none of %d drafts matches %d to %d of %d servers: take more servers",
		ErrNoQuery, d.class, maxTries, low, high, d.m.servers)
}

// aim draws how many servers shall match: equal ratios are equally likely,
// but at the broad end equal differences.
func (d *draft) aim(low, high int) int {
	if d.class == Broad {
		return low + int(d.rng.Float64()*0.9*float64(high-low))
	}
	return int(float64(low) * math.Pow(float64(high)/float64(low), d.rng.Float64()))
}

// begin chooses conditions and a server that they are built around.
func (d *draft) begin() bool {
	d.knobs = nil
	conditions := 1 + d.rng.IntN(4)
	if d.class == Needle {
		conditions = 3 + d.rng.IntN(2) // few are alone in one dimension
	}
	chosen := d.choose(conditions)
	switch d.class {
	case Proximity:
		if !d.aimAt() {
			return false
		}
	case Needle:
		d.server = d.rarest(chosen)
	default:
		d.server = d.rng.IntN(d.m.servers)
	}
	if len(d.how.Requests) > 0 && !d.ask(d.how.Requests[d.rng.IntN(len(d.how.Requests))]) {
		return false
	}
	for _, k := range chosen {
		if len(d.knobs) == conditions {
			break
		}
		if knob := d.turnable(k); knob != nil {
			d.knobs = append(d.knobs, knob)
		}
	}
	return len(d.knobs) > 0
}

// choose draws kinds of different dimensions, some more than wanted since the
// server may lack one.
func (d *draft) choose(conditions int) (chosen []kind) {
	for range 8 * conditions {
		k := pick(d.rng, kinds)
		known := slices.ContainsFunc(chosen, func(other kind) bool { return other.dim == k.dim })
		if known || len(d.how.Requests) > 0 && k.resource {
			continue
		}
		if chosen = append(chosen, k); len(chosen) == conditions+2 {
			break
		}
	}
	return chosen
}

// rarest returns, of some servers drawn, the one that the fewest others equal
// or surpass in what is asked.
func (d *draft) rarest(chosen []kind) (best int) {
	least := math.Inf(1)
	for range rareServers {
		i, share := d.rng.IntN(d.m.servers), 1.0
		for _, k := range chosen {
			share *= d.m.share(i, k)
		}
		if share < least {
			best, least = i, share
		}
	}
	return best
}

// ask takes over the conditions of a real request, and a server that has it.
func (d *draft) ask(r Request) bool {
	least := func(dim string, x float64) {
		p := search.Compare{Dim: dim, Op: search.OpGreaterEqual, Value: search.Number(x)}
		d.knobs = append(d.knobs, func(float64) search.Predicate { return p })
	}
	if r.CPU > 0 {
		least("free_cpu", r.CPU)
	}
	if r.MemMiB > 0 {
		least("free_memory", r.MemMiB*mib)
	}
	if r.GPUs > 0 {
		least("free_gpu", r.GPUs)
	}
	matches := d.m.Matcher(d.at(0))
	for range maxTries {
		if matches(d.server) {
			return true
		}
		if d.class == Proximity {
			return false // the server is near the targets
		}
		d.server = d.rng.IntN(d.m.servers)
	}
	return false
}

// at returns the conditions at a tightness, without those that say nothing.
func (d *draft) at(tight float64) search.Predicate {
	var all search.And
	for _, knob := range d.knobs {
		if p := knob(tight); p != nil {
			all = append(all, p)
		}
	}
	if len(all) == 1 {
		return all[0]
	}
	return all
}

// tighten turns all knobs together until about want servers match, and returns
// the conditions if their count lies within low to high. It looks at the
// sample as long as that can tell, then at all servers.
func (d *draft) tighten(want, low, high int) (search.Predicate, bool) {
	const telling = 20 // servers of the sample
	m := d.m
	perSample := float64(m.servers) / float64(len(m.sample))
	if perSample == 1 {
		return d.among(m.sample, 0, want, low, high)
	}
	fewest := d.count(m.sample, d.at(1))
	if float64(fewest)*perSample > 2*float64(high)+2*telling*perSample || float64(d.count(m.sample, d.at(0)))*perSample < float64(low)/2 {
		return nil, false // no tightness will do
	}
	if inSample := int(float64(want) / perSample); inSample >= telling {
		_, tight := d.bisect(m.sample, 0, inSample)
		where := d.at(tight)
		n := m.countUpTo(where, high+1)
		return where, n >= low && n <= high
	}
	_, tight := d.bisect(m.sample, 0, 2*telling)
	most := 10 * int(telling*perSample)
	left := m.matching(d.at(tight), most+1)
	if len(left) > most {
		return nil, false
	}
	return d.among(left, tight, want, low, high)
}

// among is tighten where candidates are all that match at a tightness of from.
func (d *draft) among(candidates []int32, from float64, want, low, high int) (search.Predicate, bool) {
	looser, tighter := d.bisect(candidates, from, want)
	for _, tight := range []float64{tighter, looser} {
		where := d.at(tight)
		if n := d.count(candidates, where); n >= low && n <= high {
			return where, true
		}
	}
	return nil, false
}

// bisect returns two close tightnesses: at the second at most want candidates
// match, or it is 1; at the first more do, or it is from.
func (d *draft) bisect(candidates []int32, from float64, want int) (looser, tighter float64) {
	looser, tighter = from, 1.0
	for range maxSteps {
		middle := (looser + tighter) / 2
		switch n := d.count(candidates, d.at(middle)); {
		case n > want:
			looser = middle
		case n > want-1-want/20:
			return looser, middle // near enough
		default:
			tighter = middle
		}
	}
	return looser, tighter
}

func (d *draft) count(candidates []int32, p search.Predicate) (n int) {
	matches := d.m.Matcher(p)
	for _, i := range candidates {
		if matches(int(i)) {
			n++
		}
	}
	return n
}

// finish gives the query its order and limit.
func (d *draft) finish(where search.Predicate) search.Query {
	q := search.Query{Where: where, Limit: 10}
	switch d.class {
	case Exhaustive:
		q.Limit = 0
	case Selective, Broad:
		if d.rng.IntN(2) == 0 {
			q.OrderBy = "price_hour"
		}
	case Proximity:
		if d.ordered {
			q.OrderBy, q.Origin = search.DimCoordinate, &d.targets[0]
		}
	default:
	}
	return q
}

// countUpTo is Count that stops at a number.
func (m *Market) countUpTo(p search.Predicate, most int) (n int) {
	matches := m.Matcher(p)
	for i := 0; i < m.servers && n < most; i++ {
		if matches(i) {
			n++
		}
	}
	return n
}

// matching returns the servers that satisfy p, the first most of them.
func (m *Market) matching(p search.Predicate, most int) (servers []int32) {
	matches := m.Matcher(p)
	for i := 0; i < m.servers && len(servers) < most; i++ {
		if matches(i) {
			servers = append(servers, int32(i))
		}
	}
	return servers
}
