package xeno_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
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

func TestExplore(t *testing.T) {
	nodes := 10_000
	if s := os.Getenv("XENO_NODES"); s != "" {
		nodes, _ = strconv.Atoi(s)
	}
	w := newWorld(t, nodes, 1)
	begin := time.Now()
	ix, err := xeno.NewIndex(t.Context(), w, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("index of %d in %s", nodes, time.Since(begin))
	leaves := ix.Leaves()
	slices.Sort(leaves)
	sum := 0
	for _, l := range leaves {
		sum += l
	}
	t.Logf("%d leaves, mean %.0f, max %d", len(leaves), float64(sum)/float64(len(leaves)), leaves[len(leaves)-1])
	var unit []time.Duration
	for range 300 {
		key := w.Rand.Uint64()
		holders := w.Net.Closest(nil, key, 20)
		at := w.Net.Now()
		over := false
		w.Net.Find(network.NodeID(w.Rand.IntN(nodes)), key, func(id network.NodeID) bool { return slices.Contains(holders, id) }, func(network.NodeID, bool, int) {
			unit = append(unit, w.Net.Now()-at)
			over = true
		})
		_ = w.Net.RunWhile(context.Background(), func() bool { return !over })
	}
	slices.Sort(unit)
	L := unit[len(unit)/2]
	t.Logf("L = %s", L)
	n := 60
	for _, class := range trial.Classes() {
		if only := os.Getenv("XENO_TRACE"); only != "" && only != class {
			continue
		}
		qs, err := w.Market.Queries(t.Context(), class, n, market.Asking{}, rand.New(rand.NewPCG(1, 1)))
		if err != nil {
			t.Fatal(class, err)
		}
		for _, warm := range []bool{false, true} {
			x := xeno.New(ix, xeno.Options{Warm: warm})
			var lat []time.Duration
			var reqs []int
			bad := 0
			for _, q := range qs {
				client := network.NodeID(w.Rand.IntN(nodes))
				if warm {
					client = 7
				}
				at, over := w.Net.Now(), false
				var trace func(trial.Hop)
				var hops []trial.Hop
				if os.Getenv("XENO_TRACE") == class && !warm {
					trace = func(h trial.Hop) { hops = append(hops, h) }
				}
				x.Start(trial.Task{Class: class, Client: client, Query: q}, trace, func(o trial.Outcome) {
					over = true
					lat, reqs = append(lat, w.Net.Now()-at), append(reqs, o.Requests)
					if trace != nil && o.Requests > 10 && len(lat) < 12 {
						t.Logf("query %v order %q limit %d: %d match", q.Where, q.OrderBy, q.Limit, w.Market.Count(q.Where))
						for i, h := range hops {
							if i < 40 {
								t.Log(h.At.Milliseconds(), h.Took.Milliseconds(), h.What, h.OK)
							}
						}
					}
					want := w.Market.Select(q)
					if len(o.Servers) != len(want) {
						bad++
					} else if q.OrderBy != "" {
						for j := range want {
							if int(o.Servers[j]) != want[j] {
								bad++
								break
							}
						}
					}
				})
				_ = w.Net.RunWhile(context.Background(), func() bool { return !over })
			}
			slices.Sort(lat)
			slices.Sort(reqs)
			t.Logf("%-10s warm %-5v latency p50 %.2f p99 %.2f L  requests p50 %d p90 %d p99 %d  wrong %d", class, warm,
				float64(lat[n/2])/float64(L), float64(lat[n*99/100])/float64(L), reqs[n/2], reqs[n*9/10], reqs[n*99/100], bad)
		}
	}
	_ = fmt.Sprint
	_ = search.Replicas
}
