package xeno_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
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

// answering is what the oracle says: who matches and answers, in order.
func answering(w trial.World, q search.Query) []int {
	limit := q.Limit
	q.Limit = 0
	all := slices.DeleteFunc(w.Market.Select(q), func(i int) bool { return !w.Net.Answers(network.NodeID(i)) })
	if limit > 0 {
		all = all[:min(limit, len(all))]
	}
	return all
}

// found is how many of the oracle's an answer has.
func found(w trial.World, q search.Query, servers []network.NodeID) (hit, want, dead int) {
	best := answering(w, q)
	set := best
	if q.OrderBy == "" {
		set = answering(w, search.Query{Where: q.Where})
	}
	for _, s := range servers {
		if !w.Net.Answers(s) {
			dead++
		} else if slices.Contains(set, int(s)) {
			hit++
		}
	}
	return min(hit, len(best)), len(best), dead
}

func TestExploreLive(t *testing.T) {
	nodes, _ := strconv.Atoi(os.Getenv("XENO_LIVE"))
	if nodes == 0 {
		t.Skip()
	}
	w := newWorld(t, nodes, 1)
	l := xeno.NewLive(w, xeno.LiveConfig{AtRest: os.Getenv("XENO_REST") != ""})
	begin := time.Now()
	if err := l.Populate(context.Background()); err != nil {
		t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	settled, all := l.InPlace()
	t.Logf("%d of %d in place, %s, %d events, %d MB", settled, all, time.Since(begin), w.Net.Events(), m.HeapAlloc>>20)
	t.Logf("%+v", l.Stats())
	before, at := l.Stats(), w.Net.Now()
	begin = time.Now()
	_ = w.Net.Run(context.Background(), at+2*time.Minute)
	t.Logf("refresh %.1f in %s %+v", l.Stats().Refresh(before, nodes, time.Minute, 2*time.Minute), time.Since(begin), l.Stats())
	x := xeno.New(l, xeno.Options{})
	hits, wants := 0, 0
	for _, task := range queries(t, w, 10) {
		task.Client = network.NodeID(w.Rand.IntN(nodes))
		o := ask(t, w.Net, x, task)
		hit, want, dead := found(w, task.Query, o.Servers)
		hits, wants = hits+hit, wants+want
		if hit != want || dead > 0 {
			fmt.Println(task.Class, hit, want, dead, o.Complete)
		}
	}
	t.Logf("recall %d/%d", hits, wants)
}
