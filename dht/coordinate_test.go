package dht

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/serf/coordinate"
)

// matrix is a network of n hosts in a plane of 150 ms, with access links and
// triangle inequality violations, as real networks have.
func matrix(rng *rand.Rand, n int) [][]time.Duration {
	type host struct{ x, y, link float64 }
	hosts := make([]host, n)
	for i := range hosts {
		hosts[i] = host{rng.Float64() * 0.15, rng.Float64() * 0.15, rng.ExpFloat64() * 0.005}
	}
	rtt := make([][]time.Duration, n)
	for i := range rtt {
		rtt[i] = make([]time.Duration, n)
		for j := range i {
			a, b := hosts[i], hosts[j]
			s := (math.Hypot(a.x-b.x, a.y-b.y) + a.link + b.link) * (1 + 0.2*rng.Float64())
			rtt[i][j] = time.Duration(s * float64(time.Second))
			rtt[j][i] = rtt[i][j]
		}
	}
	return rtt
}

// relativeErrors returns median and 95th percentile of the relative error of
// all predictions.
func relativeErrors(rtt [][]time.Duration, predict func(i, j int) time.Duration) (p50, p95 float64) {
	var errs []float64
	for i := range rtt {
		for j := range i {
			errs = append(errs, math.Abs(float64(predict(i, j)-rtt[i][j]))/float64(rtt[i][j]))
		}
	}
	slices.Sort(errs)
	return errs[len(errs)/2], errs[len(errs)*95/100]
}

// TestVivaldiAgainstSerf trains both on the same observations, each twice
// as noisy as a good link, and compares their predictions.
func TestVivaldiAgainstSerf(t *testing.T) {
	const n, rounds = 60, 400
	rng := rand.New(rand.NewPCG(11, 12))
	rtt := matrix(rng, n)
	ours := make([]*Vivaldi, n)
	serfs := make([]*coordinate.Client, n)
	for i := range n {
		ours[i] = NewVivaldi(rand.New(rand.NewPCG(uint64(i), 1)))
		var err error
		if serfs[i], err = coordinate.NewClient(coordinate.DefaultConfig()); err != nil {
			t.Fatal(err)
		}
	}
	for range rounds {
		for i := range n {
			j := rng.IntN(n)
			if i == j {
				continue
			}
			seen := time.Duration(float64(rtt[i][j]) * (1 + 0.1*rng.ExpFloat64()))
			if err := ours[i].Observe(testID(j), ours[j].Coordinate(), seen); err != nil {
				t.Fatal(err)
			}
			if _, err := serfs[i].Update(testID(j).String(), serfs[j].GetCoordinate(), seen); err != nil {
				t.Fatal(err)
			}
		}
	}
	p50, p95 := relativeErrors(rtt, func(i, j int) time.Duration { return ours[i].Coordinate().DistanceTo(ours[j].Coordinate()) })
	want50, want95 := relativeErrors(rtt, func(i, j int) time.Duration { return serfs[i].DistanceTo(serfs[j].GetCoordinate()) })
	t.Logf("relative error p50 %.3f (serf %.3f), p95 %.3f (serf %.3f)", p50, want50, p95, want95)
	if p50 > 1.1*want50 || p95 > 1.2*want95 {
		t.Errorf("predictions are worse than serf's")
	}
	if p50 > 0.15 {
		t.Errorf("median relative error %.3f, limit 0.15", p50)
	}
}

// TestVivaldiEqualsSerf: after the first step, which is random, both move
// exactly alike.
func TestVivaldiEqualsSerf(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	v := NewVivaldi(rng)
	cfg := coordinate.DefaultConfig()
	cfg.AdjustmentWindowSize = 0 // ours leaves adjustments out of the spring
	client, err := coordinate.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for step := range 1000 {
		other := Coordinate{Error: rng.Float64(), Height: 0.01*rng.Float64() + heightMin}
		for i := range other.Vec {
			other.Vec[i] = 0.2 * (rng.Float64() - 0.5)
		}
		seen := time.Duration(rng.Float64() * float64(300*time.Millisecond))
		id := testID(step % 17)
		if err := v.Observe(id, other, seen); err != nil {
			t.Fatal(err)
		}
		theirs := &coordinate.Coordinate{Vec: slices.Clone(other.Vec[:]), Error: other.Error, Adjustment: other.Adjustment, Height: other.Height}
		got, err := client.Update(id.String(), theirs, seen)
		if err != nil {
			t.Fatal(err)
		}
		near := func(a, b float64) bool { return math.Abs(a-b) < 1e-5 } // serf rounds to nanoseconds, and errors add up
		at := v.Coordinate()
		for i := range at.Vec {
			if !near(at.Vec[i], got.Vec[i]) {
				t.Fatalf("step %d: dimension %d: %v, serf %v", step, i, at.Vec[i], got.Vec[i])
			}
		}
		if !near(at.Error, got.Error) || !near(at.Height, got.Height) {
			t.Fatalf("step %d: %+v, serf %+v", step, at, got)
		}
	}
}

// TestVivaldiReproducible: same seed, same bits.
func TestVivaldiReproducible(t *testing.T) {
	run := func() Coordinate {
		v := NewVivaldi(rand.New(rand.NewPCG(1, 1)))
		for i := range 100 {
			if err := v.Observe(testID(i%5), NewCoordinate(), time.Duration(i)*time.Millisecond); err != nil {
				t.Fatal(err)
			}
		}
		return v.Coordinate()
	}
	if a, b := run(), run(); a != b {
		t.Errorf("%+v and %+v", a, b)
	}
}

func TestCoordinateRejects(t *testing.T) {
	good := NewCoordinate()
	for _, tc := range []struct {
		name string
		at   func(*Coordinate)
		rtt  time.Duration
	}{
		{"not a number", func(c *Coordinate) { c.Vec[3] = math.NaN() }, time.Millisecond},
		{"infinite", func(c *Coordinate) { c.Vec[0] = math.Inf(-1) }, time.Millisecond},
		{"far out", func(c *Coordinate) { c.Vec[7] = 11 }, time.Millisecond},
		{"error not a number", func(c *Coordinate) { c.Error = math.NaN() }, time.Millisecond},
		{"error negative", func(c *Coordinate) { c.Error = -1 }, time.Millisecond},
		{"error too great", func(c *Coordinate) { c.Error = 2 }, time.Millisecond},
		{"adjustment", func(c *Coordinate) { c.Adjustment = math.Inf(1) }, time.Millisecond},
		{"height zero", func(c *Coordinate) { c.Height = 0 }, time.Millisecond},
		{"height not a number", func(c *Coordinate) { c.Height = math.NaN() }, time.Millisecond},
		{"negative round trip", func(*Coordinate) {}, -1},
		{"endless round trip", func(*Coordinate) {}, time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := NewVivaldi(rand.New(rand.NewPCG(1, 1)))
			other := good
			tc.at(&other)
			if err := v.Observe(testID(1), other, tc.rtt); !errors.Is(err, ErrBadCoordinate) {
				t.Errorf("error %v", err)
			}
			if v.Coordinate() != NewCoordinate() || len(v.recent) != 0 {
				t.Error("a rejected observation changed something")
			}
		})
	}
}

// TestVivaldiLiar bounds what one absurd claim moves, and what a thousand
// peers leave behind.
func TestVivaldiLiar(t *testing.T) {
	v := NewVivaldi(rand.New(rand.NewPCG(1, 1)))
	liar := Coordinate{Height: 10}
	liar.Vec[0] = 10
	for i := range 3 * maxMedianPeers {
		before := v.Coordinate()
		if err := v.Observe(testID(i), liar, 0); err != nil {
			t.Fatal(err)
		}
		after := v.Coordinate()
		var moved float64
		for d := range after.Vec {
			moved += (after.Vec[d] - before.Vec[d]) * (after.Vec[d] - before.Vec[d])
		}
		if math.Sqrt(moved) > 2*maxForce && after != NewCoordinate() {
			t.Fatalf("moved by %v s", math.Sqrt(moved))
		}
		if err := after.Check(); err != nil {
			t.Fatal(err)
		}
	}
	if len(v.recent) != maxMedianPeers || len(v.order) != maxMedianPeers {
		t.Errorf("remembers %d peers, limit %d", len(v.recent), maxMedianPeers)
	}
	v.Forget(v.order[0])
	if len(v.recent) != maxMedianPeers-1 || len(v.order) != maxMedianPeers-1 {
		t.Error("does not forget")
	}
}

func FuzzCoordinate(f *testing.F) {
	f.Add(0.1, 0.2, 0.0, 0.01, int64(1e6))
	f.Add(math.NaN(), 1.5, math.Inf(1), -1.0, int64(-1))
	f.Fuzz(func(t *testing.T, x, e, a, h float64, rtt int64) {
		v := NewVivaldi(rand.New(rand.NewPCG(1, 1)))
		other := Coordinate{Vec: [CoordinateDims]float64{x, -x}, Error: e, Adjustment: a, Height: h}
		_ = v.Observe(testID(1), other, time.Duration(rtt))
		_ = v.Observe(testID(2), other, time.Duration(rtt)/2)
		if err := v.Coordinate().Check(); err != nil {
			t.Fatal(err)
		}
		if d := v.Coordinate().DistanceTo(v.Coordinate()); d < 0 {
			t.Fatalf("distance %v", d)
		}
	})
}
