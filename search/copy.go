package search

import (
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// A Copy is a cell as one holder hands it to another.
type Copy struct {
	Cell     CellID
	Born     time.Time // since when it is complete
	Inner    bool
	Leases   []Lease
	Children []Told
	Gathered []Lease // all ads below, where they are gathered; they stay as they are
}

// A Lease is an ad in a Copy.
type Lease struct {
	Ad    *Signed
	From  dht.PeerID // who published it
	Until time.Time
}

// A Told is what one holder of a child cell told of it.
type Told struct {
	Index   int // slot of Prefix.Child
	Holder  dht.Contact
	Mirrors []dht.Contact
	Summary Summary
	Below   []Child // see Push
	Epoch   uint64
	Until   time.Time
}

// Restore gives a Holder what another one has of a cell. What it has itself
// and is newer stays.
type Restore struct{ Copy Copy }

func (Restore) holderInput() {}

// SummaryOf returns the summary of ads.
func (s *Schema) SummaryOf(ads ...*Signed) Summary {
	m := s.NewSummary()
	for _, ad := range ads {
		s.add(&m, ad.Ad)
	}
	return m
}

// restore merges a copy into the cell.
func (h *Holder) restore(now time.Time, in Copy) {
	c := h.cells[in.Cell]
	if c == nil {
		if h.leases >= h.cfg.MaxAds || len(h.cells) >= h.cfg.MaxAds {
			return
		}
		c = h.make(now, in.Cell)
		c.born, c.inner = in.Born, in.Inner
	}
	for _, l := range in.Leases {
		h.keep(now, c, l)
	}
	if len(in.Gathered) > 0 {
		g := &gathering{fixed: true}
		for _, l := range in.Gathered {
			g.ads = append(g.ads, lease{ad: l.Ad, from: l.From, until: l.Until})
		}
		slices.SortFunc(g.ads, func(a, b lease) int { return a.ad.hash.Compare(b.ad.hash) })
		c.gathering = g
	}
	for _, t := range in.Children {
		if t.Index < 0 || t.Index >= Slots || h.schema.CheckSummary(t.Summary) != nil || !now.Before(t.Until) {
			continue
		}
		e := entry{holder: t.Holder, mirrors: t.Mirrors, summary: t.Summary, below: t.Below, epoch: t.Epoch, until: t.Until}
		if c.learn(t.Index, e) {
			h.widen(c)
		}
	}
}
