package search

import (
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// A Directory keeps what the holders of roots told a publisher of mirrors, for
// those nearby who ask. The zero value is empty. It is for one goroutine.
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

// Learn takes in the answer to a publish.
func (d *Directory) Learn(now time.Time, in Published) {
	for i, placed := range in.Placing[:min(len(in.Placing), len(in.Cells))] {
		cell := in.Cells[i]
		if cell.Tree == "" || cell.Prefix.Level > 0 {
			continue
		}
		r := d.roots[cell]
		if r == nil {
			if len(placed.Mirrors.List) == 0 {
				continue
			}
			r = new(rumour)
		}
		r.list = slices.DeleteFunc(r.list, func(h heard) bool { return h.from == in.To })
		if len(placed.Mirrors.List) > 0 && len(r.list) < maxEntries {
			told := Mirrors{All: min(placed.Mirrors.All, MaxMirrors)}
			for _, m := range placed.Mirrors.List[:min(len(placed.Mirrors.List), maxMirrors)] {
				told.List = append(told.List, Mirror{m.Contact, in.To})
			}
			r.list = append(r.list, heard{in.To, told, now})
		}
		if d.roots == nil {
			d.roots = make(map[CellID]*rumour)
		}
		if d.roots[cell] = r; len(r.list) == 0 {
			delete(d.roots, cell)
		}
	}
}

// Recall draws some of the mirrors of a root.
func (d *Directory) Recall(now time.Time, cell CellID) Mirrors {
	r := d.roots[cell]
	if r == nil {
		return Mirrors{}
	}
	r.list = slices.DeleteFunc(r.list, func(h heard) bool { return now.Sub(h.at) >= RecallTTL })
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
