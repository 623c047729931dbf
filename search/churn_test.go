package search

import (
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// everything is asked of all replicas: what any holder leases is found.
var everything = SeekerConfig{Replicas: Replicas}

// TestChurn lets ads come, change and go, and participants die and join,
// under loss, and checks at every turn that no leased ad is lost.
func TestChurn(t *testing.T) {
	w := newWorld(t, 2, 12, 16)
	for range 60 {
		w.publish(randomAd(w.rng, w.now))
	}
	w.run(5 * time.Second)
	w.loss = 0.02
	for round := range 6 {
		for i, p := range w.pubs {
			switch {
			case p.stopped:
			case i%7 == round%7:
				w.publisher(p, Offer{changed(w.rng, p.ad, w.now)})
			case i%29 == round:
				w.publisher(p, Stop{})
			default:
				w.publisher(p, Offer{renewed(p.ad, w.now)})
			}
		}
		for range 4 {
			w.publish(randomAd(w.rng, w.now))
		}
		w.kill(1)
		w.join()
		// Retries and the next renewal bring every lease to the new holders.
		w.run(75 * time.Second)
		a := w.search(Query{}, everything)
		found := make(map[dht.PeerID]*Signed)
		for _, r := range a.Results {
			found[r.Signed.Ad.Server] = r.Signed
		}
		missing := 0
		for _, ad := range w.ads() {
			if have := found[ad.Ad.Server]; have == nil || !w.schema.sameLook(have, ad) {
				missing++
			}
		}
		if missing > 0 {
			t.Fatalf("round %d: %d of %d leased ads not found (%s)", round, missing, len(w.ads()), a.Incomplete)
		}
	}
	w.loss = 0
	w.run(4 * time.Minute) // what was withdrawn or changed under loss is forgotten
	for range 60 {
		q := randomQuery(w.rng)
		a := w.search(q, SeekerConfig{})
		w.compare(q, a)
	}
}

// TestDeath kills a third of the participants at once.
func TestDeath(t *testing.T) {
	w := newWorld(t, 3, 21, 24)
	for range 100 {
		w.publish(randomAd(w.rng, w.now))
	}
	w.run(2 * time.Minute)
	w.kill(7)
	recall := func() float64 {
		found, want := 0, 0
		for range 40 {
			q := Query{Where: randomPredicate(w.rng, 2)}
			a := w.search(q, SeekerConfig{})
			found += len(a.Results)
			want += len(w.schema.Select(q, w.ads()))
		}
		return float64(found) / float64(want)
	}
	at := recall()
	t.Logf("recall right after: %.4f", at)
	if at < 0.95 {
		t.Errorf("recall %.4f right after a third died, want 0.95", at)
	}
	w.run(2 * time.Minute)
	for range 60 {
		q := randomQuery(w.rng)
		a := w.search(q, SeekerConfig{})
		w.compare(q, a)
	}
}

// TestSplitAndMerge lets a tree grow and shrink again.
func TestSplitAndMerge(t *testing.T) {
	w := newWorld(t, 4, 10, 16)
	for range 150 {
		w.publish(randomAd(w.rng, w.now))
	}
	w.run(3 * time.Second)
	inner := func() (n int) {
		for _, p := range w.peers {
			for _, id := range p.holder.order {
				if p.holder.cells[id].inner {
					n++
				}
			}
		}
		return n
	}
	grown := inner()
	if grown == 0 {
		t.Fatal("150 ads did not split a cell")
	}
	for i, p := range w.pubs {
		if i%40 != 0 {
			w.publisher(p, Stop{})
		}
	}
	for minutes := 0; inner() > 0; minutes++ {
		if minutes > 40 {
			t.Fatalf("%d of %d inner cells did not merge", inner(), grown)
		}
		for _, p := range w.pubs {
			if !p.stopped {
				w.publisher(p, Offer{renewed(p.ad, w.now)})
			}
		}
		w.run(time.Minute)
		a := w.search(Query{}, everything)
		if len(a.Results) != len(w.ads()) {
			t.Fatalf("%d of %d ads found while cells merge", len(a.Results), len(w.ads()))
		}
	}
	// The publishers came up to the roots, and the cells below are gone.
	w.run(15 * time.Minute)
	for _, p := range w.peers {
		for _, id := range p.holder.order {
			if id.Prefix.Level > 0 {
				t.Fatalf("cell %s is still there", id)
			}
		}
	}
	for range 40 {
		q := randomQuery(w.rng)
		a := w.search(q, SeekerConfig{})
		w.compare(q, a)
	}
}

// TestWithdraw forgets an ad at once.
func TestWithdraw(t *testing.T) {
	w := newWorld(t, 5, 10, LeafAds)
	for range 20 {
		w.publish(randomAd(w.rng, w.now))
	}
	w.run(2 * time.Second)
	w.publisher(w.pubs[0], Stop{})
	w.run(time.Second)
	a := w.search(Query{}, everything)
	if len(a.Results) != 19 {
		t.Errorf("%d results, want 19", len(a.Results))
	}
}

// TestLease forgets an ad whose publisher fell silent, and not before.
func TestLease(t *testing.T) {
	w := newWorld(t, 6, 10, LeafAds)
	pub := w.publish(randomAd(w.rng, w.now))
	w.run(2 * time.Second)
	pub.stopped = true // without a word
	w.pubs = nil
	w.run(290 * time.Second)
	if a := w.search(Query{}, everything); len(a.Results) != 1 {
		t.Errorf("%d results before the lease ended, want 1", len(a.Results))
	}
	w.run(10 * time.Second)
	if a := w.search(Query{}, everything); len(a.Results) != 0 {
		t.Errorf("%d results after the lease ended, want 0", len(a.Results))
	}
}

// TestGuides enters by the hints of participants nearby, of whom some or all
// name wrong holders, or by what an earlier query saw.
func TestGuides(t *testing.T) {
	w := newWorld(t, 7, 30, 16)
	for range 120 {
		w.publish(randomAd(w.rng, w.now))
	}
	w.run(3 * time.Minute)
	honest, liar := dht.Contact{ID: randomID(w.rng)}, dht.Contact{ID: randomID(w.rng)}
	w.liars = map[dht.PeerID]bool{liar.ID: true}
	for _, guides := range [][]dht.Contact{{honest, honest}, {honest, liar}, {liar, liar}} {
		for range 30 {
			q := randomQuery(w.rng)
			w.compare(q, w.search(q, SeekerConfig{Guides: guides}))
		}
	}
}

// TestKnown lets queries use what earlier ones saw, while ads come and go.
func TestKnown(t *testing.T) {
	w := newWorld(t, 8, 30, 16)
	for range 120 {
		w.publish(randomAd(w.rng, w.now))
	}
	w.run(3*time.Minute + 20*time.Second) // no renewal is under way
	known, sample := make(map[CellID]Glimpse), Sample{}
	for i := range 60 {
		if i%5 == 0 {
			w.publish(randomAd(w.rng, w.now))
			w.publisher(w.pubs[i], Stop{})
			// Tables hear that an ad is gone a refresh later, those above by one more.
			w.run(WithdrawPatience + 2*(TickEvery+mirrorRefresh))
		}
		q := randomQuery(w.rng)
		finish := w.finish(q, SeekerConfig{Known: known, Sample: sample})
		w.compare(q, finish.Answer)
		for _, g := range finish.Seen {
			known[g.Cell] = g
		}
		if len(finish.Sample.Ads) > 0 {
			sample = finish.Sample
		}
	}
	if len(known) == 0 || len(sample.Ads) == 0 {
		t.Error("nothing was remembered")
	}
}
