package rival

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/latency"
	"github.com/xenoserver/xeno/sim/market"
	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/trial"
)

// newWorld makes a world of the built-in cities.
func newWorld(t testing.TB, nodes int, seed uint64, change func(*network.Config)) trial.World {
	t.Helper()
	model := latency.NewCities(seed)
	at := latency.Embed(model, 0, rand.New(rand.NewPCG(seed, 1)))
	cfg := network.Config{
		Nodes: nodes, Seed: seed, Latency: model, Site: latency.NewChooser(model).Site, Access: latency.Access{}.Draw, Jitter: 0.1,
	}
	if change != nil {
		change(&cfg)
	}
	net, err := network.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m, err := market.New(market.Config{
		Servers: nodes, Seed: seed,
		PeerOf: func(i int) dht.PeerID { return net.PeerID(network.NodeID(i)) },
		PlaceOf: func(i int) (lat, lon float64, country, city string, ok bool) {
			return model.Place(net.Site(network.NodeID(i)))
		},
		CoordinateOf: func(i int) dht.Coordinate {
			return latency.At(at[net.Site(network.NodeID(i))], net.Access(network.NodeID(i)))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return trial.World{Net: net, Market: m, Rand: rand.New(rand.NewPCG(seed, 2))}
}

// tasks draws some of every class, and adds what the classes do not have.
func tasks(t testing.TB, w trial.World, each int) []trial.Task {
	t.Helper()
	rng := rand.New(rand.NewPCG(7, 7))
	var all []trial.Task
	add := func(class string, q search.Query) {
		client := w.Net.Closest(nil, rng.Uint64(), 1)[0]
		all = append(all, trial.Task{Class: class, Client: client, Query: q, Count: class == trial.Count})
	}
	for _, class := range trial.Classes() {
		queries, err := w.Market.Queries(t.Context(), class, each, market.Asking{}, rng)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range queries {
			add(class, q)
		}
	}
	for _, q := range oddQueries(w) {
		if err := w.Market.Schema().Check(q); err != nil {
			t.Fatal(err)
		}
		add("odd", q)
	}
	return all
}

// oddQueries have every form of condition, and orders of every kind.
func oddQueries(w trial.World) []search.Query {
	number := func(dim string, op search.Op, x float64) search.Predicate {
		return search.Compare{Dim: dim, Op: op, Value: search.Number(x)}
	}
	text := func(dim string, op search.Op, s string) search.Predicate {
		return search.Compare{Dim: dim, Op: op, Value: search.Text(s)}
	}
	origin, _ := w.Market.Value(3, search.DimCoordinate).Coordinate()
	linux, wasi := search.Contains{Dim: "environments", Member: "linux"}, search.Contains{Dim: "environments", Member: "wasi"}
	tokyo := search.Within{Dim: "place", Center: search.Place{Lat: 35.7, Lon: 139.7}, Km: 800}
	return []search.Query{
		{},
		{Limit: 10},
		{OrderBy: "price_hour", Limit: 10},
		{OrderBy: "free_cpu", Desc: true, Limit: 10},
		{OrderBy: "free_gpu", Desc: true, Limit: 20},
		{OrderBy: "kernel", Limit: 10},
		{OrderBy: "load", Limit: 10, Where: number("free_cpu", search.OpGreater, 8)},
		{OrderBy: search.DimCoordinate, Origin: &origin, Limit: 10},
		{OrderBy: search.DimCoordinate, Origin: &origin, Desc: true, Limit: 5, Where: tokyo},
		{Where: search.And{linux, wasi}},
		{Where: search.Or{linux, number("free_cpu", search.OpEqual, 4)}, Limit: 10, OrderBy: "price_cpu"},
		{Where: search.Not{Of: linux}},
		{Where: search.Not{Of: search.And{number("free_gpu", search.OpGreaterEqual, 1), text("arch", search.OpEqual, "amd64")}}},
		{Where: search.Not{Of: search.Has{Dim: "free_gpu"}}, Limit: 10},
		{Where: search.And{search.Has{Dim: "free_gpu"}, search.Not{Of: search.Range{Dim: "free_gpu", Low: 2, High: 4}}}},
		{Where: search.In{Dim: "country", Values: []search.Value{search.Text("DE"), search.Text("JP"), search.Text("XX")}}},
		{Where: search.In{Dim: "country", Values: []search.Value{search.Text("BR"), search.Text("US")}}, Limit: 30},
		{Where: text("country", search.OpNotEqual, "US"), OrderBy: "uptime", Desc: true, Limit: 10},
		{Where: text("kernel", search.OpGreaterEqual, "6"), OrderBy: "kernel", Desc: true, Limit: 7},
		{Where: tokyo},
		{Where: search.Within{Dim: "place", Center: search.Place{Lat: 64, Lon: 179}, Km: 3500}},
		{Where: search.Within{Dim: "place", Center: search.Place{Lat: 80, Lon: 0}, Km: 3000}},
		{Where: search.RTT{Dim: search.DimCoordinate, To: []dht.Coordinate{origin}, Most: 40 * time.Millisecond}},
		{Where: search.And{tokyo, search.Range{Dim: "price_hour", Low: 0.01, High: 0.3}}, OrderBy: "price_hour", Limit: 10},
		{Where: number("free_cpu", search.OpGreater, 1e9)},
		{Where: number("load", search.OpLess, 0.1), Limit: 10}, // has no tree
	}
}

// do carries one task out.
func do(t testing.TB, w trial.World, a trial.Algorithm, task trial.Task) (out trial.Outcome) {
	t.Helper()
	over := 0
	a.Start(task, nil, func(o trial.Outcome) { out, over = o, over+1 })
	if err := w.Net.RunWhile(context.Background(), func() bool { return over == 0 }); err != nil {
		t.Fatal(err)
	}
	if over != 1 {
		t.Fatalf("%s ends %s task %v %d times", a.Name(), task.Class, task.Query.Where, over)
	}
	return out
}

func ids(servers []int) (out []network.NodeID) {
	for _, s := range servers {
		out = append(out, network.NodeID(s))
	}
	return out
}

// TestComplete compares every answer with the oracle.
func TestComplete(t *testing.T) {
	w := newWorld(t, 2000, 1, nil)
	all := tasks(t, w, 25)
	index := NewIndex(w)
	for _, name := range Names() {
		if name == "kademlia" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			a, err := index.New(name, w)
			if err != nil {
				t.Fatal(err)
			}
			complete := 0
			for _, task := range all {
				out := do(t, w, a, task)
				if out.Complete {
					complete++
					check(t, w, task, out, name)
				} else if name != "cid" {
					t.Errorf("%s: %v is not complete", name, task.Query.Where)
				}
				if name == "central" && out.Requests > 1 {
					t.Errorf("%s: %d requests", name, out.Requests)
				}
				if out.Latency > time.Minute || out.Requests > 40_000 {
					t.Errorf("%s: %v takes %s and %d requests", name, task.Query.Where, out.Latency, out.Requests)
				}
			}
			t.Logf("%s: %d of %d complete", name, complete, len(all))
		})
	}
	t.Logf("index: %d bytes", index.Bytes())
}

// check compares a complete answer with the oracle's.
func check(t *testing.T, w trial.World, task trial.Task, out trial.Outcome, name string) {
	t.Helper()
	q := task.Query
	if task.Count {
		want := float64(w.Market.Count(q.Where))
		if name != "bloom" && out.Estimated != want {
			t.Errorf("count %v: %v, want %v", q.Where, out.Estimated, want)
		}
		if name == "bloom" && testing.Verbose() {
			t.Logf("count %v: %v, want %v", q.Where, out.Estimated, want)
		}
		return
	}
	want := ids(w.Market.Select(q))
	got := slices.Clone(out.Servers)
	if q.OrderBy == "" && q.Limit > 0 { // any that match
		matches := w.Market.Matcher(q.Where)
		for _, s := range got {
			if !matches(int(s)) {
				t.Errorf("%v: %d does not match", q.Where, s)
			}
		}
		slices.Sort(got)
		if len(slices.Compact(got)) != len(want) {
			t.Errorf("%v limit %d: %d servers, want %d", q.Where, q.Limit, len(got), len(want))
		}
		return
	}
	if q.OrderBy == "" {
		slices.Sort(got)
		slices.Sort(want)
	}
	if best := w.Market.Want(q, nil); q.OrderBy == search.DimCoordinate && q.Limit > 0 && len(got) == len(want) && best.Hits(out.Indices()) == len(want) {
		return // as near
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v order %q desc %v limit %d: %d servers %v, want %d %v", q.Where, q.OrderBy, q.Desc, q.Limit,
			len(got), got[:min(len(got), 12)], len(want), want[:min(len(want), 12)])
	}
}

// TestFaults lets nodes be unreachable and messages be lost: every task ends,
// nothing that does not match is returned, and what is called complete has
// every server that can be reached.
func TestFaults(t *testing.T) {
	w := newWorld(t, 2000, 2, func(c *network.Config) { c.Unreachable, c.Loss = 0.15, 0.02 })
	all := tasks(t, w, 6)
	index := NewIndex(w)
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			a, err := index.New(name, w)
			if err != nil {
				t.Fatal(err)
			}
			complete, slowest := 0, time.Duration(0)
			for _, task := range all {
				out := do(t, w, a, task)
				if out.Complete {
					complete++
				}
				slowest = max(slowest, out.Latency)
				matches := w.Market.Matcher(task.Query.Where)
				if slices.ContainsFunc(out.Servers, func(s network.NodeID) bool { return !matches(int(s)) }) {
					t.Errorf("%v: a server that does not match", task.Query.Where)
				}
				if name != "kademlia" && !task.Count && out.Complete && task.Query.Limit == 0 {
					want := ids(w.Market.Select(task.Query))
					want = slices.DeleteFunc(want, func(s network.NodeID) bool { return !w.Net.Answers(s) })
					if len(out.Servers) != len(want) {
						t.Errorf("%v: %d servers, want %d", task.Query.Where, len(out.Servers), len(want))
					}
				}
			}
			t.Logf("%s: %d of %d complete, slowest %s", name, complete, len(all), slowest)
			if name != "cid" && name != "crawl" && name != "bloom" && complete < len(all)*9/10 {
				t.Errorf("only %d of %d complete", complete, len(all))
			}
		})
	}
}

// TestSame runs everything twice.
func TestSame(t *testing.T) {
	once := func() string {
		var text strings.Builder
		w := newWorld(t, 1500, 3, func(c *network.Config) { c.Loss = 0.02 })
		all := tasks(t, w, 2)
		for _, name := range Names() {
			a, err := New(name, w)
			if err != nil {
				t.Fatal(err)
			}
			for _, task := range all {
				hops := 0
				a.Start(task, func(h trial.Hop) { hops++; fmt.Fprintln(&text, h) }, func(o trial.Outcome) {
					fmt.Fprintln(&text, name, hops, o)
				})
			}
			if err := w.Net.Run(context.Background(), w.Net.Now()+10*time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		return text.String()
	}
	if a, b := once(), once(); a != b || a == "" {
		t.Error("two runs differ")
	}
}

// TestDrift changes what servers have: a minute later every answer is right
// again.
func TestDrift(t *testing.T) {
	w := newWorld(t, 1000, 5, nil)
	index, rng := NewIndex(w), rand.New(rand.NewPCG(5, 5))
	for range 3 {
		for _, name := range []string{"bloom", "walk", "pht", "kdtree"} {
			a, err := index.New(name, w)
			if err != nil {
				t.Fatal(err)
			}
			for _, q := range oddQueries(w) {
				task := trial.Task{Client: 7, Query: q}
				check(t, w, task, do(t, w, a, task), name)
			}
		}
		for i := range w.Market.Len() {
			w.Market.Drift(i, rng)
		}
		if err := w.Net.Run(t.Context(), w.Net.Now()+renewal); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCover compares regions with the oracle: whatever satisfies a condition is
// in its region, in every column.
func TestCover(t *testing.T) {
	w := newWorld(t, 700, 6, nil)
	x := NewIndex(w)
	for _, task := range tasks(t, w, 30) {
		r := x.region(task.Query.Where, true)
		matches := w.Market.Matcher(task.Query.Where)
		for _, c := range r.columns() {
			spans := r.on(c)
			inside := make(map[uint32]bool)
			for _, s := range spans {
				for _, server := range c.order[s.from:s.to] {
					inside[server] = true
				}
			}
			for i := range w.Market.Len() {
				if matches(i) && !inside[uint32(i)] {
					t.Fatalf("%v: server %d is not in %v of %s", task.Query.Where, i, spans, c.name)
				}
			}
		}
	}
}

func TestCompareVersions(t *testing.T) {
	ascending := []string{"1", "1.0-a", "5.10", "6.1", "6.1.0-42", "6.2-rc1", "6.12", "10.0.0.0.0.0.0.1", "10.0.0.0.0.0.0.1.5"}
	for i, a := range ascending {
		for j, b := range ascending {
			if got := compareVersions(a, b); got < 0 != (i < j) || got > 0 != (i > j) {
				t.Errorf("compare %s with %s: %d", a, b, got)
			}
		}
	}
}

// TestDeath kills a fifth of the nodes at once: every task ends, and what is
// called complete has every living server that can be reached.
func TestDeath(t *testing.T) {
	w := newWorld(t, 1500, 8, nil)
	all := tasks(t, w, 4)
	rng := rand.New(rand.NewPCG(8, 8))
	index := NewIndex(w)
	for i := range w.Net.Len() {
		client := slices.ContainsFunc(all, func(t trial.Task) bool { return t.Client == network.NodeID(i) })
		if !client && rng.IntN(5) == 0 {
			w.Net.Kill(network.NodeID(i))
		}
	}
	for _, name := range Names() {
		a, err := index.New(name, w)
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range all {
			out := do(t, w, a, task)
			if slices.ContainsFunc(out.Servers, func(s network.NodeID) bool { return !w.Net.Answers(s) }) {
				t.Errorf("%s: %v: a dead server", name, task.Query.Where)
			}
			if name == "kademlia" || task.Count || !out.Complete || task.Query.Limit > 0 {
				continue
			}
			want := ids(w.Market.Select(task.Query))
			want = slices.DeleteFunc(want, func(s network.NodeID) bool { return !w.Net.Answers(s) })
			if len(out.Servers) != len(want) {
				t.Errorf("%s: %v: %d servers, want %d", name, task.Query.Where, len(out.Servers), len(want))
			}
		}
	}
}

// TestTiny has fewer nodes than replicas, and indexes of one leaf.
func TestTiny(t *testing.T) {
	for _, nodes := range []int{1, 2, 3, 17, leafAds - 1, leafAds, leafAds + 1} {
		w := newWorld(t, nodes, 9, nil)
		index := NewIndex(w)
		for _, name := range Names() {
			a, err := index.New(name, w)
			if err != nil {
				t.Fatal(err)
			}
			for _, q := range oddQueries(newWorld(t, 20, 9, nil)) {
				task := trial.Task{Query: q}
				if out := do(t, w, a, task); out.Complete && name != "kademlia" {
					check(t, w, task, out, name)
				}
			}
		}
	}
}

// TestThrifty compares the lookups of those who make many with plain ones.
func TestThrifty(t *testing.T) {
	w := newWorld(t, 3000, 10, func(c *network.Config) { c.Unreachable = 0.1 })
	rng := rand.New(rand.NewPCG(10, 10))
	plain, thrifty := 0, 0
	for range 200 {
		key, from := rng.Uint64(), w.Net.Closest(nil, rng.Uint64(), 1)[0]
		holders := w.Net.Closest(nil, key, replicas)
		holds := func(id network.NodeID) bool { return slices.Contains(holders, id) }
		left := 2
		done := func(sum *int) func(network.NodeID, bool, int) {
			return func(at network.NodeID, ok bool, requests int) {
				left--
				*sum += requests
				if !ok || !holds(at) {
					t.Errorf("found %d, %v", at, ok)
				}
			}
		}
		w.Net.Find(from, key, network.PlainAlpha, holds, done(&plain))
		w.Net.Find(from, key, network.PaperAlpha, holds, done(&thrifty))
		if _ = w.Net.RunWhile(t.Context(), func() bool { return left > 0 }); left > 0 {
			t.Fatal("a lookup does not end")
		}
	}
	if thrifty > plain/2 {
		t.Errorf("%d messages, where a plain lookup takes %d", thrifty, plain)
	}
}

func TestUnknown(t *testing.T) {
	w := newWorld(t, 10, 4, nil)
	if _, err := New("oracle", w); !errors.Is(err, ErrUnknown) {
		t.Errorf("error %v", err)
	}
	for _, name := range Names() {
		a, err := New(name, w)
		if err != nil || a.Name() != name {
			t.Errorf("%s: %v", name, err)
		}
		if p, ok := a.(Publisher); !ok || p.RefreshMessages() < 0 {
			t.Errorf("%s is no publisher", name)
		}
		do(t, w, a, trial.Task{Query: search.Query{Limit: 3}})
	}
}
