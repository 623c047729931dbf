package rival

import (
	"strconv"

	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/trial"
)

// cid is how Ocean Protocol's compute nodes find each other, since their DHT
// answers nothing but exact keys (ocean-node, issue 770 and pull request 967):
// every value that a node offers, such as {"c2d":{"cpu":4}}, and some
// combinations are hashed to content identifiers, and the node announces itself
// as their provider. Who wants a range asks for the providers of every value in
// it, and then each provider whether it really fits.
//
// Guessed: numbers are cut into 64 values over their range in the schema;
// texts, enumerations, versions and members of sets each are a value; places
// are cells of five degrees; pairs are announced of place, processors with
// memory, price, country, architecture and graphics processors. Network
// coordinates cannot be announced.
//
// A lookup brings at most 20 providers, as go-libp2p-kad-dht's does by
// default, so that of values that many servers have, most are never seen: such
// an answer is not complete.
//
// Granted: the identifiers that the fewest servers have in all are known, and
// used. A lookup ends with the first of four holders (kad-dht goes on until it
// has 20 providers). Values in the range are known to the client. Without any
// condition that can be asked, all values of the first dimension are.
type cid struct{ base }

const (
	// mostProviders is how many providers a lookup brings.
	mostProviders = 20
	// mostValues is how many values of a range are asked for.
	mostValues = 512
	// announced is by how many nodes a provider record is held in kad-dht.
	announced = 20
)

// RefreshMessages is a provider record for each value and pair.
func (c *cid) RefreshMessages() float64 {
	return float64(announced * (c.index.rings() + len(knownPairs())))
}

// Start implements trial.Algorithm.
func (c *cid) Start(t trial.Task, trace func(trial.Hop), done func(trial.Outcome)) {
	r := &cidRun{run: c.run(t, trace, done)}
	reg := c.index.region(t.Query.Where, true)
	facets := c.index.facetsOf(reg)
	if len(facets) == 0 {
		facets = append(facets, c.index.facet(r.candidates(everywhere)[0]))
	}
	least := -1
	for _, f := range facets {
		if buckets, n := f.buckets(reg); least < 0 || n < least {
			r.facet, r.waiting, least = f, buckets, n
		}
	}
	r.complete = r.facet.all(reg)
	if len(r.waiting) > mostValues {
		r.waiting, r.complete = r.waiting[:mostValues], false
	}
	r.net.After(0, r.proceed)
}

// cidRun is a query under way.
type cidRun struct {
	*run
	facet    *facet
	waiting  []int // buckets not asked for
	flying   int   // lookups and checks
	answers  int   // of them
	complete bool
}

func (r *cidRun) proceed() {
	for len(r.waiting) > 0 && !r.over && (!r.order.none() || r.room(r.flying, r.answers)) {
		k := r.waiting[0]
		r.waiting = r.waiting[1:]
		r.flying++
		label := "cid" + r.facet.name + "/" + strconv.Itoa(k)
		r.find(read{from: r.task.Client, label: label, done: func(_ network.NodeID, ok bool) {
			if ok {
				r.ask(r.providers(k))
			}
			r.landed(ok)
		}})
	}
	if r.flying == 0 && len(r.waiting) == 0 {
		r.finish(r.complete, float64(r.matched))
	}
}

// landed notes the end of a lookup or a check.
func (r *cidRun) landed(ok bool) {
	r.complete = r.complete && ok
	r.flying--
	r.answers++
	if r.enough() {
		r.finish(true, float64(r.matched))
		return
	}
	r.proceed()
}

// providers draws those that a lookup of a bucket brings.
func (r *cidRun) providers(k int) (out []uint32) {
	servers := r.facet.order[r.facet.starts[k]:r.facet.starts[k+1]]
	if len(servers) == 0 {
		return nil
	}
	n := uint32(len(servers))
	at, step := r.world.Rand.Uint32N(n), stepThrough(n, r.world.Rand.Uint32())
	for range n {
		if len(out) == mostProviders {
			r.complete = false
			break
		}
		if r.net.Answers(network.NodeID(servers[at])) {
			out = append(out, servers[at])
		}
		at = uint32((uint64(at) + uint64(step)) % uint64(n))
	}
	return out
}

// ask checks providers.
func (r *cidRun) ask(servers []uint32) {
	for _, s := range servers {
		r.flying++
		r.check(result{network.NodeID(s), r.order.standing(s)}, verifyTries, r.landed)
	}
}
