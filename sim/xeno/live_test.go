package xeno_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/market"
	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/trial"
	"github.com/xenoserver/xeno/sim/xeno"
)

// ask carries out one task to its end.
func ask(t testing.TB, net *network.Network, a trial.Algorithm, task trial.Task) (out trial.Outcome) {
	t.Helper()
	over := false
	a.Start(task, nil, func(o trial.Outcome) { out, over = o, true })
	if err := net.RunWhile(t.Context(), func() bool { return !over }); err != nil || !over {
		t.Fatal("the query does not end", err)
	}
	return out
}

// queries draws some of every class.
func queries(t testing.TB, w trial.World, each int) (tasks []trial.Task) {
	t.Helper()
	rng := rand.New(rand.NewPCG(7, 7))
	for _, class := range trial.Classes() {
		qs, err := w.Market.Queries(t.Context(), class, each, market.Asking{}, rng)
		if err != nil {
			t.Fatal(class, err)
		}
		for _, q := range qs {
			tasks = append(tasks, trial.Task{Class: class, Query: q})
		}
	}
	return tasks
}

// found is how many an answer has of those that the oracle says match and
// answer.
func found(w trial.World, q search.Query, o trial.Outcome) (hit, want, dead int) {
	best := w.Market.Want(q, func(i int) bool { return w.Net.Answers(network.NodeID(i)) })
	for _, s := range o.Servers {
		if !w.Net.Answers(s) {
			dead++
		}
	}
	return best.Hits(o.Indices()), len(best.Best), dead
}

// live returns a live network that has settled.
func live(t testing.TB, w trial.World, cfg xeno.LiveConfig) *xeno.Live {
	t.Helper()
	l := xeno.NewLive(w, cfg)
	if err := l.Populate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

// TestLiveAgrees lets servers publish into nothing, and compares cells and
// answers with those at rest and with the oracle.
func TestLiveAgrees(t *testing.T) {
	if testing.Short() {
		return // it takes half a minute
	}
	const nodes, leaf = 150, 64
	w := newWorld(t, nodes, 11)
	l := live(t, w, xeno.LiveConfig{Leaf: leaf})
	if settled, all := l.InPlace(); all != nodes || settled < nodes*99/100 {
		t.Errorf("%d of %d publishers are in place", settled, all)
	}
	index, err := xeno.NewIndex(t.Context(), w, leaf)
	if err != nil {
		t.Fatal(err)
	}
	// How many ads there are below travels one level up a minute.
	if err := w.Net.Run(t.Context(), w.Net.Now()+2*time.Minute); err != nil {
		t.Fatal(err)
	}
	cells, wrong := xeno.Differences(l, index)
	for _, why := range wrong[:min(5, len(wrong))] {
		t.Error(why)
	}
	t.Logf("%d of %d copies of cells differ", len(wrong), cells)
	rest, now := xeno.New(index, xeno.Options{}), xeno.New(l, xeno.Options{})
	for _, task := range queries(t, w, 10) {
		task.Client = network.NodeID(w.Rand.IntN(nodes))
		a, b := ask(t, w.Net, rest, task), ask(t, w.Net, now, task)
		if hit, want, dead := found(w, task.Query, b); hit != want || len(b.Servers) != want || dead > 0 || !b.Complete {
			t.Errorf("%s query %v: %d of %d found", task.Class, task.Query.Where, hit, want)
		}
		if ordered := task.Query.OrderBy != "" || task.Query.Limit == 0; ordered && !slices.Equal(a.Servers, b.Servers) {
			t.Errorf("%s query %v: %v live, %v at rest", task.Class, task.Query.Where, b.Servers, a.Servers)
		}
	}
}

// TestLiveDeath lets a fifth of the nodes die at once.
func TestLiveDeath(t *testing.T) {
	if testing.Short() {
		return // it takes half a minute
	}
	w := newWorld(t, 500, 12)
	l := live(t, w, xeno.LiveConfig{Leaf: 64, AtRest: true})
	// The dead stay in the cells for a lease; those who ask verify.
	x := xeno.New(l, xeno.Options{Verify: true})
	all := queries(t, w, 5)
	recall := func() float64 {
		hits, wants := 0, 0
		for _, task := range all {
			for task.Client = 0; !w.Net.Answers(task.Client); {
				task.Client = network.NodeID(w.Rand.IntN(500))
			}
			o := ask(t, w.Net, x, task)
			hit, want, _ := found(w, task.Query, o)
			hits, wants = hits+hit, wants+want
		}
		return float64(hits) / float64(wants)
	}
	before := recall()
	died := xeno.Fail(w.Net, l, 0.2, false, w.Rand)
	after := recall()
	if err := w.Net.Run(t.Context(), w.Net.Now()+2*time.Minute); err != nil {
		t.Fatal(err)
	}
	later := recall()
	t.Logf("recall %.4f, right after %d died %.4f, two minutes later %.4f", before, len(died), after, later)
	if before < 1 || after < 0.95 || later < 0.99 {
		t.Error("want 1, 0.95 and 0.99")
	}
}

// TestLiveSame lets nodes come and go and servers change, twice.
func TestLiveSame(t *testing.T) {
	run := func() string {
		w := newWorld(t, 40, 13)
		s := xeno.Sessions{Shape: 0.6, Scale: 5 * time.Minute, Away: time.Minute, Graceful: 0.5}
		s.Absent(w.Net, w.Rand)
		l := live(t, w, xeno.LiveConfig{Leaf: 16, AtRest: true})
		s.Churn(w.Net, l, 0, w.Rand)
		l.Drift(2, w.Rand)
		if err := w.Net.Run(t.Context(), w.Net.Now()+2*time.Minute); err != nil {
			t.Fatal(err)
		}
		out := fmt.Sprintf("%+v %d\n", l.Stats(), w.Net.Events())
		x := xeno.New(l, xeno.Options{Verify: true})
		for _, task := range queries(t, w, 1) {
			for !w.Net.Answers(task.Client) {
				task.Client++
			}
			out += fmt.Sprintln(ask(t, w.Net, x, task))
		}
		return out
	}
	a, b := run(), run()
	if a != b {
		t.Errorf("two runs differ:\n%s\n%s", a, b)
	}
	t.Log(a)
}

// TestLiveLeave withdraws an ad with its server.
func TestLiveLeave(t *testing.T) {
	w := newWorld(t, 40, 14)
	l := live(t, w, xeno.LiveConfig{AtRest: true})
	x := xeno.New(l, xeno.Options{})
	l.Leave(7, true)
	if err := w.Net.Run(t.Context(), w.Net.Now()+3*time.Second); err != nil {
		t.Fatal(err)
	}
	all := func() []network.NodeID {
		return ask(t, w.Net, x, trial.Task{Client: 1, Query: search.Query{}}).Servers
	}
	if got := all(); len(got) != 39 || slices.Contains(got, 7) {
		t.Errorf("%d servers found after one of 40 left", len(got))
	}
	took, ok, err := l.Probe(t.Context(), 7)
	if err != nil || !ok || took > 5*time.Second {
		t.Errorf("found again %v after %s: %v", ok, took, err)
	}
	if got := all(); len(got) != 40 {
		t.Errorf("%d servers found after it came back", len(got))
	}
}
