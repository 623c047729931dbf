package search

import (
	"slices"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// settled returns a world whose publishers have come to rest. Few leaves split,
// and none merges.
func settled(t *testing.T, seed uint64, peers, ads int) *world {
	t.Helper()
	w := newWorld(t, seed, peers, 32)
	for range ads {
		w.publish(randomAd(w.rng, w.now))
	}
	w.run(90 * time.Second)
	return w
}

// lacking counts the leases that the holders of leaf cells lack and others of
// them have, and the inner cells without a sample.
func (w *world) lacking() (n, all int) {
	seen := make(map[CellID]bool)
	for _, p := range w.peers {
		for _, id := range p.holder.order {
			if seen[id] || p.dead {
				continue
			}
			seen[id] = true
			union := make(map[Hash]bool)
			var copies []*cell
			inner, going := false, false
			for _, to := range w.closest(id) {
				c := w.byID[to.ID].holder.cells[id]
				if copies = append(copies, c); c == nil {
					continue
				}
				inner, going = inner || c.inner, going || !c.handsOn()
				for _, l := range c.handed(w.now, w.leaf) {
					union[l.ad.hash] = true
				}
			}
			for _, c := range copies {
				switch {
				case going:
				case c == nil:
					n += len(union)
				case !inner:
					n += len(union) - len(c.handed(w.now, w.leaf))
				}
				all += len(union)
			}
		}
	}
	return n, all
}

// TestHandOffOnJoin lets participants join: before any publisher has heard of
// them, they hold what they should.
func TestHandOffOnJoin(t *testing.T) {
	w := settled(t, 31, 16, 36)
	for _, p := range w.pubs {
		p.cfg.Relocate, p.cfg.Renew = time.Hour, time.Hour // they do not look
	}
	joined := make(map[dht.PeerID]bool)
	for range 4 {
		w.join()
		joined[w.peers[len(w.peers)-1].id] = true
	}
	if n, _ := w.lacking(); n == 0 {
		t.Fatal("nothing to hand over")
	}
	w.run(ReconcileNear*reconcileAtFirst + 2*time.Second)
	n, all := w.lacking()
	t.Logf("%d of %d leases lacking", n, all)
	if n > all/100 {
		t.Errorf("%d of %d leases lacking half a minute after four joined", n, all)
	}
	for id := range joined {
		if w.byID[id].holder.Stats().Leases == 0 {
			t.Error("one that joined holds nothing")
		}
	}
}

// TestAntiEntropy takes leases away from some holders, as lost messages would.
func TestAntiEntropy(t *testing.T) {
	for _, apart := range []bool{true, false} {
		w := settled(t, 32, 12, 30)
		for _, p := range w.pubs {
			p.stopped = true // nobody renews
		}
		w.run(35 * time.Second)
		dropped := 0
		for _, p := range w.peers[:6] {
			for _, id := range p.holder.order {
				c := p.holder.cells[id]
				for _, l := range slices.Clone(c.leases[:len(c.leases)/2]) {
					p.holder.drop(c, l.ad.hash)
					dropped++
				}
			}
		}
		before, _ := w.lacking()
		w.apart = apart
		if !apart {
			// A while in which every neighbour has its turn; leases last longer.
			for _, p := range w.peers {
				p.holder.cfg.Lease = time.Hour
				for _, c := range p.holder.cells {
					for i := range c.leases {
						c.leases[i].until = w.now.Add(time.Hour)
					}
				}
			}
			w.run((ReconcileNear + 1) * reconcileEvery)
		}
		after, all := w.lacking()
		switch {
		case before < dropped/2:
			t.Errorf("%d dropped, %d lacking", dropped, before)
		case apart && after == 0:
			t.Error("what was dropped came back from nowhere")
		case !apart && after > all/100:
			t.Errorf("%d of %d leases lacking still, %d at first", after, all, before)
		}
	}
}

// TestHandOffIsQuiet counts what holders that agree tell each other.
func TestHandOffIsQuiet(t *testing.T) {
	w := settled(t, 33, 8, 40)
	w.run(15 * time.Minute) // what had split too far merges
	before := *w
	w.run(4 * time.Minute)
	asked, fetched := w.reconciles-before.reconciles, w.fetches-before.fetches
	if want := 4 * len(w.peers); asked > want {
		t.Errorf("%d questions in 4 minutes, want %d", asked, want)
	}
	if fetched > asked {
		t.Errorf("%d cells fetched in 4 minutes at rest", fetched)
	}
}

// TestHandedNonsense hands a holder what it must not take.
func TestHandedNonsense(t *testing.T) {
	w := settled(t, 34, 8, 36)
	h := w.peers[0].holder
	i := slices.IndexFunc(h.order, func(id CellID) bool {
		c := h.cells[id]
		return id.Tree != "" && !c.inner && id.Prefix.Level > 0 && len(c.leases) > 0
	})
	id := h.order[i]
	c, before := h.cells[id], len(h.cells[id].leases)
	var foreign, own *Signed
	for _, ad := range w.ads() {
		at, _, _ := w.schema.locate(ad, Placement{Tree: id.Tree, Level: id.Prefix.Level})
		if _, held := c.find(ad.hash); at != id {
			foreign = ad
		} else if held {
			own = ad
		}
	}
	from := dht.Contact{ID: w.peers[1].id}
	hand := func(more bool, leases ...Lease) []HolderEffect {
		return h.Step(w.now, Fetched{From: from, Cell: id, Handed: Handed{Leases: leases, More: more}})
	}
	far := w.now.Add(1000 * time.Hour)
	if e := hand(true, Lease{Ad: foreign, Until: far}); len(c.leases) != before || len(e) != 0 {
		t.Error("took an ad that belongs elsewhere, or asked for more of it")
	}
	h.drop(c, own.hash)
	if hand(false, Lease{Ad: own, From: from.ID, Until: w.now}); len(c.leases) != before-1 {
		t.Error("took a lease that had ended")
	}
	if e := hand(true, Lease{Ad: own, From: from.ID, Until: far}); len(c.leases) != before || len(e) != 1 {
		t.Errorf("did not take a lease, or asked for no more: %v", e)
	}
	at, _ := c.find(own.hash)
	if l := c.leases[at]; l.until.After(w.now.Add(h.cfg.Lease)) || l.from != own.Ad.Server {
		t.Errorf("leased until %s for %s: whoever hands it on says neither", l.until, l.from)
	}
	if e := hand(true, Lease{Ad: own, From: from.ID, Until: far}); len(e) != 0 {
		t.Error("asks on and on for what it has")
	}
	// A cell that is far away is not fetched.
	huge := make(Inventory, 10*maxInventory)
	for i := range huge {
		huge[i] = Held{Cell: RecordOf(randomID(w.rng)), Digest: 1}
	}
	if e := h.Step(w.now, Reconciled{From: from, Inventory: huge}); len(e) > maxFetches {
		t.Errorf("%d fetches for one inventory", len(e))
	}
}
