package placement

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
	"github.com/xenoserver/xeno/search"
)

// TestOptimal compares small placements with all there are.
func TestOptimal(t *testing.T) {
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
		want := force(spec, ads)
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

// TestSolver checks that trying all assignments alone comes to the least
// cost, and counts how often starts and shakes alone do.
func TestSolver(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 3))
	least, possible := 0, 0
	for range 120 {
		ads := randomAds(rng, 6+rng.IntN(12))
		spec := randomSpec(rng, 2+rng.IntN(3))
		want := force(spec, ads)
		p, err := New(schema, spec)
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

// TestEffort checks that more effort is never worse, and that it gains.
func TestEffort(t *testing.T) {
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
			spec := Spec{
				Groups: []Group{
					{Name: "web", Count: 6}, {Name: "db", Count: 6, Query: search.Query{Where: search.Compare{Dim: "free_cpu", Op: search.OpGreaterEqual, Value: search.Number(4)}}},
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

func TestUnmet(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	ads := randomAds(rng, 40)
	group := []Group{{Name: "web", Count: 3}}
	for _, tt := range []struct {
		name string
		spec Spec
		want string
	}{
		{"too few", Spec{Groups: []Group{{Name: "web", Count: 3, Query: search.Query{Where: search.Or{}}}}}, "3 machines in web"},
		{"near", Spec{Groups: group, Near: []NearRule{{nil, time.Millisecond}}}, "near 1ms"},
		{"spread", Spec{
			Groups: []Group{{Name: "web", Count: 6, Query: search.Query{Where: search.Compare{Dim: "arch", Op: search.OpNotEqual, Value: search.Text("s390x")}}}},
			Spread: []SpreadRule{{[]string{"web"}, "arch", 1}},
		}, "spread over arch, 1 each of web"},
		{"price", Spec{Groups: group, MaxPrice: 1e-9}, "price 0.000000001 an hour"},
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

// TestVerifies takes servers away that the placement has chosen.
func TestVerifies(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 3))
	ads := randomAds(rng, 60)
	spec := Spec{Groups: []Group{{Name: "web", Count: 3}}, Effort: 0.3, Verify: true}
	first := arrange(t, spec, ads, nil)
	checkArrangement(t, spec, first)
	for _, m := range first.Machines {
		if !m.Verified {
			t.Error("a machine is not verified")
		}
	}
	lost, dearer := first.Machines[0].Signed, first.Machines[1].Signed
	a := arrange(t, spec, ads, func(ad *search.Signed) *search.Signed {
		switch ad {
		case lost:
			return nil
		case dearer:
			return revised(ad, DimPrice, search.Number(1e6))
		}
		return revised(ad, "", search.Value{})
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
	a = arrange(t, spec, ads, func(*search.Signed) *search.Signed { return nil })
	if len(a.Unmet) != 1 || !strings.Contains(a.Unmet[0].Rule, "confirms") {
		t.Errorf("nobody confirms: %+v", a.Unmet)
	}
}

func TestExpires(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 3))
	ads := randomAds(rng, 60)
	spec := Spec{Groups: []Group{{Name: "web", Count: 2}, {Name: "db", Count: 2}}, Effort: 1}
	for answers := range 3 {
		p, err := New(schema, spec)
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

// TestLarge places as many machines as there may be.
func TestLarge(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 3))
	ads := randomAds(rng, 3000)
	spec := Spec{
		Groups: []Group{{Name: "web", Count: 40}, {Name: "db", Count: 24}}, Effort: 0.5,
		Near:   []NearRule{{[]string{"db"}, 200 * time.Millisecond}},
		Spread: []SpreadRule{{nil, "owner", 5}},
	}
	a := arrange(t, spec, ads, nil)
	if len(a.Unmet) > 0 {
		t.Fatalf("%+v", a.Unmet)
	}
	checkArrangement(t, spec, a)
	if a.Candidates > MaxCandidates || a.Queries > maxQueries+len(stages)*maxOtherQueries {
		t.Errorf("%d candidates from %d queries", a.Candidates, a.Queries)
	}
	t.Logf("cost %.3f, at least %.3f, %d candidates, %d queries", a.Cost, a.Floor, a.Candidates, a.Queries)
}

// TestOwners spreads machines over owners of whom one has almost all servers,
// and the cheapest.
func TestOwners(t *testing.T) {
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
		ad.Ad.Attributes = ad.Ad.Attributes.With(search.DimOwner, search.Text(owner)).With(DimPrice, search.Number(price))
	}
	for _, near := range []time.Duration{0, 400 * time.Millisecond} {
		last := math.Inf(1)
		for _, effort := range []float64{0, 0.5, 1} {
			spec := Spec{Groups: []Group{{Name: "web", Count: 6}}, Spread: []SpreadRule{{nil, "owner", 1}}, Effort: effort}
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

// TestOrder places by the order of the queries.
func TestOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 3))
	ads := randomAds(rng, 50)
	spec := Spec{Groups: []Group{{Name: "web", Count: 3, Query: search.Query{OrderBy: "reputation", Desc: true}}}, Minimise: GoalOrder, Effort: 0.5}
	a := arrange(t, spec, ads, nil)
	checkArrangement(t, spec, a)
	for i, want := range schema.Select(search.Query{OrderBy: "reputation", Desc: true, Limit: 3}, ads) {
		if !slices.ContainsFunc(a.Machines, func(m Machine) bool { return m.Signed == want }) {
			t.Errorf("the %d. best is not chosen", i+1)
		}
	}
}

func TestCheck(t *testing.T) {
	good := Group{Name: "web", Count: 1}
	many := make([]Group, maxGroups+1)
	for i := range many {
		many[i] = Group{Name: fmt.Sprint("g", i), Count: 1}
	}
	for name, spec := range map[string]Spec{
		"no group":       {},
		"many groups":    {Groups: many},
		"no name":        {Groups: []Group{{Count: 1}}},
		"name twice":     {Groups: []Group{good, good}},
		"no machines":    {Groups: []Group{{Name: "web"}}},
		"many machines":  {Groups: []Group{{Name: "web", Count: 60}, {Name: "db", Count: 5}}},
		"bad query":      {Groups: []Group{{Name: "web", Count: 1, Query: search.Query{Where: search.Has{Dim: "nonsense"}}}}},
		"effort":         {Groups: []Group{good}, Effort: 1.5},
		"effort NaN":     {Groups: []Group{good}, Effort: math.NaN()},
		"goal":           {Groups: []Group{good}, Minimise: "fun"},
		"price":          {Groups: []Group{good}, MaxPrice: -1},
		"near 0":         {Groups: []Group{good}, Near: []NearRule{{}}},
		"near whom":      {Groups: []Group{good}, Near: []NearRule{{[]string{"db"}, time.Second}}},
		"spread by":      {Groups: []Group{good}, Spread: []SpreadRule{{nil, "free_cpu", 1}}},
		"spread 0":       {Groups: []Group{good}, Spread: []SpreadRule{{nil, "owner", 0}}},
		"spread whom":    {Groups: []Group{good}, Spread: []SpreadRule{{[]string{"db"}, "owner", 1}}},
		"reach nobody":   {Groups: []Group{good}, Reach: []ReachRule{{nil, nil, time.Second}}},
		"reach 0":        {Groups: []Group{good}, Reach: []ReachRule{{nil, []dht.Coordinate{{}}, 0}}},
		"reach far away": {Groups: []Group{good}, Reach: []ReachRule{{nil, []dht.Coordinate{{Height: 1e9}}, time.Second}}},
		"many rules":     {Groups: []Group{good}, Near: make([]NearRule, maxRules+1)},
	} {
		if _, err := New(schema, spec); !errors.Is(err, search.ErrBadQuery) {
			t.Errorf("%s: %v, want ErrBadQuery", name, err)
		}
	}
}
