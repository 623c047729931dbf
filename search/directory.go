package search

import (
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// A Directory keeps what a participant heard of the mirrors of roots as it
// published and asked, for those nearby who consult it. The zero value is empty.
// It is for one goroutine.
type Directory struct {
	roots map[CellID]*rumour
}

// A rumour is what the holders of one root told.
type rumour struct {
	list []heard
	turn int // which mirrors are told next
}

// heard is what one holder told.
type heard struct {
	from    dht.PeerID
	mirrors Mirrors
	at      time.Time
}

// old tells whether what a holder told is not to be told others any more. Mirrors
// that it has though it is not asked for much stay for long.
func (h heard) old(now time.Time) bool {
	if h.mirrors.All <= StandingMirrors {
		return now.Sub(h.at) >= StandingTTL
	}
	return now.Sub(h.at) >= RecallTTL
}

// Learn takes in the answer to a publish.
func (d *Directory) Learn(now time.Time, in Published) {
	for i, placed := range in.Placing[:min(len(in.Placing), len(in.Cells))] {
		told := Mirrors{All: placed.Mirrors.All}
		for _, m := range placed.Mirrors.List {
			told.List = append(told.List, Mirror{m.Contact, in.To})
		}
		d.hear(now, in.Cells[i], in.To, told)
	}
}

// Saw takes in what a query saw, but for what it had from guides.
func (d *Directory) Saw(now time.Time, seen []Glimpse) {
	for _, g := range seen {
		var holders []dht.PeerID
		for _, m := range g.Mirrors.List {
			if !slices.Contains(holders, m.Of) {
				holders = append(holders, m.Of)
			}
		}
		for _, holder := range holders {
			told := Mirrors{All: (g.Mirrors.All + len(holders) - 1) / len(holders)} // of each about as many
			for _, m := range g.Mirrors.List {
				if m.Of == holder {
					told.List = append(told.List, m)
				}
			}
			d.hear(now, g.Cell, holder, told)
		}
	}
}

// hear keeps the mirrors of one holder of a root, in place of those before.
func (d *Directory) hear(now time.Time, cell CellID, holder dht.PeerID, told Mirrors) {
	if cell.Tree == "" || cell.Prefix.Level > 0 || d.roots[cell] == nil && len(told.List) == 0 {
		return
	}
	if d.roots == nil {
		d.roots = make(map[CellID]*rumour)
	}
	r := d.roots[cell]
	if r == nil {
		r = new(rumour)
		d.roots[cell] = r
	}
	r.list = slices.DeleteFunc(r.list, func(h heard) bool { return h.from == holder || h.old(now) })
	if len(told.List) > 0 && len(r.list) < maxEntries {
		told.All, told.List = min(told.All, MaxMirrors), told.List[:min(len(told.List), maxMirrors)]
		r.list = append(r.list, heard{holder, told, now})
	}
	if len(r.list) == 0 {
		delete(d.roots, cell)
	}
}

// Recall draws some of the mirrors of a root.
func (d *Directory) Recall(now time.Time, cell CellID) Mirrors {
	r := d.roots[cell]
	if r == nil {
		return Mirrors{}
	}
	r.list = slices.DeleteFunc(r.list, func(h heard) bool { return h.old(now) })
	var all []Mirror
	count := 0
	for _, h := range r.list {
		all, count = append(all, h.mirrors.List...), count+h.mirrors.All
	}
	r.turn++
	out := DrawMirrors(all, r.turn)
	out.All = count
	return out
}
