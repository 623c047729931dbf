package kad

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// A latency holds what was measured to connected peers, and our coordinate.
type latency struct {
	mu      sync.Mutex // guards the following
	vivaldi *dht.Vivaldi
	peers   map[dht.PeerID]measurement
}

type measurement struct {
	rtt   time.Duration // smoothed as TCP does (RFC 6298): 7/8 old, 1/8 new
	at    dht.Coordinate
	hasAt bool
}

func newLatency() *latency {
	rng := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	return &latency{vivaldi: dht.NewVivaldi(rng), peers: make(map[dht.PeerID]measurement)}
}

// measured takes in a round trip time.
func (l *latency) measured(id dht.PeerID, rtt time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.measuredLocked(id, rtt)
}

func (l *latency) measuredLocked(id dht.PeerID, rtt time.Duration) {
	m := l.peers[id]
	if m.rtt == 0 {
		m.rtt = rtt
	} else {
		m.rtt += (rtt - m.rtt) / 8
	}
	l.peers[id] = m
}

// observed takes in a round trip time with the coordinate the peer claims.
func (l *latency) observed(id dht.PeerID, at dht.Coordinate, rtt time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.vivaldi.Observe(id, at, rtt) != nil {
		return
	}
	if l.peers[id].hasAt {
		l.measuredLocked(id, rtt)
	} else { // the hello's round trip held a verification as well
		l.peers[id] = measurement{rtt: rtt}
	}
	m := l.peers[id]
	m.at, m.hasAt = at, true
	l.peers[id] = m
}

func (l *latency) forget(id dht.PeerID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.peers, id)
	l.vivaldi.Forget(id)
}

func (l *latency) own() dht.Coordinate {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.vivaldi.Coordinate()
}

func (l *latency) of(id dht.PeerID) (m measurement, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m, ok = l.peers[id]
	return m, ok
}
