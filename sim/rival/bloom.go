package rival

import (
	"math"
	"math/bits"
	"slices"
	"strconv"

	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/trial"
)

// bloom is the original XenoSearch (Spence and Harris, XenoSearch: distributed
// resource discovery in the XenoServer Open Platform, HPDC 2003). Every
// dimension has a tree over order-preserving keys. An aggregation point (AP) is
// the key of a prefix, computable by anybody; who is nearest to it summarises
// the servers below: by an explicit list while they are few, by a Bloom filter
// when they are many. A range is the minimal set of prefixes that cover it,
// read in parallel, each by routing to its AP; their summaries are united, and
// the dimensions of a query intersected. What passes is checked against the
// servers themselves.
//
// The paper's evaluation is not at hand beyond its result, 3 to 5 times a plain
// lookup. Guessed: digits of four bits, Pastry's default; lists of up to
// leafAds; that the candidates come from the lists of the dimension with the
// fewest positions, since a filter cannot be enumerated, and that a query with
// a limit reads as many of these lists as the counts of the other dimensions
// make it expect to need, twice as many each time they were not enough; that
// half as many candidates again as are wanted are asked at once.
//
// Granted: those counts are known before. Filters have 16 bits a member and one
// false positive in 2,000. Lists carry the values of the order, so that
// candidates are asked in order. A region that is no box in the dimensions is
// covered by its hull, and an answer to a count is estimated from the filters
// of the whole ranges (Papapetrou, Siberski, Nejdl, Cardinality estimation and
// dynamic length adaptation for Bloom filters, 2010).
type bloom struct{ base }

const (
	// apDigit is how many bits a digit of a key has.
	apDigit = 4
	// falsePositive is how often a filter has what nobody put in.
	falsePositive = 1.0 / 2000
	// countBits is how many bits for each server of the network the filters
	// have that a count is estimated from, with one hash.
	countBits = 8
	// verifyTries is how often a candidate is asked.
	verifyTries = 2
)

// RefreshMessages is the record to the replicas of one AP in each tree.
func (b *bloom) RefreshMessages() float64 { return float64(replicas * b.index.rings()) }

// Start implements trial.Algorithm.
func (b *bloom) Start(t trial.Task, trace func(trial.Hop), done func(trial.Outcome)) {
	r := &bloomRun{run: b.run(t, trace, done), complete: true}
	reg := b.index.region(t.Query.Where, true)
	cols := r.candidates(reg)
	slices.SortStableFunc(cols, func(a, c *column) int { return size(reg.on(a)) - size(reg.on(c)) })
	for _, c := range cols {
		r.dims = append(r.dims, &apDim{col: c, spans: reg.on(c)})
	}
	r.lists = leavesOf(r.dims[0].spans, leafAds)
	r.batch = r.firstBatch()
	for i, d := range r.dims {
		if i > 0 || t.Count {
			r.readCover(d)
		}
	}
	if t.Count {
		r.lists = nil
	}
	r.readLists()
}

// bloomRun is a query under way.
type bloomRun struct {
	*run
	dims     []*apDim
	lists    []int // leaves of the first dimension that were not read
	batch    int   // how many are read in the next round
	asks     int   // how many candidates were asked in the last one
	flying   int
	queue    []result // candidates of this round that were not asked yet
	members  []uint32 // of the lists of this round
	complete bool
}

// An apDim is one dimension of a query.
type apDim struct {
	col     *column
	spans   []span
	inside  []uint64 // bit set of the servers in the summaries read
	filters int      // how many of them were Bloom filters
}

// An ap is a prefix of digits, or the positions below it.
type ap struct {
	level, index int
	span
}

// keyBits returns how long keys of a column are: whole digits, two at least.
func keyBits(c *column) int {
	const least = 2 * apDigit
	n := bits.Len(uint(max(c.len(), 2) - 1))
	return max(least, (n+apDigit-1)/apDigit*apDigit)
}

func apAt(c *column, level, index int) ap {
	width := 1 << (keyBits(c) - level*apDigit)
	return ap{level, index, span{min(index*width, c.len()), min((index+1)*width, c.len())}}
}

// cover returns the minimal set of prefixes of spans; those with lists may
// reach beyond.
func (d *apDim) cover(a ap, out []ap) []ap {
	inside := size(intersect(d.spans, []span{a.span}))
	switch {
	case inside == 0:
		return out
	case inside == a.len() || a.len() <= leafAds:
		return append(out, a)
	}
	for i := range 1 << apDigit {
		out = d.cover(apAt(d.col, a.level+1, a.index<<apDigit|i), out)
	}
	return out
}

func (r *bloomRun) route(c *column, a ap, done func(ok bool)) {
	r.flying++
	label := "ap/" + c.name + "/" + strconv.Itoa(a.level) + "/" + strconv.Itoa(a.index)
	r.find(read{from: r.task.Client, label: label, done: func(_ network.NodeID, ok bool) {
		r.flying--
		r.complete = r.complete && ok
		done(ok)
		if r.flying == 0 {
			r.intersect()
		}
	}})
}

// readCover reads the summaries of a dimension.
func (r *bloomRun) readCover(d *apDim) {
	d.inside = make([]uint64, r.world.Market.Len()/64+1)
	for _, a := range d.cover(apAt(d.col, 0, 0), nil) {
		r.route(d.col, a, func(ok bool) {
			if !ok {
				return
			}
			if a.len() > leafAds {
				d.filters++
			}
			for _, s := range intersect(d.spans, []span{a.span}) {
				for _, server := range d.col.order[s.from:s.to] {
					d.inside[server/64] |= 1 << (server % 64)
				}
			}
		})
	}
}

// has tells whether the summaries of a dimension have a server, or seem to.
func (d *apDim) has(server uint32) bool {
	if d.inside[server/64]>>(server%64)&1 == 1 {
		return true
	}
	luck := float64(mix(uint64(server)<<32^keyOf(d.col.name))>>11) / (1 << 53)
	return luck < float64(d.filters)*falsePositive
}

// firstBatch returns how many lists a query with a limit reads first.
func (r *bloomRun) firstBatch() int {
	if r.limit() == 0 || !r.order.none() {
		return len(r.lists)
	}
	part := 1.0
	for _, d := range r.dims[1:] {
		part *= float64(size(d.spans)) / float64(d.col.len())
	}
	return int(min(float64(len(r.lists)), math.Ceil(2*float64(r.limit())/max(part, 1e-9)/leafAds)))
}

// readLists reads the next lists of the first dimension.
func (r *bloomRun) readLists() {
	d := r.dims[0]
	n := min(max(r.batch, 1), len(r.lists))
	batch := r.lists[:n]
	r.lists = r.lists[n:]
	r.batch *= 2
	if n == 0 && r.flying == 0 {
		r.net.After(0, r.intersect)
		return
	}
	level := keyBits(d.col)/apDigit - 2
	for _, leaf := range batch {
		a := apAt(d.col, level, leaf)
		r.route(d.col, a, func(ok bool) {
			if !ok {
				return
			}
			for _, s := range intersect(d.spans, []span{a.span}) {
				r.members = append(r.members, d.col.order[s.from:s.to]...)
			}
		})
	}
}

// intersect makes candidates of what was read, or estimates how many there are.
func (r *bloomRun) intersect() {
	if r.over {
		return
	}
	if r.task.Count {
		r.finish(r.complete, r.cardinality())
		return
	}
	for _, server := range r.members {
		passes := r.net.Alive(network.NodeID(server))
		for _, d := range r.dims[1:] {
			passes = passes && d.has(server)
		}
		if passes {
			r.queue = append(r.queue, result{network.NodeID(server), r.order.standing(server)})
		}
	}
	r.members = r.members[:0]
	if !r.order.none() {
		sortResults(r.queue)
	}
	r.verify()
}

// verify asks the next candidates.
func (r *bloomRun) verify() {
	if r.limit() > 0 && len(r.found) >= r.limit() || len(r.queue) == 0 && len(r.lists) == 0 {
		r.finish(r.complete, float64(len(r.found)))
		return
	}
	if len(r.queue) == 0 {
		r.readLists()
		return
	}
	n := len(r.queue)
	if r.limit() > 0 {
		missing := r.limit() - len(r.found)
		r.asks = max(2*r.asks, missing+missing/2+1)
		n = min(n, r.asks)
	}
	batch := r.queue[:n]
	r.queue = r.queue[n:]
	r.flying += n
	for _, c := range batch {
		r.check(c, verifyTries, func() {
			r.flying--
			if r.enough() {
				r.finish(true, float64(len(r.found)))
			} else if r.flying == 0 {
				r.verify()
			}
		})
	}
}

// check asks a candidate whether it matches.
func (r *run) check(c result, left int, done func()) {
	fits := false
	r.request(r.task.Client, c.server, "verify", func() { fits = r.fits(uint32(c.server)) }, func(ok bool) {
		switch {
		case r.over:
		case !ok && left > 1:
			r.check(c, left-1, done)
		default:
			if ok && fits {
				r.take([]result{c})
			}
			done()
		}
	})
}

// cardinality estimates the size of the intersection of all dimensions from the
// Bloom filters of their ranges, of one hash: bits that are set in all of them
// are from members of all, or by chance.
func (r *bloomRun) cardinality() float64 {
	d := r.dims
	if len(d) == 1 {
		return float64(size(d[0].spans))
	}
	m := r.world.Market.Len() * countBits
	var common []uint64
	counts := make([]float64, len(d))
	for i := range d {
		filter := make([]uint64, m/64+1)
		for word, set := range d[i].inside {
			counts[i] += float64(bits.OnesCount64(set))
			for ; set != 0; set &= set - 1 {
				h, _ := bits.Mul64(mix(uint64(word*64+bits.TrailingZeros64(set))), uint64(m))
				filter[h/64] |= 1 << (h % 64)
			}
		}
		if common == nil {
			common = filter
		}
		for k := range common {
			common[k] &= filter[k]
		}
	}
	ones := 0
	for _, word := range common {
		ones += bits.OnesCount64(word)
	}
	return intersection(float64(m), float64(ones), counts)
}

// intersection returns how many common members make it most likely that so many
// of m bits are set in all filters of sets of these sizes.
func intersection(m, ones float64, counts []float64) float64 {
	unset := func(members float64) float64 { return math.Exp(-members / m) }
	low, high := 0.0, slices.Min(counts)
	for range 60 {
		x := (low + high) / 2
		chance := 1.0
		for _, n := range counts {
			chance *= 1 - unset(n-x)
		}
		if m*(1-unset(x)*(1-chance)) < ones {
			low = x
		} else {
			high = x
		}
	}
	return math.Round(low)
}

// mix is the output function of SplitMix64 (Steele, Lea, Flood, 2014).
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
