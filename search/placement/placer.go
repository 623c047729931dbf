// Package placement finds several machines at once, with constraints among them:
// near each other or to users, spread over owners or countries, within a price
// (DESIGN, XenoSearch). It knows what ads say, not how they are found: it has
// queries answered.
package placement

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
)

// A Input is something that happens to a Placer: Start, Found, Proceed,
// Verified or Expire.
//
//sumtype:decl
type Input interface{ input() }

// Found answers a Want: the ads in the order of its query, and whether they are
// all that match. A search that failed found nothing and is not complete.
type Found struct {
	ID       int
	Ads      []*search.Signed
	Complete bool
}

// Start begins the placement.
type Start struct{}

// Proceed answers a Think.
type Proceed struct{}

// Verified answers a Verify: the server's current ad, nil where it has none or
// cannot be reached.
type Verified struct {
	Server dht.PeerID
	Signed *search.Signed
}

// Expire ends the placement with what was found.
type Expire struct{}

func (Start) input()    {}
func (Found) input()    {}
func (Proceed) input()  {}
func (Verified) input() {}
func (Expire) input()   {}

// A Effect is what a Placer wants done: Want, Think, Verify or Arranged.
// After Arranged it wants nothing more.
//
//sumtype:decl
type Effect interface{ effect() }

// Want wants a query answered, by Found.
type Want struct {
	ID    int
	Query search.Query
}

// Think wants a Proceed at once: there is more to compute. Each Step takes less
// than about 300 ms.
type Think struct{}

// Verify wants a server asked for its current ad.
type Verify struct{ Server dht.Contact }

// Arranged is the placement.
type Arranged struct{ Arrangement Arrangement }

func (Want) effect()     {}
func (Think) effect()    {}
func (Verify) effect()   {}
func (Arranged) effect() {}

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

// A Placer finds machines for a Spec. It is a machine for one goroutine:
// it has the groups' queries answered, and where machines must be near each
// other also queries around some of the servers found; then it chooses among
// the candidates by greedy starts, local search and, for up to 8 machines, by
// trying all assignments that a bound does not exclude.
type Placer struct {
	schema *search.Schema
	spec   Spec
	groups []int
	level  int // the last stage

	wishes    []*wish
	waiting   int
	gathering int // how far gathered is
	queries   int
	current   map[dht.PeerID]*search.Signed // ads that servers confirmed; nil: it did not
	asking    map[dht.PeerID]bool

	at       int // stage
	solver   *solver
	anchors  []int
	turn     int
	best     []*search.Signed // of each slot
	score    score
	floor    float64
	proven   bool
	pooled   int
	rounds   int
	expired  bool
	finished bool
	effects  []Effect
}

// New returns the machine for one placement; the error is Spec.Check's.
func New(schema *search.Schema, spec Spec) (*Placer, error) {
	if err := spec.Check(schema); err != nil {
		return nil, err
	}
	p := &Placer{
		schema: schema, spec: spec, level: int(math.Round(spec.Effort * float64(len(stages)-1))),
		current: make(map[dht.PeerID]*search.Signed), asking: make(map[dht.PeerID]bool),
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

// Step takes in what happened and returns what to do. The caller owns the
// effects.
func (p *Placer) Step(_ time.Time, input Input) []Effect {
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
			p.queries++
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

// enter sets up the solver for the stage.
func (p *Placer) enter() {
	p.solver, p.anchors = p.newSolver(&p.spec, p.at)
	p.turn = 0
	p.solver.adopt(p.best)
}

// newSolver returns a solver of a stage, and the options to start from.
func (p *Placer) newSolver(spec *Spec, at int) (s *solver, anchors []int) {
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
	ads := make([]*search.Signed, len(pool))
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
func (p *Placer) addOptions(s *solver, pools [][]*search.Signed) {
	index := make(map[dht.PeerID]int)
	for _, pool := range pools {
		for _, ad := range pool {
			if _, ok := index[ad.Ad.Server]; ok {
				continue
			}
			index[ad.Ad.Server] = len(s.options)
			o := option{ad: ad, price: priceOf(ad)}
			o.coord, _ = ad.Ad.Attributes.Get(search.DimCoordinate).Coordinate()
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
			return cmp.Or(cmp.Compare(costs[a], costs[b]), s.options[a].ad.Hash().Compare(s.options[b].ad.Hash()))
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
			text, _ := s.options[i].ad.Ad.Attributes.Get(r.By).Text()
			if _, ok := numbers[text]; !ok {
				numbers[text] = len(numbers)
			}
			s.options[i].values = append(s.options[i].values, numbers[text])
		}
		counts = append(counts, make([]int, len(numbers)))
	}
	return counts
}

func priceOf(ad *search.Signed) float64 {
	price, _ := ad.Ad.Attributes.Get(DimPrice).Number()
	return max(0, price)
}

// cost returns what a server adds to the cost of a placement.
func (p *Placer) cost(g int, ad *search.Signed) float64 {
	switch p.spec.goal() {
	case GoalPrice:
		return priceOf(ad)
	case GoalLatency:
		far := time.Duration(0)
		at, _ := ad.Ad.Attributes.Get(search.DimCoordinate).Coordinate()
		for _, r := range p.spec.Reach {
			if covers(r.Groups, p.spec.Groups[g].Name) {
				for _, to := range r.To {
					far = max(far, search.PredictRTT(at, to))
				}
			}
		}
		return far.Seconds()
	default:
		return p.schema.Rank(p.wishes[g].query, ad)
	}
}
