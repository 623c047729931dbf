package rival

import (
	"cmp"
	"slices"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/sim/network"
)

// A thrifty lookup is network.Find with the parallelism of Kademlia's paper
// instead of go-libp2p-kad-dht's: a third of the messages and 1.4 times the
// latency.
type thrifty struct {
	net        *network.Network
	from       network.NodeID
	key        uint64
	holds      func(network.NodeID) bool
	done       func(holder network.NodeID, ok bool, requests int)
	candidates []candidate // nearest first
	flying     int
	sent       int
	over       bool
}

type candidate struct {
	distance uint64
	node     network.NodeID
	asked    bool
	dead     bool
}

const (
	// thriftyAlpha is how many requests it has under way.
	thriftyAlpha = 3
	// mostCandidates bounds what it remembers.
	mostCandidates = 3 * dht.K
)

func findThriftily(net *network.Network, from network.NodeID, key uint64, holds func(network.NodeID) bool,
	done func(holder network.NodeID, ok bool, requests int),
) {
	if holds(from) {
		net.After(0, func() { done(from, true, 0) })
		return
	}
	l := &thrifty{net: net, from: from, key: key, holds: holds, done: done, candidates: make([]candidate, 0, mostCandidates+1)}
	l.learn(net.Nearest(nil, from, key, dht.K))
	l.proceed()
}

func (l *thrifty) learn(known []network.NodeID) {
	for _, id := range known {
		c := candidate{distance: l.net.Position(id) ^ l.key, node: id}
		at, twice := slices.BinarySearchFunc(l.candidates, c, func(a, b candidate) int { return cmp.Compare(a.distance, b.distance) })
		if twice || id == l.from || at == mostCandidates {
			continue
		}
		l.candidates = slices.Insert(l.candidates, at, c)
		l.candidates = l.candidates[:min(len(l.candidates), mostCandidates)]
	}
}

func (l *thrifty) proceed() {
	near := 0
	for i := range l.candidates {
		c := &l.candidates[i]
		if near == dht.K || l.flying == thriftyAlpha {
			break
		}
		if c.dead {
			continue
		}
		near++
		if !c.asked {
			c.asked = true
			l.flying++
			l.sent++
			l.ask(c.node)
		}
	}
	if l.flying == 0 && !l.over {
		l.over = true
		l.done(0, false, l.sent)
	}
}

func (l *thrifty) ask(to network.NodeID) {
	var known []network.NodeID
	held := false
	l.net.Request(l.from, to, func() {
		if held = l.holds(to); !held {
			known = l.net.Nearest(nil, to, l.key, dht.K)
		}
	}, func(ok bool) {
		l.flying--
		switch {
		case l.over:
			return
		case ok && held:
			l.over = true
			l.done(to, true, l.sent)
			return
		case ok:
			l.learn(known)
		default:
			at := slices.IndexFunc(l.candidates, func(c candidate) bool { return c.node == to })
			if at >= 0 {
				l.candidates[at].dead = true
			}
		}
		l.proceed()
	})
}
