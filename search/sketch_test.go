package search

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// population makes ads of n servers, bare but for two numbers.
func population(rng *rand.Rand, n int) []*Signed {
	ads := make([]*Signed, n)
	for i := range ads {
		ad := &Ad{Server: randomID(rng), Seq: 1, Attributes: AttributesOf(map[string]Value{
			"free_cpu": Number(float64(rng.IntN(64))), "reputation": Number(rng.Float64()),
		})}
		ads[i] = &Signed{Ad: ad, hash: HashOf(ad.Server)}
	}
	return ads
}

func where(ads []*Signed, keep func(*Signed) bool) (out []*Signed) {
	for _, ad := range ads {
		if keep(ad) {
			out = append(out, ad)
		}
	}
	return out
}

func number(ad *Signed, dim string) float64 {
	v, _ := ad.Ad.Attribute(dim)
	f, _ := v.Number()
	return f
}

// sameSketch tells whether two sketches say the same.
func sameSketch(a, b Sketch) bool {
	return a.partial == b.partial && a.bound == b.bound && slices.Equal(a.ads, b.ads)
}

// TestSketchBounds makes 1,000 random expressions over samples of 64 members
// and counts how often the bounds hold the truth.
func TestSketchBounds(t *testing.T) {
	schema := DefaultSchema()
	for _, seed := range []uint64{1, 2, 3} {
		rng := rand.New(rand.NewPCG(seed, 7))
		held, error2, cases := 0, 0.0, 0
		for range 1000 {
			ads := population(rng, 65+int(math.Exp(rng.Float64()*3)*60))
			cut, least := float64(rng.IntN(64)), rng.Float64()
			a := where(ads, func(ad *Signed) bool { return number(ad, "free_cpu") < cut })
			b := where(ads, func(ad *Signed) bool { return number(ad, "reputation") >= least })
			rest := where(ads, func(ad *Signed) bool { return number(ad, "free_cpu") >= cut })
			sketch := func(ads []*Signed) Sketch { return NewSketch(ads, 64) }
			var k Sketch
			var truth int
			switch rng.IntN(5) {
			case 0: // two ranges of one dimension, disjoint
				k, truth = sketch(a).Union(sketch(rest)), len(ads)
			case 1: // overlapping
				k = sketch(a).Union(sketch(b))
				truth = len(where(ads, func(ad *Signed) bool { return number(ad, "free_cpu") < cut || number(ad, "reputation") >= least }))
			case 2: // two dimensions
				k = sketch(a).Intersect(sketch(b))
				truth = len(where(a, func(ad *Signed) bool { return number(ad, "reputation") >= least }))
			case 3: // a condition on a whole range
				k = sketch(ads).Filter(schema, Compare{"free_cpu", OpLess, Number(cut)})
				truth = len(a)
			default: // as an inner cell keeps its sample
				all := NewSketch(ads, len(ads)).Ads()
				k, truth = SampleOf(all[:64]), len(ads)
			}
			count, low, high := k.Estimate()
			if low < 0 || low > count || count > high {
				t.Fatalf("%g is not between %g and %g", count, low, high)
			}
			if low <= float64(truth) && float64(truth) <= high {
				held++
			}
			if truth > 64 {
				e := (count - float64(truth)) / float64(truth)
				error2 += e * e
				cases++
			}
		}
		t.Logf("seed %d: bounds hold in %d of 1000, relative error %.3f", seed, held, math.Sqrt(error2/float64(cases)))
		if held < 930 {
			t.Errorf("seed %d: the bounds hold in %d of 1000 cases, want 930", seed, held)
		}
	}
}

// TestSketchUnbiased averages the estimates of many populations.
func TestSketchUnbiased(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 7))
	sum := 0.0
	const truth, rounds = 700, 2000
	for range rounds {
		count, _, _ := NewSketch(population(rng, truth), 32).Estimate()
		sum += count
	}
	// The standard error of the mean is 1/sqrt(30 · 2000) of the truth.
	if mean := sum / rounds; math.Abs(mean-truth) > 3*truth/math.Sqrt(30*rounds) {
		t.Errorf("mean %g, want %d", mean, truth)
	}
}

func TestSketchExact(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 7))
	for _, n := range []int{0, 1, 64} {
		k := NewSketch(population(rng, n), 64)
		count, low, high := k.Estimate()
		if !k.Exact() || count != float64(n) || low != count || high != count {
			t.Errorf("%d members: %g, %g to %g, exact %v", n, count, low, high, k.Exact())
		}
	}
	if count, low, high := SampleOf(nil).Estimate(); count != 0 || low != 0 || !math.IsInf(high, 1) {
		t.Errorf("of nothing: %g, %g to %g", count, low, high)
	}
	none := NewSketch(population(rng, 100), 64).Filter(DefaultSchema(), Or{})
	if count, low, high := none.Estimate(); count != 0 || low != 0 || high < 1 || high > 20 || none.Exact() {
		t.Errorf("none of 64 of 100: %g, %g to %g", count, low, high)
	}
	ads := population(rng, 2)
	old, fresh := ads[0], renewed(ads[0], testNow)
	for _, k := range []Sketch{
		NewSketch([]*Signed{old, fresh}, 9), NewSketch([]*Signed{old}, 9).Union(NewSketch([]*Signed{fresh}, 9)),
		NewSketch([]*Signed{fresh}, 9).Intersect(NewSketch([]*Signed{old}, 9)),
	} {
		if got := k.Ads(); len(got) != 1 || got[0] != fresh {
			t.Errorf("of two ads of a server not the newer alone: %v", got)
		}
	}
}

// TestSketchLaws checks the algebra against sets: a sketch is its members below
// a threshold, so the operations are those of sets below the lower threshold.
func TestSketchLaws(t *testing.T) {
	pool := population(rand.New(rand.NewPCG(6, 7)), 60)
	draw := func(t *rapid.T, name string) Sketch {
		mask, most := rapid.Uint64().Draw(t, name), rapid.IntRange(0, 60).Draw(t, name+" most")
		var ads []*Signed
		for i, ad := range pool {
			if mask>>i&1 == 1 {
				ads = append(ads, ad)
			}
		}
		if len(ads) > 0 && rapid.Bool().Draw(t, name+" sample") {
			return SampleOf(NewSketch(ads, 60).Ads()[:max(1, min(most, len(ads)))])
		}
		return NewSketch(ads, most)
	}
	schema := DefaultSchema()
	half := Compare{"free_cpu", OpLess, Number(32)}
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := draw(t, "a"), draw(t, "b"), draw(t, "c")
		for name, pair := range map[string][2]Sketch{
			"union commutes":             {a.Union(b), b.Union(a)},
			"intersection commutes":      {a.Intersect(b), b.Intersect(a)},
			"union is idempotent":        {a.Union(a), a},
			"intersection is idempotent": {a.Intersect(a), a},
			"union associates":           {a.Union(b).Union(c), a.Union(b.Union(c))},
			"intersection associates":    {a.Intersect(b).Intersect(c), a.Intersect(b.Intersect(c))},
			"intersection distributes":   {a.Intersect(b.Union(c)), a.Intersect(b).Union(a.Intersect(c))},
			"union distributes":          {a.Union(b.Intersect(c)), a.Union(b).Intersect(a.Union(c))},
			"a filter meets a union":     {a.Union(b).Filter(schema, half), a.Filter(schema, half).Union(b.Filter(schema, half))},
			"the empty set is neutral":   {a.Union(Sketch{}), a},
		} {
			if !sameSketch(pair[0], pair[1]) {
				t.Fatalf("%s: %s and %s", name, describe(pair[0]), describe(pair[1]))
			}
		}
		for _, k := range []Sketch{a, a.Union(b), a.Intersect(b), a.Trim(3)} {
			count, low, high := k.Estimate()
			if !(0 <= low && low <= count && count <= high) || float64(len(k.Ads())) > high {
				t.Fatalf("%s: %g, %g to %g", describe(k), count, low, high)
			}
		}
	})
}

func describe(k Sketch) string {
	return fmt.Sprintf("%d below %s (%v)", len(k.ads), k.bound, k.partial)
}
