package search

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// A rehearsal is a publisher whose messages all arrive at once, at holders of
// leaves at one level, whose tables keep no sample.
type rehearsal struct {
	leaf  int // the level
	rise  int // the level that leaves send up to, whose holders send down again; 0: they do not
	pub   *Publisher
	now   time.Time
	peer  []dht.Contact
	told  map[dht.PeerID][]time.Time // publishes by holder
	asked int                        // places at tables
}

func rehearse(rng *rand.Rand, peers int) *rehearsal {
	s := &rehearsal{
		pub: NewPublisher(DefaultSchema(), PublisherConfig{}), now: time.Unix(1_800_000_000, 0),
		told: make(map[dht.PeerID][]time.Time),
	}
	for range peers {
		s.peer = append(s.peer, dht.Contact{ID: randomID(rng)})
	}
	return s
}

// step carries out all that follows from an input.
func (s *rehearsal) step(in PublisherInput) {
	for _, e := range s.pub.Step(s.now, in) {
		switch e := e.(type) {
		case Locate:
			s.step(Located{e.Cell, closest(e.Cell, append([]dht.Contact(nil), s.peer...))})
		case SendPublish:
			s.told[e.To.ID] = append(s.told[e.To.ID], s.now)
			if len(s.told[e.To.ID]) > 1000 {
				return // no answer ends what would not end
			}
			placing := make(Placing, len(e.Places))
			for i, at := range e.Places {
				if placing[i] = (Placed{Verdict: VerdictLeaf, Held: true}); at.Tree != "" && int(at.Level) < s.leaf {
					placing[i] = Placed{Verdict: VerdictInner, Next: uint8(s.leaf)}
					s.asked++
				} else if at.Tree != "" && s.rise > 0 {
					placing[i].Verdict, placing[i].Next = VerdictRise, uint8(s.rise)
				}
			}
			s.step(Published{To: e.To.ID, Places: e.Places, Cells: e.Cells, Placing: placing})
		case SendWithdraw:
		}
	}
}

// run lets d pass.
func (s *rehearsal) run(d time.Duration) {
	for until := s.now.Add(d); s.now.Before(until); {
		s.now = earlier(until, later(s.pub.Wake(), s.now.Add(LeastWake)))
		s.step(PublisherTick{})
	}
}

// TestTurns looks at when leases are renewed: each in time, one message to a
// holder in two rounds, about half of the holders in each round.
func TestTurns(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 5))
	s := rehearse(rng, 80)
	ad := randomAd(rng, s.now)
	s.step(Offer{ad})
	s.run(20 * time.Minute)
	begin := s.pub.begun
	var perRound [20]int
	for _, c := range s.peer {
		times := s.told[c.ID]
		if len(times) == 0 {
			continue // it is far from all cells
		}
		settled := 0
		for i, at := range times {
			if i > 0 && at.Sub(times[i-1]) > 5*time.Minute/2 {
				t.Errorf("%s waited %s", c.ID, at.Sub(times[i-1]))
			}
			if round := int(at.Sub(begin) / time.Minute); round >= 4 && round < 20 {
				perRound[round]++
				settled++
			}
		}
		if settled != 8 {
			t.Errorf("%s was told %d times in 16 rounds, want 8", c.ID, settled)
		}
	}
	for round := 4; round < 20; round++ {
		if n := perRound[round]; n < len(s.told)/4 || n > len(s.told)*3/4 {
			t.Errorf("round %d: %d of %d holders", round, n, len(s.told))
		}
	}
}

// TestRechecks looks at how often tables that do not keep an ad are asked: more
// often where its hash is near to those of the sample.
func TestRechecks(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 5))
	asked := func(leaf int, hash byte) int {
		s := rehearse(rng, 100)
		s.leaf = leaf
		ad := randomAd(rng, s.now)
		ad.hash[0], ad.hash[1] = hash, 0
		s.step(Offer{ad})
		s.run(2 * time.Minute) // nothing is asked anew so soon
		before, tables := s.asked, len(s.pub.schema.trees)*Replicas*((leaf+tableBits-1)/tableBits)
		s.run(100 * time.Minute)
		return (s.asked - before) / tables
	}
	for _, c := range []struct {
		leaf int
		hash byte
		want int
	}{
		{1, 255, 100 / nearRounds}, // all of two leaves
		{2, 127, 100 / nearRounds},
		{2, 128, 100 / farRounds},
		{4, 31, 100 / nearRounds},
		{4, 32, 100 / farRounds},
		{8, 1, 100 / nearRounds}, // and its upper table is one, too
	} {
		if got := asked(c.leaf, c.hash); got != c.want {
			t.Errorf("leaves at level %d, hash %02x: asked %d times in 100 rounds, want %d", c.leaf, c.hash, got, c.want)
		}
	}
}

// TestTurnAfterChange changes the ad at odd moments: no lease may wait longer
// than two and a half rounds, and a renewal that is due soon travels with the change.
func TestTurnAfterChange(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 5))
	s := rehearse(rng, 30)
	ad := randomAd(rng, s.now)
	s.step(Offer{ad})
	for range 50 {
		s.run(time.Duration(rng.Int64N(int64(4 * time.Minute))))
		ad = changed(rng, ad, s.now)
		s.step(Offer{ad})
	}
	for id, times := range s.told {
		for i := 1; i < len(times); i++ {
			if gap := times[i].Sub(times[i-1]); gap > 5*time.Minute/2 {
				t.Errorf("%s waited %s", id, gap)
			}
		}
	}
}

// TestSeveralMessages publishes more places to one holder than a message takes:
// nothing more goes there until all of them are answered.
func TestSeveralMessages(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 5))
	now := time.Unix(1_800_000_000, 0)
	holder := dht.Contact{ID: randomID(rng)}
	p := NewPublisher(DefaultSchema(), PublisherConfig{})
	p.ad, p.begun = randomAd(rng, now), now
	w := &way{tree: p.schema.trees[0]}
	w.key = p.schema.KeyOf(w.tree, p.ad)
	for i := range maxPlaces + 1 {
		cell := CellID{Tree: w.tree.Name, Prefix: PrefixOf(w.key, i%maxLevel)}
		w.levels = append(w.levels, &level{cell: cell, located: now, spots: []*spot{{contact: holder, next: now}}})
	}
	p.ways = []*way{w}
	p.send(now)
	if len(p.effects) != 2 {
		t.Fatalf("%d messages for %d places, want 2", len(p.effects), maxPlaces+1)
	}
	last := p.effects[1].(SendPublish)
	p.published(now, Published{To: holder.ID})
	w.levels[0].spots[0].busy, w.levels[0].spots[0].next = false, now
	if p.effects = nil; len(p.overdue(now)) != 0 {
		t.Error("a message is due while another one is under way to the holder")
	}
	p.published(now, Published{To: holder.ID, Places: last.Places})
	if len(p.overdue(now)) != 1 {
		t.Error("nothing is due when all messages were answered")
	}
}

// TestStaleCopy asks two holders of whom one has an older ad: the newer counts,
// and no further holder is asked.
func TestStaleCopy(t *testing.T) {
	w := newWorld(t, 9, 4, LeafAds)
	for range 30 {
		w.publish(randomAd(w.rng, w.now))
	}
	w.run(2 * time.Minute)
	old := w.ads()[0]
	fresh := changed(w.rng, old, w.now)
	cell := Root("server")
	at := w.byID[w.closest(cell)[0].ID]
	w.holder(at, Publish{From: fresh.Ad.Server, Ad: fresh, Places: []Placement{{Tree: "server"}}}, func(HolderEffect) {})
	read := func(p *peer) (r CellReply) {
		w.holder(p, AskCell{CellQuery{Cell: cell}}, func(e HolderEffect) { r = e.(CellReply) })
		return r
	}
	a, b := read(at), read(w.byID[w.closest(cell)[1].ID])
	if a.Digest != b.Digest || a.Total != 30 || b.Total != 30 {
		t.Errorf("digests %x of %d ads and %x of %d ads, want the same", a.Digest, a.Total, b.Digest, b.Total)
	}
	v := &visit{cell: cell, asks: make(map[dht.PeerID]*ask)}
	v.take(dht.PeerID{1}, &a, time.Minute)
	v.take(dht.PeerID{2}, &b, time.Minute)
	if v.wanted(2) != 2 {
		t.Errorf("%d holders are asked, want 2", v.wanted(2))
	}
	s, err := NewSeeker(w.schema, Query{}, SeekerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []CellReply{a, b, a} {
		for _, ad := range r.Ads {
			s.consider(ad)
		}
	}
	if got := s.found[fresh.Ad.Server]; got == nil || got.ad != fresh {
		t.Error("the older ad counts")
	}
}

// TestCameBack lets a leaf stand where a cell had been divided: its table sends
// the ads down to the halves, and does not where these are about to merge.
func TestCameBack(t *testing.T) {
	w := newWorld(t, 10, 1, 16)
	tree, ad := w.schema.trees[0], randomAd(w.rng, w.now)
	leaf := CellID{Tree: tree.Name, Prefix: PrefixOf(w.schema.KeyOf(tree, ad), 2)}
	table := NewHolder(w.schema, HolderConfig{LeafAds: 16})
	push := func(child Prefix, count uint32) PushReply {
		m := w.schema.NewSummary()
		m.Count = count
		effects := table.Step(w.now, Push{From: dht.Contact{ID: randomID(w.rng)}, Child: CellID{Tree: tree.Name, Prefix: child}, Summary: m})
		return effects[0].(PushReply)
	}
	at, _ := leaf.Prefix.Parent()
	_, slot := leaf.Prefix.Parent()
	push(at.Child(2*slot+2), 2)
	push(at.Child(2*slot+3), 2)
	if got := push(leaf.Prefix, 1).Level; got > leaf.Prefix.Level {
		t.Errorf("sent to level %d, where 4 ads are", got)
	}
	push(at.Child(2*slot+3), 3)
	reply := push(leaf.Prefix, 1)
	if reply.Level != leaf.Prefix.Level+1 {
		t.Fatalf("sent to level %d, where 5 ads are one below %d", reply.Level, leaf.Prefix.Level)
	}

	h := w.peers[0].holder
	place := func() Placed {
		in := Publish{From: ad.Ad.Server, Ad: ad, Places: []Placement{{Tree: tree.Name, Level: leaf.Prefix.Level}}}
		return h.Step(w.now, in)[0].(Placing)[0]
	}
	if got := place(); got.Verdict != VerdictLeaf {
		t.Fatalf("verdict %d of a leaf", got.Verdict)
	}
	h.Step(w.now, Pushed{Child: leaf, Level: reply.Level})
	if got := place(); got.Verdict != VerdictInner || got.Next != leaf.Prefix.Level+1 || !got.Held {
		t.Errorf("verdict %d, next %d, held %v; want the ad held and sent down", got.Verdict, got.Next, got.Held)
	}
}

// TestChangeToldToHolders changes what no tree is of: every holder of a leaf is
// told, and no table.
func TestChangeToldToHolders(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	s := rehearse(rng, 100)
	s.leaf = 6
	ad := revised(randomAd(rng, s.now), s.now, "load", Number(0.1))
	s.step(Offer{ad})
	s.run(10*time.Minute + time.Minute/4) // no renewal is due within the next seconds
	clear(s.told)
	s.step(Offer{revised(ad, s.now, "load", Number(0.9))})
	holders := make(map[dht.PeerID]bool)
	for _, w := range s.pub.ways {
		for _, sp := range w.levels[len(w.levels)-1].spots {
			holders[sp.contact.ID] = true
		}
	}
	for id := range holders {
		if len(s.told[id]) != 1 {
			t.Errorf("holder %s was told %d times", id, len(s.told[id]))
		}
	}
	if len(s.told) != len(holders) {
		t.Errorf("%d participants were told, want %d", len(s.told), len(holders))
	}
}

// TestRiseBesideInner lets leaves of few ads send publishers up to a cell that
// still sends down, as it does for minutes after it was divided, where the same
// participants hold both: the publisher asks now and then, not without end.
func TestRiseBesideInner(t *testing.T) {
	for peers := range 8 {
		rng := rand.New(rand.NewPCG(uint64(peers), 7))
		s := rehearse(rng, 1+peers)
		s.leaf, s.rise = 6, 5
		const minutes = 20
		s.step(Offer{randomAd(rng, s.now)})
		s.run(minutes * time.Minute)
		for id, told := range s.told {
			if len(told) > 6*minutes {
				t.Errorf("%d holders: %s was told %d times in %d minutes", 1+peers, id, len(told), minutes)
			}
		}
	}
}
