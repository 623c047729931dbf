package placement

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/xenoserver/xeno/search"
)

// An Arrangement is what a Placer found.
type Arrangement struct {
	// Machines are in the order of the groups. Where Unmet is not empty they
	// are the nearest to a placement that was found, and may be fewer.
	Machines []Machine
	// Cost is what was to be made small: a price an hour, seconds, or a sum of
	// ranks between 0 and the number of machines.
	Cost float64
	// Floor is a bound that no choice among the candidates goes below.
	Floor float64
	// Optimal tells that no choice among the candidates costs less.
	Optimal bool
	// Complete tells that every server that fits was a candidate.
	Complete bool
	Price    float64       // of all machines an hour
	Latency  time.Duration // greatest predicted round trip between two of them
	// Unmet are the constraints that the machines break, empty for success.
	Unmet      []Unmet
	Candidates int // servers that were looked at
	Queries    int
}

// A Machine is one server of a placement.
type Machine struct {
	Group    string
	Signed   *search.Signed
	Verified bool // it confirmed its ad
}

// An Unmet is a constraint that no placement was found for.
type Unmet struct {
	Rule string // the constraint, for people
	Best string // what came nearest
	// Alone tells that without this constraint the others can be met.
	Alone bool
}

// think does a part of the work of a stage, and goes on to the next.
func (p *Placer) think() {
	if p.solver == nil || len(p.asking) > 0 {
		return
	}
	done := p.solver.search(p.anchors, &p.turn, part)
	p.take()
	if done && p.at == p.level {
		p.settle()
		return
	}
	if done {
		p.at++
		p.enter()
	}
	p.effects = append(p.effects, Think{})
}

// take remembers the best of the solver.
func (p *Placer) take() {
	s := p.solver
	if s.best == nil {
		return
	}
	p.floor, p.pooled = s.floor, len(s.options)
	better := p.best == nil || s.bestScore.compare(p.score) < 0
	if better {
		p.score, p.best = s.bestScore, make([]*search.Signed, len(s.best))
		for slot, o := range s.best {
			if o >= 0 {
				p.best[slot] = s.options[o].ad
			}
		}
	}
	// What an earlier stage found is among the options of a later one.
	p.proven = s.proven
}

// settle has the chosen servers confirm their ads, or ends.
func (p *Placer) settle() {
	if p.score.broken > 0 || !p.spec.Verify || p.expired {
		p.finish(nil)
		return
	}
	for _, ad := range p.best {
		if _, asked := p.current[ad.Ad.Server]; !asked {
			p.asking[ad.Ad.Server] = true
			p.effects = append(p.effects, Verify{ad.Ad.Contact()})
		}
	}
	if len(p.asking) == 0 {
		p.finish(nil)
	}
}

// confirmed takes in a server's current ad. When all have answered, and one of
// them no longer is what it was, the choice is made anew.
func (p *Placer) confirmed(in Verified) {
	if !p.asking[in.Server] {
		return
	}
	delete(p.asking, in.Server)
	if in.Signed != nil && in.Signed.Ad.Server != in.Server {
		in.Signed = nil
	}
	p.current[in.Server] = in.Signed
	if len(p.asking) > 0 {
		return
	}
	same := true
	for slot, ad := range p.best {
		now := p.current[ad.Ad.Server]
		if now == nil || !p.sameFor(p.groups[slot], ad, now) {
			same = false
			continue
		}
		p.best[slot] = now
	}
	p.rounds++
	if same {
		p.finish(nil)
		return
	}
	if p.rounds >= maxConfirmRounds {
		p.finish([]Unmet{{Rule: "every server confirms its ad", Best: fmt.Sprintf("some did not in %d attempts", p.rounds)}})
		return
	}
	p.begin()
}

// sameFor tells whether two ads of a server are alike in all that the placement
// depends on.
func (p *Placer) sameFor(g int, old, now *search.Signed) bool {
	if !p.schema.Matches(p.wishes[g].query.Where, now.Ad) || priceOf(old) != priceOf(now) || p.cost(g, old) != p.cost(g, now) {
		return false
	}
	dims := []string{search.DimCoordinate}
	for _, r := range p.spec.Spread {
		dims = append(dims, r.By)
	}
	return !slices.ContainsFunc(dims, func(dim string) bool { return !old.Ad.Attributes.Get(dim).Equal(now.Ad.Attributes.Get(dim)) })
}

// expire ends with what there is.
func (p *Placer) expire() {
	p.expired = true
	if p.solver == nil {
		for _, w := range p.wishes {
			w.answered = true
		}
		p.level = 0
		p.begin()
	}
	if !p.finished {
		p.finish(nil)
	}
}

// finish emits the arrangement.
func (p *Placer) finish(unmet []Unmet) {
	p.finished = true
	a := Arrangement{
		Cost: p.score.cost, Floor: min(p.floor, p.score.cost), Optimal: p.proven && p.score.broken == 0,
		Complete: true, Candidates: p.pooled, Queries: p.queries, Unmet: unmet,
	}
	for _, w := range p.wishes[:len(p.spec.Groups)] {
		a.Complete = a.Complete && w.complete
	}
	for slot, ad := range p.best {
		if ad == nil {
			continue
		}
		a.Machines = append(a.Machines, Machine{
			Group: p.spec.Groups[p.groups[slot]].Name, Signed: ad, Verified: p.current[ad.Ad.Server] != nil,
		})
		a.Price += priceOf(ad)
		for _, other := range p.best[:slot] {
			a.Latency = max(a.Latency, between(ad, other))
		}
	}
	if a.Optimal {
		a.Floor = a.Cost
	}
	if len(unmet) == 0 {
		a.Unmet = p.unmet(&a)
	}
	p.effects = append(p.effects, Arranged{a})
}

// between predicts the round trip between two servers, 0 where unknown.
func between(a, b *search.Signed) time.Duration {
	if a == nil || b == nil {
		return 0
	}
	x, ok := a.Ad.Attributes.Get(search.DimCoordinate).Coordinate()
	y, ok2 := b.Ad.Attributes.Get(search.DimCoordinate).Coordinate()
	if !ok || !ok2 {
		return 0
	}
	return search.PredictRTT(x, y)
}

// unmet names the rules that the machines break, and what came nearest.
func (p *Placer) unmet(a *Arrangement) (unmet []Unmet) {
	add := func(rule, best string, without func(*Spec)) {
		unmet = append(unmet, Unmet{Rule: rule, Best: best, Alone: p.possible(without)})
	}
	if n := len(a.Machines); n < len(p.groups) {
		unmet = append(unmet, Unmet{Rule: fmt.Sprintf("%d different servers", len(p.groups)), Best: fmt.Sprintf("%d fit", n)})
		return unmet
	}
	for i, r := range p.spec.Near {
		far := time.Duration(0)
		for j, m := range a.Machines {
			for _, o := range a.Machines[:j] {
				if covers(r.Groups, m.Group) && covers(r.Groups, o.Group) {
					far = max(far, between(m.Signed, o.Signed))
				}
			}
		}
		if far > r.Most {
			add(r.String(), far.Round(100*time.Microsecond).String()+" between two of them",
				func(s *Spec) { s.Near = slices.Delete(slices.Clone(s.Near), i, i+1) })
		}
	}
	for i, r := range p.spec.Spread {
		counts := make(map[string]int)
		most := 0
		for _, m := range a.Machines {
			if covers(r.Groups, m.Group) {
				text, _ := m.Signed.Ad.Attributes.Get(r.By).Text()
				counts[text]++
				most = max(most, counts[text])
			}
		}
		if most > r.Most {
			add(r.String(), fmt.Sprintf("%d of one %s", most, r.By),
				func(s *Spec) { s.Spread = slices.Delete(slices.Clone(s.Spread), i, i+1) })
		}
	}
	if p.spec.MaxPrice > 0 && a.Price > p.spec.MaxPrice {
		add("price "+formatPrice(p.spec.MaxPrice)+" an hour", formatPrice(a.Price), func(s *Spec) { s.MaxPrice = 0 })
	}
	return unmet
}

func formatPrice(x float64) string {
	return strconv.FormatFloat(math.Round(x*1e9)/1e9, 'f', -1, 64)
}

// possible tells whether a placement is found when the specification is changed,
// with little effort.
func (p *Placer) possible(change func(*Spec)) bool {
	spec := p.spec
	change(&spec)
	s, anchors := p.newSolver(&spec, min(p.level, 2))
	turn := 0
	for range len(anchors) + 20 {
		if s.best != nil && s.bestScore.broken == 0 || s.search(anchors, &turn, 1) {
			break
		}
	}
	return s.best != nil && s.bestScore.broken == 0
}
