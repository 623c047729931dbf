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
	// Idle is how many of those that were looked at made no summary above a
	// leaf wider, and Suppressed how many of these no cell above a leaf was
	// told of.
	Idle, Suppressed uint64
}

// lookAt is how many changes come to one that is looked at: asking the roots
// of all trees takes milliseconds.
const lookAt = 8

// idle tells whether every root already expects an ad like this where it
// stands, so that nobody above the leaves need hear of it. What is in the
// sample of a root is never idle: the sample must be as it is.
func (l *Live) idle(ad *search.Signed) bool {
	want := l.schema.SummaryOf(ad).Occupancy
	itself := search.Query{Where: search.Compare{Dim: search.DimServer, Op: search.OpEqual, Value: search.Text(ad.Ad.Server.String())}, Limit: 1}
	for _, t := range l.schema.Trees() {
		root := search.Root(t.Name)
		key := l.schema.KeyOf(t, ad)
		holders := l.net.Closest(nil, network.Short(root.Key().Position()), 1)
		if len(holders) == 0 {
			return false
		}
		reply := l.answer(holders[0], search.CellQuery{Cell: root, Query: itself, Whole: true})
		if reply.Inner && reply.Matched > 0 {
			return false
		}
		expected := !reply.Inner // a root that is a leaf has nobody above
		for _, c := range reply.Children {
			below := root.Prefix.Child(c.Index)
			expected = expected || below.Contains(key) && covers(c.Summary.Occupancy, want)
		}
		if !expected {
			return false
		}
	}
	return true
}

func covers(have, want []uint64) bool {
	for i, b := range want {
		if b&^have[i] != 0 {
			return false
		}
	}
	return true
}

// aboveLeaf tells whether a publisher's messages go to a cell above the last
// one on the ad's way; only that one is asked for a hint.
func aboveLeaf(effects []search.PublisherEffect) bool {
	return slices.ContainsFunc(effects, func(e search.PublisherEffect) bool {
		p, ok := e.(search.SendPublish)
		return ok && slices.ContainsFunc(p.Places, func(at search.Placement) bool { return at.Tree != "" && !at.Hint })
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
