package xeno_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/latency"
	"github.com/xenoserver/xeno/sim/market"
	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/trial"
	"github.com/xenoserver/xeno/sim/xeno"
)

func newWorld(t testing.TB, nodes int, seed uint64) trial.World {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 9))
	cities := latency.NewCities(seed)
	at := latency.Embed(cities, 0, rng)
	chooser := latency.NewChooser(cities)
	net, err := network.New(network.Config{
		Nodes: nodes, Seed: seed, Latency: cities, Jitter: 0.05,
		Site: chooser.Site, Access: func(r *rand.Rand) time.Duration { return latency.Access{}.Draw(r) },
	})
	if err != nil {
		t.Fatal(err)
	}
	m, err := market.New(market.Config{
		Servers: nodes, Seed: seed,
		PeerOf:  func(i int) dht.PeerID { return net.PeerID(network.NodeID(i)) },
		PlaceOf: func(i int) (float64, float64, string, string, bool) { return cities.Place(net.Site(network.NodeID(i))) },
		CoordinateOf: func(i int) dht.Coordinate {
			return latency.At(at[net.Site(network.NodeID(i))], net.Access(network.NodeID(i)))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return trial.World{Net: net, Market: m, Rand: rng}
}

// TestExact asks queries of every class, by clients that know nothing and by
// one that asked before, and compares the answers with the oracle.
func TestExact(t *testing.T) {
	const nodes, each = 3000, 12
	w := newWorld(t, nodes, 1)
	index, err := xeno.NewIndex(t.Context(), w, 64)
	if err != nil {
		t.Fatal(err)
	}
	for _, class := range trial.Classes() {
		queries, err := w.Market.Queries(t.Context(), class, each, market.Asking{}, rand.New(rand.NewPCG(1, 1)))
		if err != nil {
			t.Fatal(class, err)
		}
		for _, warm := range []bool{false, true} {
			x, requests := xeno.New(index, xeno.Options{Warm: warm}), 0
			for _, q := range queries {
				task := trial.Task{Class: class, Client: network.NodeID(w.Rand.IntN(nodes)), Query: q, Count: class == trial.Count}
				if warm {
					task.Client = 7
				}
				o := run(t, w, x, task)
				requests += o.Requests
				if task.Count {
					checkCount(t, w, q, o)
				} else {
					check(t, w, q, o)
				}
			}
			t.Logf("%s, warm %v: %.1f requests a query", class, warm, float64(requests)/each)
		}
	}
}

// run carries a task out.
func run(t *testing.T, w trial.World, x trial.Algorithm, task trial.Task) (out trial.Outcome) {
	t.Helper()
	over := false
	x.Start(task, nil, func(o trial.Outcome) { out, over = o, true })
	if err := w.Net.RunWhile(t.Context(), func() bool { return !over }); err != nil || !over {
		t.Fatalf("the query does not end: %v", err)
	}
	return out
}

// check compares an answer with the oracle's.
func check(t *testing.T, w trial.World, q search.Query, o trial.Outcome) {
	t.Helper()
	if !o.Complete {
		t.Errorf("not complete: %v", q.Where)
	}
	want := w.Market.Want(q, nil)
	if len(o.Servers) != len(want.Best) || want.Hits(o.Indices()) != len(want.Best) {
		t.Errorf("%d servers, want %d, and %d of them: %v order by %s", len(o.Servers), len(want.Best), want.Hits(o.Indices()), q.Where, q.OrderBy)
	}
	if q.OrderBy == "" || q.OrderBy == search.DimCoordinate {
		return
	}
	for i, id := range o.Servers {
		if int(id) != want.Best[i] {
			t.Errorf("server %d is %d, want %d: %v order by %s", i, id, want.Best[i], q.Where, q.OrderBy)
			return
		}
	}
}
