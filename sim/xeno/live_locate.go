package xeno

import (
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/network"
)

// A location is the outcome of a node's lookup, or one under way.
type location struct {
	at      time.Duration
	done    bool
	holders []network.NodeID
	waiting []func(holders []network.NodeID, requests int)
}

// locate finds the live nodes closest to a cell, as node/index does: what was
// found lately is remembered, and lookups of one cell that come together are
// one. then gets nobody where the lookup fails.
func (n *liveNode) locate(cell search.CellID, then func(holders []network.NodeID, requests int)) {
	net := n.live.net
	now := net.Now()
	loc := n.located[cell]
	if loc != nil && now-loc.at < n.trust(loc.at) {
		if loc.done {
			net.After(0, func() { then(loc.holders, 0) })
		} else {
			loc.waiting = append(loc.waiting, then)
		}
		return
	}
	loc = &location{at: now, waiting: []func([]network.NodeID, int){then}}
	n.located[cell] = loc
	n.live.stats.Lookups++
	net.Lookup(n.id, cell.Key().Position(), search.Replicas, func(nearest []network.NodeID, requests int) {
		n.live.stats.LookedUp += uint64(requests) //nolint:gosec // a count
		n.settle(cell, loc, nearest, requests)
	})
	net.After(search.LocateTimeout, func() { n.settle(cell, loc, nil, 0) })
}

// settle ends a lookup, unless it is over.
func (n *liveNode) settle(cell search.CellID, loc *location, holders []network.NodeID, requests int) {
	if loc.done {
		return
	}
	loc.done, loc.holders = true, holders
	if len(holders) == 0 && n.located[cell] == loc {
		delete(n.located, cell)
	}
	for i, then := range loc.waiting {
		if i > 0 {
			requests = 0 // they are the first one's
		}
		then(holders, requests)
	}
	loc.waiting = nil
}

// trust returns for how long the outcome of a lookup holds.
func (n *liveNode) trust(at time.Duration) time.Duration {
	return min(search.LocateTTL, max(search.LeastLocateTTL, (at-n.begun)/2))
}

// forget drops every location that names a peer: it does not answer.
func (n *liveNode) forget(peer network.NodeID) {
	for cell, loc := range n.located {
		if loc.done && slices.Contains(loc.holders, peer) {
			delete(n.located, cell)
		}
	}
}

// recall returns the holders of cells that were found lately.
func (n *liveNode) recall(cells []search.CellID) (known []search.Glimpse) {
	for _, id := range cells {
		loc := n.located[id]
		if loc == nil || !loc.done || n.live.net.Now()-loc.at >= search.RecallTTL {
			continue
		}
		g := search.Glimpse{Cell: id, Mirrors: n.directory.Recall(n.live.net.Clock(), id)}
		for _, h := range loc.holders {
			g.Holders = append(g.Holders, n.live.contact(h))
		}
		known = append(known, g)
	}
	return known
}

func (l *Live) contact(id network.NodeID) dht.Contact { return dht.Contact{ID: l.net.PeerID(id)} }

func (n *liveNode) contact() dht.Contact { return n.live.contact(n.id) }
