package search

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/xenoserver/xeno/dht"
)

// twoSchema has two dimensions with coordinates.
var twoSchema = func() *Schema {
	s, err := NewSchema([]Dimension{
		{Name: DimServer, Kind: KindText, Tree: true},
		{Name: "inner", Kind: KindCoordinate},
		{Name: "outer", Kind: KindCoordinate, Tree: true},
	})
	if err != nil {
		panic(err)
	}
	return s
}()

// clusters draws coordinates in clusters, some of them as far out as they may be.
type clusters struct{ centers []dht.Coordinate }

func drawClusters(t *rapid.T) (c clusters) {
	for range rapid.IntRange(1, 12).Draw(t, "clusters") {
		most := rapid.SampledFrom([]float64{0.02, 0.1, 0.3, 30}).Draw(t, "most")
		var at dht.Coordinate
		for axis := range at.Vec {
			at.Vec[axis] = rapid.Float64Range(-most, most).Draw(t, "center")
		}
		c.centers = append(c.centers, at)
	}
	return c
}

func (c clusters) draw(t *rapid.T) dht.Coordinate {
	at := rapid.SampledFrom(c.centers).Draw(t, "cluster")
	// Borders of bands are where rounding goes wrong.
	off := rapid.SampledFrom([]float64{0, 0.0025, 0.004, 0.02}).Draw(t, "spread")
	for axis := range at.Vec {
		at.Vec[axis] = max(-30, min(30, at.Vec[axis]+off*rapid.Float64Range(-1, 1).Draw(t, "off")))
		if rapid.IntRange(0, 3).Draw(t, "border") == 0 {
			at.Vec[axis] = 0.0025 * math.Round(at.Vec[axis]/0.0025)
		}
	}
	at.Height = rapid.Float64Range(0, 0.03).Draw(t, "height")
	return at
}

// drawAds draws ads of which a few lack a coordinate.
func (c clusters) drawAds(t *rapid.T) (ads []*Signed) {
	for range rapid.IntRange(1, 40).Draw(t, "ads") {
		values := make(map[string]Value)
		for _, dim := range []string{"inner", "outer"} {
			if rapid.IntRange(0, 9).Draw(t, "has") > 0 {
				values[dim] = CoordinateAt(c.draw(t))
			}
		}
		ads = append(ads, &Signed{Ad: &Ad{Attributes: AttributesOf(values)}})
	}
	return ads
}

// drawUnion draws a summary of ads: of each of some parts, united in any order.
func drawUnion(t *rapid.T, s *Schema, ads []*Signed) Summary {
	parts := make([]Summary, rapid.IntRange(1, 5).Draw(t, "parts"))
	for i := range parts {
		parts[i] = s.NewSummary()
	}
	for _, ad := range rapid.Permutation(ads).Draw(t, "ads in order") {
		s.add(&parts[rapid.IntRange(0, len(parts)-1).Draw(t, "part")], ad.Ad)
	}
	m := s.NewSummary()
	for _, i := range rapid.Permutation(indices(len(parts))).Draw(t, "parts in order") {
		if rapid.IntRange(0, 15).Draw(t, "old") == 0 {
			parts[i].Balls = nil // of who tells none
		}
		before := slices.Clone(parts[i].Balls)
		m.unite(parts[i])
		m.Count += parts[i].Count
		if !m.Covers(parts[i]) {
			t.Fatalf("the union does not cover its part: %v, %v", m.Balls, parts[i].Balls)
		}
		if !slices.Equal(parts[i].Balls, before) {
			t.Fatal("a union changed its part")
		}
	}
	return m
}

func indices(n int) (list []int) {
	for i := range n {
		list = append(list, i)
	}
	return list
}

// TestBalls checks that no ad that matches is ruled out, or ranks better than the
// bound.
func TestBalls(t *testing.T) {
	s := twoSchema
	rapid.Check(t, func(t *rapid.T) {
		c := drawClusters(t)
		ads := c.drawAds(t)
		m := drawUnion(t, s, ads)
		if err := s.CheckSummary(m); err != nil {
			t.Fatal(err)
		}
		for _, ad := range ads {
			if !m.Covers(s.SummaryOf(ad)) {
				t.Fatalf("%v does not cover %v", m.Balls, s.SummaryOf(ad).Balls)
			}
		}
		rtt := func(dim string) RTT {
			p := RTT{Dim: dim}
			for range rapid.IntRange(1, 4).Draw(t, "hosts") {
				p.To = append(p.To, c.draw(t))
			}
			// One of the ads is just near enough.
			at, ok := rapid.SampledFrom(ads).Draw(t, "nearest").Ad.Attribute(dim)
			if !ok {
				return p
			}
			for _, to := range p.To {
				p.Most = max(p.Most, PredictRTT(*at.coord(), to))
			}
			return p
		}
		first, second := rtt("outer"), rtt("inner")
		for _, p := range []Predicate{
			first, And{first, second}, Or{first, second}, Not{first}, Not{Or{first, Not{second}}}, Or{And{first, Not{second}}, rtt("outer")},
		} {
			origin := first.To[0]
			q := Query{Where: p, OrderBy: "outer", Origin: &origin, Limit: 1}
			bound := s.order(&q).bound(m)
			for _, ad := range ads {
				if !s.Matches(p, ad.Ad) {
					continue
				}
				if !s.CanMatch(p, m) {
					t.Fatalf("%v matches %s, and is ruled out by %v", ad.Ad.Attributes, p, m.Balls)
				}
				if rank := s.order(&q).standing(ad).rank; bound > rank {
					t.Fatalf("%v ranks at %g among matches of %s, and is bounded by %g", ad.Ad.Attributes, rank, p, bound)
				}
			}
		}
	})
}

// TestCovers checks that what is covered can hold nothing that the other cannot.
func TestCovers(t *testing.T) {
	s := twoSchema
	rapid.Check(t, func(t *rapid.T) {
		c := drawClusters(t)
		ads := c.drawAds(t)
		m, n := drawUnion(t, s, ads), drawUnion(t, s, ads[:rapid.IntRange(0, len(ads)).Draw(t, "some")])
		if rapid.Bool().Draw(t, "in use") {
			for i := range m.Occupancy {
				m.Occupancy[i] = ^uint64(0)
			}
		}
		if !m.Covers(n) {
			return // though it may hold the same ads
		}
		for dim := uint8(1); dim <= 2; dim++ {
			if n.vague(dim) && !m.vague(dim) {
				t.Fatal("a summary that says where coordinates are covers one that does not")
			}
			for _, b := range n.Balls {
				// A point on the rim of the ball, along one axis.
				var x [dht.CoordinateDims]float64
				for axis := range x {
					x[axis] = float64(b.Center[axis]) * ballUnit
				}
				x[rapid.IntRange(0, len(x)-1).Draw(t, "axis")] += float64(b.Radius) * ballUnit
				inside := func(c Ball) bool { return c.Dim == b.Dim && c.gap(&x) < 1e-9 }
				if b.Dim == dim && !m.vague(dim) && !slices.ContainsFunc(m.Balls, inside) {
					t.Fatalf("%v is in %v, but in none of what covers it, %v", x, b, m.Balls)
				}
			}
		}
		at := c.draw(t)
		p := RTT{"outer", []dht.Coordinate{at, c.draw(t)}[:rapid.IntRange(1, 2).Draw(t, "hosts")], 30 * time.Millisecond}
		if m.Count = max(m.Count, n.Count); s.CanMatch(p, n) && !s.CanMatch(p, m) {
			t.Fatalf("%s can match in %v, but not in what covers it, %v", p, n.Balls, m.Balls)
		}
	})
}

// TestBallsRuleOut has ads in two corners of a cube of three axes: its others are
// empty, though each axis is in use on both sides.
func TestBallsRuleOut(t *testing.T) {
	s := twoSchema
	corner := func(x, y, z float64) (c dht.Coordinate) {
		copy(c.Vec[:], []float64{x, y, z})
		return c
	}
	origin := corner(0.05, -0.05, 0.05)
	m := s.NewSummary()
	for _, at := range []dht.Coordinate{corner(0.05, 0.05, 0.05), corner(-0.05, -0.05, -0.05)} {
		// That the other dimension has one there says nothing.
		s.add(&m, &Ad{Attributes: AttributesOf(map[string]Value{"outer": CoordinateAt(at), "inner": CoordinateAt(origin)})})
	}
	for _, c := range []struct {
		at   dht.Coordinate
		want bool
	}{
		{corner(0.05, 0.05, 0.05), true},
		{origin, false},
	} {
		near := RTT{"outer", []dht.Coordinate{c.at}, 20 * time.Millisecond}
		for p, want := range map[string]struct {
			p    Predicate
			want bool
		}{
			"alone":  {near, c.want},
			"in and": {And{near, Has{"outer"}}, c.want},
			"in or":  {Or{near, And{near, near}}, c.want},
			"denied": {Not{near}, true},
		} {
			if got := s.CanMatch(want.p, m); got != want.want {
				t.Errorf("%s, %v: can match %v, want %v", p, c.at.Vec, got, want.want)
			}
		}
	}
	o := s.order(&Query{OrderBy: "outer", Origin: &origin, Limit: 1})
	if got := o.bound(m); got < 0.09 || got > 0.1 {
		t.Errorf("the nearest is bounded by %g s, want a little less than 0.1", got)
	}
	// Near to both, each of the two is further from one of them.
	both := RTT{"outer", []dht.Coordinate{corner(0.05, 0.05, 0.03), corner(0.03, 0.05, 0.05)}, 21 * time.Millisecond}
	if !s.CanMatch(both, m) {
		t.Error("what is near to both hosts is left out")
	}
	far := Ball{Dim: 2, Radius: math.MaxUint16}
	var most dht.Coordinate
	for axis := range far.Center {
		far.Center[axis], most.Vec[axis] = math.MinInt16, 30
	}
	m = s.SummaryOf(&Signed{Ad: &Ad{Attributes: AttributesOf(map[string]Value{"outer": CoordinateAt(most)})}})
	m.Balls = []Ball{far}
	if !s.CanMatch(RTT{"outer", []dht.Coordinate{most}, time.Millisecond}, m) {
		t.Error("a ball without end does not reach everything")
	}
}

// TestVague unites with summaries that do not say in which balls coordinates are.
func TestVague(t *testing.T) {
	s := twoSchema
	var near, far dht.Coordinate
	far.Vec[0] = 0.07
	of := func(values map[string]Value) Summary {
		return s.SummaryOf(&Signed{Ad: &Ad{Attributes: AttributesOf(values)}})
	}
	told, none := of(map[string]Value{"outer": CoordinateAt(near)}), of(nil)
	both := of(map[string]Value{"outer": CoordinateAt(near), "inner": CoordinateAt(far)})
	vague := of(map[string]Value{"outer": CoordinateAt(far)})
	vague.Balls = nil
	for _, c := range []struct {
		name string
		m, n Summary
		want int // balls
	}{
		{"with nothing", told, none, 1},
		{"nothing with something", none, told, 1},
		{"with the vague", told, vague, 0},
		{"the vague with others", vague, told, 0},
		{"the vague with nothing", vague, none, 0},
		{"one of two dimensions with the vague", both, vague, 1},
		{"the vague with one of two dimensions", vague, both, 1},
	} {
		m := s.NewSummary()
		m.unite(c.m)
		m.unite(c.n)
		if len(m.Balls) != c.want {
			t.Errorf("%s: balls %v, want %d", c.name, m.Balls, c.want)
		}
		if !m.Covers(c.m) || !m.Covers(c.n) {
			t.Errorf("%s: %v does not cover its parts", c.name, m)
		}
		want := m.vague(2)
		s.add(&m, &Ad{Attributes: AttributesOf(map[string]Value{"outer": CoordinateAt(near)})})
		if s.CanMatch(RTT{"outer", []dht.Coordinate{far}, time.Millisecond}, m) != want {
			t.Errorf("%s, and with one ad more: can match far away %v, want %v", c.name, !want, want)
		}
	}
	if told.Covers(vague) || !vague.Covers(vague) {
		t.Error("a summary with balls covers one without, or that not itself")
	}
}

// TestAdBall checks that an ad lies in its own ball, and that ads look the same
// only if they have the same: the outermost bands of occupancy have no end.
func TestAdBall(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := drawClusters(t).draw(t)
		b := ballOf(0, at)
		if gap := b.gap(&at.Vec); gap > 0 {
			t.Fatalf("%v is %g s from its ball %v", at.Vec, gap, b)
		}
	})
	with := func(x float64) *Signed {
		var c dht.Coordinate
		c.Vec[3] = x
		return &Signed{Ad: &Ad{Attributes: AttributesOf(map[string]Value{"outer": CoordinateAt(c)})}}
	}
	for _, c := range []struct {
		x, y float64
		want bool
	}{
		{0.0101, 0.0124, true}, {0.0101, 0.0126, false}, {0.0901, 0.0924, true}, {0.0901, 0.12, false}, {-20, -29, false},
	} {
		if got := twoSchema.sameLook(with(c.x), with(c.y)); got != c.want {
			t.Errorf("%g and %g s: same look %v, want %v", c.x, c.y, got, c.want)
		}
	}
}

// TestEnclose joins balls of all sizes, as a stranger may tell them.
func TestEnclose(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func() (list []Ball) {
			for range rapid.IntRange(0, 3*MaxBalls).Draw(t, "balls") {
				b := Ball{Dim: rapid.Uint8Range(0, 1).Draw(t, "dim"), Radius: rapid.Uint16().Draw(t, "radius")}
				for axis := range b.Center {
					b.Center[axis] = rapid.Int16().Draw(t, "axis")
				}
				list = append(list, b)
			}
			return list
		}
		more := draw()
		balls := Enclose(nil, draw())
		given := slices.Clone(balls)
		all := Enclose(balls, more)
		if !slices.Equal(balls, given) {
			t.Fatal("the list was written to")
		}
		count := make(map[uint8]int)
		for _, b := range all {
			count[b.Dim]++
		}
		if count[0] > MaxBalls || count[1] > MaxBalls {
			t.Fatalf("%v balls of a dimension, limit %d", count, MaxBalls)
		}
		for _, b := range slices.Concat(balls, more) {
			if !held(all, &b) {
				t.Fatalf("%v does not hold %v", all, b)
			}
		}
		if again := Enclose(all, balls); !slices.Equal(again, all) {
			t.Fatalf("%v became %v with what it held", all, again)
		}
	})
}

// TestEndless joins balls whose numbers are the greatest: no ball is large enough
// for two of them but one without end.
func TestEndless(t *testing.T) {
	var list []Ball
	for i := range 2 * MaxBalls {
		b := Ball{Radius: 60_000}
		for axis := range b.Center {
			b.Center[axis] = math.MaxInt16
			if i>>(axis%4)&1 == 1 {
				b.Center[axis] = math.MinInt16
			}
		}
		list = append(list, b)
	}
	all := Enclose(nil, list)
	for _, b := range list {
		if !held(all, &b) {
			t.Errorf("%v does not hold %v", all, b)
		}
	}
}

// TestCheckSummary refuses what breaks a limit.
func TestCheckSummary(t *testing.T) {
	s := twoSchema
	full := s.NewSummary()
	for i := range MaxBalls {
		full.Balls = append(full.Balls, Ball{Dim: 1, Center: [8]int16{int16(i)}}, Ball{Dim: 2})
	}
	with := func(b Ball) Summary {
		return Summary{Occupancy: full.Occupancy, Balls: append(slices.Clone(full.Balls), b)}
	}
	for _, c := range []struct {
		name string
		m    Summary
		ok   bool
	}{
		{"nothing", s.NewSummary(), true},
		{"full", full, true},
		{"one ball too many", with(Ball{Dim: 2}), false},
		{"a ball of a text", with(Ball{Dim: 0}), false},
		{"a ball of no dimension", with(Ball{Dim: 3}), false},
		{"the last dimension", with(Ball{Dim: 255}), false},
		{"no occupancy", Summary{}, false},
	} {
		if err := s.CheckSummary(c.m); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrBadSummary) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestLearnKeepsBalls lets more holders tell of a child than are remembered: what
// the one that leaves told stays, and no summary of another is written to.
func TestLearnKeepsBalls(t *testing.T) {
	s, rng := testSchema, rand.New(rand.NewPCG(1, 1))
	c := &cell{told: s.NewSummary()}
	var told, given []Summary
	for i := range 2 * maxEntries {
		m := s.SummaryOf(randomAd(rng, testNow), randomAd(rng, testNow))
		told = append(told, m)
		given = append(given, Summary{Occupancy: slices.Clone(m.Occupancy), Balls: slices.Clone(m.Balls)})
		c.learn(0, entry{holder: dht.Contact{ID: randomID(rng)}, summary: m, until: testNow.Add(time.Duration(i) * time.Second)})
	}
	if m := c.child(s, 0).Summary; len(m.Balls) == 0 {
		t.Error("the child has no balls")
	}
	for i, m := range told {
		if all := c.child(s, 0).Summary; !all.Covers(m) {
			t.Errorf("what holder %d told is lost: %v not in %v", i, m.Balls, all.Balls)
		}
		if !m.equal(given[i]) {
			t.Errorf("what holder %d told was written to", i)
		}
	}
}

// BenchmarkBalls makes the summary of a full leaf, and that of a child from what
// its holders told, of the same ads and of others.
func BenchmarkBalls(b *testing.B) {
	s, rng := testSchema, rand.New(rand.NewPCG(1, 1))
	var ads []*Signed
	for range 4 * LeafAds {
		var c dht.Coordinate
		for axis := range c.Vec {
			c.Vec[axis] = rng.NormFloat64()*0.005 + 0.03*float64(rng.IntN(3)-1)
		}
		ads = append(ads, &Signed{Ad: &Ad{Attributes: AttributesOf(map[string]Value{DimCoordinate: CoordinateAt(c)})}})
	}
	b.Run("leaf", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.SummaryOf(ads[:LeafAds]...)
		}
	})
	parts := make([]Summary, 4)
	for i := range parts {
		parts[i] = s.SummaryOf(ads[i*LeafAds : (i+1)*LeafAds]...)
	}
	for name, at := range map[string]func(i int) int{"same": func(int) int { return 0 }, "other": func(i int) int { return i }} {
		b.Run(fmt.Sprint("child/", name), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m := s.NewSummary()
				for i := range parts {
					m.unite(parts[at(i)])
				}
			}
		})
	}
	near := RTT{DimCoordinate, []dht.Coordinate{{}, {Height: 0.001}}, 30 * time.Millisecond}
	b.Run("near", func(b *testing.B) {
		for b.Loop() {
			s.CanMatch(near, parts[0])
		}
	})
}
