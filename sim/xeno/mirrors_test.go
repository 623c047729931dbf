package xeno_test

import (
	"slices"
	"testing"
	"time"

	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/trial"
	"github.com/xenoserver/xeno/sim/xeno"
)

// busiest is how many of so many messages the busiest node received.
func busiest(net *network.Network, queries int) float64 {
	return float64(slices.Max(net.Loads())) / float64(queries)
}

// TestMirrors compares how the load of one popular query falls on nodes, where
// it is asked seldom and often, and its answers with the oracle.
func TestMirrors(t *testing.T) {
	const nodes, each = 2000, 1000
	w := newWorld(t, nodes, 3)
	index, err := xeno.NewIndex(t.Context(), w, 64)
	if err != nil {
		t.Fatal(err)
	}
	x := xeno.New(index, xeno.Options{})
	q := queries(t, w, 2)[2].Query // a selective one
	run := func() {
		w.Net.ResetLoads()
		for range each {
			check(t, w, q, ask(t, w.Net, x, trial.Task{Class: trial.Selective, Client: network.NodeID(w.Rand.IntN(nodes)), Query: q}))
		}
	}
	run()
	seldom := busiest(w.Net, each)
	index.Heat()
	run()
	for index.Divide(each, 10*time.Millisecond) {
		run()
	}
	index.Recruit(each, 10*time.Millisecond)
	run()
	often := busiest(w.Net, each)
	index.Heat()
	run()
	index.Recruit(each, 10*time.Second)
	run()
	again := busiest(w.Net, each)
	t.Logf("the busiest node has a hand in %.3f of queries, with mirrors in %.3f, after them in %.3f", seldom, often, again)
	if seldom < 0.2 || often > 0.08 || again < 0.2 {
		t.Error("want at least 0.2, at most 0.08, at least 0.2")
	}
}

// TestLiveMirrors asks one query of a live network so often that its cells get
// mirrors, as they do at rest.
func TestLiveMirrors(t *testing.T) {
	if testing.Short() {
		return
	}
	const nodes = 150
	w := newWorld(t, nodes, 14)
	l := live(t, w, xeno.LiveConfig{Leaf: 64, AtRest: true})
	x := xeno.New(l, xeno.Options{})
	q := search.Query{Where: search.Has{Dim: "price_hour"}, OrderBy: "price_hour", Limit: 10}
	pending := 0
	spell := func(d time.Duration) float64 {
		w.Net.ResetLoads()
		n, until := 0, w.Net.Now()+d
		for ; w.Net.Now() < until; n++ {
			pending++
			x.Start(trial.Task{Class: trial.Broad, Client: network.NodeID(w.Rand.IntN(nodes)), Query: q}, nil, func(o trial.Outcome) {
				pending--
				check(t, w, q, o)
			})
			if err := w.Net.Run(t.Context(), w.Net.Now()+20*time.Millisecond); err != nil {
				t.Fatal(err)
			}
		}
		return busiest(w.Net, n)
	}
	first := spell(2 * time.Second)
	spell(40 * time.Second)
	then := spell(20 * time.Second)
	t.Logf("the busiest node received %.2f messages a query, then %.2f; %d updates", first, then, l.Stats().Mirrored)
	if then > first/2 || l.Stats().Mirrored == 0 {
		t.Error("mirrors do not relieve the holders")
	}
	if err := w.Net.RunWhile(t.Context(), func() bool { return pending > 0 }); err != nil {
		t.Fatal(err)
	}
}
