package search

import (
	"math"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// revised returns an ad with one value changed.
func revised(old *Signed, now time.Time, dim string, v Value) *Signed {
	ad := renewed(old, now)
	ad.Ad.Attributes = ad.Ad.Attributes.With(dim, v)
	return ad
}

// nudged returns a number next to that of an ad, as summaries see it, and one
// that they tell apart from it.
func nudged(t *testing.T, s *Schema, ad *Signed, dim string) (same, other float64) {
	t.Helper()
	d, _ := s.Dimension(dim)
	v, ok := ad.Ad.Attribute(dim)
	x, _ := v.Number()
	if !ok || x <= 0 {
		t.Fatalf("the ad has no %s", dim)
	}
	for _, f := range []float64{1.001, 0.999} {
		if y := Number(x * f); d.occupancy(y) == d.occupancy(v) {
			same = x * f
		}
	}
	for _, f := range []float64{2, 0.5} {
		if y := Number(x * f); d.occupancy(y) != d.occupancy(v) && y.check(d) == nil {
			other = x * f
		}
	}
	if same == 0 || other == 0 {
		t.Fatalf("no neighbours of %g", x)
	}
	return same, other
}

// priced returns a publisher whose ad has a price.
func priced(w *world) *Publisher {
	for _, p := range w.pubs {
		if v, ok := p.ad.Ad.Attribute("price_hour"); ok && v.num > 0.001 {
			return p
		}
	}
	w.t.Fatal("no ad has a price")
	return nil
}

func exactly(dim string, x float64) Query {
	return Query{Where: Compare{Dim: dim, Op: OpEqual, Value: Number(x)}}
}

// TestSilentChange moves a number less than summaries tell apart: nothing is
// sent for that, whoever verifies never sees the old one, and the new one is
// found by its very value after the renewals of two and a half rounds.
func TestSilentChange(t *testing.T) {
	w := newWorld(t, 21, 20, 16)
	for range 40 {
		w.publish(randomAd(w.rng, w.now))
	}
	w.run(2 * time.Minute)
	pub := priced(w)
	old, _ := pub.ad.Ad.Attribute("price_hour")
	same, _ := nudged(t, w.schema, pub.ad, "price_hour")
	ad := revised(pub.ad, w.now, "price_hour", Number(same))
	for _, e := range pub.Step(w.now, Offer{ad}) {
		t.Errorf("%T for a change that no summary sees", e)
	}
	for range 3 {
		for _, r := range w.search(exactly("price_hour", old.num), SeekerConfig{Verify: true}).Results {
			if r.Signed.Ad.Server == ad.Ad.Server {
				t.Error("found by its former price, though it was asked")
			}
		}
		w.run(time.Minute)
	}
	w.compare(exactly("price_hour", same), w.search(exactly("price_hour", same), SeekerConfig{}))
}

// TestChangeIsFound moves a number so that summaries must change, in cells below
// two tables: only holders of the ad are told, and it is found a second later.
func TestChangeIsFound(t *testing.T) {
	w := newWorld(t, 22, 30, 8)
	for range 120 {
		w.publish(randomAd(w.rng, w.now))
	}
	w.run(2 * time.Minute)
	for range 20 {
		pub := w.pubs[w.rng.IntN(len(w.pubs))]
		if v, ok := pub.ad.Ad.Attribute("free_memory"); !ok || v.num < gib {
			continue
		}
		_, other := nudged(t, w.schema, pub.ad, "free_memory")
		before := w.publishes
		w.publisher(pub, Offer{revised(pub.ad, w.now, "free_memory", Number(other))})
		w.run(time.Second)
		w.compare(exactly("free_memory", other), w.search(exactly("free_memory", other), SeekerConfig{}))
		t.Logf("%d messages, renewals of %d servers among them", w.publishes-before, len(w.pubs))
	}
}

// TestWiderAtOnce publishes an ad that widens a leaf: its holder tells the table
// in the same step, and not again within a second.
func TestWiderAtOnce(t *testing.T) {
	w := newWorld(t, 23, 1, LeafAds)
	h, tree := w.peers[0].holder, w.schema.trees[0]
	first := randomAd(w.rng, w.now)
	place := func(ad *Signed) (pushes int) {
		for _, e := range h.Step(w.now, Publish{From: first.Ad.Server, Ad: ad, Places: []Placement{{Tree: tree.Name, Level: 1}}}) {
			if _, ok := e.(SendPush); ok {
				pushes++
			}
		}
		return pushes
	}
	if n := place(first); n != 0 {
		t.Errorf("%d summaries of a new cell, want them with the next tick", n)
	}
	h.Step(w.now, HolderTick{})
	w.now = w.now.Add(time.Minute / 2)
	wider := func(load float64) *Signed {
		return revised(h.ads[first.Ad.Server].ad, w.now, "load", Number(load))
	}
	if n := place(wider(0.9)); n != 1 {
		t.Errorf("%d summaries of a wider cell, want 1 at once", n)
	}
	if n := place(wider(0.1)); n != 0 {
		t.Errorf("%d summaries within a second, want none", n)
	}
	w.now = w.now.Add(time.Second)
	pushes := 0
	for _, e := range h.Step(w.now, HolderTick{}) {
		if p, ok := e.(SendPush); ok {
			pushes++
			if !p.Summary.Covers(w.schema.SummaryOf(wider(0.1))) {
				t.Error("the summary lacks what was not told at once")
			}
		}
	}
	if pushes != 1 {
		t.Errorf("%d summaries with the tick, want 1", pushes)
	}
}

// TestSameLook compares ads that differ in one thing.
func TestSameLook(t *testing.T) {
	w := newWorld(t, 24, 1, LeafAds)
	ad := w.publish(randomAd(w.rng, w.now)).ad
	ad = revised(ad, w.now, "price_hour", Number(0.5))
	same, other := nudged(t, w.schema, ad, "price_hour")
	coordinate := func(x, height float64) Value {
		c := dht.Coordinate{Height: height}
		c.Vec[0] = x
		return CoordinateAt(c)
	}
	ad = revised(ad, w.now, "coordinate", coordinate(0.0101, 0.0011))
	moved := func(change func(a *Ad)) *Signed {
		b := renewed(ad, w.now)
		change(b.Ad)
		return b
	}
	for _, c := range []struct {
		name string
		ad   *Signed
		want bool
	}{
		{"dates", renewed(ad, w.now), true},
		{"a number, slightly", revised(ad, w.now, "price_hour", Number(same)), true},
		{"a number, much", revised(ad, w.now, "price_hour", Number(other)), false},
		{"no number", moved(func(a *Ad) { a.Attributes = a.Attributes.With("price_hour", Value{}) }), false},
		{"a coordinate, slightly", revised(ad, w.now, "coordinate", coordinate(0.0102, 0.0012)), true},
		{"a coordinate, much", revised(ad, w.now, "coordinate", coordinate(0.05, 0.0011)), false},
		{"a text", revised(ad, w.now, "city", Text("Ulm")), false},
		{"a version", revised(ad, w.now, "kernel", Text("6.1.0-43")), false},
		{"a set", revised(ad, w.now, "drivers", Set("xen")), false},
		{"a place", revised(ad, w.now, "place", PlaceAt(1, math.Pi)), false},
		{"addresses", moved(func(a *Ad) { a.Addrs = []string{"/ip4/192.0.2.7/tcp/1"} }), false},
		{"credential", moved(func(a *Ad) { a.Credential = []byte{7} }), false},
	} {
		if got := w.schema.sameLook(ad, c.ad); got != c.want {
			t.Errorf("%s: same look %v, want %v", c.name, got, c.want)
		}
	}
}
