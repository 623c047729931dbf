package network

import "github.com/xenoserver/xeno/dht"

const (
	// PlainAlpha is how many requests a plain lookup has under way: the 10 of
	// go-libp2p-kad-dht.
	PlainAlpha = 10
	// PaperAlpha is the 3 of Kademlia's paper: a third of the messages, and 1.4
	// times the latency.
	PaperAlpha = 3
)

// Find is a Kademlia value lookup (Maymounkov and Mazières, 2002; k 20) over
// warm connections, with at most alpha requests under way. It ends when the first node that holds the value has answered, or with !ok when
// the k nearest have answered and none did. Requests counts those that were
// sent until then.
func (n *Network) Find(from NodeID, key uint64, alpha int, holds func(NodeID) bool, done func(holder NodeID, ok bool, requests int)) {
	f := &find{n: n, from: from, key: key, alpha: alpha, holds: holds, done: done}
	f.candidates = f.first[:0]
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
	alpha      int
	holds      func(NodeID) bool
	done       func(NodeID, bool, int)
	candidates []findCandidate // nearest first
	first      [findMost]findCandidate
	flying     int
	sent       int
	over       bool
}

// learn merges what a node knows into the candidates.
func (f *find) learn(known *nearest) {
	var merged [findMost]findCandidate
	n, old := 0, f.candidates
	for _, c := range known.list[:known.n] {
		for n < findMost && len(old) > 0 && old[0].distance < c.distance {
			merged[n], old = old[0], old[1:]
			n++
		}
		if n == findMost {
			break
		}
		if c.node == f.from || len(old) > 0 && old[0].distance == c.distance {
			continue
		}
		merged[n] = findCandidate{near: c}
		n++
	}
	n += copy(merged[n:], old)
	f.candidates = append(f.candidates[:0], merged[:n]...)
}

func (f *find) proceed() {
	near := 0
	for i := range f.candidates {
		c := &f.candidates[i]
		if near == dht.K || f.flying == f.alpha {
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
	p := f.n.probe()
	p.f, p.to, p.held = f, to, false
	p.known = nearest{key: f.key, most: dht.K}
	f.n.Request(f.from, to.node, p.deliver, p.done)
}

// A probe is one request of a lookup. It is used again, with its functions.
type probe struct {
	f       *find
	to      near
	held    bool
	known   nearest
	deliver func()
	done    func(ok bool)
}

// probe returns one that nobody uses.
func (n *Network) probe() *probe {
	if last := len(n.probes) - 1; last >= 0 {
		p := n.probes[last]
		n.probes = n.probes[:last]
		return p
	}
	p := new(probe)
	p.deliver, p.done = p.arrived, p.answered
	return p
}

// arrived is the request at the node that is asked.
func (p *probe) arrived() {
	f := p.f
	p.held = f.holds(p.to.node)
	f.n.consult(&p.known, p.to.node)
}

// answered is the answer at the one who looks, or the time-out.
func (p *probe) answered(ok bool) {
	f := p.f
	f.flying--
	switch {
	case f.over:
	case p.held && ok:
		f.over = true
		f.done(p.to.node, true, f.sent)
	default:
		f.heard(p, ok)
		f.learn(&p.known)
		f.proceed()
	}
	p.f = nil
	f.n.probes = append(f.n.probes, p)
}

// heard notes whether a candidate lives.
func (f *find) heard(p *probe, ok bool) {
	for i := range f.candidates {
		if c := &f.candidates[i]; c.distance == p.to.distance {
			c.state = findDead
			if ok {
				c.state = findLive
			}
			return
		}
	}
}
