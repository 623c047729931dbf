package corp

import (
	"sync"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// A limiter counts attempts by peer in windows of fixed length.
type limiter struct {
	most   int
	window time.Duration
	peers  int // most that are tracked

	mu    sync.Mutex // guards the following
	since time.Time  // start of the present window
	seen  map[dht.PeerID]int
}

func newLimiter(most int, window time.Duration, peers int) *limiter {
	return &limiter{most: most, window: window, peers: peers, seen: make(map[dht.PeerID]int)}
}

// allow counts an attempt by peer at now and tells whether it may go on.
func (l *limiter) allow(peer dht.PeerID, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.since) >= l.window || now.Before(l.since) {
		l.since = now
		clear(l.seen)
	}
	n, known := l.seen[peer]
	if n >= l.most || (!known && len(l.seen) >= l.peers) {
		return false
	}
	l.seen[peer] = n + 1
	return true
}
