package search

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// TestWithdrawRace stops publishers right after they changed their ads, with
// messages that take anything from 5 to 65 ms: nothing may be left of them.
func TestWithdrawRace(t *testing.T) {
	w := newWorld(t, 31, 12, LeafAds)
	for range 20 {
		w.publish(randomAd(w.rng, w.now))
	}
	w.run(2 * time.Minute)
	for i, p := range w.pubs {
		w.publisher(p, Offer{changed(w.rng, p.ad, w.now)})
		w.run(time.Duration(i) * 5 * time.Millisecond)
		w.publisher(p, Stop{})
	}
	w.run(WithdrawTimeout)
	for _, p := range w.pubs {
		if !p.Done(w.now) {
			t.Error("a publisher is not done")
		}
	}
	for _, p := range w.peers {
		if n := p.holder.Stats().Leases; n > 0 {
			t.Errorf("%d leases are left", n)
		}
	}
}

// TestWithdrawMoved moves an ad to and fro faster than messages travel: in the
// end it is where it belongs, and nowhere else.
func TestWithdrawMoved(t *testing.T) {
	w := newWorld(t, 32, 15, 8)
	for range 40 {
		w.publish(randomAd(w.rng, w.now))
	}
	w.run(2 * time.Minute)
	pub := priced(w)
	here := pub.ad
	for i := range 20 {
		price := Number(90)
		if i%2 != 0 {
			price = here.Ad.Attributes.Get("price_hour")
		}
		ad := revised(pub.ad, w.now, "price_hour", price)
		w.publisher(pub, Offer{ad})
		w.run(time.Duration(20+w.rng.IntN(60)) * time.Millisecond)
	}
	w.run(10 * time.Second)
	if !pub.InPlace(w.now) {
		t.Error("the ad is not in place")
	}
	for _, way := range pub.ways {
		last := way.levels[len(way.levels)-1].cell
		for _, c := range w.closest(last) {
			h := w.byID[c.ID].holder
			if cell := h.cells[last]; cell == nil {
				t.Errorf("%s is not known to one of its holders", last)
			} else if _, held := cell.find(pub.ad.hash); !held {
				t.Errorf("a holder of %s lacks the ad", last)
			}
		}
	}
	for _, p := range w.peers {
		for id, c := range p.holder.cells {
			if _, held := c.find(pub.ad.hash); held && id.Tree == "price_hour" && !id.Prefix.Contains(w.schema.KeyOf(pub.ways[indexOf(pub, id.Tree)].tree, pub.ad)) {
				t.Errorf("the ad is still in %s", id)
			}
		}
	}
}

func indexOf(p *Publisher, tree string) int {
	for i, w := range p.ways {
		if w.tree.Name == tree {
			return i
		}
	}
	return -1
}

// TestWithdrawWaits stops a publisher while a publish is under way: its holder
// is told when that was answered, or after a second, and is waited for no longer
// than two.
func TestWithdrawWaits(t *testing.T) {
	for _, answers := range []bool{true, false} {
		now := time.Unix(1_800_000_000, 0)
		p := NewPublisher(DefaultSchema(), PublisherConfig{})
		holder := dht.Contact{ID: dht.PeerID{1}}
		ad := randomAd(rand.New(rand.NewPCG(6, 5)), now)
		p.ad, p.begun = ad, now
		p.ways = []*way{{levels: []*level{{cell: RecordOf(ad.Ad.Server), located: now, spots: []*spot{{contact: holder, next: now}}}}}}
		if e := p.Step(now, PublisherTick{}); len(e) != 1 {
			t.Fatalf("%d effects, want a publish", len(e))
		}
		if e := p.Step(now, Stop{}); len(e) != 0 || p.Done(now) {
			t.Fatalf("%d effects while a publish is under way, done %v", len(e), p.Done(now))
		}
		var e []PublisherEffect
		if answers {
			e = p.Step(now, Published{To: holder.ID, Cells: []CellID{RecordOf(ad.Ad.Server)}})
		} else {
			now = p.Wake()
			e = p.Step(now, PublisherTick{})
		}
		if _, ok := e[0].(SendWithdraw); !ok || len(e) != 1 || p.Done(now) {
			t.Fatalf("answers %v: effects %v, done %v, want a withdrawal", answers, e, p.Done(now))
		}
		if answers {
			p.Step(now, Withdrawn{To: holder.ID})
		} else {
			now = p.Wake()
			p.Step(now, PublisherTick{})
			if took := now.Sub(p.ended); took != WithdrawTimeout {
				t.Errorf("it gave up after %s", took)
			}
		}
		if !p.Done(now) {
			t.Errorf("answers %v: not done", answers)
		}
	}
	if p := NewPublisher(DefaultSchema(), PublisherConfig{}); len(p.Step(time.Unix(1, 0), Stop{})) != 0 || !p.Done(time.Unix(1, 0)) {
		t.Error("a publisher that never had an ad is not done")
	}
}
