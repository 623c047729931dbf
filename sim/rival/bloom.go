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
// 256 servers; that the candidates come from the lists of the dimension with the
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
	// apList is how many servers an AP lists: those below two digits, the most
	// that a leaf has room for.
	apList = 1 << (2 * apDigit)
	// falsePositive is how often a filter has what nobody put in.
	falsePositive = 1.0 / 2000
	// countBits is how many bits for each server of the network the filters
	// have that a count is estimated from, with one hash.
	countBits = 8
	// siftAlways is up to how many servers are compared with every summary that
	// arrives; more only when a dimension is complete.
	siftAlways = 4096
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
	r.lists = leavesOf(r.dims[0].spans, apList)
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
	r.net.After(0, r.advance) // where nothing is to be read
}

// bloomRun is a query under way.
type bloomRun struct {
	*run
	dims     []*apDim
	lists    []int    // leaves of the first dimension that were not read
	batch    int      // how many are read in the next round
	reading  int      // APs that have not answered
	pending  []uint32 // in the lists that were read, but not yet known to be in all dimensions
	queue    []result // candidates to be asked
	asking   int      // candidates that have not answered
	asked    int      // those that have
	complete bool
}

// An apDim is one dimension of a query.
type apDim struct {
	col     *column
	spans   []span
	inside  []uint64 // bit set of the servers in the summaries read
	filters int      // how many of them were Bloom filters
	reading int      // those that have not answered
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
	case inside == a.len() || a.len() <= apList:
		return append(out, a)
	}
	for i := range 1 << apDigit {
		out = d.cover(apAt(d.col, a.level+1, a.index<<apDigit|i), out)
	}
	return out
}

func (r *bloomRun) route(d *apDim, a ap, done func(in []span)) {
	r.reading++
	label := "ap/" + d.col.name + "/" + strconv.Itoa(a.level) + "/" + strconv.Itoa(a.index)
	r.find(read{from: r.task.Client, label: label, done: func(_ network.NodeID, ok bool) {
		r.reading--
		r.complete = r.complete && ok
		if ok {
			done(intersect(d.spans, []span{a.span}))
		}
		if r.reading == 0 {
			r.pending = r.sift(r.pending)
		}
		r.advance()
	}})
}

// readCover reads the summaries of a dimension.
func (r *bloomRun) readCover(d *apDim) {
	d.inside = make([]uint64, r.world.Market.Len()/64+1)
	cover := d.cover(apAt(d.col, 0, 0), nil)
	d.reading = len(cover)
	for _, a := range cover {
		r.route(d, a, func(in []span) {
			d.reading--
			if a.len() > apList {
				d.filters++
			}
			for _, s := range in {
				for _, server := range d.col.order[s.from:s.to] {
					d.inside[server/64] |= 1 << (server % 64)
				}
			}
			if d.reading == 0 || len(r.pending) <= siftAlways {
				r.pending = r.sift(r.pending)
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
	return int(min(float64(len(r.lists)), math.Ceil(2*float64(r.limit())/max(r.others(), 1e-9)/apList)))
}

// others returns which part of the servers is in all dimensions but the first,
// if they were independent.
func (r *bloomRun) others() float64 {
	part := 1.0
	for _, d := range r.dims[1:] {
		part *= float64(size(d.spans)) / float64(d.col.len())
	}
	return part
}

// readLists reads the next lists of the first dimension.
func (r *bloomRun) readLists() {
	d := r.dims[0]
	n := min(max(r.batch, 1), len(r.lists))
	batch := r.lists[:n]
	r.lists = r.lists[n:]
	r.batch *= 2
	level := keyBits(d.col)/apDigit - 2
	for _, leaf := range batch {
		r.route(d, apAt(d.col, level, leaf), func(in []span) {
			for _, s := range in {
				r.pending = append(r.pending, r.sift(d.col.order[s.from:s.to])...)
			}
		})
	}
}

// sift makes candidates of those servers that the summaries of all dimensions
// have, and returns the others.
func (r *bloomRun) sift(servers []uint32) (others []uint32) {
	for _, server := range servers {
		passes := true
		for _, d := range r.dims[1:] {
			passes = passes && d.has(server)
		}
		switch {
		case !r.net.Answers(network.NodeID(server)):
		case passes:
			r.queue = append(r.queue, result{network.NodeID(server), r.order.standing(server)})
		default:
			others = append(others, server)
		}
	}
	return others
}

// advance asks candidates as they come; where there is an order and a limit,
// when all are known, the best first. When none is left it reads more lists or
// ends.
func (r *bloomRun) advance() {
	switch {
	case r.over:
		return
	case r.task.Count:
		if r.reading == 0 {
			r.finish(r.complete, r.cardinality())
		}
		return
	}
	inOrder := r.limit() > 0 && !r.order.none()
	if inOrder && (r.reading > 0 || r.asking > 0) {
		return
	}
	if inOrder && r.asked == 0 {
		sortResults(r.queue)
	}
	missing := max(0, r.limit()-len(r.found))
	most := max(2*missing, r.asked)
	for len(r.queue) > 0 && (r.limit() == 0 || missing > 0 && r.asking < most) {
		c := r.queue[0]
		r.queue = r.queue[1:]
		r.asking++
		r.check(c, verifyTries, r.checked)
	}
	if r.reading+r.asking > 0 {
		return
	}
	if len(r.lists) == 0 || r.limit() > 0 && missing == 0 {
		r.finish(r.complete, r.estimate())
		return
	}
	r.pending = nil // all summaries were read, and they are not in them
	r.readLists()
}

// checked notes the answer of a candidate.
func (r *bloomRun) checked(ok bool) {
	r.complete = r.complete && ok
	r.asking--
	r.asked++
	if r.enough() {
		r.finish(true, r.estimate())
		return
	}
	r.advance()
}

// estimate takes the dimensions as independent, and what was asked for a sample,
// unless everything was asked.
func (r *bloomRun) estimate() float64 {
	if r.asked == 0 || len(r.lists)+len(r.queue)+r.asking == 0 {
		return float64(r.matched)
	}
	return float64(size(r.dims[0].spans)) * r.others() * float64(r.matched) / float64(r.asked)
}

// check asks a candidate whether it matches; it tells done whether there was an
// answer.
func (r *run) check(c result, left int, done func(ok bool)) {
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
			done(ok)
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
