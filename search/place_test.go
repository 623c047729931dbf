package search

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// arrange runs a Placer to its end over ads at hand. current answers what is
// to be verified; nil confirms everything.
func arrange(t testing.TB, spec PlaceSpec, ads []*Signed, current func(*Signed) *Signed) Arrangement {
	t.Helper()
	schema := DefaultSchema()
	p, err := NewPlacer(schema, spec)
	if err != nil {
		t.Fatal(err)
	}
	byID := make(map[dht.PeerID]*Signed)
	for _, ad := range ads {
		byID[ad.Ad.Server] = ad
	}
	inputs := []PlacerInput{Start{}}
	for steps := 0; len(inputs) > 0; steps++ {
		if steps > 10_000 {
			t.Fatal("the placement does not end")
		}
		in := inputs[0]
		inputs = inputs[1:]
		for _, e := range p.Step(testNow, in) {
			switch e := e.(type) {
			case Want:
				found := schema.Select(e.Query, ads)
				inputs = append(inputs, Found{ID: e.ID, Ads: found, Complete: len(found) < e.Query.Limit})
			case Think:
				inputs = append(inputs, Proceed{})
			case Verify:
				ad := byID[e.Server.ID]
				if current != nil {
					ad = current(ad)
				}
				inputs = append(inputs, Verified{e.Server.ID, ad})
			case Arranged:
				return e.Arrangement
			}
		}
	}
	t.Fatal("the placement stopped without an end")
	return Arrangement{}
}

// broken returns what rule a choice of machines breaks, by the letter of the
// specification, and what it costs.
func broken(schema *Schema, spec PlaceSpec, groups []int, picks []*Signed) (rule string, cost float64) {
	price := 0.0
	for i, ad := range picks {
		g := spec.Groups[groups[i]]
		if !schema.Matches(spec.query(schema, g).Where, ad.Ad) {
			return "query", 0
		}
		price += max(0, number(ad, DimPrice))
		for j, other := range picks[:i] {
			if other == ad {
				return "one server twice", 0
			}
			for _, r := range spec.Near {
				if covers(r.Groups, g.Name) && covers(r.Groups, spec.Groups[groups[j]].Name) && between(ad, other) > r.Most {
					return r.String(), 0
				}
			}
			if spec.goal() == GoalLatency {
				cost = max(cost, between(ad, other).Seconds())
			}
		}
		for _, r := range spec.Reach {
			at, _ := ad.Ad.Attributes.Get(DimCoordinate).Coordinate()
			for _, to := range r.To {
				if covers(r.Groups, g.Name) && spec.goal() == GoalLatency {
					cost = max(cost, PredictRTT(at, to).Seconds())
				}
			}
		}
	}
	for _, r := range spec.Spread {
		counts := make(map[string]int)
		for i, ad := range picks {
			if covers(r.Groups, spec.Groups[groups[i]].Name) {
				text, _ := ad.Ad.Attributes.Get(r.By).Text()
				if counts[text]++; counts[text] > r.Most {
					return r.String(), 0
				}
			}
		}
	}
	if spec.MaxPrice > 0 && price > spec.MaxPrice {
		return "price", 0
	}
	if spec.goal() == GoalPrice {
		cost = price
	}
	return "", cost
}

// force tries every assignment and returns the least cost; +Inf if none fits.
func force(schema *Schema, spec PlaceSpec, ads []*Signed) float64 {
	var groups []int
	for g, group := range spec.Groups {
		for range group.Count {
			groups = append(groups, g)
		}
	}
	best := math.Inf(1)
	picks := make([]*Signed, 0, len(groups))
	var descend func()
	descend = func() {
		if rule, cost := broken(schema, spec, groups[:len(picks)], picks); rule != "" && rule != "price" {
			return
		} else if len(picks) == len(groups) {
			if rule == "" {
				best = min(best, cost)
			}
			return
		}
		for _, ad := range ads {
			picks = append(picks, ad)
			descend()
			picks = picks[:len(picks)-1]
		}
	}
	descend()
	return best
}

// randomSpec returns a placement of up to 4 machines.
func randomSpec(rng *rand.Rand, machines int) PlaceSpec {
	spec := PlaceSpec{Effort: 1, Minimise: []Goal{"", GoalPrice, GoalLatency}[rng.IntN(3)]}
	names := []string{"web", "db", "cache"}
	for left := machines; left > 0; {
		n := 1 + rng.IntN(left)
		if len(spec.Groups) == 2 {
			n = left
		}
		g := PlaceGroup{Name: names[len(spec.Groups)], Count: n}
		if rng.IntN(2) == 0 {
			g.Query.Where = Compare{"free_cpu", OpGreaterEqual, Number(float64(rng.IntN(8)))}
		}
		spec.Groups = append(spec.Groups, g)
		left -= n
	}
	some := func() []string {
		if rng.IntN(2) == 0 {
			return nil
		}
		return []string{spec.Groups[rng.IntN(len(spec.Groups))].Name}
	}
	for range rng.IntN(3) {
		spec.Near = append(spec.Near, NearRule{some(), time.Duration(20+rng.IntN(200)) * time.Millisecond})
	}
	if rng.IntN(2) == 0 {
		spec.Spread = append(spec.Spread, SpreadRule{some(), []string{"owner", "country", "arch"}[rng.IntN(3)], 1 + rng.IntN(2)})
	}
	if rng.IntN(3) == 0 {
		var at dht.Coordinate
		at.Vec[0] = rng.NormFloat64() * 0.04
		spec.Reach = append(spec.Reach, ReachRule{some(), []dht.Coordinate{at}, time.Duration(80+rng.IntN(200)) * time.Millisecond})
	}
	if rng.IntN(4) == 0 {
		spec.MaxPrice = rng.Float64() * 2
	}
	return spec
}

func randomAds(rng *rand.Rand, n int) (ads []*Signed) {
	for range n {
		ads = append(ads, randomAd(rng, testNow))
	}
	return ads
}

// checkArrangement holds an arrangement against the specification.
func checkArrangement(t testing.TB, spec PlaceSpec, a Arrangement) {
	t.Helper()
	schema := DefaultSchema()
	var groups []int
	for g, group := range spec.Groups {
		for range group.Count {
			groups = append(groups, g)
		}
	}
	if len(a.Machines) != len(groups) {
		t.Fatalf("%d machines, want %d", len(a.Machines), len(groups))
	}
	var picks []*Signed
	for i, m := range a.Machines {
		if m.Group != spec.Groups[groups[i]].Name {
			t.Fatalf("machine %d is in group %s", i, m.Group)
		}
		picks = append(picks, m.Signed)
	}
	rule, cost := broken(schema, spec, groups, picks)
	if rule != "" {
		t.Fatalf("the placement breaks %s\n%+v", rule, spec)
	}
	if spec.goal() != GoalOrder && math.Abs(cost-a.Cost) > 1e-9 {
		t.Fatalf("it costs %g, not %g", cost, a.Cost)
	}
	if a.Floor > a.Cost {
		t.Fatalf("it costs %g, less than %g", a.Cost, a.Floor)
	}
}

// TestPlaceOptimal compares small placements with all there are.
func TestPlaceOptimal(t *testing.T) {
	schema := DefaultSchema()
	rng := rand.New(rand.NewPCG(1, 3))
	possible, proven := 0, 0
	const rounds = 300
	for range rounds {
		machines := 1 + rng.IntN(4)
		servers := 4 + rng.IntN(27)
		if machines == 4 {
			servers = 4 + rng.IntN(15) // brute force takes the fourth power
		}
		ads := randomAds(rng, servers)
		spec := randomSpec(rng, machines)
		want := force(schema, spec, ads)
		a := arrange(t, spec, ads, nil)
		if math.IsInf(want, 1) != (len(a.Unmet) > 0) {
			t.Fatalf("least cost %g, but unmet %v\n%+v", want, a.Unmet, spec)
		}
		if len(a.Unmet) > 0 {
			continue
		}
		possible++
		checkArrangement(t, spec, a)
		if a.Cost > want*(1+1e-9) {
			t.Errorf("cost %g, the least is %g (optimal %v)\n%+v", a.Cost, want, a.Optimal, spec)
		}
		if a.Optimal {
			proven++
		}
	}
	t.Logf("%d placements: %d possible, all of least cost, %d proven", rounds, possible, proven)
	if possible < rounds/4 || proven < possible*99/100 {
		t.Errorf("%d possible, %d proven", possible, proven)
	}
}

// TestPlaceSolver checks that trying all assignments alone comes to the least
// cost, and counts how often starts and shakes alone do.
func TestPlaceSolver(t *testing.T) {
	schema := DefaultSchema()
	rng := rand.New(rand.NewPCG(11, 3))
	least, possible := 0, 0
	for range 120 {
		ads := randomAds(rng, 6+rng.IntN(12))
		spec := randomSpec(rng, 2+rng.IntN(3))
		want := force(schema, spec, ads)
		p, err := NewPlacer(schema, spec)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range p.wishes {
			w.ads = schema.Select(w.query, ads)
		}
		if len(p.tooFew()) > 0 || math.IsInf(want, 1) {
			continue
		}
		possible++
		all, _ := p.newSolver(&p.spec, len(stages)-1)
		if all.exact(); !all.proven || math.Abs(all.bestScore.cost-want) > 1e-9 {
			t.Errorf("all assignments: cost %g, proven %v, want %g\n%+v", all.bestScore.cost, all.proven, want, spec)
		}
		s, anchors := p.newSolver(&p.spec, 2)
		s.start(-1)
		for _, o := range anchors {
			s.start(o)
		}
		for s.work > 0 {
			s.shake()
		}
		if s.bestScore.broken == 0 && s.bestScore.cost <= want*(1+1e-9) {
			least++
		}
	}
	t.Logf("least cost in %d of %d placements", least, possible)
	if least < possible*95/100 {
		t.Errorf("least cost in %d of %d placements, want 95 %%", least, possible)
	}
}

// TestPlaceEffort checks that more effort is never worse, and that it gains.
func TestPlaceEffort(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 3))
	ads := randomAds(rng, 1500)
	var sums [6]float64
	for round := range 8 {
		spec := randomSpec(rng, 3+rng.IntN(12))
		if round%2 == 0 { // hard: near each other, and of different owners
			spec.Near = []NearRule{{nil, 120 * time.Millisecond}}
			spec.Spread, spec.Reach = []SpreadRule{{nil, "owner", 1}}, nil
		}
		spec.MaxPrice = 0
		var costs []float64
		last := math.Inf(1)
		for i := range sums {
			spec.Effort = float64(i) / float64(len(sums))
			a := arrange(t, spec, ads, nil)
			if len(a.Unmet) > 0 {
				if !math.IsInf(last, 1) {
					t.Errorf("round %d: possible with less effort than %g\n%+v", round, spec.Effort, spec)
				}
				continue
			}
			checkArrangement(t, spec, a)
			if a.Cost > last {
				t.Errorf("round %d: effort %.2f costs %g, less effort %g\n%+v", round, spec.Effort, a.Cost, last, spec)
			}
			last = a.Cost
			costs = append(costs, a.Cost)
		}
		if len(costs) == len(sums) {
			for i, c := range costs {
				sums[i] += c / costs[0]
			}
		}
	}
	for i := range sums {
		t.Logf("effort %.2f costs %.3f of the least effort's", float64(i)/float64(len(sums)), sums[i]/sums[0])
	}
	if sums[len(sums)-1] > 0.95*sums[0] {
		t.Error("much effort gains less than 5 %")
	}
}

// BenchmarkPlace is the table in docs/search.md.
func BenchmarkPlace(b *testing.B) {
	for _, effort := range []float64{0, 1. / 3, 2. / 3, 1} {
		b.Run(fmt.Sprintf("effort=%.2f", effort), func(b *testing.B) {
			ads := randomAds(rand.New(rand.NewPCG(9, 3)), 3000)
			spec := PlaceSpec{
				Groups: []PlaceGroup{
					{Name: "web", Count: 6}, {Name: "db", Count: 6, Query: Query{Where: Compare{"free_cpu", OpGreaterEqual, Number(4)}}},
				},
				Near: []NearRule{{nil, 100 * time.Millisecond}}, Spread: []SpreadRule{{nil, "owner", 2}}, Effort: effort,
			}
			for b.Loop() {
				a := arrange(b, spec, ads, nil)
				b.ReportMetric(a.Cost, "price")
				b.ReportMetric(float64(a.Candidates), "candidates")
				b.ReportMetric(float64(a.Queries), "searches")
			}
		})
	}
}

func TestPlaceUnmet(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	ads := randomAds(rng, 40)
	group := []PlaceGroup{{Name: "web", Count: 3}}
	for _, tt := range []struct {
		name string
		spec PlaceSpec
		want string
	}{
		{"too few", PlaceSpec{Groups: []PlaceGroup{{Name: "web", Count: 3, Query: Query{Where: Or{}}}}}, "3 machines in web"},
		{"near", PlaceSpec{Groups: group, Near: []NearRule{{nil, time.Millisecond}}}, "near 1ms"},
		{"spread", PlaceSpec{
			Groups: []PlaceGroup{{Name: "web", Count: 6, Query: Query{Where: Compare{"arch", OpNotEqual, Text("s390x")}}}},
			Spread: []SpreadRule{{[]string{"web"}, "arch", 1}},
		}, "spread over arch, 1 each of web"},
		{"price", PlaceSpec{Groups: group, MaxPrice: 1e-9}, "price 0.000000001 an hour"},
	} {
		for _, effort := range []float64{0, 1} {
			tt.spec.Effort = effort
			a := arrange(t, tt.spec, ads, nil)
			if len(a.Unmet) != 1 || a.Unmet[0].Rule != tt.want || a.Unmet[0].Best == "" {
				t.Errorf("%s: %+v, want %s", tt.name, a.Unmet, tt.want)
			} else if tt.name != "too few" && !a.Unmet[0].Alone {
				t.Errorf("%s: would not be possible without it", tt.name)
			}
		}
	}
}

// TestPlaceVerifies takes servers away that the placement has chosen.
func TestPlaceVerifies(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 3))
	ads := randomAds(rng, 60)
	spec := PlaceSpec{Groups: []PlaceGroup{{Name: "web", Count: 3}}, Effort: 0.3, Verify: true}
	first := arrange(t, spec, ads, nil)
	checkArrangement(t, spec, first)
	for _, m := range first.Machines {
		if !m.Verified {
			t.Error("a machine is not verified")
		}
	}
	lost, dearer := first.Machines[0].Signed, first.Machines[1].Signed
	a := arrange(t, spec, ads, func(ad *Signed) *Signed {
		switch ad {
		case lost:
			return nil
		case dearer:
			return revised(ad, testNow, DimPrice, Number(1e6))
		}
		return renewed(ad, testNow)
	})
	checkArrangement(t, spec, a)
	if a.Cost >= 1e6 || a.Cost <= first.Cost {
		t.Errorf("costs %g, before %g", a.Cost, first.Cost)
	}
	for _, m := range a.Machines {
		if m.Signed == lost || m.Signed == dearer || !m.Verified || m.Signed.Ad.Seq != 2 {
			t.Errorf("machine %s is not as its server is now", m.Signed.Ad.Server)
		}
	}
	a = arrange(t, spec, ads, func(*Signed) *Signed { return nil })
	if len(a.Unmet) != 1 || !strings.Contains(a.Unmet[0].Rule, "confirms") {
		t.Errorf("nobody confirms: %+v", a.Unmet)
	}
}

func TestPlaceExpires(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 3))
	ads := randomAds(rng, 60)
	schema := DefaultSchema()
	spec := PlaceSpec{Groups: []PlaceGroup{{Name: "web", Count: 2}, {Name: "db", Count: 2}}, Effort: 1}
	for answers := range 3 {
		p, err := NewPlacer(schema, spec)
		if err != nil {
			t.Fatal(err)
		}
		wants := p.Step(testNow, Start{})
		for _, e := range wants[:answers] {
			w := e.(Want)
			p.Step(testNow, Found{ID: w.ID, Ads: schema.Select(w.Query, ads), Complete: true})
			p.Step(testNow, Found{ID: w.ID}) // twice changes nothing
		}
		p.Step(testNow, Found{ID: 99})
		effects := p.Step(testNow, Expire{})
		a, ok := effects[len(effects)-1].(Arranged)
		if !ok || (len(a.Arrangement.Unmet) == 0) != (answers == 2) {
			t.Errorf("%d answers: %+v", answers, effects)
		}
		if answers == 2 {
			checkArrangement(t, spec, a.Arrangement)
		}
		if more := p.Step(testNow, Proceed{}); more != nil {
			t.Errorf("goes on after its end: %v", more)
		}
	}
}

// TestPlaceLarge places as many machines as there may be.
func TestPlaceLarge(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 3))
	ads := randomAds(rng, 3000)
	spec := PlaceSpec{
		Groups: []PlaceGroup{{Name: "web", Count: 40}, {Name: "db", Count: 24}}, Effort: 0.5,
		Near:   []NearRule{{[]string{"db"}, 200 * time.Millisecond}},
		Spread: []SpreadRule{{nil, "owner", 5}},
	}
	a := arrange(t, spec, ads, nil)
	if len(a.Unmet) > 0 {
		t.Fatalf("%+v", a.Unmet)
	}
	checkArrangement(t, spec, a)
	if a.Candidates > MaxCandidates || a.Queries > maxPlaceQueries+len(stages)*maxOtherQueries {
		t.Errorf("%d candidates from %d queries", a.Candidates, a.Queries)
	}
	t.Logf("cost %.3f, at least %.3f, %d candidates, %d queries", a.Cost, a.Floor, a.Candidates, a.Queries)
}

// TestPlaceOwners spreads machines over owners of whom one has almost all servers,
// and the cheapest.
func TestPlaceOwners(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 3))
	ads := randomAds(rng, 1000)
	for i, ad := range ads {
		owner, price := "giant", rng.Float64()
		switch {
		case i < 20:
			owner, price = fmt.Sprint("dwarf-", i), price+2
		case i < 200:
			owner, price = fmt.Sprint("large-", i%3), price+1
		}
		ad.Ad.Attributes = ad.Ad.Attributes.With(DimOwner, Text(owner)).With(DimPrice, Number(price))
	}
	for _, near := range []time.Duration{0, 400 * time.Millisecond} {
		last := math.Inf(1)
		for _, effort := range []float64{0, 0.5, 1} {
			spec := PlaceSpec{Groups: []PlaceGroup{{Name: "web", Count: 6}}, Spread: []SpreadRule{{nil, "owner", 1}}, Effort: effort}
			if near > 0 {
				spec.Near = []NearRule{{nil, near}}
			}
			a := arrange(t, spec, ads, nil)
			if len(a.Unmet) > 0 {
				t.Fatalf("near %s, effort %g: %+v", near, effort, a.Unmet)
			}
			checkArrangement(t, spec, a)
			if a.Cost > last {
				t.Errorf("near %s: effort %g costs %g, less effort %g", near, effort, a.Cost, last)
			}
			last = a.Cost
			t.Logf("near %s, effort %g: cost %.3f, %d candidates, %d queries", near, effort, a.Cost, a.Candidates, a.Queries)
		}
	}
}

// TestPlaceOrder places by the order of the queries.
func TestPlaceOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 3))
	ads := randomAds(rng, 50)
	spec := PlaceSpec{Groups: []PlaceGroup{{Name: "web", Count: 3, Query: Query{OrderBy: "reputation", Desc: true}}}, Minimise: GoalOrder, Effort: 0.5}
	a := arrange(t, spec, ads, nil)
	checkArrangement(t, spec, a)
	for i, want := range DefaultSchema().Select(Query{OrderBy: "reputation", Desc: true, Limit: 3}, ads) {
		if !slices.ContainsFunc(a.Machines, func(m Machine) bool { return m.Signed == want }) {
			t.Errorf("the %d. best is not chosen", i+1)
		}
	}
}

func TestCheckPlace(t *testing.T) {
	good := PlaceGroup{Name: "web", Count: 1}
	many := make([]PlaceGroup, maxPlaceGroups+1)
	for i := range many {
		many[i] = PlaceGroup{Name: fmt.Sprint("g", i), Count: 1}
	}
	for name, spec := range map[string]PlaceSpec{
		"no group":       {},
		"many groups":    {Groups: many},
		"no name":        {Groups: []PlaceGroup{{Count: 1}}},
		"name twice":     {Groups: []PlaceGroup{good, good}},
		"no machines":    {Groups: []PlaceGroup{{Name: "web"}}},
		"many machines":  {Groups: []PlaceGroup{{Name: "web", Count: 60}, {Name: "db", Count: 5}}},
		"bad query":      {Groups: []PlaceGroup{{Name: "web", Count: 1, Query: Query{Where: Has{"nonsense"}}}}},
		"effort":         {Groups: []PlaceGroup{good}, Effort: 1.5},
		"effort NaN":     {Groups: []PlaceGroup{good}, Effort: math.NaN()},
		"goal":           {Groups: []PlaceGroup{good}, Minimise: "fun"},
		"price":          {Groups: []PlaceGroup{good}, MaxPrice: -1},
		"near 0":         {Groups: []PlaceGroup{good}, Near: []NearRule{{}}},
		"near whom":      {Groups: []PlaceGroup{good}, Near: []NearRule{{[]string{"db"}, time.Second}}},
		"spread by":      {Groups: []PlaceGroup{good}, Spread: []SpreadRule{{nil, "free_cpu", 1}}},
		"spread 0":       {Groups: []PlaceGroup{good}, Spread: []SpreadRule{{nil, "owner", 0}}},
		"spread whom":    {Groups: []PlaceGroup{good}, Spread: []SpreadRule{{[]string{"db"}, "owner", 1}}},
		"reach nobody":   {Groups: []PlaceGroup{good}, Reach: []ReachRule{{nil, nil, time.Second}}},
		"reach 0":        {Groups: []PlaceGroup{good}, Reach: []ReachRule{{nil, []dht.Coordinate{{}}, 0}}},
		"reach far away": {Groups: []PlaceGroup{good}, Reach: []ReachRule{{nil, []dht.Coordinate{{Height: 1e9}}, time.Second}}},
		"many rules":     {Groups: []PlaceGroup{good}, Near: make([]NearRule, maxPlaceRules+1)},
	} {
		if _, err := NewPlacer(DefaultSchema(), spec); !errors.Is(err, ErrBadQuery) {
			t.Errorf("%s: %v, want ErrBadQuery", name, err)
		}
	}
}
