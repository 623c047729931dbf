package search

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/xenoserver/xeno/dht"
)

// passingWorld has trees of several tables one below the other, which do not
// gather, with two or more cells below each.
func passingWorld(t *testing.T, seed uint64, lean func(*peer, SendPush) []Child) *world {
	return passingWorldOf(t, seed, 60, lean)
}

// passingWorldOf is that with so many ads. Of 60 all leaves are listed by the
// roots, of 240 they are too many.
func passingWorldOf(t *testing.T, seed uint64, ads int, lean func(*peer, SendPush) []Child) *world {
	w := newWorld(t, seed, 0, 4)
	w.wide, w.lean = -1, lean
	dims := defaultDimensions()
	for i, d := range dims { // fewer trees take less time
		dims[i].Tree = slices.Contains([]string{"free_cpu", "price_hour", "free_memory", "os", DimCoordinate, DimServer}, d.Name)
	}
	var err error
	if w.schema, err = NewSchema(dims); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		w.join()
	}
	for range ads {
		w.publish(randomAd(w.rng, w.now))
	}
	w.run(6 * time.Minute)
	return w
}

// passing returns how many cells the holders of roots list in the place of
// tables.
func (w *world) passing() (n int) {
	for _, t := range w.schema.trees {
		for _, r := range w.askAll(CellQuery{Cell: Root(t.Name), Whole: true}) {
			for _, c := range r.Children {
				if c.Index >= Slots {
					n++
				}
			}
		}
	}
	return n
}

// queries are some with and without an order and a limit.
func (w *world) queries(n int) (list []Query) {
	for i := range n {
		q := Query{Where: Compare{Dim: "free_cpu", Op: OpGreaterEqual, Value: Number(float64(i % 20))}, OrderBy: "price_hour", Limit: 10}
		switch i % 3 {
		case 1:
			q.OrderBy, q.Limit = "", 0
		case 2:
			q.OrderBy, q.Origin = DimCoordinate, &dht.Coordinate{Vec: [dht.CoordinateDims]float64{w.rng.Float64() / 20, -w.rng.Float64() / 20}}
		}
		list = append(list, q)
	}
	return list
}

func (w *world) checkPassing(when string, least int) {
	w.t.Helper()
	n := w.passing()
	w.t.Logf("%s: roots list %d cells in the place of tables", when, n)
	if n < least {
		w.t.Errorf("%s: want %d at least", when, least)
	}
	for i, q := range w.queries(45) {
		w.compare(q, w.search(q, SeekerConfig{Seed: uint64(i), Verify: true}))
	}
}

// TestPassedOver looks that tables are passed over and queries find what is true,
// through changes, deaths and growth, and that counts count each ad once.
func TestPassedOver(t *testing.T) {
	w := passingWorld(t, 41, nil)
	w.checkPassing("at rest", 300)
	t.Run("when", func(t *testing.T) { checkWhen(t, w) })
	t.Run("mirrors", func(t *testing.T) { checkMirrored(t, w) })
	w.run(3 * time.Minute) // until each table knows how many ads are below
	for i := range 20 {
		where := Compare{Dim: "free_cpu", Op: OpGreaterEqual, Value: Number(float64(i))}
		a := w.count(where, CounterConfig{Seed: uint64(i), Error: 1e-9})
		all := len(w.schema.Select(Query{Where: where}, w.ads()))
		if a.Matches.Count != float64(all) {
			t.Errorf("free_cpu >= %d: counted %v, %d match", i, a.Matches, all)
		}
	}
	w.stir(20, 20)
	w.run(10 * time.Second)
	w.checkPassing("after changes", 1)
	w.kill(4)
	w.run(6 * time.Minute)
	w.checkPassing("after deaths", 300)
}

// TestPassedForQuery looks at what tables of many cells tell a query to read: all
// that can match, and no more than they may list.
func TestPassedForQuery(t *testing.T) {
	w := passingWorldOf(t, 44, 240, nil)
	passed, read := 0, 0
	for i, q := range w.queries(12) {
		conjuncts := Conjuncts(q.Where)
		for _, tree := range w.schema.trees {
			for _, whole := range []bool{true, false} {
				for _, r := range w.askAll(CellQuery{Cell: Root(tree.Name), Query: q, Whole: whole}) {
					list := r.toRead()
					passed, read = passed+len(r.Passed), read+len(list)
					if len(r.Below) > maxListed || !whole && len(list) > maxListed {
						t.Fatalf("a reply lists %d and %d cells", len(list), len(r.Below))
					}
					for _, ad := range w.ads() {
						key := w.schema.KeyOf(tree, ad)
						if !w.schema.Matches(q.Where, ad.Ad) || slices.ContainsFunc(list, func(c Child) bool {
							return Root(tree.Name).Prefix.Child(c.Index).Contains(key) && c.Summary.Covers(w.schema.SummaryOf(ad))
						}) {
							continue
						}
						t.Fatalf("query %d: %s is in none of the cells of %s that are to be read", i, ad.Ad.Server.Short(), tree.Name)
					}
					for _, c := range r.Below {
						if w.schema.pruner(conjuncts, c.Summary) >= 0 {
							t.Fatalf("query %d: a cell is to be read that cannot match", i)
						}
					}
				}
			}
		}
		w.compare(q, w.search(q, SeekerConfig{Seed: uint64(i)}))
	}
	t.Logf("%d tables are passed over, %d cells to be read", passed, read)
	if passed < 100 {
		t.Error("hardly a table is passed over")
	}
}

// askAll asks all holders of a cell.
func (w *world) askAll(q CellQuery) (replies []CellReply) {
	for _, holder := range w.closest(q.Cell) {
		w.holder(w.byID[holder.ID], AskCell{q}, func(e HolderEffect) {
			if r, ok := e.(CellReply); ok && r.Known {
				replies = append(replies, r)
			}
		})
	}
	return replies
}

// TestPassedForQueryLiars lets one holder of each table pass over everything, and
// tell of nothing below.
func TestPassedForQueryLiars(t *testing.T) {
	w := passingWorldOf(t, 45, 240, nil)
	lies := 0
	w.twist = func(p *peer, q CellQuery, r *CellReply) {
		if len(r.Children) == 0 || w.closest(q.Cell)[0].ID != p.id {
			return
		}
		lies++
		r.Passed, r.Below = nil, nil
		for _, c := range r.Children {
			r.Passed = append(r.Passed, c.Index)
		}
	}
	for i, q := range w.queries(45) {
		w.compare(q, w.search(q, SeekerConfig{Seed: uint64(i), Verify: true}))
	}
	if lies == 0 {
		t.Error("nobody lied")
	}
}

// TestPassedOverDeep looks that no table is passed over for cells so deep that
// nobody takes them in.
func TestPassedOverDeep(t *testing.T) {
	s := DefaultSchema()
	told := s.NewSummary()
	told.Count = 5
	for depth := maxDepthBelow - 2*tableBits; depth <= maxDepthBelow; depth++ {
		root := &cell{id: Root("price_hour"), inner: true, told: s.NewSummary()}
		deep := Child{Index: 1<<depth - 2, Summary: told}
		for holder := range Replicas {
			root.learn(14, entry{holder: dht.Contact{ID: dht.PeerID{byte(holder + 1)}}, summary: told, below: []Child{deep}, until: time.Unix(1<<40, 0)})
		}
		list := root.listing(s)
		if proper := properChildren(root.id, list); len(list) != 1 || len(proper) != 1 {
			t.Fatalf("of cells %d levels below a table, %d of %d are taken in", depth, len(proper), len(list))
		}
		if passed := list[0].Index >= Slots; passed != (depth+tableBits <= maxDepthBelow) {
			t.Errorf("a table is passed over for cells %d levels below it: %v", depth, passed)
		}
	}
}

// TestPassedOverSaves compares what queries cost where tables are passed
// over and where they are read.
func TestPassedOverSaves(t *testing.T) {
	cost := func(lean func(*peer, SendPush) []Child) (requests int) {
		w := passingWorld(t, 42, lean)
		for i := range 30 {
			origin := dht.Coordinate{Vec: [dht.CoordinateDims]float64{w.rng.Float64() / 20, -w.rng.Float64() / 20}}
			q := Query{OrderBy: DimCoordinate, Origin: &origin, Limit: 1 + i%10}
			a := w.search(q, SeekerConfig{Seed: uint64(i)})
			w.compare(q, a)
			requests += a.Requests
		}
		return requests
	}
	with, without := cost(nil), cost(func(*peer, SendPush) []Child { return nil })
	t.Logf("%d requests where tables are passed over, %d where they are read", with, without)
	if 10*with > 9*without {
		t.Errorf("%d requests where tables are passed over, %d where they are read: want nine tenths at most", with, without)
	}
}

// TestPassedOverLiars lets a quarter of the participants leave out most of the
// cells below the tables that they hold: nobody is misled.
func TestPassedOverLiars(t *testing.T) {
	leftOut := 0
	w := passingWorld(t, 43, func(p *peer, push SendPush) []Child {
		if len(push.Below) == 0 || p.id[0]%4 > 0 {
			return push.Below
		}
		leftOut++
		return push.Below[:1]
	})
	w.checkPassing("with liars", 300)
	if leftOut == 0 {
		t.Error("nobody lied")
	}
}

// checkWhen looks at when a table is passed over.
func checkWhen(t *testing.T, w *world) {
	var id CellID
	var p *peer
	for _, q := range w.peers {
		for _, cell := range q.holder.order {
			if c := q.holder.cells[cell]; len(c.toldBelow) > 0 && (p == nil || compareCells(cell, id) < 0) {
				p, id = q, cell
			}
		}
	}
	if p == nil {
		t.Fatal("no table is passed over")
	}
	h, c := p.holder, p.holder.cells[id]
	if h.standIns(w.now, c) == nil {
		t.Fatal("it is not to be passed over any more")
	}
	c.leases[0].settled, c.leases[0].ticks = false, settleTicks-1
	if h.standIns(w.now, c) == nil {
		t.Error("an ad that came just now has it read")
	}
	c.leases[0].ticks++
	if h.standIns(w.now, c) != nil {
		t.Error("it is passed over with an ad that did not come down")
	}
	c.leases[0].settled = true
	born := c.born
	c.born = w.now
	if h.standIns(w.now, c) != nil {
		t.Error("it is passed over while children may not have told of themselves")
	}
	c.born = born

	above, _ := id.Above()
	_, slot := id.Prefix.Parent()
	holder := w.byID[w.closest(above)[0].ID]
	table := holder.holder.cells[above]
	if table.passed(w.schema, slot) == nil {
		t.Fatal("the table above does not pass over it")
	}
	entries := slices.Clone(table.children[slot])
	for i := range entries {
		if !entries[i].holder.ID.IsZero() {
			table.children[slot] = []entry{entries[i]}
			if table.passed(w.schema, slot) != nil {
				t.Error("it is passed over for the word of one")
			}
			table.children[slot] = slices.Clone(entries)
			table.children[slot][i].below = nil
			if table.passed(w.schema, slot) != nil {
				t.Error("it is passed over though one of its holders wants it read")
			}
		}
	}
	table.children[slot] = entries
	everything := w.schema.NewSummary()
	for i := range everything.Occupancy {
		everything.Occupancy[i] = ^uint64(0)
	}
	table.children[slot] = append(slices.Clone(entries), entry{summary: everything})
	if table.passed(w.schema, slot) != nil {
		t.Error("it is passed over though an ad was sent down that no cell below it may have")
	}
}

// TestPassedOverBounds lets a stranger tell of cells that cannot be.
func TestPassedOverBounds(t *testing.T) {
	s := DefaultSchema()
	id := CellID{Tree: "price_hour", Prefix: PrefixOf(Key{0x12}, 4)}
	child := func(slot int) Child { return Child{Index: slot, Summary: s.NewSummary()} }
	many := make([]Child, maxBelow+1)
	for i := range many {
		many[i] = child(i)
	}
	for name, c := range map[string]struct {
		id   CellID
		list []Child
		want bool
	}{
		"fine":      {id, []Child{child(0), child(Slots + 5)}, true},
		"negative":  {id, []Child{child(-1)}, false},
		"twice":     {id, []Child{child(3), child(3)}, false},
		"many":      {id, many, false},
		"too deep":  {id, []Child{child(MaxIndex + 1)}, false},
		"no bits":   {id, []Child{{Index: 1}}, false},
		"too small": {CellID{Tree: id.Tree, Prefix: PrefixOf(Key{}, maxLevel-1)}, []Child{child(2)}, false},
	} {
		if got := s.tellable(c.id, c.list); got != c.want {
			t.Errorf("%s: tellable %v", name, got)
		}
	}
	h := NewHolder(s, HolderConfig{})
	now := time.Unix(1_800_000_000, 0)
	for n := range Replicas {
		m := s.NewSummary()
		m.Count = 100
		h.Step(now, Push{From: dht.Contact{ID: dht.PeerID{byte(n + 1)}}, Child: id, Summary: m, Below: []Child{child(-1), child(MaxIndex + 1)}})
	}
	h.Step(now, HolderTick{})
	for _, e := range h.Step(now, AskCell{CellQuery{Cell: Root(id.Tree), Whole: true}}) {
		if r, ok := e.(CellReply); !ok || len(r.Children) != 1 || r.Children[0].Index >= Slots {
			t.Errorf("the table above lists %+v", e)
		}
	}
}

// TestPassedOverLong lets strangers have addresses so long that not all cells fit
// into a message.
func TestPassedOverLong(t *testing.T) {
	s := DefaultSchema()
	id := CellID{Tree: "price_hour", Prefix: PrefixOf(Key{0x10}, 4)}
	now := time.Unix(1_800_000_000, 0)
	children := func(n int) (list []Child) {
		for i := range n {
			c := Child{Index: 14 + i, Summary: s.NewSummary()}
			c.Summary.Count = 9
			for holder := range Replicas {
				long := dht.Contact{ID: dht.PeerID{byte(holder + 1)}}
				for range dht.MaxAddrs {
					long.Addrs = append(long.Addrs, "/dns4/"+strings.Repeat("x", dht.MaxAddrBytes-6))
				}
				c.Holders = append(c.Holders, long)
			}
			list = append(list, c)
		}
		return list
	}
	c := &cell{id: id, inner: true, listed: children(8), listedNow: true}
	h := NewHolder(s, HolderConfig{})
	if h.standIns(now, c) != nil {
		t.Error("a table tells of more than fits into a message")
	}
	c.listed = children(1)
	if h.standIns(now, c) == nil {
		t.Error("a table does not tell of what fits into a message")
	}
	root := &cell{id: Root(id.Tree), inner: true, told: s.NewSummary()}
	for slot := 14; slot < Slots; slot++ {
		for holder := range Replicas {
			root.learn(slot, entry{holder: dht.Contact{ID: dht.PeerID{byte(holder + 1)}}, summary: children(1)[0].Summary, below: children(2), until: now.Add(time.Hour)})
		}
	}
	deep := 0
	for _, child := range root.listing(s) {
		if child.Index >= Slots {
			deep++
		}
	}
	if size := bytesBelow(children(deep)); deep == 0 || size > maxListedBytes {
		t.Errorf("a table lists %d cells of %d bytes in the place of others", deep, size)
	}
}

// TestStrangeSlots answers with cells deeper than any can be.
func TestStrangeSlots(t *testing.T) {
	s := DefaultSchema()
	now := time.Unix(1_800_000_000, 0)
	full := s.NewSummary()
	full.Count = 1000
	for i := range full.Occupancy {
		full.Occupancy[i] = ^uint64(0)
	}
	one, two, deepest := dht.PeerID{1}, dht.PeerID{2}, uint8(0)
	for _, slot := range []int{-7, 14, Slots, 1 << 10, MaxIndex, MaxIndex + 1, 1 << 40} {
		where := Compare{Dim: "free_cpu", Op: OpGreaterEqual, Value: Number(1)}
		seeker, err := NewSeeker(s, Query{Where: where}, SeekerConfig{Budget: 2000})
		if err != nil {
			t.Fatal(err)
		}
		counter, err := NewCounter(s, where, CounterConfig{Budget: 300})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range []machine{seeker, counter} {
			effects := m.Step(now, Start{})
			for len(effects) > 0 {
				e := effects[0]
				effects = effects[1:]
				switch e := e.(type) {
				case Locate:
					effects = append(effects, m.Step(now, Located{Cell: e.Cell, Holders: []dht.Contact{{ID: one}, {ID: two}}})...)
				case Ask:
					// Down the leftmost branch, at last between tables, and somewhere strange.
					down := 14
					if e.Query.Cell.Prefix.table() {
						down = 0
					}
					r := CellReply{Known: true, Inner: true, Age: time.Hour, Children: []Child{
						{Index: down, Summary: full, Holders: []dht.Contact{{ID: one}, {ID: two}}}, {Index: slot, Summary: full},
					}}
					deepest = max(deepest, e.Query.Cell.Prefix.Level)
					effects = append(effects, m.Step(now, Answered{Cell: e.Query.Cell, From: e.To.ID, Reply: &r})...)
				case Consult, Finish, Hit, Verify, Wake:
				}
			}
		}
	}
	if deepest <= maxLevel-tableBits {
		t.Errorf("nobody came deeper than level %d", deepest)
	}
}

// TestSlots compares slots with prefixes.
func TestSlots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var key Key
		for i := range key {
			key[i] = rapid.Byte().Draw(t, "byte")
		}
		top := rapid.IntRange(0, maxLevel-2).Draw(t, "top")
		middle := rapid.IntRange(top+1, min(maxLevel-1, top+maxDepthBelow-1)).Draw(t, "middle")
		low := rapid.IntRange(middle+1, min(maxLevel, top+maxDepthBelow)).Draw(t, "low")
		a, b, c := PrefixOf(key, top), PrefixOf(key, middle), PrefixOf(key, low)
		if got := a.Child(a.slotOf(c)); got != c {
			t.Fatalf("%v below %v: slot %d is %v", c, a, a.slotOf(c), got)
		}
		if got := nested(a.slotOf(b), b.slotOf(c)); got != a.slotOf(c) {
			t.Fatalf("%d below %d is %d, not %d", b.slotOf(c), a.slotOf(b), got, a.slotOf(c))
		}
		if depthOf(a.slotOf(c)) != low-top || a.slotOf(c) > MaxIndex {
			t.Fatalf("slot %d is %d deep", a.slotOf(c), depthOf(a.slotOf(c)))
		}
		if p, slot := c.Parent(); slot != p.slotOf(c) {
			t.Fatal(fmt.Sprint(slot, p.slotOf(c)))
		}
	})
}

// checkMirrored looks that the mirrors of a root list what its holders do.
func checkMirrored(t *testing.T, w *world) {
	root := Root("price_hour")
	w.heat(root, 30*time.Second)
	n := 0
	for _, m := range w.mirrorsOf(root).List {
		slots := func(id dht.PeerID) (list []string) {
			w.holder(w.byID[id], AskCell{CellQuery{Cell: root, Whole: true}}, func(e HolderEffect) {
				for _, c := range e.(CellReply).Children {
					list = append(list, fmt.Sprint(c.Index, c.Summary.Count, len(c.Holders)))
					if c.Index >= Slots {
						n++
					}
				}
			})
			return list
		}
		if own, copied := slots(m.Of), slots(m.ID); !slices.Equal(own, copied) {
			t.Fatalf("holder lists %v, its mirror %v", own, copied)
		}
	}
	if n == 0 {
		t.Error("no cell stands in the place of a table")
	}
}
