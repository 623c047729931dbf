package search

import (
	"testing"
	"time"
)

// TestExactAtRest compares answers with the brute-force oracle.
func TestExactAtRest(t *testing.T) {
	w := newWorld(t, 1, 20, LeafAds)
	for range 500 {
		w.publish(randomAd(w.rng, w.now))
	}
	w.run(3 * time.Second)
	for _, p := range w.pubs {
		if !p.Settled() {
			t.Fatal("an ad is not settled after 3 s")
		}
	}
	t.Logf("%d publishes, %d lookups", w.publishes, w.lookups)
	requests := 0
	for range 200 {
		q := randomQuery(w.rng)
		a := w.search(q, SeekerConfig{})
		w.compare(q, a)
		requests += a.Requests
	}
	t.Logf("%.1f requests a query", float64(requests)/200)
}
