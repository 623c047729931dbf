package xeno_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/market"
	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/trial"
	"github.com/xenoserver/xeno/sim/xeno"
)

// checkCount checks what must be so whatever the sample: an answer that says
// that it is complete is exact, and all others have bounds.
func checkCount(t *testing.T, w trial.World, q search.Query, o trial.Outcome) {
	t.Helper()
	truth := float64(w.Market.Count(q.Where))
	if o.Complete && o.Estimated != truth || !o.Bounded || o.Low > o.Estimated || o.High < o.Estimated || len(o.Servers) > 0 {
		t.Errorf("%d match: %g, %g to %g, complete %v, %d servers: %v", int(truth), o.Estimated, o.Low, o.High, o.Complete, len(o.Servers), q.Where)
	}
}

// TestCoverage counts how often the bounds hold the truth, over queries of every
// class, and how far off the estimates are. The bounds promise 95 %, of one
// look at the sample; a Counter looks after every answer whether they are
// narrow enough, which costs up to two.
func TestCoverage(t *testing.T) {
	const nodes, each, least, leastSearched = 6000, 60, 0.93, 0.93
	w := newWorld(t, nodes, 3)
	index, err := xeno.NewIndex(t.Context(), w, 0)
	if err != nil {
		t.Fatal(err)
	}
	x, rng := xeno.New(index, xeno.Options{}), rand.New(rand.NewPCG(3, 3))
	var errs []float64
	held, all, requests, extrapolated := 0, 0, 0, 0
	for _, class := range trial.Classes() {
		queries, err := w.Market.Queries(t.Context(), class, each, market.Asking{}, rng)
		if err != nil {
			t.Fatal(class, err)
		}
		for _, q := range queries {
			o := ask(t, w.Net, x, trial.Task{Class: class, Client: network.NodeID(w.Rand.IntN(nodes)), Query: q, Count: true})
			checkCount(t, w, q, o)
			truth := float64(w.Market.Count(q.Where))
			all, requests = all+1, requests+o.Requests
			if o.Low <= truth && truth <= o.High {
				held++
			}
			if o := ask(t, w.Net, x, trial.Task{Class: class, Client: network.NodeID(w.Rand.IntN(nodes)), Query: q}); o.Low <= truth && truth <= o.High {
				extrapolated++
			}
			if class == trial.Count {
				errs = append(errs, math.Abs(o.Estimated-truth)/max(truth, 1))
			}
		}
	}
	slices.Sort(errs)
	part, median := float64(held)/float64(all), errs[len(errs)/2]
	t.Logf("bounds hold in %.3f of %d, class count is off by %.3f at the median, %.1f requests", part, all, median, float64(requests)/float64(all))
	// Searches read cells because matches are hoped for there, so what is left
	// has fewer than its sample; their bounds promise less.
	if part := float64(extrapolated) / float64(all); part < leastSearched {
		t.Errorf("bounds of searches hold the truth in %.3f of the cases, want %.2f", part, leastSearched)
	} else {
		t.Logf("bounds of searches hold in %.3f", part)
	}
	if part < least {
		t.Errorf("bounds hold the truth in %.3f of the cases, want %.2f", part, least)
	}
	if median > 0.05 {
		t.Errorf("off by %.3f at the median, want 0.05", median)
	}
}
