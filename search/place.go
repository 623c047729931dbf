package search

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// A PlacerInput is something that happens to a Placer: Start, Found, Proceed,
// Verified or Expire.
//
//sumtype:decl
type PlacerInput interface{ placerInput() }

// Found answers a Want: the ads in the order of its query, and whether they are
// all that match. A search that failed found nothing and is not complete.
type Found struct {
	ID       int
	Ads      []*Signed
	Complete bool
}

// Proceed answers a Think.
type Proceed struct{}

func (Start) placerInput()    {}
func (Found) placerInput()    {}
func (Proceed) placerInput()  {}
func (Verified) placerInput() {}
func (Expire) placerInput()   {}

// A PlacerEffect is what a Placer wants done: Want, Think, Verify or Arranged.
// After Arranged it wants nothing more.
//
//sumtype:decl
type PlacerEffect interface{ placerEffect() }

// Want wants a query answered, by Found.
type Want struct {
	ID    int
	Query Query
}

// Think wants a Proceed at once: there is more to compute. Each Step takes less
// than about 300 ms.
type Think struct{}

// Arranged is the placement.
type Arranged struct{ Arrangement Arrangement }

func (Want) placerEffect()     {}
func (Think) placerEffect()    {}
func (Verify) placerEffect()   {}
func (Arranged) placerEffect() {}

// A stage is an amount of effort.
type stage struct{ pool, anchors, work int }

// stages are gone through up to the one that the effort says, each with the
// candidates and the work that it would have alone, and the best placement of
// all counts: so more effort is never worse.
var stages = [...]stage{
	{16, 1, 20e3},
	{32, 2, 60e3},
	{64, 4, 200e3},
	{128, 6, 600e3},
	{256, 8, 2e6},
	{512, 12, 6e6},
	{MaxCandidates, 16, 20e6},
}

// part is how much work one Step does.
const part = 2e6

// A wish is a Want and what came of it.
type wish struct {
	group    int
	query    Query
	anchor   *anchor // nil: servers anywhere
	ads      []*Signed
	complete bool
	answered bool
}

// An anchor is a server around which others are looked for.
type anchor struct {
	group    int // whose candidate it is
	position int // in that group's answer
	rank     int // among the anchors of its rule
	rules    int // how many rules share the anchors of a stage
	share    int // of the queries, for the rule
}

// in tells whether the anchor counts in a stage.
func (a *anchor) in(p *Placer, at int) bool {
	return a.rank < min(max(1, stages[at].anchors/a.rules), a.share) && a.position < p.poolOf(at, a.group)
}

// A Placer finds machines for a PlaceSpec. It is a machine for one goroutine:
// it has the groups' queries answered, and where machines must be near each
// other also queries around some of the servers found; then it chooses among
// the candidates by greedy starts, local search and, for up to 8 machines, by
// trying all assignments that a bound does not exclude.
type Placer struct {
	schema *Schema
	spec   PlaceSpec
	groups []int
	level  int // the last stage

	wishes   []*wish
	waiting  int
	anchored bool
	current  map[dht.PeerID]*Signed // ads that servers confirmed; nil: it did not
	asking   map[dht.PeerID]bool

	at       int // stage
	solver   *solver
	anchors  []int
	turn     int
	best     []*Signed // of each slot
	score    score
	floor    float64
	proven   bool
	pooled   int
	rounds   int
	expired  bool
	finished bool
	effects  []PlacerEffect
}

// NewPlacer returns the machine for one placement; the error is CheckPlace's.
func NewPlacer(schema *Schema, spec PlaceSpec) (*Placer, error) {
	if err := schema.CheckPlace(spec); err != nil {
		return nil, err
	}
	p := &Placer{
		schema: schema, spec: spec, level: int(math.Round(spec.Effort * float64(len(stages)-1))),
		current: make(map[dht.PeerID]*Signed), asking: make(map[dht.PeerID]bool),
	}
	for g, group := range spec.Groups {
		for range group.Count {
			p.groups = append(p.groups, g)
		}
		q := spec.query(schema, group)
		q.Limit = p.poolOf(p.level, g)
		if err := schema.Check(q); err != nil {
			return nil, fmt.Errorf("group %s: %w", group.Name, err)
		}
		p.wishes = append(p.wishes, &wish{group: g, query: q})
	}
	return p, nil
}

// poolOf returns how many answers of a query count in a stage.
func (p *Placer) poolOf(at, group int) int {
	return min(MaxCandidates, max(stages[at].pool, 4*p.spec.Groups[group].Count))
}

// Step takes in what happened and returns what to do. The caller owns the
// effects.
func (p *Placer) Step(_ time.Time, input PlacerInput) []PlacerEffect {
	p.effects = nil
	if p.finished {
		return nil
	}
	switch in := input.(type) {
	case Start:
		p.want(0)
	case Found:
		p.found(in)
	case Proceed:
		p.think()
	case Verified:
		p.confirmed(in)
	case Expire:
		p.expire()
	}
	return p.effects
}

// want has the wishes from the given one on answered.
func (p *Placer) want(from int) {
	for id, w := range p.wishes[from:] {
		if !w.answered {
			p.waiting++
			p.effects = append(p.effects, Want{ID: from + id, Query: w.query})
		}
	}
	if p.waiting == 0 {
		p.gathered()
	}
}

func (p *Placer) found(in Found) {
	if in.ID < 0 || in.ID >= len(p.wishes) || p.wishes[in.ID].answered || p.solver != nil {
		return
	}
	w := p.wishes[in.ID]
	w.answered = true
	for _, ad := range in.Ads[:min(len(in.Ads), w.query.Limit)] {
		if p.schema.Matches(w.query.Where, ad.Ad) {
			w.ads = append(w.ads, ad)
		}
	}
	w.complete = in.Complete && len(in.Ads) < w.query.Limit
	if p.waiting--; p.waiting == 0 {
		p.gathered()
	}
}

// gathered goes on when all queries are answered.
func (p *Placer) gathered() {
	if !p.anchored {
		p.anchored = true
		begin := len(p.wishes)
		p.addAnchors()
		if begin < len(p.wishes) {
			p.want(begin)
			return
		}
	}
	p.begin()
}

// addAnchors wishes for servers around some of those found, for every rule that
// wants machines near each other: all of them are near each of them.
func (p *Placer) addAnchors() {
	var rules []NearRule
	for _, r := range p.spec.Near {
		if p.spec.machines(r.Groups) > 1 {
			rules = append(rules, r)
		}
	}
	for _, r := range rules {
		var groups []int
		for g, group := range p.spec.Groups {
			if covers(r.Groups, group.Name) {
				groups = append(groups, g)
			}
		}
		from := p.wishes[groups[0]]
		share := (maxPlaceQueries - len(p.spec.Groups)) / len(rules) / len(groups)
		for rank, position := range spacedOut(from.ads, r.Most/2, max(1, share)) {
			a := &anchor{group: groups[0], position: position, rank: rank, rules: len(rules), share: share}
			if !a.in(p, p.level) {
				continue
			}
			at, _ := from.ads[position].Ad.Attributes[DimCoordinate].Coordinate()
			for _, g := range groups {
				p.addAround(g, RTT{Dim: DimCoordinate, To: []dht.Coordinate{at}, Most: r.Most}, a)
			}
		}
	}
}

// addAround wishes for servers of a group around an anchor.
func (p *Placer) addAround(g int, near RTT, a *anchor) {
	base := p.wishes[g]
	w := &wish{group: g, query: base.query, anchor: a}
	w.query.Where = append(slices.Clone(base.query.Where.(And)), near)
	if base.complete { // the answer is here
		w.ads, w.complete, w.answered = p.schema.Select(w.query, base.ads), true, true
	} else if p.schema.Check(w.query) != nil {
		return // the query has no room for one more condition
	}
	p.wishes = append(p.wishes, w)
}

// spacedOut returns the positions of ads, in order, each of which is farther
// than apart from all before it.
func spacedOut(ads []*Signed, apart time.Duration, most int) (positions []int) {
	var taken []dht.Coordinate
	for i, ad := range ads {
		c, ok := ad.Ad.Attributes[DimCoordinate].Coordinate()
		if !ok || slices.ContainsFunc(taken, func(d dht.Coordinate) bool { return PredictRTT(c, d) <= apart }) {
			continue
		}
		taken = append(taken, c)
		if positions = append(positions, i); len(positions) == most {
			break
		}
	}
	return positions
}

// begin starts to choose, from the first stage.
func (p *Placer) begin() {
	p.at, p.best, p.score, p.proven = 0, nil, score{}, false
	if unmet := p.tooFew(); len(unmet) > 0 {
		p.finish(unmet)
		return
	}
	p.enter()
	p.think()
}

// tooFew names the groups for which there are too few servers.
func (p *Placer) tooFew() (unmet []Unmet) {
	for g, pool := range p.pools(p.level) {
		if group := p.spec.Groups[g]; len(pool) < group.Count {
			unmet = append(unmet, Unmet{
				Rule: fmt.Sprintf("%d machines in %s", group.Count, group.Name),
				Best: fmt.Sprintf("%d servers fit", len(pool)),
			})
		}
	}
	return unmet
}

// poolLimit returns how many of a wish's servers are candidates in a stage.
// Where machines are to be near each other half of the room is left for those
// around anchors.
func (p *Placer) poolLimit(at int, w *wish) int {
	room := MaxCandidates / len(p.spec.Groups)
	near := slices.ContainsFunc(p.spec.Near, func(r NearRule) bool { return covers(r.Groups, p.spec.Groups[w.group].Name) })
	if near && w.anchor == nil {
		room /= 2
	}
	return min(len(w.ads), room, p.poolOf(at, w.group))
}

// pools returns the candidates of each group in a stage.
func (p *Placer) pools(at int) [][]*Signed {
	pools := make([][]*Signed, len(p.spec.Groups))
	taken := make([]map[dht.PeerID]bool, len(pools))
	for g := range taken {
		taken[g] = make(map[dht.PeerID]bool)
	}
	for _, w := range p.wishes {
		if w.anchor != nil && !w.anchor.in(p, at) {
			continue
		}
		for _, ad := range w.ads[:p.poolLimit(at, w)] {
			server := ad.Ad.Server
			if now, asked := p.current[server]; asked {
				ad = now
			}
			if ad == nil || taken[w.group][server] || len(pools[w.group]) == MaxCandidates/len(pools) ||
				!p.schema.Matches(p.wishes[w.group].query.Where, ad.Ad) {
				continue
			}
			taken[w.group][server] = true
			pools[w.group] = append(pools[w.group], ad)
		}
	}
	return pools
}

// enter sets up the solver for the stage.
func (p *Placer) enter() {
	p.solver, p.anchors = p.newSolver(&p.spec, p.at)
	p.turn = 0
	p.solver.adopt(p.best)
}

// newSolver returns a solver of a stage, and the options to start from.
func (p *Placer) newSolver(spec *PlaceSpec, at int) (s *solver, anchors []int) {
	n := len(p.groups)
	s = &solver{
		spec: spec, groups: p.groups, pairs: spec.pairsOf(p.groups), latency: spec.goal() == GoalLatency,
		rng: rand.New(rand.NewPCG(1, uint64(at))), work: stages[at].work, pick: make([]int, n),
	}
	p.addOptions(s, p.pools(at))
	s.used, s.counts = make([]bool, len(s.options)), p.number(s)
	for g, group := range spec.Groups {
		pool := s.pools[g]
		for i, o := range pool[:min(len(pool), group.Count)] {
			if !s.latency {
				s.floor += s.costs[g][o]
			} else if i == group.Count-1 {
				s.floor = max(s.floor, s.costs[g][o])
			}
		}
	}
	apart := time.Duration(0)
	if n > 1 {
		apart = slices.Max(s.pairs) / 2
	}
	pool := s.pools[p.groups[0]]
	ads := make([]*Signed, len(pool))
	for i, o := range pool {
		ads[i] = s.options[o].ad
	}
	for _, i := range spacedOut(ads, apart, 2*stages[at].anchors) {
		anchors = append(anchors, pool[i])
	}
	return s, anchors
}

// addOptions gives the solver its options, and the groups their pools, cheapest
// first.
func (p *Placer) addOptions(s *solver, pools [][]*Signed) {
	index := make(map[dht.PeerID]int)
	for _, pool := range pools {
		for _, ad := range pool {
			if _, ok := index[ad.Ad.Server]; ok {
				continue
			}
			index[ad.Ad.Server] = len(s.options)
			o := option{ad: ad, price: priceOf(ad)}
			o.coord, _ = ad.Ad.Attributes[DimCoordinate].Coordinate()
			s.options = append(s.options, o)
		}
	}
	for g, pool := range pools {
		costs := make([]float64, len(s.options))
		var list []int
		for _, ad := range pool {
			o := index[ad.Ad.Server]
			costs[o] = p.cost(g, ad)
			list = append(list, o)
		}
		slices.SortStableFunc(list, func(a, b int) int {
			return cmp.Or(cmp.Compare(costs[a], costs[b]), s.options[a].ad.hash.Compare(s.options[b].ad.hash))
		})
		s.pools, s.costs = append(s.pools, list), append(s.costs, costs)
	}
}

// number gives the options the numbers of their values in each SpreadRule, and
// returns the counters.
func (p *Placer) number(s *solver) (counts [][]int) {
	for _, r := range s.spec.Spread {
		numbers := make(map[string]int)
		for i := range s.options {
			text, _ := s.options[i].ad.Ad.Attributes[r.By].Text()
			if _, ok := numbers[text]; !ok {
				numbers[text] = len(numbers)
			}
			s.options[i].values = append(s.options[i].values, numbers[text])
		}
		counts = append(counts, make([]int, len(numbers)))
	}
	return counts
}

func priceOf(ad *Signed) float64 {
	price, _ := ad.Ad.Attributes[DimPrice].Number()
	return max(0, price)
}

// cost returns what a server adds to the cost of a placement.
func (p *Placer) cost(g int, ad *Signed) float64 {
	switch p.spec.goal() {
	case GoalPrice:
		return priceOf(ad)
	case GoalLatency:
		far := time.Duration(0)
		at, _ := ad.Ad.Attributes[DimCoordinate].Coordinate()
		for _, r := range p.spec.Reach {
			if covers(r.Groups, p.spec.Groups[g].Name) {
				for _, to := range r.To {
					far = max(far, PredictRTT(at, to))
				}
			}
		}
		return far.Seconds()
	default:
		q := p.wishes[g].query
		rank := p.schema.order(&q).standing(ad).rank
		if q.Desc {
			rank++ // 0 is the best
		}
		return max(0, min(rank, 1))
	}
}
