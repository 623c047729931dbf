package search

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/xenoserver/xeno/dht"
)

// drawn makes a sample of all of so many ads.
func drawn(total int, attributes func(i int) map[string]Value) Sample {
	rng := rand.New(rand.NewPCG(1, 1))
	m := Sample{Total: total}
	for i := range outlineAds {
		ad := &Ad{Server: randomID(rng), Seq: 1, Attributes: AttributesOf(attributes(i))}
		m.Ads = append(m.Ads, &Signed{Ad: ad, hash: HashOf(ad.Server)})
	}
	return m
}

// cheapestTree returns the tree in which a query costs least, by the outline.
func cheapestTree(t *testing.T, q Query, m Sample) string {
	t.Helper()
	s := DefaultSchema()
	o := s.outline(q, m)
	best, least := "", 0.0
	for _, tree := range s.trees {
		if reads := o.estimate(tree, o.unseen()); best == "" || reads < least {
			best, least = tree.Name, reads
		}
	}
	return best
}

// TestOutlineOrder: where what is wanted is dear, the tree of prices is read
// far before the cheapest match comes, and another one is better.
func TestOutlineOrder(t *testing.T) {
	q := Query{Where: And{
		Compare{Dim: "free_disk", Op: OpGreaterEqual, Value: Number(60 * gib)},
		Compare{Dim: "total_cpu", Op: OpGreaterEqual, Value: Number(60)},
	}, OrderBy: "price_hour", Limit: 200}
	of := func(price func(i int) float64) Sample {
		return drawn(100_000, func(i int) map[string]Value {
			return map[string]Value{
				"free_disk": Number(float64(i+1) * gib), "total_cpu": Number(float64(i + 1)), "price_hour": Number(price(i)),
			}
		})
	}
	dear := of(func(i int) float64 { return 0.01 * float64(i+1) })
	if tree := cheapestTree(t, q, dear); tree == "price_hour" {
		t.Errorf("prices that go with size: tree %s", tree)
	}
	apart := of(func(i int) float64 { return 0.01 * float64((i*37+57)%outlineAds+1) })
	if tree := cheapestTree(t, q, apart); tree != "price_hour" {
		t.Errorf("prices that have nothing to do with size: tree %s, want price_hour", tree)
	}
	if o := DefaultSchema().outline(q, dear); o.goal < 0.8 {
		t.Errorf("the cheapest are among the first %.2f of all prices, want 0.9", o.goal)
	}
}

// TestOutlineBarrier: ten results are many fewer than the cheapest part of all,
// but where all of that is too small they come behind.
func TestOutlineBarrier(t *testing.T) {
	q := Query{Where: Compare{Dim: "free_memory", Op: OpGreaterEqual, Value: Number(12 * gib)}, OrderBy: "price_hour", Limit: 10}
	goal := func(price func(i int) int) float64 {
		m := drawn(100_000, func(i int) map[string]Value {
			return map[string]Value{"free_memory": Number(float64(i+1) * gib), "price_hour": Number(0.01 * float64(price(i)+1))}
		})
		return DefaultSchema().outline(q, m).goal
	}
	if got := goal(func(i int) int { return i }); got < 0.15 || got > 0.2 {
		t.Errorf("the first %.4f of all prices are read, where 11 of 64 are too small", got)
	}
	if got := goal(func(i int) int { return (i*37 + 50) % outlineAds }); got > 0.02 {
		t.Errorf("the first %.4f of all prices are read, where the cheapest may have any size", got)
	}
}

// TestExpect: where none of many ads of the sample matches, though buckets
// allow it, a child seldom has matches.
func TestExpect(t *testing.T) {
	s := DefaultSchema()
	m := s.SummaryOf(&Signed{Ad: &Ad{Attributes: AttributesOf(map[string]Value{"free_cpu": Number(8)})}})
	m.Count = 1000
	p := Compare{Dim: "free_cpu", Op: OpGreaterEqual, Value: Number(4)}
	chance := func(sampled, matched uint32) float64 {
		_, chance := s.expect(p, m, Child{Sampled: sampled, Matched: matched})
		return chance
	}
	if chance(9, 1) != 1 || chance(0, 0) != usualChance || chance(9, 0) > 0.01 || chance(1, 0) >= chance(0, 0) {
		t.Errorf("chances %g, %g, %g, %g", chance(9, 1), chance(0, 0), chance(9, 0), chance(1, 0))
	}
}

// TestOutlineLatency: cells of places differ in latency, and more finely than
// those of network coordinates, if who is near in place is near in coordinate.
func TestOutlineLatency(t *testing.T) {
	tree := func(longitude func(i int) float64) string {
		m := drawn(100_000, func(i int) map[string]Value {
			at := dht.Coordinate{Height: 0.001}
			at.Vec[0] = float64(i*19%outlineAds) / 1000
			return map[string]Value{
				DimCoordinate: CoordinateAt(at), DimPlace: PlaceAt(0, longitude(i)), "free_cpu": Number(float64(i%8 + 1)),
			}
		})
		q := Query{Where: Compare{Dim: "free_cpu", Op: OpGreaterEqual, Value: Number(2)}, OrderBy: DimCoordinate, Origin: &dht.Coordinate{}, Limit: 10}
		return cheapestTree(t, q, m)
	}
	if got := tree(func(i int) float64 { return float64(i * 19 % outlineAds) }); got != DimPlace {
		t.Errorf("tree %s, want place", got)
	}
	if got := tree(func(i int) float64 { return float64(i*i*37%180) - 90 }); got == DimPlace || got == "locale" {
		t.Errorf("tree %s, where places say nothing of latency", got)
	}
}

// TestOutlineAcross: a tree that divides by a dimension of which the query says
// nothing has the matches in as many cells as it is divided into by that one.
func TestOutlineAcross(t *testing.T) {
	s := DefaultSchema()
	m := drawn(1_000_000, func(i int) map[string]Value {
		return map[string]Value{DimPlace: PlaceAt(float64(i%8*20-70), float64(i/8*40-140)), "price_hour": Number(0.01 * float64(i*37%outlineAds+1))}
	})
	here := Within{Dim: DimPlace, Center: Place{-70, -140}, Km: 100}
	reads := func(where Predicate) (place, locale float64) {
		o := s.outline(Query{Where: where}, m)
		tree := func(name string) float64 { t, _ := s.Tree(name); return o.estimate(t, o.unseen()) }
		return tree(DimPlace), tree("locale")
	}
	place, locale := reads(here)
	if slices := math.Sqrt(1_000_000 / GatherAds); locale < slices || place > locale/2 {
		t.Errorf("%.0f reads in the tree of places, %.0f where prices divide it, too", place, locale)
	}
	place, locale = reads(And{here, Compare{Dim: "price_hour", Op: OpLessEqual, Value: Number(0.02)}})
	if locale > place {
		t.Errorf("%.0f reads in the tree of places, %.0f where prices divide it as the query does", place, locale)
	}
}

// TestOutlineEmpty: no sample tells nothing, and one larger than an honest
// root's does no harm.
func TestOutlineEmpty(t *testing.T) {
	s := DefaultSchema()
	if s.outline(Query{}, Sample{}) != nil {
		t.Error("an outline without a sample")
	}
	m := drawn(1000, func(int) map[string]Value { return nil })
	m.Ads = append(m.Ads, m.Ads...)
	if o := s.outline(Query{}, m); o.drawn != outlineAds || o.match != 1 {
		t.Errorf("%g ads of a sample, %g match, want %d, 1", o.drawn, o.match, outlineAds)
	}
}

// TestOutlineRoot: what the root of a tree tells corrects the sample, in which
// what is rare is not, or by chance too often.
func TestOutlineRoot(t *testing.T) {
	q := Query{Where: Compare{Dim: "total_cpu", Op: OpGreaterEqual, Value: Number(512)}}
	s, err := NewSeeker(DefaultSchema(), q, SeekerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	const total = 1_000_000
	sample := drawn(total, func(i int) map[string]Value { return map[string]Value{"total_cpu": Number(float64(i * 10))} })
	s.outline = s.schema.outline(q, sample)
	child := func(count uint32, cpus float64) Child {
		m := s.schema.SummaryOf(&Signed{Ad: &Ad{Attributes: AttributesOf(map[string]Value{"total_cpu": Number(cpus)})}})
		m.Count = count
		return Child{Summary: m}
	}
	tree, _ := s.schema.Tree("total_cpu")
	part := s.partOf(tree, []Child{child(total-10_000, 4), child(10_000, 1000)})
	if part != 0.01 {
		t.Errorf("%.3f of all ads are in the range, want 0.01", part)
	}
	rare := s.outline.estimate(tree, prospect{room: total / s.outline.leaf, part: part})
	if common := s.outline.estimate(tree, s.outline.unseen()); rare > common/2 {
		t.Errorf("%.0f reads where the root has few, %.0f by the sample", rare, common)
	}
	if tree, _ = s.schema.Tree("free_cpu"); s.partOf(tree, []Child{child(total, 4)}) != 0 {
		t.Error("a tree that does not sort by the condition tells how many satisfy it")
	}
}
