package rival

import (
	"strconv"

	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/trial"
)

// pht is the prefix hash tree (Ramabhadran, Ratnasamy, Hellerstein, Shenker,
// PODC 2004; Chawathe et al., A case study in building layered DHT
// applications, SIGCOMM 2005): a binary trie over keys of which every node is a
// record of the DHT under its prefix. Leaves hold the ads and the labels of
// their neighbours, inner nodes nothing. A client finds a leaf by binary search
// over the length of the prefix; a range by the longest common prefix of its
// ends, from where it fans out in parallel, a round of lookups for each level;
// or, where it wants few results, from the leaf of the range's begin along the
// links.
//
// There is a tree for each dimension, and by z-order for the place, as in the
// paper of 2005, for processors, memory and price, and for composite trees of
// the schema. All are over the client's own lookups, as over OpenDHT.
//
// Granted: the tree with the fewest leaves to read is chosen. The fan-out cuts
// off what is outside of the box of the query in all interleaved dimensions. An
// order by a number is walked in order if that reads fewer leaves. Who follows
// links for long knows the labels of the leaves ahead, and reads half as many
// again at once as it has read.
type pht struct{ base }

// RefreshMessages is the ad to the replicas of one leaf in each tree.
func (p *pht) RefreshMessages() float64 {
	return float64(replicas * (p.index.rings() + len(p.index.zTries())))
}

// Start implements trial.Algorithm.
func (p *pht) Start(t trial.Task, trace func(trial.Hop), done func(trial.Outcome)) {
	r := &phtRun{run: p.run(t, trace, done), region: p.index.region(t.Query.Where, true), complete: true}
	r.plan = r.run.plan(r.region, leafSize)
	if len(r.leaves) == 0 {
		r.net.After(0, func() { r.finish(true, 0) })
		return
	}
	r.trie = newTrie(r.col)
	r.total = len(r.leaves)
	if r.ordered {
		r.follow(0)
		return
	}
	for _, z := range p.index.zTries() {
		if n := z.count(r.region, z.node(0, 0), r.total); n < r.total {
			r.trie, r.total = z, n
		}
	}
	if r.limit() > 0 && r.order.none() && r.trie.keys == nil {
		r.follow(0)
		return
	}
	r.region = r.within()
	if r.total == 0 {
		r.net.After(0, func() { r.finish(true, 0) })
		return
	}
	r.enter(r.trie.cover(r.region))
}

// A phtRun is a query under way.
type phtRun struct {
	*run
	plan
	trie     *trie
	region   region
	total    int      // leaves to read
	read     int      // leaves
	gets     int      // nodes that the fan-out met
	waiting  []prefix // not asked yet, the nearest to a leaf last
	flying   int
	complete bool
}

// within returns the region as far as the trie's columns know it.
func (r *phtRun) within() region {
	if len(r.trie.cols) == 1 {
		return in(r.trie.cols[0], r.region.on(r.trie.cols[0])...)
	}
	return r.region
}

func (r *phtRun) label(of uint64, length int) string {
	return "pht/" + r.trie.name + "/" + strconv.Itoa(length) + "/" + strconv.FormatUint(of, 2)
}

func (r *phtRun) get(of uint64, length int, done func(ok bool)) {
	r.find(read{from: r.task.Client, label: r.label(of, length), done: func(_ network.NodeID, ok bool) { done(ok) }})
}

// search finds the leaf in which a prefix is by binary search on its length
// between low and high, both possible.
func (r *phtRun) search(of uint64, length, low, high int, done func(leaf prefix, ok bool)) {
	leaf := r.trie.leafLength(of, length)
	mid := (low + high) / 2
	r.get(of>>(length-mid), mid, func(ok bool) {
		switch {
		case !ok || low > high:
			done(prefix{}, false)
		case mid == leaf:
			done(r.trie.node(of>>(length-mid), mid), true)
		case mid < leaf: // an inner node
			r.search(of, length, mid+1, high, done)
		default: // no such node
			r.search(of, length, low, mid-1, done)
		}
	})
}

// enter begins at the common prefix of the range, or in the leaf above it.
func (r *phtRun) enter(p prefix) {
	if r.trie.leafLength(p.of, p.length) == p.length {
		r.waiting = append(r.waiting, p)
		r.proceed()
		return
	}
	r.get(p.of, p.length, func(ok bool) { // there is none
		if !ok {
			r.finish(false, 0)
			return
		}
		r.search(p.of, p.length, 0, p.length-1, func(leaf prefix, ok bool) {
			if ok {
				r.take(r.evaluate(r.trie.order[leaf.from:leaf.to]))
			}
			r.finish(ok, float64(r.matched))
		})
	})
}

// proceed asks for the nodes that wait: all at once, or a few where a few
// results are enough, the deepest first.
func (r *phtRun) proceed() {
	for len(r.waiting) > 0 && !r.over && (!r.order.none() || r.room(r.flying, r.gets)) {
		p := r.waiting[len(r.waiting)-1]
		r.waiting = r.waiting[:len(r.waiting)-1]
		r.flying++
		r.get(p.of, p.length, func(ok bool) {
			r.flying--
			r.gets++
			r.arrived(p, ok)
		})
	}
	if r.flying == 0 && len(r.waiting) == 0 {
		r.finish(r.complete, r.estimate())
	}
}

func (r *phtRun) estimate() float64 {
	return float64(r.matched) * float64(r.total) / float64(max(1, r.read))
}

func (r *phtRun) arrived(p prefix, ok bool) {
	switch {
	case !ok:
		r.complete = false
	case r.trie.isLeaf(p):
		r.read++
		r.take(r.evaluate(r.trie.order[p.from:p.to]))
		if r.enough() {
			r.finish(true, r.estimate())
			return
		}
	default:
		for _, c := range r.trie.children(p) {
			if r.trie.may(r.region, c) {
				r.waiting = append(r.waiting, c)
			}
		}
	}
	r.proceed()
}

// follow reads the i-th leaf of the plan and those behind it.
func (r *phtRun) follow(i int) {
	if r.passed(&r.plan, r.found, i) || i == len(r.leaves) {
		r.finish(r.complete, r.estimate())
		return
	}
	n := 1
	if i >= links {
		n = min(i/2, len(r.leaves)-i)
	}
	r.flying = n
	for j := i; j < i+n; j++ {
		r.readLeaf(j, func(leaf prefix, ok bool) {
			r.flying--
			r.complete = r.complete && ok
			if ok {
				r.read++
				r.take(r.evaluate(r.trie.order[leaf.from:leaf.to]))
			}
			switch {
			case r.over:
			case r.enough():
				r.finish(true, r.estimate())
			case r.flying == 0:
				r.follow(i + n)
			}
		})
	}
}

// readLeaf reads the j-th leaf of the plan: the first, and each of the first
// ones that is no neighbour of the one before, by binary search, the others by
// their labels.
func (r *phtRun) readLeaf(j int, done func(leaf prefix, ok bool)) {
	key := uint64(r.leaves[j] * r.size)
	neighbour := j > 0 && (r.leaves[j]-r.leaves[j-1] == 1 || r.leaves[j]-r.leaves[j-1] == -1)
	if !neighbour && j < links {
		r.search(key, r.trie.bits, 0, r.trie.bits, done)
		return
	}
	length := r.trie.leafLength(key, r.trie.bits)
	of := key >> (r.trie.bits - length)
	r.get(of, length, func(ok bool) { done(r.trie.node(of, length), ok) })
}
