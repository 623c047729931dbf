package latency

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// pairs returns sorted round trip times in milliseconds between random nodes.
func pairs(c *Cities, n int) []float64 {
	rng, chooser, access := newRand(5), NewChooser(c), Access{}
	ms := make([]float64, n)
	for i := range ms {
		rtt := access.Draw(rng) + c.RTT(chooser.Site(rng), chooser.Site(rng)) + access.Draw(rng)
		ms[i] = rtt.Seconds() * 1000
	}
	slices.Sort(ms)
	return ms
}

func percentile(sorted []float64, p float64) float64 { return sorted[int(p*float64(len(sorted)-1))] }

func TestCitiesPercentiles(t *testing.T) {
	for seed := range uint64(3) {
		ms := pairs(NewCities(seed), 100_000)
		t.Logf("seed %d: p1 %.0f p10 %.0f p50 %.0f p90 %.0f p99 %.0f ms", seed, percentile(ms, 0.01), percentile(ms, 0.1),
			percentile(ms, 0.5), percentile(ms, 0.9), percentile(ms, 0.99))
		for _, want := range []struct{ p, ms float64 }{{0.5, 140}, {0.9, 290}, {0.99, 420}} {
			if got := percentile(ms, want.p); math.Abs(got-want.ms) > want.ms*0.06 {
				t.Errorf("seed %d: p%g is %.0f ms, want %.0f", seed, want.p*100, got, want.ms)
			}
		}
	}
}

// TestEmbedCities holds the error near what the detours of pairs leave: no
// coordinate can express those.
func TestEmbedCities(t *testing.T) {
	for seed := range uint64(3) {
		got := embedError(NewCities(seed))
		t.Logf("seed %d: median relative error %.3f", seed, got)
		if got > 0.2 {
			t.Errorf("seed %d: median relative error %.3f", seed, got)
		}
	}
}

// embedError is the median relative error of the predicted round trip times.
func embedError(l Sites) float64 {
	at := Embed(l, 0, newRand(3))
	var wrong []float64
	for a := range at {
		for b := range a {
			rtt := l.RTT(a, b)
			wrong = append(wrong, math.Abs(float64(at[a].DistanceTo(at[b])-rtt))/float64(rtt))
		}
	}
	slices.Sort(wrong)
	return wrong[len(wrong)/2]
}

func TestEmbedDeterministic(t *testing.T) {
	c := NewCities(1)
	if a, b := Embed(c, 20, newRand(3)), Embed(c, 20, newRand(3)); !slices.Equal(a, b) {
		t.Error("two embeddings from one seed differ")
	}
	for i, at := range Embed(c, 5, newRand(4)) {
		if err := at.Check(); err != nil {
			t.Errorf("site %d: %v", i, err)
		}
	}
}

func TestEmbedFewSites(t *testing.T) {
	m, err := ReadMatrix(strings.NewReader("0\n"), "one")
	if err != nil {
		t.Fatal(err)
	}
	if got := Embed(m, 3, newRand(1)); len(got) != 1 || got[0].Check() != nil {
		t.Errorf("one site: %v", got)
	}
	m, err = ReadMatrix(strings.NewReader("0 40\n40 0\n"), "two")
	if err != nil {
		t.Fatal(err)
	}
	at := Embed(m, 0, newRand(1))
	if got := at[0].DistanceTo(at[1]); got < 25*time.Millisecond || got > 55*time.Millisecond {
		t.Errorf("two sites 40 ms apart predict %v", got)
	}
}

func TestAt(t *testing.T) {
	c := Embed(NewCities(1), 20, newRand(1))
	near, far := c[0].DistanceTo(c[1]), At(c[0], 5*time.Millisecond).DistanceTo(At(c[1], 7*time.Millisecond))
	if got := far - near - 12*time.Millisecond; got.Abs() > time.Microsecond {
		t.Errorf("access links of 12 ms added %v", far-near)
	}
}

func TestCities(t *testing.T) {
	c, again, other := NewCities(7), NewCities(7), NewCities(8)
	same := 0
	names := make(map[string]bool)
	for a := range c.Sites() {
		lat, lon, country, name, ok := c.Place(a)
		if !ok || math.Abs(lat) > 90 || math.Abs(lon) > 180 || len(country) != 2 || names[name] || c.Weight(a) <= 0 {
			t.Errorf("site %d: %v %v %q %q %v", a, lat, lon, country, name, ok)
		}
		names[name] = true
		if got := c.RTT(a, a); got != Within {
			t.Errorf("within %s: %v", name, got)
		}
		for b := range a {
			if c.RTT(a, b) != again.RTT(a, b) || c.RTT(a, b) != c.RTT(b, a) || c.RTT(a, b) <= Within {
				t.Fatalf("%d to %d: %v, %v, %v", a, b, c.RTT(a, b), c.RTT(b, a), again.RTT(a, b))
			}
			if c.RTT(a, b) == other.RTT(a, b) {
				same++
			}
		}
	}
	if same > 10 {
		t.Errorf("%d pairs are the same under another seed", same)
	}
}

func TestAccess(t *testing.T) {
	rng := newRand(2)
	ms := make([]float64, 20_000)
	for i := range ms {
		ms[i] = Access{}.Draw(rng).Seconds() * 1000
	}
	slices.Sort(ms)
	if p50, p99 := percentile(ms, 0.5), percentile(ms, 0.99); math.Abs(p50-3) > 0.15 || math.Abs(p99-19.3) > 2 {
		t.Errorf("median %.2f, p99 %.2f ms", p50, p99)
	}
	if got := (Access{Median: time.Hour}).Draw(rng); got != maxAccess {
		t.Errorf("a link of an hour: %v", got)
	}
}

func TestChooser(t *testing.T) {
	c, rng := NewCities(1), newRand(2)
	chooser, counts, sum := NewChooser(c), make([]float64, c.Sites()), 0.0
	for i := range c.Sites() {
		sum += c.Weight(i)
	}
	const draws = 200_000
	for range draws {
		counts[chooser.Site(rng)]++
	}
	for i, got := range counts {
		want := c.Weight(i) / sum * draws
		if math.Abs(got-want) > 5*math.Sqrt(want)+1 {
			t.Errorf("site %d drawn %.0f times, want %.0f", i, got, want)
		}
	}
}
