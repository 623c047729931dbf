package search

import (
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// TestRememberedMirrors: who answers for a mirror answers for what it says of
// others, in later queries too, so that these do not count as another witness.
func TestRememberedMirrors(t *testing.T) {
	w := newWorld(t, 13, 1, 16)
	now := time.Unix(1_800_000_000, 0)
	id := func() dht.PeerID { return randomID(w.rng) }
	liar, honest, accomplice := id(), id(), Mirror{dht.Contact{ID: id()}, id()}
	told := func(m ...Mirror) Mirrors { return Mirrors{List: m, All: len(m)} }

	var m mirrored
	m.meet(told(accomplice), liar)
	m.asked = append(m.asked, m.sources[0])
	next := Mirror{dht.Contact{ID: id()}, accomplice.Of}
	m.hear(accomplice.ID, told(next, Mirror{dht.Contact{ID: id()}, honest})) // it cannot speak for another holder
	own := m.told(now, func(c source) bool { return c.heard })
	if len(own) != 1 || own[0].Teller != liar || len(own[0].About) != 1 || len(own[0].About[0].Mirrors.List) != 1 {
		t.Fatalf("remembered %+v", own)
	}
	cell := Root("arch")
	table := Glimpse{Cell: cell, Children: []Child{{}}, Told: []Testimony{{Teller: honest, At: now}}}
	seen := see(nil, map[CellID]Glimpse{cell: {Told: []Testimony{{Teller: liar, At: now.Add(-2 * GlimpseTTL)}, {Teller: liar, At: now}}}}, table)
	seen = see(seen, nil, Glimpse{Cell: cell, Told: own})
	if g := seen[0]; len(seen) != 1 || len(g.Children) != 1 || len(g.Told) != 3 || g.Told[0].Teller != liar || g.Told[1].Teller != honest {
		t.Fatalf("seen %+v", seen)
	}
	s, err := NewSeeker(DefaultSchema(), Query{}, SeekerConfig{Known: map[CellID]Glimpse{cell: seen[0]}})
	if err != nil {
		t.Fatal(err)
	}
	v := s.visit(cell)
	if len(v.mirrored.sources) != 1 {
		t.Fatalf("%d mirrors recalled", len(v.mirrored.sources))
	}
	if other := (source{Mirror: Mirror{dht.Contact{ID: id()}, id()}, teller: liar}); !v.mirrored.sources[0].same(other) {
		t.Error("two that one liar named count as two")
	}
}

// TestRememberedRoot: a root that is a leaf and named its mirrors is known by its
// holders later, like the others of which guides told.
func TestRememberedRoot(t *testing.T) {
	w := newWorld(t, 14, 1, 16)
	now := time.Unix(1_800_000_000, 0)
	s, err := NewSeeker(DefaultSchema(), Query{}, SeekerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	holder := dht.Contact{ID: randomID(w.rng)}
	for _, tree := range s.schema.Trees() {
		s.hints[Root(tree.Name)] = []dht.Contact{holder}
	}
	asked := Root("arch")
	s.visit(asked).mirrored.hear(holder.ID, Mirrors{List: []Mirror{{dht.Contact{ID: randomID(w.rng)}, holder.ID}}, All: 1})
	known := make(map[CellID]Glimpse)
	for _, g := range s.remembered(now) {
		if _, twice := known[g.Cell]; twice {
			t.Errorf("%s is remembered twice", g.Cell)
		}
		known[g.Cell] = g
	}
	for _, tree := range s.schema.Trees() {
		if g := known[Root(tree.Name)]; len(g.Holders) != 1 || g.Holders[0].ID != holder.ID {
			t.Errorf("root of %s: holders %v", tree.Name, g.Holders)
		}
	}
	if len(known[asked].Told) != 1 {
		t.Errorf("told %+v", known[asked].Told)
	}
}

// TestSame: two mirrors are two witnesses unless one participant recruited or
// named both, or recruited one and named the other.
func TestSame(t *testing.T) {
	w := newWorld(t, 15, 1, 16)
	id := func() dht.PeerID { return randomID(w.rng) }
	a, b, c := id(), id(), id()
	of := func(holder, teller dht.PeerID) source {
		return source{Mirror: Mirror{dht.Contact{ID: id()}, holder}, teller: teller}
	}
	for _, test := range []struct {
		name string
		x, y source
		want bool
	}{
		{"each its holder's word", of(a, dht.PeerID{}), of(b, dht.PeerID{}), false},
		{"one holder", of(a, dht.PeerID{}), of(a, dht.PeerID{}), true},
		{"one teller", of(a, c), of(b, c), true},
		{"a teller and a holder", of(a, c), of(b, dht.PeerID{}), false},
		{"the teller is the other's holder", of(a, dht.PeerID{}), of(b, a), true},
	} {
		if got := test.x.same(test.y); got != test.want || test.y.same(test.x) != got {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// TestAbleInPairs: of mirrors that many named and few did, one is asked that
// leaves another witness.
func TestAbleInPairs(t *testing.T) {
	w := newWorld(t, 16, 1, 16)
	id := func() dht.PeerID { return randomID(w.rng) }
	mirror := func(holder dht.PeerID) Mirror { return Mirror{dht.Contact{ID: id()}, holder} }
	teller, one, two := id(), id(), id()
	v := &visit{asks: make(map[dht.PeerID]*ask)}
	lone, paired, own := mirror(one), mirror(two), mirror(one)
	v.mirrored.meet(Mirrors{List: []Mirror{lone, paired}, All: 3}, teller)
	if able := v.able(); len(able) != 2 {
		t.Errorf("%d of one teller may be asked, want 2", len(able))
	}
	v.mirrored.hear(one, Mirrors{List: []Mirror{own}, All: 3})
	able := v.able()
	if len(able) != 2 || able[0].ID != paired.ID || able[1].ID != own.ID {
		t.Errorf("%d may be asked, want the two that are no one's alone", len(able))
	}
	v.mirrored.asked = append(v.mirrored.asked, able[0])
	if able := v.able(); len(able) != 1 || able[0].ID != own.ID {
		t.Errorf("%d may be asked beside one, want the other", len(able))
	}
	v.asks[one] = &ask{}
	if able := v.able(); len(able) != 0 {
		t.Error("a mirror may be asked beside its holder")
	}
}

// TestToldByMany: what one teller says of a cell does not displace what others do.
func TestToldByMany(t *testing.T) {
	w := newWorld(t, 17, 1, 16)
	now := time.Unix(1_800_000_000, 0)
	cell, other := Root("arch"), randomID(w.rng)
	about := func(teller dht.PeerID) Glimpse {
		return Glimpse{Cell: cell, Told: []Testimony{{Teller: teller, At: now, About: []About{{Index: Itself}}}}}
	}
	seen, often := see(nil, nil, about(other)), randomID(w.rng)
	for range 3 * maxTold {
		seen = see(seen, nil, about(often))
	}
	if told := seen[0].Told; len(told) != maxAlike+1 || told[maxAlike].Teller != other {
		t.Errorf("%d are remembered, want %d", len(told), maxAlike+1)
	}
}

// TestToldApart: what a holder says of its own mirrors, and what it says of others'
// as a holder of the table above, stay its word each.
func TestToldApart(t *testing.T) {
	w := newWorld(t, 19, 1, 16)
	id := func() dht.PeerID { return randomID(w.rng) }
	both, other := id(), id()
	var m mirrored
	m.hear(both, Mirrors{List: []Mirror{{dht.Contact{ID: id()}, both}}, All: 1})
	m.hear(other, Mirrors{List: []Mirror{{dht.Contact{ID: id()}, other}}, All: 1})
	m.add(Mirrors{List: []Mirror{{dht.Contact{ID: id()}, other}}, All: 1}, both, true)
	told := m.told(time.Time{}, func(source) bool { return true })
	if len(told) != 3 || !told[0].Teller.IsZero() || !told[1].Teller.IsZero() || told[2].Teller != both {
		t.Errorf("%+v", told)
	}
}

// TestGuidedLater: a root that turns out to be wanted while another is read is
// asked of guides, too, before it is looked up.
func TestGuidedLater(t *testing.T) {
	w := newWorld(t, 18, 1, 16)
	now := time.Unix(1_800_000_000, 0)
	known, guide := Root("arch"), dht.Contact{ID: randomID(w.rng)}
	s, err := NewSeeker(DefaultSchema(), Query{}, SeekerConfig{
		Guides: []dht.Contact{guide}, Known: map[CellID]Glimpse{known: {Cell: known, Holders: []dht.Contact{{ID: randomID(w.rng)}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	later := s.visit(Root("os"))
	if due := s.ask(now, later); due != now.Add(s.cfg.Hedge) {
		t.Errorf("guides are waited for until %v", due)
	}
	s.ask(now, later)
	consults, locates := 0, 0
	for _, e := range s.effects {
		switch e.(type) {
		case Consult:
			consults++
		case Locate:
			locates++
		default:
		}
	}
	if consults != 1 || locates != 0 {
		t.Errorf("%d consults and %d look-ups, want one and none", consults, locates)
	}
}
