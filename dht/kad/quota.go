package kad

import (
	"sync"

	"github.com/xenoserver/xeno/dht"
)

// A quota bounds what is served at once, in all and for one peer.
type quota struct {
	total, each int

	mu   sync.Mutex // guards the following
	used int
	by   map[dht.PeerID]int
}

func newQuota(total, each int) *quota {
	return &quota{total: total, each: each, by: make(map[dht.PeerID]int)}
}

// acquire takes a place for the peer, if there is one.
func (q *quota) acquire(id dht.PeerID) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.used >= q.total || q.by[id] >= q.each {
		return false
	}
	q.used++
	q.by[id]++
	return true
}

// release gives it back.
func (q *quota) release(id dht.PeerID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used--
	if q.by[id]--; q.by[id] == 0 {
		delete(q.by, id)
	}
}
