package network

import (
	"slices"

	"github.com/xenoserver/xeno/dht"
)

// findAlpha is how many requests a plain lookup has under way: the 10 of
// go-libp2p-kad-dht.
const findAlpha = 10

// Find is a plain Kademlia value lookup (Maymounkov and Mazières, 2002, with
// the parameters of go-libp2p-kad-dht: α 10, k 20) over warm connections. It
// ends when the first node that holds the value has answered, or with !ok when
// the k nearest have answered and none did. Requests counts those that were
// sent until then.
func (n *Network) Find(from NodeID, key uint64, holds func(NodeID) bool, done func(holder NodeID, ok bool, requests int)) {
	f := &find{n: n, from: from, key: key, holds: holds, done: done, candidates: make([]findCandidate, 0, findMost)}
	if holds(from) {
		n.After(0, func() { done(from, true, 0) })
		return
	}
	known := nearest{key: key, most: dht.K}
	n.consult(&known, from)
	f.learn(&known)
	f.proceed()
}

type findState uint8

const (
	findNew findState = iota
	findAsked
	findLive
	findDead
)

type findCandidate struct {
	near
	state findState
}

// findMost bounds the candidates that a lookup remembers, the nearest first.
const findMost = 3 * dht.K

type find struct {
	n          *Network
	from       NodeID
	key        uint64
	holds      func(NodeID) bool
	done       func(NodeID, bool, int)
	candidates []findCandidate // nearest first
	flying     int
	sent       int
	over       bool
}

// learn merges what a node knows into the candidates.
func (f *find) learn(known *nearest) {
	at := 0
	for _, c := range known.list[:known.n] {
		for at < len(f.candidates) && f.candidates[at].distance < c.distance {
			at++
		}
		if at == findMost {
			return
		}
		if c.node == f.from || at < len(f.candidates) && f.candidates[at].distance == c.distance {
			continue
		}
		if len(f.candidates) == findMost {
			f.candidates = f.candidates[:findMost-1]
		}
		f.candidates = slices.Insert(f.candidates, at, findCandidate{near: c})
	}
}

func (f *find) proceed() {
	near := 0
	for i := range f.candidates {
		c := &f.candidates[i]
		if near == dht.K || f.flying == findAlpha {
			break
		}
		if c.state == findDead {
			continue
		}
		near++
		if c.state == findNew {
			c.state = findAsked
			f.flying++
			f.sent++
			f.ask(c.near)
		}
	}
	if f.flying == 0 && !f.over {
		f.over = true
		f.done(0, false, f.sent)
	}
}

func (f *find) ask(to near) {
	held := false
	known := nearest{key: f.key, most: dht.K}
	f.n.Request(f.from, to.node, func() {
		held = f.holds(to.node)
		f.n.consult(&known, to.node)
	}, func(ok bool) {
		f.flying--
		if f.over {
			return
		}
		if held && ok {
			f.over = true
			f.done(to.node, true, f.sent)
			return
		}
		for i := range f.candidates {
			if f.candidates[i].distance == to.distance {
				f.candidates[i].state = findDead
				if ok {
					f.candidates[i].state = findLive
				}
				break
			}
		}
		f.learn(&known)
		f.proceed()
	})
}
