package rival

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/xenoserver/xeno/sim/market"
	"github.com/xenoserver/xeno/sim/trial"
)

// spent is what the tasks of one class cost one rival.
type spent struct {
	requests, latency []float64 // latency in L
	recall            float64
}

func quantile(all []float64, q float64) float64 {
	slices.Sort(all)
	return all[min(int(q*float64(len(all))), len(all)-1)]
}

// measure asks all queries of a class.
func measure(t *testing.T, w trial.World, a trial.Algorithm, class string, each int, unit float64) (s spent) {
	t.Helper()
	rng := rand.New(rand.NewPCG(11, 11))
	queries, err := w.Market.Queries(t.Context(), class, each, market.Asking{}, rng)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range queries {
		client := w.Net.Closest(nil, rng.Uint64(), 1)[0]
		o := do(t, w, a, trial.Task{Class: class, Client: client, Query: q, Count: class == trial.Count})
		s.requests = append(s.requests, float64(o.Requests))
		s.latency = append(s.latency, o.Latency.Seconds()/unit)
		want := w.Market.Want(q, nil)
		s.recall += float64(want.Hits(o.Indices())) / float64(len(want.Best)) / float64(len(queries))
	}
	return s
}

// TestFigures holds the rivals to what is known of them.
func TestFigures(t *testing.T) {
	const nodes, each = 2000, 40
	w := newWorld(t, nodes, 1, nil)
	index := NewIndex(w)
	plain, _ := index.New("kademlia", w)
	unit := quantile(measure(t, w, plain, trial.Broad, 5*each, 1).latency, 0.5)
	t.Logf("L is %.0f ms", unit*1000)
	figures := make(map[string]map[string]spent)
	for _, name := range Names() {
		figures[name] = make(map[string]spent)
		for _, class := range trial.Classes() {
			a, err := index.New(name, w)
			if err != nil {
				t.Fatal(err)
			}
			s := measure(t, w, a, class, each, unit)
			figures[name][class] = s
			t.Logf("%-10s %-9s requests p50 %5.0f p99 %5.0f, latency p50 %4.1f p99 %4.1f L, recall %.3f", class, name,
				quantile(s.requests, 0.5), quantile(s.requests, 0.99), quantile(s.latency, 0.5), quantile(s.latency, 0.99), s.recall)
			if name != "kademlia" && name != "cid" && class != trial.Count && s.recall < 0.9999 {
				t.Errorf("%s finds %.3f of %s", name, s.recall, class)
			}
		}
	}
	for _, class := range []string{trial.Selective, trial.Broad} { // Spence and Harris, 2003: 3 to 5 times a plain lookup
		if f := quantile(figures["bloom"][class].latency, 0.5); f < 3 || f > 5.5 {
			t.Errorf("bloom takes %.1f L for %s", f, class)
		}
	}
	for _, class := range trial.Classes() {
		if r := quantile(figures["central"][class].requests, 1); r > 1 {
			t.Errorf("central takes %.0f requests", r)
		}
		one, three := quantile(figures["central"][class].latency, 0.5), quantile(figures["central3"][class].latency, 0.5)
		if one > 2 || three > one {
			t.Errorf("%s: central takes %.2f L, three sites %.2f L", class, one, three)
		}
		if r := quantile(figures["walk"][class].requests, 1); r > 200 {
			t.Errorf("walk takes %.0f requests", r)
		}
	}
	if r := quantile(figures["crawl"][trial.Needle].requests, 0.5); r < nodes*0.9 || r > nodes {
		t.Errorf("a crawl takes %.0f requests", r)
	}
	if r := figures["cid"][trial.Exhaustive].recall; r > 0.95 {
		t.Errorf("cid finds %.2f of all, although a lookup brings %d", r, mostProviders)
	}
}

// BenchmarkIndex builds twelve columns of a million servers and a kd-tree.
func BenchmarkIndex(b *testing.B) {
	w := newWorld(b, 1_000_000, 1, nil)
	for b.Loop() {
		x := NewIndex(w)
		columns := 0
		for _, d := range w.Market.Schema().Dimensions() {
			if d.Tree && parts(d) == 1 && columns < 12 {
				x.column(d.Name, 0)
				columns++
			}
		}
		b.ReportMetric(float64(x.Bytes())/1e6, "MB")
	}
}
