package search

import (
	"slices"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// recruit draws participants for a holder.
func (w *world) recruit(p *peer, e Recruit) {
	in := Recruits{Cell: e.Cell}
	for range e.Count {
		if q := w.peers[w.rng.IntN(len(w.peers))]; q != p {
			in.Contacts = append(in.Contacts, dht.Contact{ID: q.id})
		}
	}
	w.after(0, func() { w.holder(p, in, nil) })
}

// sendMirror carries an update to a mirror.
func (w *world) sendMirror(p *peer, e SendMirror) {
	in := Mirrored{Cell: e.Update.Cell, From: e.To.ID, Fed: e.Update.Fed}
	if in.Fed {
		w.feeds++
	} else {
		w.updates++
	}
	if w.bend != nil {
		w.bend(p, &e.Update)
	}
	var reply MirrorReply
	w.request(e.To.ID, func(q *peer) {
		w.holder(q, MirrorCell{From: p.id, Update: e.Update}, func(r HolderEffect) { reply = r.(MirrorReply) })
	}, func(ok bool) {
		if ok {
			in.Reply = reply
		}
		if !p.dead {
			w.holder(p, in, nil)
		}
	})
}

// heat asks a cell of each of its holders, four times a second for a while.
func (w *world) heat(cell CellID, d time.Duration) {
	for range int(d / time.Second) {
		for _, c := range w.closest(cell) {
			for range 4 {
				w.holder(w.byID[c.ID], AskCell{CellQuery{Cell: cell, Query: Query{Limit: 1}}}, func(HolderEffect) {})
			}
		}
		w.run(time.Second)
	}
}

// mirrorsOf returns the mirrors of a cell that its holders list.
func (w *world) mirrorsOf(cell CellID) (out Mirrors) {
	for _, c := range w.closest(cell) {
		own := w.byID[c.ID].holder.cells[cell]
		if own == nil || own.hot == nil {
			continue
		}
		for _, m := range own.hot.serving() {
			out.List = append(out.List, Mirror{m, c.ID})
		}
	}
	out.All = len(out.List)
	return out
}

// hotWorld has servers and a root with mirrors.
func hotWorld(t *testing.T, seed uint64) (*world, CellID) {
	w := newWorld(t, seed, 40, 32)
	w.told = make(map[CellID]Mirrors)
	for range 50 {
		w.publish(randomAd(w.rng, w.now))
	}
	w.run(15 * time.Second)
	root := Root("price_hour")
	w.heat(root, 30*time.Second)
	return w, root
}

// TestMirrorsComeAndGo heats a root, looks that mirrors say what the holders
// say, through changes, and lets it cool down.
func TestMirrorsComeAndGo(t *testing.T) {
	w, root := hotWorld(t, 5)
	got := w.mirrorsOf(root)
	if got.All < 8 || got.All > 2*4*4+4 {
		t.Fatalf("%d mirrors for 16 asks a second", got.All)
	}
	same := func(when string) {
		t.Helper()
		all := w.mirrorsOf(root)
		for _, m := range all.List {
			q := AskCell{CellQuery{Cell: root, Query: Query{}, Whole: true, Sample: true}}
			var own, copied CellReply
			w.holder(w.byID[m.Of], q, func(e HolderEffect) { own = e.(CellReply) })
			w.holder(w.byID[m.ID], q, func(e HolderEffect) { copied = e.(CellReply) })
			if !copied.Known || !copied.Mirrored || copied.Inner != own.Inner || copied.Age < own.Age-time.Second || copied.Digest != own.Digest ||
				!slices.Equal(copied.Sample, own.Sample) || len(copied.Children) != len(own.Children) {
				t.Fatalf("%s: mirror says %d ads, %d children, holder %d and %d", when, len(copied.Sample), len(copied.Children), len(own.Sample), len(own.Children))
			}
			for i, c := range copied.Children {
				if !c.Summary.Covers(own.Children[i].Summary) || c.Summary.Count != own.Children[i].Summary.Count || len(c.Holders) != len(own.Children[i].Holders) {
					t.Fatalf("%s: child %d differs", when, i)
				}
			}
		}
	}
	w.heat(root, 6*time.Second)
	same("at rest")
	w.stir(10, 20)
	w.heat(root, 20*time.Second)
	same("after changes")
	w.run(2 * time.Minute)
	if n := w.mirrorsOf(root).All; n > 0 {
		t.Errorf("%d mirrors are left of a cold cell", n)
	}
	for _, p := range w.peers {
		if s := p.holder.Stats(); s.Replicas > 0 || p.holder.mirrored != 0 {
			t.Fatalf("%d replicas of %d bytes are left", s.Replicas, p.holder.mirrored)
		}
	}
}

// TestMirrorsAnswer asks queries whose roots are mirrored: by mirrors that say
// the truth, that are dead, that ended, and that lie.
func TestMirrorsAnswer(t *testing.T) {
	w, root := hotWorld(t, 6)
	told := w.mirrorsOf(root)
	if told.All < 8 {
		t.Fatal("too few mirrors:", told.All)
	}
	sample := func() Mirrors { return DrawMirrors(told.List, w.rng.IntN(told.All)) }
	run := func(when string) (asked int) {
		t.Helper()
		for range 40 {
			w.told[root] = sample()
			q := Query{Where: Compare{Dim: "price_hour", Op: OpLess, Value: Number(w.rng.Float64())}, OrderBy: "price_hour", Limit: 5}
			before := w.mirrorAsks()
			a := w.search(q, SeekerConfig{Seed: w.rng.Uint64(), Young: time.Second, Guides: []dht.Contact{{ID: w.peers[0].id}, {ID: w.peers[1].id}}})
			w.compare(q, a)
			asked += w.mirrorAsks() - before
		}
		t.Logf("%s: mirrors answered %d times", when, asked)
		return asked
	}
	w.heat(root, 5*time.Second)
	if run("true") < 25 {
		t.Error("mirrors are not asked")
	}
	// One holder and all of its mirrors lie by omission.
	w.heat(root, 5*time.Second)
	told = w.mirrorsOf(root)
	liar, lies := told.List[0].Of, 0
	w.twist = func(p *peer, q CellQuery, r *CellReply) {
		mine := func(m Mirror) bool { return m.ID == p.id && m.Of == liar }
		if q.Cell == root && (p.id == liar || slices.ContainsFunc(told.List, mine)) {
			r.Ads, r.Children, r.Matched, r.More = nil, nil, 0, false
			lies++
		}
	}
	if run("one holder's lie"); lies == 0 {
		t.Error("nobody who lies was asked")
	}
	w.twist = nil
	// Mirrors that ended say so, and the holders are asked.
	w.run(2 * time.Minute)
	for _, m := range told.List {
		if w.byID[m.ID].holder.replicas[root].serves(w.now) {
			t.Error("a mirror of a cold cell serves")
		}
	}
	run("ended")
	for i := range told.List {
		told.List[i].ID = randomID(w.rng)
	}
	run("dead")
}

// mirrorAsks counts what mirrors answered.
func (w *world) mirrorAsks() (n int) {
	for _, p := range w.peers {
		n += int(p.holder.stats.Reflected)
	}
	return n
}

// TestMirrorStale lets an update get lost: the mirror ends.
func TestMirrorStale(t *testing.T) {
	w, root := hotWorld(t, 7)
	told := w.mirrorsOf(root)
	m := w.byID[told.List[0].ID]
	if !m.holder.replicas[root].serves(w.now) {
		t.Fatal("the mirror does not serve")
	}
	w.byID[told.List[0].Of].dead = true
	w.run(MirrorTTL + 2*time.Second)
	if r := m.holder.replicas[root]; r.serves(w.now) {
		t.Error("a mirror serves though nobody refreshes it")
	}
}

// TestMirrorRefuses tries what a mirror must not take in.
func TestMirrorRefuses(t *testing.T) {
	s := DefaultSchema()
	now := time.Unix(1_800_000_000, 0)
	w := newWorld(t, 8, 1, 16)
	ad := randomAd(w.rng, now)
	tree, _ := s.Tree("price_hour")
	leaf := CellID{Tree: "price_hour", Prefix: PrefixOf(s.KeyOf(tree, ad), 4)}
	other := leaf
	other.Prefix.Key[0] ^= 0x80
	a, b := randomID(w.rng), randomID(w.rng)
	update := func(cell CellID, ads ...*Signed) MirrorUpdate {
		return MirrorUpdate{Cell: cell, To: 7, Whole: true, Ads: ads}
	}
	reply := func(h *Holder, from dht.PeerID, u MirrorUpdate) MirrorReply {
		return h.Step(now, MirrorCell{From: from, Update: u})[0].(MirrorReply)
	}
	asked := func(h *Holder, cell CellID) CellReply {
		return h.Step(now, AskCell{CellQuery{Cell: cell}})[0].(CellReply)
	}
	h := NewHolder(s, HolderConfig{Self: randomID(w.rng)})
	if r := reply(h, a, update(leaf, ad)); !r.Accepted || r.Version != 7 {
		t.Fatalf("%+v", r)
	}
	if r := asked(h, leaf); !r.Known || !r.Mirrored || len(r.Ads) != 1 {
		t.Fatalf("%+v", r)
	}
	if r := reply(h, b, update(leaf)); r.Accepted || !asked(h, leaf).Known {
		t.Error("another holder takes a mirror over")
	}
	if r := reply(h, a, update(other, ad)); r.Accepted || asked(h, other).Known {
		t.Error("an ad that does not belong there is taken in")
	}
	if r := reply(h, a, MirrorUpdate{Cell: leaf, From: 3, To: 9, Whole: true}); r.Version != 7 || r.Asks != 2 {
		t.Errorf("an update of another version: %+v", r)
	}
	if r := reply(h, a, MirrorUpdate{Cell: leaf, From: 7, To: 9, Children: []Child{{Index: 3}}}); r.Accepted || asked(h, leaf).Known {
		t.Error("a child without a summary is taken in")
	}
	h.Step(now, Publish{From: a, Ad: ad, Places: []Placement{{Tree: "price_hour", Level: 4}}})
	if r := reply(h, a, update(leaf, ad)); r.Accepted {
		t.Error("a holder becomes a mirror")
	}
	cells := 0
	for i := range 2 * maxReplicas {
		cell := CellID{Tree: "price_hour", Prefix: PrefixOf(Key{byte(i * 8), 1}, 16)}
		if reply(h, a, update(cell)).Accepted {
			cells++
		}
	}
	if cells != maxReplicas {
		t.Errorf("%d cells mirrored, want %d", cells, maxReplicas)
	}
	busy := NewHolder(s, HolderConfig{Self: randomID(w.rng)})
	for range 60 {
		asked(busy, leaf)
	}
	busy.Step(now, HolderTick{})
	if reply(busy, a, update(leaf, ad)).Accepted {
		t.Error("one that is busy becomes a mirror")
	}
}

// TestMirrorParts copies a cell that needs several updates, with one lost.
func TestMirrorParts(t *testing.T) {
	s := DefaultSchema()
	now := time.Unix(1_800_000_000, 0)
	w := newWorld(t, 9, 1, 256)
	self, to := randomID(w.rng), dht.Contact{ID: randomID(w.rng)}
	h, m := NewHolder(s, HolderConfig{Self: self}), NewHolder(s, HolderConfig{Self: to.ID})
	root := Root("price_hour")
	for range 250 {
		ad := *randomAd(w.rng, now)
		ad.size = 2000
		h.Step(now, Publish{From: ad.Ad.Server, Ad: &ad, Places: []Placement{{Tree: root.Tree}}})
	}
	for range 3 {
		for range 30 {
			h.Step(now, AskCell{CellQuery{Cell: root}})
		}
		h.Step(now, HolderTick{})
	}
	effects := h.Step(now, Recruits{Cell: root, Contacts: []dht.Contact{to}})
	for sent := 0; ; sent++ {
		var send *SendMirror
		for _, e := range effects {
			if e, ok := e.(SendMirror); ok {
				send = &e
			}
		}
		if send == nil {
			if sent < 5 {
				t.Errorf("%d updates for 500 KB", sent)
			}
			break
		}
		if sent > 20 {
			t.Fatal("it does not end")
		}
		if m.replicas[root].serves(now) {
			t.Fatal("half a copy is served")
		}
		if len(send.Update.Ads) > 70 {
			t.Errorf("%d ads in an update", len(send.Update.Ads))
		}
		in := Mirrored{Cell: root, From: to.ID}
		if sent != 2 {
			in.Reply = m.Step(now, MirrorCell{From: self, Update: send.Update})[0].(MirrorReply)
		}
		if effects = h.Step(now, in); sent == 2 {
			if h.Stats().Mirrors != 0 {
				t.Fatal("a mirror that does not answer before it serves stays")
			}
			effects = h.Step(now, Recruits{Cell: root, Contacts: []dht.Contact{to}})
		}
	}
	own := h.Step(now, AskCell{CellQuery{Cell: root}})[0].(CellReply)
	got := m.Step(now, AskCell{CellQuery{Cell: root}})[0].(CellReply)
	if got.Digest != own.Digest || got.Total != 250 || !got.Mirrored {
		t.Errorf("the copy has %d ads", got.Total)
	}
	if list := own.Mirrors.List; len(list) != 1 || list[0].ID != to.ID || list[0].Of != self {
		t.Errorf("mirrors %+v", own.Mirrors)
	}
}

// TestMirrorsDecline invites busy participants to mirror a large cell: none is
// sent it, and they are invited ever more seldom until one comes.
func TestMirrorsDecline(t *testing.T) {
	s := DefaultSchema()
	now := time.Unix(1_800_000_000, 0)
	w := newWorld(t, 12, 1, 256)
	h := NewHolder(s, HolderConfig{Self: randomID(w.rng)})
	root := Root("arch")
	h.Step(now, Publish{From: randomID(w.rng), Ad: randomAd(w.rng, now), Places: []Placement{{Tree: root.Tree}}})
	invited := func(seconds int, reply MirrorReply) (n int) {
		for range seconds {
			for range 5 {
				h.Step(now, AskCell{CellQuery{Cell: root}})
			}
			now = now.Add(time.Second)
			for _, e := range h.Step(now, HolderTick{}) {
				r, ok := e.(Recruit)
				if !ok {
					continue
				}
				to := dht.Contact{ID: randomID(w.rng)}
				for _, e := range h.Step(now, Recruits{Cell: r.Cell, Contacts: []dht.Contact{to}}) {
					if u := e.(SendMirror).Update; len(u.Ads) > 0 || u.To != 0 {
						t.Fatalf("the cell is sent to who was not asked: %+v", u)
					}
					n++
					h.Step(now, Mirrored{Cell: root, From: to.ID, Reply: reply})
				}
			}
		}
		return n
	}
	if n := invited(100, MirrorReply{}); n < 5 || n > 10 {
		t.Errorf("%d were invited in 100 s where all decline", n)
	}
	if n := invited(70, MirrorReply{Accepted: true}); n < 4 {
		t.Errorf("%d were invited in 70 s, all of whom came, where 4 are wanted", n)
	}
}

func TestMayHold(t *testing.T) {
	w := newWorld(t, 10, 40, 16)
	cell := Root("arch")
	var all []dht.Contact
	for _, p := range w.peers {
		all = append(all, dht.Contact{ID: p.id})
	}
	may := 0
	for _, c := range all {
		if MayHold(c.ID, cell, all) {
			may++
		}
	}
	if may != mayHoldWithin || !MayHold(w.closest(cell)[3].ID, cell, all) {
		t.Errorf("%d may hold a cell, want %d", may, mayHoldWithin)
	}
}

// TestForgedMirrors lets the holders of a table be asked, one of which names
// mirrors of its own making for a child, of every holder there is: two of them
// are never asked alone.
func TestForgedMirrors(t *testing.T) {
	w := newWorld(t, 12, 1, 16)
	id := func() dht.Contact { return dht.Contact{ID: randomID(w.rng)} }
	child := Child{Index: 0, Summary: w.schema.SummaryOf(randomAd(w.rng, w.now))}
	for range Replicas {
		child.Holders = append(child.Holders, id())
	}
	honest, forged := child, child
	for i := range maxMirrors {
		of := child.Holders[i%Replicas].ID
		honest.Mirrors.List = append(honest.Mirrors.List, Mirror{id(), of})
		forged.Mirrors.List = append(forged.Mirrors.List, Mirror{id(), of})
	}
	honest.Mirrors.All, forged.Mirrors.All = 60, 1000
	both, lying := 0, 0
	for seed := range uint64(500) {
		s, err := NewSeeker(w.schema, Query{}, SeekerConfig{Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		root := s.visit(Root("arch"))
		s.descend(root, id().ID, []Child{forged})
		s.descend(root, id().ID, []Child{honest})
		v := s.visit(CellID{Tree: "arch", Prefix: root.cell.Prefix.Child(0)})
		liars := 0
		for range 2 {
			c, ok := s.pick(v)
			if !ok {
				t.Fatal("nobody is left")
			}
			v.asks[c.ID] = new(ask)
			if slices.ContainsFunc(forged.Mirrors.List, func(m Mirror) bool { return m.ID == c.ID }) {
				liars++
			}
		}
		if liars > 0 {
			lying++
		}
		if liars == 2 {
			both++
		}
	}
	if both > 0 || lying == 0 {
		t.Errorf("of 500 queries %d ask a forged mirror, %d two of them", lying, both)
	}
}

// TestPick draws whom a query asks: mirrors as likely as there are more of
// them, never two behind which one liar may stand, and holders alone once a
// mirror failed.
func TestPick(t *testing.T) {
	w := newWorld(t, 11, 1, 16)
	id := func() dht.Contact { return dht.Contact{ID: randomID(w.rng)} }
	var holders []dht.Contact
	for range Replicas {
		holders = append(holders, id())
	}
	named := func(all int, by ...dht.Contact) Mirrors {
		m := Mirrors{All: all}
		for i := range maxMirrors {
			m.List = append(m.List, Mirror{id(), by[i%len(by)].ID})
		}
		return m
	}
	const queries = 2000
	count := func(meet func(m *mirrored)) (asked map[dht.PeerID]int, one, two int) {
		asked = make(map[dht.PeerID]int)
		for seed := range uint64(queries) {
			s, err := NewSeeker(w.schema, Query{}, SeekerConfig{Seed: seed})
			if err != nil {
				t.Fatal(err)
			}
			v := s.visit(Root("arch"))
			v.meet(holders, nil)
			meet(&v.mirrored)
			for range 2 {
				c, ok := s.pick(v)
				if !ok || v.asks[c.ID] != nil {
					t.Fatal("nobody is left, or somebody is asked twice")
				}
				v.asks[c.ID] = new(ask)
				asked[c.ID]++
			}
			switch a := v.mirrored.asked; len(a) {
			case 1:
				one++
				if v.asks[a[0].Of] != nil {
					t.Fatal("a holder and its mirror are asked")
				}
			case 2:
				two++
				if a[0].Of == a[1].Of || a[0].teller == a[1].teller && !a[0].teller.IsZero() {
					t.Fatal("two mirrors for which one speaks are asked")
				}
			}
		}
		return asked, one, two
	}
	many := named(60, holders...)
	asked, one, two := count(func(m *mirrored) { m.meet(many, dht.PeerID{}) })
	if two < queries*80/100 || len(asked) != maxMirrors+Replicas {
		t.Errorf("of %d queries %d ask two mirrors, %d one; %d were asked", queries, two, one, len(asked))
	}
	for who, n := range asked {
		if n > queries/2 {
			t.Errorf("%s is asked %d times", who, n)
		}
	}
	if _, one, two = count(func(m *mirrored) { m.meet(named(4, holders...), dht.PeerID{}) }); one+two > queries*95/100 || one+two < queries/2 {
		t.Errorf("of %d queries %d ask a mirror where there are 8", queries, one+two)
	}
	if _, one, two = count(func(m *mirrored) { m.meet(named(60, holders[0]), dht.PeerID{}) }); two > 0 || one < queries*80/100 {
		t.Errorf("mirrors of one holder: %d queries ask two, %d one", two, one)
	}
	if _, _, two = count(func(m *mirrored) { m.meet(named(60, holders...), id().ID) }); two > 0 {
		t.Errorf("mirrors that one guide names: %d queries ask two", two)
	}
	_, _, two = count(func(m *mirrored) {
		m.meet(named(60, holders...), id().ID)
		m.meet(named(60, holders...), id().ID)
	})
	if two < queries/2 {
		t.Errorf("mirrors that two guides name: %d queries ask two", two)
	}
	if _, one, two = count(func(m *mirrored) {
		m.meet(named(60, holders...), dht.PeerID{})
		m.useless = true
	}); one+two > 0 {
		t.Error("mirrors are asked after one failed")
	}
}

// TestDirectory keeps what holders of roots said, the last word of each.
func TestDirectory(t *testing.T) {
	w := newWorld(t, 12, 1, 16)
	now := time.Unix(1_800_000_000, 0)
	var d Directory
	root, below := Root("arch"), CellID{Tree: "arch", Prefix: Prefix{Level: 4}}
	told := func(n int) (m Mirrors) {
		for range n {
			m.List = append(m.List, Mirror{Contact: dht.Contact{ID: randomID(w.rng)}})
		}
		m.All = 10 * n
		return m
	}
	from := []dht.PeerID{randomID(w.rng), randomID(w.rng)}
	d.Learn(now, Published{To: from[0], Cells: []CellID{root, below}, Placing: Placing{{Mirrors: told(2)}, {Mirrors: told(2)}}})
	d.Learn(now, Published{To: from[1], Cells: []CellID{root}, Placing: Placing{{Mirrors: told(3)}}})
	got, of := d.Recall(now, root), make(map[dht.PeerID]int)
	for _, m := range got.List {
		of[m.Of]++
	}
	if got.All != 50 || of[from[0]] != 2 || of[from[1]] != 3 {
		t.Errorf("%+v", got)
	}
	if got := d.Recall(now, below); len(got.List) > 0 {
		t.Error("mirrors of a cell that is no root are kept")
	}
	seen := Glimpse{Cell: root, Mirrors: Mirrors{All: 7, List: []Mirror{{dht.Contact{ID: randomID(w.rng)}, from[1]}}}}
	var asker Directory
	asker.Saw(now, []Glimpse{seen, {Cell: below, Mirrors: seen.Mirrors}})
	if got := asker.Recall(now, root); got.All != 7 || len(got.List) != 1 || got.List[0].Of != from[1] || len(asker.roots) != 1 {
		t.Errorf("from a query: %+v", got)
	}
	seen = Glimpse{Cell: root, Told: []Testimony{{Teller: from[0], At: now, About: []About{{Itself, seen.Mirrors}}}}}
	asker = Directory{}
	if asker.Saw(now, []Glimpse{seen}); len(asker.roots) > 0 {
		t.Error("a guide's word is passed on")
	}
	d.Learn(now.Add(time.Minute), Published{To: from[0], Cells: []CellID{root}, Placing: Placing{{}}})
	if got := d.Recall(now, root); len(got.List) != 3 || got.List[0].Of != from[1] {
		t.Errorf("after one lost its mirrors: %+v", got)
	}
	for range 100 {
		d.Learn(now, Published{To: randomID(w.rng), Cells: []CellID{root}, Placing: Placing{{Mirrors: told(100)}}})
	}
	if n := len(d.roots[root].list); n != maxEntries {
		t.Errorf("%d holders are remembered", n)
	}
	if got := d.Recall(now.Add(RecallTTL), root); len(got.List) > 0 {
		t.Errorf("%d mirrors are never forgotten", len(got.List))
	}
	few := told(3)
	few.All = StandingMirrors
	d.Learn(now, Published{To: from[0], Cells: []CellID{root}, Placing: Placing{{Mirrors: few}}})
	if got := d.Recall(now.Add(StandingTTL-time.Second), root); len(got.List) != 3 || got.All != StandingMirrors {
		t.Errorf("mirrors that stay are told as %+v", got)
	}
	if got := d.Recall(now.Add(StandingTTL), root); len(got.List) > 0 {
		t.Error("mirrors that stay are never forgotten")
	}
}
