package search

import (
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// killLeaf lets everybody die who has the leaf that a server's ad is in, in one
// tree, or the tree's root.
func (w *world) killLeaf(tree string, ad *Signed, root bool) (n int) {
	for _, p := range w.peers {
		for id, c := range p.holder.cells {
			if p.dead || id.Tree != tree || root && id.Prefix.Level > 0 || !root && (c.inner || c.gathering != nil) {
				continue
			}
			if _, has := c.find(ad.hash); root || has {
				p.dead = true
				n++
			}
		}
	}
	return n
}

// TestDetour lets all holders of a leaf, or of a root, die at once, and asks for
// what was there before anybody publishes anew: other trees have it. When they lose
// it, too, an answer that lacks it says that it is not complete.
func TestDetour(t *testing.T) {
	for _, root := range []bool{false, true} {
		detours, lacking := 0, 0
		for seed := range uint64(2) {
			w := newWorld(t, 60+seed, 0, 8)
			w.wide = 1 // nothing is gathered
			for range 60 {
				w.join()
			}
			for range 30 {
				w.publish(randomAd(w.rng, w.now))
			}
			w.run(130 * time.Second)
			ad := w.pubs[w.rng.IntN(len(w.pubs))].ad
			price, _ := ad.Ad.Attribute("price_cpu")
			q := exactly("price_cpu", price.num)
			want := w.schema.Select(q, w.ads())
			for round := range 6 {
				s, err := NewSeeker(w.schema, q, SeekerConfig{Seed: seed})
				if err != nil {
					t.Fatal(err)
				}
				a := w.drive(s).Answer
				if round < 2 {
					w.compare(q, a)
				}
				if round > 0 && len(s.lossy) == 0 && a.Complete {
					t.Errorf("round %d: no detour", round)
				}
				detours += len(s.lossy)
				if err := w.sameResults(q, a.Results, want); err != nil {
					lacking++
					if a.Complete {
						t.Fatalf("%v, and the answer is said to be complete", err)
					}
				}
				if w.killLeaf(a.Tree, ad, root) == 0 {
					break
				}
			}
		}
		t.Logf("root %v: %d detours, %d answers that lack something", root, detours, lacking)
		if detours < 4 {
			t.Errorf("root %v: %d detours", root, detours)
		}
	}
}

// TestDetourImagined lets one holder of each table, then two, tell of cells that
// nobody has: of one nobody takes notice, and two cost a query a bounded amount
// and hide nothing.
func TestDetourImagined(t *testing.T) {
	w := newWorld(t, 71, 40, 16)
	for range 60 {
		w.publish(randomAd(w.rng, w.now))
	}
	w.run(130 * time.Second)
	lies, detours := 0, 0
	for liars := 1; liars <= 2; liars++ {
		w.twist = func(p *peer, q CellQuery, r *CellReply) {
			for _, c := range w.closest(q.Cell)[:liars] {
				if c.ID != p.id || len(r.Children) == 0 {
					continue
				}
				lies++
				child := Child{Index: 1<<tableBits - 2 + 11, Summary: r.Children[0].Summary, Holders: w.closest(q.Cell)}
				child.Holders = append(child.Holders, dht.Contact{ID: randomID(w.rng)})
				r.Children = append([]Child{child}, r.Children...)
			}
		}
		for i := range 20 {
			q := randomQuery(w.rng)
			s, err := NewSeeker(w.schema, q, SeekerConfig{Seed: uint64(i)})
			if err != nil {
				t.Fatal(err)
			}
			a := w.drive(s).Answer
			all := w.schema.Select(Query{Where: q.Where, OrderBy: q.OrderBy, Desc: q.Desc, Origin: q.Origin}, w.ads())
			if err := w.sameResults(q, a.Results, all); err != nil {
				t.Errorf("%d liars: %v", liars, err)
			}
			if liars == 1 && (!a.Complete || len(s.lossy) > 0) {
				t.Errorf("one liar: %d detours, complete %v (%s)", len(s.lossy), a.Complete, a.Incomplete)
			}
			if detours += len(s.lossy); len(s.lossy) > maxDetours {
				t.Errorf("%d detours", len(s.lossy))
			}
		}
	}
	if lies == 0 || detours == 0 {
		t.Errorf("%d lies, %d detours", lies, detours)
	}
}

// TestNothing asks where nobody advertises: few are asked, and whether all was
// seen nobody can say.
func TestNothing(t *testing.T) {
	w := newWorld(t, 72, 20, 16)
	w.run(time.Minute)
	for _, q := range []Query{{}, {Limit: 10}, exactly("price_cpu", 1)} {
		a := w.search(q, SeekerConfig{})
		if a.Complete || len(a.Results) > 0 || a.Requests > (1+maxDetours)*Replicas {
			t.Errorf("%d results, complete %v (%s), %d requests", len(a.Results), a.Complete, a.Incomplete, a.Requests)
		}
	}
}
