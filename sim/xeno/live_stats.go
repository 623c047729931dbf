package xeno

import (
	"slices"
	"time"

	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/network"
)

// Changes count what became of changed ads.
type Changes struct {
	// Changed is how many ads changed.
	Changed uint64
	// Idle is how many of those that were looked at matter to no cell above a
	// leaf: the ad stays in its leaves, it is in no sample on the way to them,
	// and every summary on the way covers it as it was told. Suppressed is how
	// many of these no publisher told a cell above a leaf of.
	Idle, Suppressed uint64
}

// lookAt is how many changes come to one that is looked at: asking the roots
// of all trees takes milliseconds.
const lookAt = 8

// idle tells whether a change of an ad matters to no cell above a leaf.
func (l *Live) idle(before, ad *search.Signed) bool {
	for _, t := range l.schema.Trees() {
		if !l.idleIn(t, before, ad) {
			return false
		}
	}
	return true
}

// idleIn is idle in one tree: it goes down from table to table as a publisher
// is sent.
func (l *Live) idleIn(t search.Tree, before, ad *search.Signed) bool {
	itself := search.Query{Where: search.Compare{Dim: search.DimServer, Op: search.OpEqual, Value: search.Text(ad.Ad.Server.String())}, Limit: 1}
	want := l.schema.SummaryOf(ad)
	old, key := l.schema.KeyOf(t, before), l.schema.KeyOf(t, ad)
	for cell := search.Root(t.Name); ; {
		var reply search.CellReply
		for i, at := range l.net.Closest(nil, network.Short(cell.Key().Position()), search.Replicas) {
			r := l.answer(at, search.CellQuery{Cell: cell, Query: itself, Whole: i == 0})
			if i == 0 {
				reply = r
			}
			if r.Inner && r.Matched > 0 {
				return false // it is in a sample, which must be as it is
			}
		}
		if !reply.Inner {
			return reply.Known && cell.Prefix.Contains(old)
		}
		next, covered := cell, false
		for _, c := range reply.Children {
			if below := cell.Prefix.Child(c.Index); below.Contains(key) && below.Level > next.Prefix.Level {
				next.Prefix, covered = below, c.Summary.Covers(want)
			}
		}
		if !covered {
			return false
		}
		cell = next
	}
}

// aboveLeaf tells whether a publisher sends a message to cells above the last
// one on the ad's way only; that one is asked for a hint. What goes along with
// a message to a leaf costs nothing, and would have been due within a round.
func aboveLeaf(effects []search.PublisherEffect) bool {
	return slices.ContainsFunc(effects, func(e search.PublisherEffect) bool {
		p, ok := e.(search.SendPublish)
		return ok && !slices.ContainsFunc(p.Places, func(at search.Placement) bool { return at.Hint })
	})
}

// Refresh measures how many messages a server sends in one renewal interval,
// in the mean over a while in which nothing changes: renewals, each lease every
// second interval, and questions to cells that do not hold its ad.
func (s LiveStats) Refresh(before LiveStats, servers int, renew, passed time.Duration) float64 {
	if servers == 0 || passed <= 0 {
		return 0
	}
	return float64(s.Published-before.Published) / float64(servers) / (float64(passed) / float64(renew))
}

// Holding measures how many messages a node sends a minute as a holder, in the
// mean: summaries, updates of mirrors and of those who gather, and what holders
// ask each other for.
func (s LiveStats) Holding(before LiveStats, nodes int, passed time.Duration) float64 {
	if nodes == 0 || passed <= 0 {
		return 0
	}
	sent := func(s LiveStats) uint64 { return s.Pushed + s.Mirrored + s.Fed + s.HandedOff }
	return float64(sent(s)-sent(before)) / float64(nodes) / passed.Minutes()
}
