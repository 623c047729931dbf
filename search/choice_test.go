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
	own := m.own(now)
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
