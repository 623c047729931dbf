package placement

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
)

var (
	schema  = search.DefaultSchema()
	testNow = time.Unix(1_800_000_000, 0)
)

// randomAds returns n ads, some of which lack what a placement counts.
func randomAds(rng *rand.Rand, n int) (ads []*search.Signed) {
	for range n {
		size := math.Pow(2, float64(rng.IntN(8)))
		at := dht.Coordinate{Height: rng.Float64() * 0.01}
		for i := range at.Vec {
			at.Vec[i] = rng.NormFloat64() * 0.04
		}
		all := map[string]search.Value{
			"total_cpu":  search.Number(size),
			"free_cpu":   search.Number(float64(rng.IntN(int(size)*4+1)) / 4),
			"price_hour": search.Number(math.Floor(size*(1+rng.Float64())*1e7) / 1e9),
			"arch":       search.Text([]string{"amd64", "amd64", "amd64", "arm64", "riscv64"}[rng.IntN(5)]),
			"country":    search.Text([]string{"DE", "FR", "US", "JP", "AU"}[rng.IntN(5)]),
			"coordinate": search.CoordinateAt(at),
			"reputation": search.Number(rng.Float64()),
		}
		for _, name := range []string{"price_hour", "reputation", "coordinate", "country"} {
			if rng.IntN(25) == 0 {
				delete(all, name)
			}
		}
		ad := &search.Ad{Network: "test", Seq: 1, Issued: testNow.Unix(), Expires: testNow.Add(time.Hour).Unix(), Attributes: search.AttributesOf(all)}
		for i := range ad.Server {
			ad.Server[i] = byte(rng.Uint32())
		}
		ads = append(ads, schema.Assume(ad, fmt.Sprint("owner-", rng.IntN(20))))
	}
	return ads
}

// revised returns a newer ad of the same server, in which one value may be
// another.
func revised(old *search.Signed, name string, v search.Value) *search.Signed {
	ad := *old.Ad
	ad.Seq++
	owner, _ := ad.Attributes.Get(search.DimOwner).Text()
	if name != "" {
		ad.Attributes = ad.Attributes.With(name, v)
	}
	return schema.Assume(&ad, owner)
}

// arrange runs a Placer to its end over ads at hand. current answers what is
// to be verified; nil confirms everything.
func arrange(t testing.TB, spec Spec, ads []*search.Signed, current func(*search.Signed) *search.Signed) Arrangement {
	t.Helper()
	p, err := New(schema, spec)
	if err != nil {
		t.Fatal(err)
	}
	byID := make(map[dht.PeerID]*search.Signed)
	for _, ad := range ads {
		byID[ad.Ad.Server] = ad
	}
	inputs := []Input{Start{}}
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
func broken(spec Spec, groups []int, picks []*search.Signed) (rule string, cost float64) {
	price := 0.0
	for i, ad := range picks {
		g := spec.Groups[groups[i]]
		if !schema.Matches(spec.query(schema, g).Where, ad.Ad) {
			return "query", 0
		}
		price += priceOf(ad)
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
			at, _ := ad.Ad.Attributes.Get(search.DimCoordinate).Coordinate()
			for _, to := range r.To {
				if covers(r.Groups, g.Name) && spec.goal() == GoalLatency {
					cost = max(cost, search.PredictRTT(at, to).Seconds())
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
func force(spec Spec, ads []*search.Signed) float64 {
	var groups []int
	for g, group := range spec.Groups {
		for range group.Count {
			groups = append(groups, g)
		}
	}
	best := math.Inf(1)
	picks := make([]*search.Signed, 0, len(groups))
	var descend func()
	descend = func() {
		if rule, cost := broken(spec, groups[:len(picks)], picks); rule != "" && rule != "price" {
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
func randomSpec(rng *rand.Rand, machines int) Spec {
	spec := Spec{Effort: 1, Minimise: []Goal{"", GoalPrice, GoalLatency}[rng.IntN(3)]}
	names := []string{"web", "db", "cache"}
	for left := machines; left > 0; {
		n := 1 + rng.IntN(left)
		if len(spec.Groups) == 2 {
			n = left
		}
		g := Group{Name: names[len(spec.Groups)], Count: n}
		if rng.IntN(2) == 0 {
			g.Query.Where = search.Compare{Dim: "free_cpu", Op: search.OpGreaterEqual, Value: search.Number(float64(rng.IntN(8)))}
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

// checkArrangement holds an arrangement against the specification.
func checkArrangement(t testing.TB, spec Spec, a Arrangement) {
	t.Helper()
	var groups []int
	for g, group := range spec.Groups {
		for range group.Count {
			groups = append(groups, g)
		}
	}
	if len(a.Machines) != len(groups) {
		t.Fatalf("%d machines, want %d", len(a.Machines), len(groups))
	}
	var picks []*search.Signed
	for i, m := range a.Machines {
		if m.Group != spec.Groups[groups[i]].Name {
			t.Fatalf("machine %d is in group %s", i, m.Group)
		}
		picks = append(picks, m.Signed)
	}
	rule, cost := broken(spec, groups, picks)
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
