package rival

import (
	"slices"
	"strconv"
	"time"

	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/trial"
)

// central is one server, or a few sites, with everything in memory: the
// centralised variant that Oppenheimer et al. (Design and implementation
// tradeoffs for wide-area resource discovery, HPDC 2005) compare SWORD with,
// and that was faster. A query is one request to the nearest site; the site
// carries the load of the whole network, and trust in it is not questioned.
//
// Granted: sites are well placed: of candidates drawn at random, those that
// are nearest to a sample of nodes. Every site has everything at once. A query
// takes no time to evaluate.
type central struct {
	base
	sites []network.NodeID
}

const (
	// siteCandidates is how many nodes are drawn to choose sites from, and
	// siteSample to how many others their distance is measured.
	siteCandidates, siteSample = 32, 64
)

func newCentral(b base, count int) *central {
	c := &central{base: b}
	net := b.world.Net
	draw := func(n int) (out []network.NodeID) {
		for range n {
			out = append(out, net.Closest(nil, b.world.Rand.Uint64(), 1)...)
		}
		return out
	}
	candidates, sample := draw(siteCandidates), draw(siteSample)
	nearest := make([]time.Duration, len(sample))
	for i := range nearest {
		nearest[i] = time.Hour
	}
	for len(c.sites) < count && len(candidates) > 0 {
		best, least := 0, time.Duration(-1)
		for k, at := range candidates {
			sum := time.Duration(0)
			for i, s := range sample {
				sum += min(nearest[i], net.RTT(s, at))
			}
			if least < 0 || sum < least {
				best, least = k, sum
			}
		}
		c.sites = append(c.sites, candidates[best])
		for i, s := range sample {
			nearest[i] = min(nearest[i], net.RTT(s, candidates[best]))
		}
		candidates = slices.Delete(candidates, best, best+1)
	}
	return c
}

// RefreshMessages is one to every site.
func (c *central) RefreshMessages() float64 { return float64(len(c.sites)) }

// Start implements trial.Algorithm.
func (c *central) Start(t trial.Task, trace func(trial.Hop), done func(trial.Outcome)) {
	r := c.run(t, trace, done)
	sites := slices.Clone(c.sites)
	slices.SortStableFunc(sites, func(a, b network.NodeID) int { return int(r.net.RTT(t.Client, a) - r.net.RTT(t.Client, b)) })
	c.ask(r, sites, tries)
}

// ask asks the nearest site, and the next one where it does not answer.
func (c *central) ask(r *run, sites []network.NodeID, left int) {
	if left == 0 || len(sites) == 0 {
		r.finish(false, 0)
		return
	}
	var answer []result
	count := 0
	r.request(r.task.Client, sites[0], "ask site "+strconv.Itoa(int(sites[0])), func() { answer, count = c.answer(r) }, func(ok bool) {
		if !ok {
			c.ask(r, append(slices.Clone(sites[1:]), sites[0]), left-1)
			return
		}
		r.take(answer)
		r.finish(true, float64(count))
	})
}

// answer evaluates the query on all living servers.
func (c *central) answer(r *run) (best []result, count int) {
	for i := range c.world.Market.Len() {
		if !r.fits(uint32(i)) {
			continue
		}
		count++
		if r.task.Count || r.order.none() && r.limit() > 0 && len(best) == r.limit() {
			continue
		}
		best = append(best, result{network.NodeID(i), r.order.standing(uint32(i))})
		if r.limit() > 0 && len(best) == 2*r.limit()+leafAds {
			sortResults(best)
			best = best[:r.limit()]
		}
	}
	return best, count
}
