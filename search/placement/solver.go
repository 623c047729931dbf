package placement

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
)

// An option is a server that may be chosen.
type option struct {
	ad    *search.Signed
	price float64 // 0 where it says none and none is needed
	coord dht.Coordinate
	// values are the numbers of its value in each SpreadRule.
	values []int
}

// A score judges an assignment; less is better.
type score struct {
	broken float64 // by how much rules are broken, 0 if they hold
	cost   float64 // what the goal makes small
	tie    float64 // for GoalLatency: the sum of all round trips, in seconds
}

func (a score) compare(b score) int {
	return cmp.Or(cmp.Compare(a.broken, b.broken), cmp.Compare(a.cost, b.cost), cmp.Compare(a.tie, b.tie))
}

// How much a rule counts that is broken: a machine that is missing more than
// any other, and everything else in parts of what was allowed.
const missing = 1000

// A solver chooses servers for slots, one a machine, within an amount of work
// that is counted in round trips predicted.
type solver struct {
	spec    *Spec
	groups  []int           // of each slot; those of a group are adjacent
	pairs   []time.Duration // for each slot and other slot within what round trip they must be, 0 for any
	options []option
	pools   [][]int // options of each group, cheapest first
	// costs are, for each group, what an option adds to the cost; with
	// GoalLatency the seconds to the farthest user.
	costs   [][]float64
	floor   float64 // no assignment costs less
	latency bool
	rng     *rand.Rand
	work    int

	pick   []int   // option of each slot, or -1
	used   []bool  // by option
	counts [][]int // by SpreadRule and number of value

	best      []int
	bestScore score
	proven    bool // best is the best there is
}

// pairsOf returns for any two slots within which round trip they must be, 0
// for any.
func (s *Spec) pairsOf(groups []int) []time.Duration {
	n := len(groups)
	pairs := make([]time.Duration, n*n)
	for _, r := range s.Near {
		for i, g := range groups {
			for j, h := range groups {
				if i == j || !covers(r.Groups, s.Groups[g].Name) || !covers(r.Groups, s.Groups[h].Name) {
					continue
				}
				if p := &pairs[i*n+j]; *p == 0 || r.Most < *p {
					*p = r.Most
				}
			}
		}
	}
	return pairs
}

// reset clears the assignment.
func (s *solver) reset() {
	for i := range s.pick {
		s.pick[i] = -1
	}
	clear(s.used)
	for _, c := range s.counts {
		clear(c)
	}
}

func (s *solver) set(slot, o int) {
	s.pick[slot] = o
	if o < 0 {
		return
	}
	s.used[o] = true
	for r, rule := range s.spec.Spread {
		if covers(rule.Groups, s.spec.Groups[s.groups[slot]].Name) {
			s.counts[r][s.options[o].values[r]]++
		}
	}
}

func (s *solver) unset(slot int) (was int) {
	was = s.pick[slot]
	s.pick[slot] = -1
	if was < 0 {
		return was
	}
	s.used[was] = false
	for r, rule := range s.spec.Spread {
		if covers(rule.Groups, s.spec.Groups[s.groups[slot]].Name) {
			s.counts[r][s.options[was].values[r]]--
		}
	}
	return was
}

func (s *solver) rtt(a, b int) time.Duration {
	return search.PredictRTT(s.options[a].coord, s.options[b].coord)
}

// excess is by how much a round trip breaks a bound.
func excess(rtt, most time.Duration) float64 {
	if most == 0 || rtt <= most {
		return 0
	}
	return float64(rtt)/float64(most) - 1
}

// whole returns the score of the assignment without what depends on price,
// and the sum of the prices.
func (s *solver) whole() (sc score, price float64) {
	n := len(s.pick)
	for i, a := range s.pick {
		if a < 0 {
			sc.broken += missing
			continue
		}
		price += s.options[a].price
		if s.latency {
			sc.cost = max(sc.cost, s.costs[s.groups[i]][a])
		} else {
			sc.cost += s.costs[s.groups[i]][a]
		}
		for j, b := range s.pick[:i] {
			if b < 0 || s.pairs[i*n+j] == 0 && !s.latency {
				continue
			}
			sc = s.join(sc, s.rtt(a, b), s.pairs[i*n+j])
			s.work--
		}
	}
	for r, rule := range s.spec.Spread {
		for _, c := range s.counts[r] {
			sc.broken += float64(max(0, c-rule.Most))
		}
	}
	return sc, price
}

// join adds two machines' round trip to a score.
func (s *solver) join(sc score, rtt, most time.Duration) score {
	sc.broken += excess(rtt, most)
	if s.latency {
		sc.cost = max(sc.cost, rtt.Seconds())
		sc.tie += rtt.Seconds()
	}
	return sc
}

// overPrice is by how much a sum of prices is too high.
func (s *solver) overPrice(price float64) float64 {
	if s.spec.MaxPrice == 0 || price <= s.spec.MaxPrice {
		return 0
	}
	return price/s.spec.MaxPrice - 1
}

// score returns that of the assignment.
func (s *solver) score() score {
	sc, price := s.whole()
	sc.broken += s.overPrice(price)
	return sc
}

// choose returns the best option for an empty slot, given the others, and the
// score with it; -1 where none is left.
func (s *solver) choose(slot int) (o int, best score) {
	g, n := s.groups[slot], len(s.pick)
	s.work -= n + n*n/8 // for what is not counted below
	rest, price := s.whole()
	rest.broken -= missing // the slot itself
	o = -1
	for _, candidate := range s.pools[g] {
		if s.used[candidate] {
			continue
		}
		if o >= 0 && !s.latency && best.broken <= rest.broken && best.cost <= rest.cost+s.costs[g][candidate] {
			break // those that follow cost more
		}
		sc := s.with(rest, price, slot, candidate)
		if o < 0 || sc.compare(best) < 0 {
			o, best = candidate, sc
		}
	}
	if o < 0 {
		rest.broken += missing + s.overPrice(price)
		return o, rest
	}
	return o, best
}

// with returns the score of the assignment with option o in a slot that is
// empty, from the score and price of the rest.
func (s *solver) with(sc score, price float64, slot, o int) score {
	n := len(s.pick)
	opt := &s.options[o]
	s.work--
	if s.latency {
		sc.cost = max(sc.cost, s.costs[s.groups[slot]][o])
	} else {
		sc.cost += s.costs[s.groups[slot]][o]
	}
	sc.broken += s.overPrice(price + opt.price)
	for r, rule := range s.spec.Spread {
		if covers(rule.Groups, s.spec.Groups[s.groups[slot]].Name) && s.counts[r][opt.values[r]] >= rule.Most {
			sc.broken++
		}
	}
	for j, b := range s.pick {
		if most := s.pairs[slot*n+j]; b >= 0 && (most != 0 || s.latency) {
			sc = s.join(sc, s.rtt(o, b), most)
			s.work--
		}
	}
	return sc
}

// fill gives every empty slot its best option, in a random order.
func (s *solver) fill() {
	for _, slot := range s.rng.Perm(len(s.pick)) {
		if s.pick[slot] < 0 {
			o, _ := s.choose(slot)
			s.set(slot, o)
		}
	}
}

// improve replaces machines one at a time while that helps.
func (s *solver) improve() {
	now := s.score()
	for better := true; better && s.work > 0; {
		better = false
		for _, slot := range s.rng.Perm(len(s.pick)) {
			was := s.unset(slot)
			o, sc := s.choose(slot)
			if o < 0 || sc.compare(now) >= 0 {
				s.set(slot, was)
				continue
			}
			s.set(slot, o)
			now, better = sc, true
		}
	}
	s.keep(s.score())
}

// keep remembers the assignment if it is the best so far.
func (s *solver) keep(sc score) {
	if s.best == nil || sc.compare(s.bestScore) < 0 {
		s.best, s.bestScore = slices.Clone(s.pick), sc
		s.proven = sc.broken == 0 && sc.cost <= s.floor*(1+1e-12)
	}
}

// adopt begins with an assignment of an earlier stage, if it has one.
func (s *solver) adopt(best []*search.Signed) {
	if best == nil {
		return
	}
	s.reset()
	for slot, ad := range best {
		s.set(slot, slices.IndexFunc(s.options, func(o option) bool { return o.ad == ad }))
	}
	s.keep(s.score())
}

// start fills the slots, around one option in the first of them unless it is -1.
func (s *solver) start(o int) {
	s.reset()
	s.set(0, o)
	s.fill()
	s.improve()
}

// shake empties some slots of the best assignment, puts a random server into
// one of them, and fills the others anew.
func (s *solver) shake() {
	s.reset()
	for slot, o := range s.best {
		s.set(slot, o)
	}
	perm := s.rng.Perm(len(s.pick))
	for _, slot := range perm[:1+s.rng.IntN(max(1, min(len(perm), 2+len(perm)/3)))] {
		s.unset(slot)
	}
	first := perm[0]
	pool := s.pools[s.groups[first]]
	// The square prefers the cheap.
	x := s.rng.Float64()
	if o := pool[int(x*x*float64(len(pool)))]; !s.used[o] {
		s.set(first, o)
	}
	s.fill()
	s.improve()
}

// search does a part of the work and tells whether all is done: first a start
// at each anchor, then all assignments if there are few, then shakes.
func (s *solver) search(anchors []int, at *int, part int) (done bool) {
	stop := s.work - part
	for s.work > 0 && s.work > stop && !s.proven {
		s.work -= 50 // for what every turn takes
		switch {
		case *at == 0:
			s.start(-1)
		case *at <= len(anchors):
			s.start(anchors[*at-1])
		case *at == len(anchors)+1 && len(s.pick) <= maxExact:
			s.exact()
		default:
			s.shake()
		}
		*at++
	}
	return s.work <= 0 || s.proven
}

// maxExact is for how many machines all assignments are tried.
const maxExact = 8

// exact tries all assignments that can be better than the best one so far, and
// says that it is proven if half of the work was enough.
func (s *solver) exact() {
	s.reset()
	n := len(s.pick)
	b := branching{solver: s, limit: s.work / 2, least: make([]float64, n+1), from: make([]int, n), partial: make([]score, n+1), price: make([]float64, n+1)}
	if s.best == nil || s.bestScore.broken > 0 {
		b.cost = math.Inf(1)
	} else {
		b.cost = s.bestScore.cost
	}
	for i := n - 1; i >= 0; i-- {
		if pool := s.pools[s.groups[i]]; !s.latency && len(pool) > 0 {
			b.least[i] = b.least[i+1] + s.costs[s.groups[i]][pool[0]]
		}
	}
	s.proven = b.descend(0)
	s.reset()
}

// branching is a depth-first search over the slots in order. Slots of one group
// are alike, so their options are taken in the order of the pool.
type branching struct {
	*solver
	limit   int
	cost    float64   // to be undercut
	least   []float64 // what the slots from here on cost at least
	from    []int     // where in its pool each slot is
	partial []score
	price   []float64
}

// descend tries all options of a slot, below those chosen so far; false if the
// work was used up.
func (b *branching) descend(slot int) bool {
	if slot == len(b.pick) {
		sc := b.partial[slot]
		b.cost = sc.cost
		b.best, b.bestScore = slices.Clone(b.pick), sc
		return true
	}
	g := b.groups[slot]
	begin := 0
	if slot > 0 && b.groups[slot-1] == g {
		begin = b.from[slot-1] + 1
	}
	for k := begin; k < len(b.pools[g]); k++ {
		o := b.pools[g][k]
		if b.used[o] {
			continue
		}
		if b.work < b.limit {
			return false
		}
		if !b.latency && b.partial[slot].cost+b.costs[g][o]+b.least[slot+1] >= b.cost {
			return true // those that follow cost more
		}
		sc := b.with(b.partial[slot], b.price[slot], slot, o)
		if sc.broken > 0 || sc.cost >= b.cost {
			continue
		}
		b.from[slot], b.partial[slot+1], b.price[slot+1] = k, sc, b.price[slot]+b.options[o].price
		b.set(slot, o)
		whole := b.descend(slot + 1)
		b.unset(slot)
		if !whole {
			return false
		}
	}
	return true
}
