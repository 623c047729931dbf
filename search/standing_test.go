package search

import (
	"slices"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// TestStandingMirrors looks that roots of many ads have mirrors though nobody asks
// for them, that these are replaced when they die, and that no other cell has any.
func TestStandingMirrors(t *testing.T) {
	w := newWorld(t, 17, 0, 16)
	w.standing = 40
	for range 60 {
		w.join()
	}
	for range 45 {
		w.publish(randomAd(w.rng, w.now))
	}
	w.run(2 * time.Minute)
	root := Root("price_hour")
	full := func(when string) Mirrors {
		t.Helper()
		got := w.mirrorsOf(root)
		if got.All != Replicas*StandingMirrors {
			t.Errorf("%s: %d mirrors, want %d", when, got.All, Replicas*StandingMirrors)
		}
		return got
	}
	dead := w.byID[full("at rest").List[0].ID]
	for _, p := range w.peers {
		for id, c := range p.holder.cells {
			if c.hot != nil && (id.Prefix.Level > 0 || id.Tree == "") {
				t.Fatalf("%s has mirrors", id)
			}
		}
	}
	dead.dead = true
	// Half of those who are drawn have a copy, or are dead; who declined is
	// followed by another one after a minute at the latest.
	w.run(time.Minute)
	for range 6 {
		if w.mirrorsOf(root).All < Replicas*StandingMirrors {
			w.run(maxRecruitPause)
		}
	}
	for _, m := range full("after one died").List {
		if m.ID == dead.id {
			t.Error("a dead mirror is not replaced")
		}
	}
	everything := Query{Where: Compare{Dim: "price_hour", Op: OpGreater, Value: Number(0)}}
	w.compare(everything, w.search(everything, SeekerConfig{}))
}

// TestStandingWhen looks at which cells have mirrors though nobody asks.
func TestStandingWhen(t *testing.T) {
	leaf := func(level, ads int) *cell {
		return &cell{id: CellID{Tree: "arch", Prefix: PrefixOf(Key{}, level)}, leases: make([]lease, ads)}
	}
	table := func(level int, ads uint32) *cell {
		c := leaf(level, 0)
		c.inner = true
		c.children[14] = []entry{{holder: dht.Contact{ID: dht.PeerID{1}}, summary: Summary{Count: ads}}}
		return c
	}
	with := func(c *cell, change func(c *cell)) *cell { change(c); return c }
	mirrored := func(c *cell) { c.hot = new(hot) }
	h := NewHolder(DefaultSchema(), HolderConfig{StandingAds: 40})
	for name, c := range map[string]struct {
		*cell
		want int
	}{
		"root":                {table(0, 40), StandingMirrors},
		"small root":          {table(0, 39), 0},
		"root that was large": {with(table(0, 20), mirrored), StandingMirrors},
		"root that is small":  {with(table(0, 19), mirrored), 0},
		"root without tables": {leaf(0, StandingLeaf), 0},
		"table":               {table(4, 40), StandingBelow},
		"small table":         {table(4, 39), 0},
		"between tables":      {table(5, 40), 0},
		"gathering":           {with(table(4, 40), func(c *cell) { c.gathering = new(gathering) }), 0},
		"leaf":                {leaf(4, StandingLeaf), StandingBelow},
		"leaf between tables": {leaf(6, StandingLeaf), StandingBelow},
		"small leaf":          {leaf(4, StandingLeaf-1), 0},
		"leaf that was large": {with(leaf(4, StandingLeaf/2), mirrored), StandingBelow},
		"leaf that is small":  {with(leaf(4, StandingLeaf/2-1), mirrored), 0},
		"record":              {with(leaf(0, StandingLeaf), func(c *cell) { c.id = RecordOf(dht.PeerID{1}) }), 0},
	} {
		if got := h.standingMirrors(c.cell); got != c.want {
			t.Errorf("%s: %d mirrors, want %d", name, got, c.want)
		}
	}
}

// TestPickNearest looks that of few mirrors of a root and its holders the nearest
// are asked, no two behind whom one liar may stand, and that where they are many,
// or a guide knows many of another root, they are drawn.
func TestPickNearest(t *testing.T) {
	w := newWorld(t, 18, 1, 16)
	id := func() dht.Contact { return dht.Contact{ID: randomID(w.rng)} }
	var holders []dht.Contact
	for range Replicas {
		holders = append(holders, id())
	}
	far := make(map[dht.PeerID]time.Duration)
	for i, h := range holders {
		far[h.ID] = time.Duration(50+10*i) * time.Millisecond
	}
	near := Mirrors{All: 2 * StandingMirrors}
	for i := range 8 {
		m := Mirror{id(), holders[i%2].ID}
		far[m.ID] = time.Duration(1+i) * time.Millisecond
		near.List = append(near.List, m)
	}
	asked := func(root CellID, change func(s *Seeker, v *visit)) (list []dht.PeerID) {
		s, err := NewSeeker(w.schema, Query{}, SeekerConfig{Near: func(id dht.PeerID) time.Duration { return far[id] }})
		if err != nil {
			t.Fatal(err)
		}
		v := s.visit(root)
		v.meet(holders, s.cfg.Near)
		v.mirrored.meet(near, dht.PeerID{})
		change(s, v)
		for range 3 {
			c, ok := s.pick(v)
			if !ok {
				t.Fatal("nobody is left")
			}
			v.asks[c.ID] = new(ask)
			list = append(list, c.ID)
		}
		return list
	}
	// The third is a holder for whom no mirror speaks.
	want := []dht.PeerID{near.List[0].ID, near.List[1].ID, holders[2].ID}
	if got := asked(Root("arch"), func(*Seeker, *visit) {}); !slices.Equal(got, want) {
		t.Errorf("asked are not the nearest: %v, want %v", got, want)
	}
	for name, c := range map[string]struct {
		cell   CellID
		change func(s *Seeker, v *visit)
	}{
		"no root": {CellID{Tree: "arch", Prefix: PrefixOf(Key{}, 4)}, func(*Seeker, *visit) {}},
		"many": {Root("arch"), func(_ *Seeker, v *visit) {
			v.mirrored.meet(Mirrors{List: near.List[:1], All: Replicas*StandingMirrors + 1}, dht.PeerID{})
		}},
		"a holder": {Root("arch"), func(_ *Seeker, v *visit) {
			v.mirrored.hear(holders[0].ID, Mirrors{List: near.List[:1], All: StandingMirrors + 1})
		}},
		"another root": {Root("arch"), func(s *Seeker, _ *visit) {
			s.consult(w.now)
			s.guides.awaited = map[dht.PeerID]bool{holders[0].ID: true}
			s.listen(Guided{From: holders[0].ID, Glimpses: []Glimpse{{Cell: Root("os"), Mirrors: Mirrors{List: near.List, All: Replicas*StandingMirrors + 1}}}})
		}},
	} {
		if got := asked(c.cell, c.change); slices.Equal(got, want) {
			t.Errorf("%s: the nearest are asked", name)
		}
	}

	// That one is asked for much is remembered.
	var m mirrored
	m.least = StandingMirrors
	m.hear(holders[0].ID, Mirrors{All: 1, List: []Mirror{{id(), holders[0].ID}}})
	if g := (Glimpse{Cell: Root("os"), Mirrors: m.known()}); g.busy() {
		t.Error("a root with one mirror is asked for much")
	}
	m.hear(holders[0].ID, Mirrors{All: StandingMirrors + 1, List: []Mirror{{id(), holders[0].ID}}})
	hot := Glimpse{Cell: Root("os"), Mirrors: m.known()}
	if !hot.busy() || (Glimpse{Cell: CellID{Tree: "os", Prefix: PrefixOf(Key{}, 4)}, Mirrors: hot.Mirrors}).busy() {
		t.Error("a root with many mirrors is not asked for much, or another cell is a root")
	}
	s, err := NewSeeker(w.schema, Query{}, SeekerConfig{Known: map[CellID]Glimpse{hot.Cell: hot}})
	if err != nil {
		t.Fatal(err)
	}
	if s.Step(w.now, Start{}); !s.guides.hot || s.few(s.visit(Root("arch"))) {
		t.Error("who remembers many mirrors of a root asks the nearest of another one")
	}
}
