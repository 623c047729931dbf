package index

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
)

// A locator finds the holders of cells, and remembers them for a while.
// Lookups of one cell that come together are one.
type locator struct {
	overlay Overlay
	begun   time.Time

	mu    sync.Mutex // guards the following
	cells map[search.CellID]*location
}

// A location is the outcome of a lookup, or one under way.
type location struct {
	done    chan struct{} // closed when holders and err are set
	at      time.Time
	holders []dht.Contact
	err     error
}

func newLocator(overlay Overlay) *locator {
	return &locator{overlay: overlay, begun: time.Now(), cells: make(map[search.CellID]*location)}
}

// locate returns the live participants closest to the cell's key.
func (l *locator) locate(ctx context.Context, cell search.CellID) ([]dht.Contact, error) {
	for {
		loc, mine := l.claim(cell)
		if mine {
			loc.holders, loc.err = l.lookup(ctx, cell)
			if loc.err != nil {
				l.drop(cell, loc)
			}
			close(loc.done)
			return loc.holders, loc.err
		}
		select {
		case <-loc.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		// Another's lookup may have failed for want of the other's time.
		if loc.err == nil || ctx.Err() != nil {
			return loc.holders, loc.err
		}
	}
}

func (l *locator) lookup(ctx context.Context, cell search.CellID) ([]dht.Contact, error) {
	ctx, cancel := context.WithTimeout(ctx, search.LocateTimeout)
	defer cancel()
	return l.overlay.Closest(ctx, cell.Key(), search.Replicas)
}

// trust returns for how long the outcome of a lookup at that time holds: a
// node that has just joined knows few others.
func (l *locator) trust(at time.Time) time.Duration {
	return min(search.LocateTTL, max(search.LeastLocateTTL, at.Sub(l.begun)/2))
}

// claim returns the location of a cell, and whether it is the caller's to find.
func (l *locator) claim(cell search.CellID) (loc *location, mine bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if loc = l.cells[cell]; loc != nil && now.Sub(loc.at) < l.trust(loc.at) {
		return loc, false
	}
	if len(l.cells) >= maxLocated {
		for id, old := range l.cells {
			if now.Sub(old.at) >= l.trust(old.at) || len(l.cells) >= maxLocated {
				delete(l.cells, id)
			}
		}
	}
	loc = &location{done: make(chan struct{}), at: now}
	l.cells[cell] = loc
	return loc, true
}

// recall returns the holders that the last lookup of a cell found, none where
// that is too long ago, failed or is under way.
func (l *locator) recall(cell search.CellID) []dht.Contact {
	l.mu.Lock()
	defer l.mu.Unlock()
	loc := l.cells[cell]
	if loc == nil || time.Since(loc.at) >= search.RecallTTL {
		return nil
	}
	select {
	case <-loc.done:
		return loc.holders
	default:
		return nil
	}
}

func (l *locator) drop(cell search.CellID, loc *location) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cells[cell] == loc {
		delete(l.cells, cell)
	}
}

// forget drops every location that names a participant: it does not answer.
func (l *locator) forget(id dht.PeerID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for cell, loc := range l.cells {
		select {
		case <-loc.done:
			if slices.ContainsFunc(loc.holders, func(c dht.Contact) bool { return c.ID == id }) {
				delete(l.cells, cell)
			}
		default:
		}
	}
}
