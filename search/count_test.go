package search

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/xenoserver/xeno/dht"
)

// grown returns a world at rest with ads in trees of some levels.
func grown(t *testing.T, seed uint64, ads int) *world {
	w := newWorld(t, seed, 12, 16)
	for range ads {
		w.publish(randomAd(w.rng, w.now))
	}
	w.run(10 * time.Minute) // every summary has gone up, and is gone from where ads passed
	return w
}

// truth is how many ads match.
func (w *world) truth(where Predicate) float64 {
	return float64(len(w.schema.Select(Query{Where: where}, w.ads())))
}

// through lets a Counter read everything in question.
var through = CounterConfig{Error: 1e-9, Budget: 10_000}

// TestCount asks a world of some levels.
func TestCount(t *testing.T) {
	w := grown(t, 11, 80)
	t.Run("through", func(t *testing.T) { countThrough(t, w) })
	t.Run("liar", func(t *testing.T) { countLiar(t, w) })
	w.twist = nil
	t.Run("death", func(t *testing.T) { countDeath(t, w) })
	w.kill(8)
	t.Run("alone", func(t *testing.T) {
		a := w.count(Has{"arch"}, CounterConfig{})
		if a.Complete || a.Incomplete == "" || a.Matches.Low != 0 || !math.IsInf(a.Matches.High, 1) {
			t.Errorf("nobody is there: %+v", a)
		}
	})
	if _, err := NewCounter(w.schema, Has{"nothing"}, CounterConfig{}); err == nil {
		t.Error("a condition on what is not in the schema was taken")
	}
}

// countThrough: who reads everything counts exactly, and says so.
func countThrough(t *testing.T, w *world) {
	for range 60 {
		where := randomPredicate(w.rng, 2)
		a := w.count(where, through)
		if want := w.truth(where); a.Matches != (Estimate{want, want, want}) || !a.Complete {
			t.Errorf("%v: %v of %v, complete %v (%s), tree %s, %d requests", where, a.Matches, want, a.Complete, a.Incomplete, a.Tree, a.Requests)
		}
	}
	if a := w.count(nil, through); a.Matches.Count != w.truth(nil) || a.Requests > 3 {
		t.Errorf("of all: %v after %d requests, want %v from a root", a.Matches, a.Requests, w.truth(nil))
	}
}

// countDeath: a third of the participants do not answer.
func countDeath(t *testing.T, w *world) {
	w.kill(4)
	for range 20 {
		where := randomPredicate(w.rng, 1)
		if a := w.count(where, through); math.Abs(a.Matches.Count-w.truth(where)) > 5 {
			t.Errorf("%v: %v, want %v", where, a.Matches, w.truth(where))
		}
	}
}

// TestCountSmall: a root that is a leaf has them all.
func TestCountSmall(t *testing.T) {
	w := newWorld(t, 12, 6, 16)
	for range 10 {
		w.publish(randomAd(w.rng, w.now))
	}
	w.run(3 * time.Minute)
	where := Compare{"free_cpu", OpGreater, Number(1)}
	if a := w.count(where, CounterConfig{}); a.Matches.Count != w.truth(where) || !a.Complete {
		t.Errorf("%v, want %v", a, w.truth(where))
	}
}

// TestAgreedCount: one holder of a child cannot inflate or deflate what its
// table says.
func TestAgreedCount(t *testing.T) {
	h := NewHolder(DefaultSchema(), HolderConfig{})
	tell := func(id byte, count uint32) {
		m := h.schema.NewSummary()
		m.Count = count
		h.Step(testNow, Push{
			From: dht.Contact{ID: dht.PeerID{id}}, Child: CellID{Tree: "arch", Prefix: Root("arch").Prefix.Child(20)}, Summary: m, Epoch: uint64(id),
		})
	}
	said := func() uint32 {
		r := h.ask(testNow, CellQuery{Cell: Root("arch"), Whole: true})
		return r.Children[0].Summary.Count
	}
	for i, step := range []struct {
		id          byte
		count, want uint32
	}{{1, 300, 300}, {2, 310, 300}, {3, 305, 305}, {4, math.MaxUint32, 310}, {5, 1, 310}} {
		if tell(step.id, step.count); said() != step.want {
			t.Errorf("%d: after %d: %d, want %d", i, step.count, said(), step.want)
		}
	}
}

// countLiar lets each participant in turn exaggerate whatever it is asked:
// how many ads are below, of the sample what matches alone, of a leaf that all
// match.
func countLiar(t *testing.T, w *world) {
	where := Compare{"free_cpu", OpGreaterEqual, Number(16)}
	want := w.truth(where)
	for _, liar := range w.peers {
		lies := 0
		w.twist = func(p *peer, _ CellQuery, r *CellReply) {
			if p != liar || !r.Known {
				return
			}
			lies++
			r.Total, r.Matched = 1<<20, 1<<20
			for i := range r.Children {
				r.Children[i].Summary.Count *= 1000
				r.Children[i].Matched = r.Children[i].Sampled
			}
			matching := r.Sample[:0:0]
			for _, ad := range r.Sample {
				if w.schema.Matches(where, ad.Ad) {
					matching = append(matching, ad)
				}
			}
			r.Sample = matching
		}
		a := w.count(where, CounterConfig{Budget: 40})
		if got := a.Matches.Count; got > 2*want || got < want/2 {
			t.Errorf("%d lies: %v, want about %v", lies, a.Matches, want)
		}
	}
}

// TestDisjoint: of cells that stand beside their halves, those count that have
// more, and every ad counts once.
func TestDisjoint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var children []Child
		for i := range Slots {
			if rapid.Bool().Draw(t, "there") {
				children = append(children, Child{Index: i, Summary: Summary{Count: rapid.Uint32Range(0, 20).Draw(t, "count")}})
			}
		}
		taken, sum := map[Prefix]bool{}, uint32(0)
		for _, c := range disjoint(children) {
			p := (Prefix{}).Child(c.Index)
			for q := range taken {
				if q.Contains(p.Key) && q.Level <= p.Level || p.Contains(q.Key) && p.Level <= q.Level {
					t.Fatalf("%s and %s overlap", p, q)
				}
			}
			taken[p], sum = true, sum+c.Summary.Count
		}
		for _, c := range children {
			if c.Index < 2 && c.Summary.Count > sum {
				t.Fatalf("%d in all, but child %d alone has %d", sum, c.Index, c.Summary.Count)
			}
		}
	})
}

// TestStratum: bounds hold the estimate between them, narrow with the sample
// and are exact where nothing is left.
func TestStratum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 500).Draw(t, "sampled")
		s := stratum{
			counted: float64(rapid.IntRange(0, 9).Draw(t, "counted")), rest: float64(rapid.IntRange(0, 1_000_000).Draw(t, "rest")),
			sampled: float64(n), matched: float64(rapid.IntRange(0, n).Draw(t, "matched")), guess: rapid.Float64Range(0, 1).Draw(t, "guess"),
		}
		e := s.estimate()
		if !(s.counted <= e.Low && e.Low <= e.Count && e.Count <= e.High && e.High <= s.counted+s.rest) {
			t.Fatalf("%+v: %+v", s, e)
		}
		if e.Exact() != (s.rest == 0) {
			t.Fatalf("%+v: %+v", s, e)
		}
		if f := e.add(Estimate{3, 3, 3}); math.Abs(f.Low-e.Low-3) > 1e-6 || math.Abs(f.High-e.High-3) > 1e-6 {
			t.Fatalf("an exact number widens %v to %v", e, f)
		}
	})
}
