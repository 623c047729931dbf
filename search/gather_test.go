package search

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// gatherWorld has servers enough that tables below roots gather their ads.
func gatherWorld(t *testing.T, seed uint64) *world {
	w := newWorld(t, seed, 30, 4)
	for range 60 {
		w.publish(randomAd(w.rng, w.now))
	}
	w.run(4 * time.Minute)
	return w
}

// gathered returns the tables whose holders answer for all cells below, and how
// many holders do.
func (w *world) gathered() map[CellID]int {
	out := make(map[CellID]int)
	for _, p := range w.peers {
		for _, id := range p.holder.order {
			if c := p.holder.cells[id]; !p.dead && c.answersForAll(w.now, CellQuery{Cell: id}) {
				out[id]++
			}
		}
	}
	return out
}

// askFor asks all holders of a cell who answer for the cells below, too.
func (w *world) askFor(cell CellID, q Query) []CellReply {
	return slices.DeleteFunc(w.askAll(CellQuery{Cell: cell, Query: q}), func(r CellReply) bool { return !r.Gathered })
}

// below returns the hashes of the servers whose ads all holders of some cell
// below a table lease.
func (w *world) below(table CellID) map[Hash]bool {
	leases := make(map[Hash]map[CellID]int)
	for _, p := range w.peers {
		for _, id := range p.holder.order {
			above, ok := id.Above()
			if p.dead || !ok || above != table {
				continue
			}
			for _, l := range p.holder.cells[id].leases {
				if leases[l.ad.hash] == nil {
					leases[l.ad.hash] = make(map[CellID]int)
				}
				leases[l.ad.hash][id]++
			}
		}
	}
	out := make(map[Hash]bool)
	for hash, cells := range leases {
		for id, n := range cells {
			out[hash] = out[hash] || n >= len(w.closest(id))
		}
	}
	return out
}

// checkGathered asks all tables that answer for all ads below them, and looks that
// two of their holders together do, whichever two.
func (w *world) checkGathered(t *testing.T, when string, least int) {
	t.Helper()
	tables, whole := w.gathered(), 0
	for _, id := range sortedCells(tables) {
		if id.Prefix.Level == 0 {
			t.Errorf("%s: the root %s answers for all", when, id)
		}
		want, lack := w.below(id), make(map[Hash]int)
		for _, r := range w.askFor(id, Query{Limit: MaxLimit}) {
			whole++
			if r.Inner || len(r.Children) > 0 {
				t.Errorf("%s: table %s answers as a table", when, id)
			}
			has := make(map[Hash]bool)
			for _, ad := range r.Ads {
				has[ad.hash] = true
			}
			for hash := range want {
				if !has[hash] {
					lack[hash]++
				}
			}
		}
		for hash, n := range lack {
			if n > 1 {
				t.Errorf("%s: %d holders of %s lack %s", when, n, id, hash)
			}
		}
	}
	t.Logf("%s: %d holders answer for all below %d tables", when, whole, len(tables))
	if whole < least {
		t.Errorf("%s: want %d", when, least)
	}
	for i := range 20 {
		q := Query{Where: Compare{Dim: "free_cpu", Op: OpGreaterEqual, Value: Number(float64(i))}, OrderBy: "price_hour", Limit: 10}
		w.compare(q, w.search(q, SeekerConfig{Seed: uint64(i), Verify: true}))
	}
}

// TestGather looks that tables answer for all ads below them, through changes and
// deaths, and that queries find what is true.
func TestGather(t *testing.T) {
	w := gatherWorld(t, 31)
	w.checkGathered(t, "at rest", 100)
	w.stir(20, 20)
	w.run(10 * time.Second)
	w.checkGathered(t, "after changes", 50)
	w.kill(6)
	w.run(4 * time.Minute)
	w.checkGathered(t, "after deaths", 50)
	for _, p := range w.peers {
		size := 0
		for _, c := range p.holder.cells {
			if c.gathering == nil {
				continue
			}
			for _, part := range c.gathering.portions {
				size += part.size()
			}
		}
		if size != p.holder.gathered {
			t.Errorf("%d bytes are gathered, counted as %d", size, p.holder.gathered)
		}
	}
}

func sortedCells(cells map[CellID]int) (ids []CellID) {
	for id := range cells {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, compareCells)
	return ids
}

// TestGatherSaves compares what queries cost where tables gather and where they
// do not, and their answers with what is true.
func TestGatherSaves(t *testing.T) {
	w := gatherWorld(t, 32)
	cost := func() (requests int) {
		for i := range 30 {
			q := Query{Where: Compare{Dim: "free_cpu", Op: OpGreaterEqual, Value: Number(float64(i))}, OrderBy: "price_hour", Limit: 10}
			a := w.search(q, SeekerConfig{Seed: uint64(i)})
			w.compare(q, a)
			requests += a.Requests
		}
		return requests
	}
	with := cost()
	for _, p := range w.peers {
		p.holder.cfg.GatherAds = -1
	}
	w.run(5 * time.Second)
	if n := len(w.gathered()); n > 0 {
		t.Fatalf("%d tables still answer for all below", n)
	}
	without := cost()
	t.Logf("%d requests with gathered tables, %d without", with, without)
	if 3*with > 2*without {
		t.Errorf("%d requests with gathered tables, %d without: want two thirds at most", with, without)
	}
}

// TestGatherLiars lets one of the holders of every table, or of every cell below,
// leave out most ads: nobody is misled.
func TestGatherLiars(t *testing.T) {
	for _, who := range []string{"table", "below"} {
		t.Run(who, func(t *testing.T) {
			w := newWorld(t, 33, 30, 4)
			liar := func(id dht.PeerID, cell CellID) bool { return w.closest(cell)[0].ID == id }
			if who == "table" {
				w.twist = func(p *peer, q CellQuery, r *CellReply) {
					if r.Gathered && liar(p.id, q.Cell) {
						r.Ads, r.Matched, r.Digest = nil, 0, 0
					}
				}
			} else {
				w.bend = func(p *peer, u *MirrorUpdate) {
					if u.Fed && liar(p.id, u.Cell) {
						u.Ads = u.Ads[:len(u.Ads)/4]
					}
				}
			}
			for range 60 {
				w.publish(randomAd(w.rng, w.now))
			}
			w.run(4 * time.Minute)
			if n := len(w.gathered()); n < 20 {
				t.Fatalf("%d tables answer for all below", n)
			}
			for i := range 40 {
				q := Query{Where: Compare{Dim: "free_cpu", Op: OpGreaterEqual, Value: Number(float64(i % 20))}, OrderBy: "price_hour", Limit: 10}
				if i%2 == 1 {
					q.OrderBy, q.Limit = "", 0
				}
				w.compare(q, w.search(q, SeekerConfig{Seed: uint64(i)}))
			}
		})
	}
}

// TestGatherBounds lets strangers tell of cells, and of ads that do not belong
// there.
func TestGatherBounds(t *testing.T) {
	w := gatherWorld(t, 34)
	tables := sortedCells(w.gathered())
	p := w.byID[w.closest(tables[0])[0].ID]
	c := p.holder.cells[tables[0]]
	part := c.gathering.portions[0]
	tell := func(from dht.PeerID, u MirrorUpdate) (reply MirrorReply) {
		u.Fed = true
		w.holder(p, MirrorCell{From: from, Update: u}, func(e HolderEffect) { reply = e.(MirrorReply) })
		return reply
	}
	before := fmt.Sprint(part.copy.version, len(part.copy.cell.leases))
	if r := tell(randomID(w.rng), MirrorUpdate{Cell: part.cell, To: 1 << 60, Whole: true}); r.Accepted {
		t.Error("a stranger may tell of a cell")
	}
	if r := tell(part.copy.of, MirrorUpdate{Cell: Root("price_hour"), To: 1 << 60, Whole: true}); r.Accepted {
		t.Error("a holder may tell of a root")
	}
	if got := fmt.Sprint(part.copy.version, len(part.copy.cell.leases)); got != before {
		t.Errorf("the copy is %s, was %s", got, before)
	}
	of := part.copy.of
	foreign := MirrorUpdate{Cell: part.cell, From: part.copy.version, To: part.copy.version + 1, Whole: true}
	for _, ad := range w.ads() {
		if tree, _ := w.schema.Tree(part.cell.Tree); !part.cell.Prefix.Contains(w.schema.KeyOf(tree, ad)) {
			foreign.Ads = append(foreign.Ads, ad)
		}
	}
	if r := tell(of, foreign); r.Accepted || part.copy != nil {
		t.Error("ads of other cells are taken in")
	}
	if c.answersForAll(w.now, CellQuery{}) {
		t.Error("the table answers for all without a copy")
	}
	w.run(time.Minute)
	if !c.answersForAll(w.now, CellQuery{}) {
		t.Error("the table has not found another source")
	}
	asked := 0
	for range 3 * maxFed {
		w.holder(p, Gather{From: dht.Contact{ID: randomID(w.rng)}, Cell: tables[0]}, func(e HolderEffect) {
			if r, ok := e.(GatherReply); ok && r.Accepted {
				asked++
			}
		})
	}
	if asked > maxFed {
		t.Errorf("%d strangers are told, limit %d", asked, maxFed)
	}
}

// TestGatherHot asks a table so often that its holders stop to answer for all
// below, and begin again when they are asked seldom.
func TestGatherHot(t *testing.T) {
	w := gatherWorld(t, 35)
	tables := sortedCells(w.gathered())
	id := tables[0]
	if n := len(w.askFor(id, Query{Limit: 1})); n < 2 {
		t.Fatalf("%d holders answer for all below", n)
	}
	w.heat(id, 20*time.Second)
	if n := len(w.askFor(id, Query{Limit: 1})); n > 0 {
		t.Errorf("%d holders answer for all below, asked 4 times a second", n)
	}
	w.run(2 * time.Minute)
	if n := len(w.askFor(id, Query{Limit: 1})); n < 2 {
		t.Errorf("%d holders answer for all below, asked no more", n)
	}
}
