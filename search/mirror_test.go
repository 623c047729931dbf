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
	w.updates++
	in := Mirrored{Cell: e.Update.Cell, From: e.To.ID}
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

// omit is the reply of somebody who may lie by omission.
func (w *world) omit(p *peer, r CellReply) *CellReply {
	if w.hiders[p.id] {
		r.Ads, r.Children, r.Matched, r.More = nil, nil, 0, false
	}
	return &r
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
	w.told, w.hiders = make(map[CellID]Mirrors), make(map[dht.PeerID]bool)
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
				if !c.Summary.covers(own.Children[i].Summary) || c.Summary.Count != own.Children[i].Summary.Count || len(c.Holders) != len(own.Children[i].Holders) {
					t.Fatalf("%s: child %d differs", when, i)
				}
			}
		}
	}
	w.heat(root, 6*time.Second)
	same("at rest")
	for i := range 30 {
		if i < 10 {
			w.publisher(w.pubs[i], Stop{})
		} else {
			w.publisher(w.pubs[i], Offer{changed(w.rng, w.pubs[i].ad, w.now)})
		}
	}
	for range 10 {
		w.publish(randomAd(w.rng, w.now))
	}
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
	w.hiders[told.List[0].Of] = true
	for _, m := range told.List {
		if m.Of == told.List[0].Of {
			w.hiders[m.ID] = true
		}
	}
	run("one holder's lie")
	clear(w.hiders)
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
