package honestytest_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/market"
	"github.com/xenoserver/xeno/sim/report"
	"github.com/xenoserver/xeno/sim/trial"
)

// TestHonesty asks the same of the simulator, with tables that are derived and
// with those that are kept, and of real hosts.
func TestHonesty(t *testing.T) {
	if testing.Short() {
		return // a hundred hosts; their code is raced by its own tests
	}
	derived, kept := newWorld(t, false), newWorld(t, true)
	s := newScript(t, derived.Market)
	sims := []*outcome{simulate(t, "derived", derived, s), simulate(t, "maintained", kept, s)}
	var truly *outcome
	synctest.Test(t, func(t *testing.T) { truly = newCluster(t, derived.Net, derived.Market).play(t, s) })
	check(t, derived, s, truly)
	for _, sim := range sims {
		check(t, derived, s, sim)
		for _, m := range measures() {
			m.compare(t, sim, truly)
		}
		t.Logf("lookup: %.2f requests answered with tables %s, %.2f with real ones", sim.served, sim.name, truly.served)
		if math.Abs(sim.served/truly.served-1) > likeness {
			t.Errorf("lookup: %.2f requests answered with tables %s, %.2f with real ones: at most %g apart", sim.served, sim.name, truly.served, likeness)
		}
	}
	same(t, s, sims[0], truly)
}

// same compares the answers with each other: where any matches will do they
// may differ, but what is counted is the same.
func same(t *testing.T, s script, sim, truly *outcome) {
	t.Helper()
	lookups, others := 0, 0
	for i, wave := range s.queries {
		for j, q := range wave {
			a, b := sim.findings[i][j], truly.findings[i][j]
			lookups += b.lookups
			if !slices.Equal(a.servers, b.servers) {
				others++
			}
			if q.class == market.Count && a.matches != b.matches {
				t.Errorf("query %v: %d match, real hosts say %d", q.query.Where, a.matches, b.matches)
			}
		}
	}
	t.Logf("%d answers have other servers, as good; real hosts looked %d cells up", others, lookups)
}

// likeness is by how much the mean number of requests may differ. What real
// hosts answer for other reasons, such as pings, can only be estimated: most
// runs of this test lay within 5 % of the simulator.
const likeness = 0.15

// A measure is a figure of every lookup or query.
type measure struct {
	name string
	of   func(o *outcome) []float64
}

func measures() []measure {
	return []measure{
		{"lookup, ms", func(o *outcome) []float64 { return each(o.nearest, func(n nearest) float64 { return ms(n.took) }) }},
		{"query, ms", func(o *outcome) []float64 { return each(o.findings, func(f finding) float64 { return ms(f.took) }) }},
		{"query, requests", func(o *outcome) []float64 {
			return each(o.findings, func(f finding) float64 { return float64(f.requests) })
		}},
	}
}

// each returns a figure of everything in all waves.
func each[T any](waves [][]T, of func(T) float64) (out []float64) {
	for _, one := range slices.Concat(waves...) {
		out = append(out, of(one))
	}
	return out
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// check compares answers with the truth.
func check(t *testing.T, w trial.World, s script, o *outcome) {
	t.Helper()
	for i, wave := range s.lookups {
		for j, l := range wave {
			if got, want := o.nearest[i][j].hosts, truth(w.Net, l.key, search.Replicas); !slices.Equal(got, want) {
				t.Errorf("%s: the nearest are %v, found %v", o.name, want, got)
			}
		}
	}
	for i, wave := range s.queries {
		for j, q := range wave {
			f := o.findings[i][j]
			if err := answers(w, q, f); err != nil {
				t.Errorf("%s: %v", o.name, err)
			}
		}
	}
}

// answers tells whether a finding is what the oracle says.
func answers(w trial.World, q searching, f finding) error {
	all := q.query
	all.Limit = 0
	want := w.Market.Select(all)
	n := len(want)
	if q.query.Limit > 0 {
		n = min(n, q.query.Limit)
	}
	if !f.complete || len(f.servers) != n {
		return fmt.Errorf("%s query %v: %d servers of %d, complete %v", q.class, q.query.Where, len(f.servers), n, f.complete)
	}
	for i, server := range f.servers {
		at := slices.Index(want, server)
		if at < 0 || q.query.OrderBy != "" && at != i {
			return fmt.Errorf("%s query %v: server %d is in place %d, the oracle says %d", q.class, q.query.Where, server, i, at)
		}
	}
	return nil
}

const (
	// level is below what probability a difference is no chance. The samples
	// come in pairs, the same question to the simulator and to real hosts, so
	// that chance makes less of a difference than the test allows for.
	level = 0.01
	// shift is what difference must be seen at that level.
	shift = 1.2
)

// compare compares two distributions, and makes sure that the test would see a
// shift.
func (m measure) compare(t *testing.T, sim, truly *outcome) {
	t.Helper()
	a, b := m.of(sim), m.of(truly)
	d, p := report.KS(a, b)
	shifted := slices.Clone(a)
	for i := range shifted {
		shifted[i] *= shift
	}
	_, seen := report.KS(a, shifted)
	slices.Sort(a)
	slices.Sort(b)
	t.Logf("%s, tables %s: D %.3f, p %.3g; median %.1f, real %.1f; p90 %.1f, real %.1f; times %g: p %.2g", m.name, sim.name, d, p,
		report.Percentile(a, 0.5), report.Percentile(b, 0.5), report.Percentile(a, 0.9), report.Percentile(b, 0.9), shift, seen)
	if p < level {
		t.Errorf("%s: the simulator, tables %s, differs from real hosts: D %.3f, p %.2g", m.name, sim.name, d, p)
	}
	if seen >= level {
		t.Errorf("%s: %d values are too few to see them times %g: p %.2g", m.name, len(a), shift, seen)
	}
}
