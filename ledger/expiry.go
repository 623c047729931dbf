package ledger

import (
	"time"
)

// What happens by itself.
type dueKind uint8

const (
	dueInvitation    dueKind = iota // a code can no longer be redeemed
	dueOrder                        // an order expires
	dueSession                      // a hold is released
	dueForgetOrder                  // a closed order is forgotten
	dueForgetSession                // a settled session is forgotten
)

// A dueItem is something that happens at a time. It is stale, and does
// nothing, if its subject has gone or its time was moved meanwhile.
type dueItem struct {
	at      int64 // Unix seconds
	n       uint64
	what    dueKind
	code    CodeHash
	order   orderKey
	session ID
}

// A dueHeap is a binary heap by time; equal times keep the order of pushes.
type dueHeap struct {
	items []dueItem
	n     uint64 // pushes so far
}

func (h *dueHeap) less(i, j int) bool {
	a, b := &h.items[i], &h.items[j]
	return a.at < b.at || a.at == b.at && a.n < b.n
}

func (h *dueHeap) push(it dueItem) {
	h.n++
	it.n = h.n
	h.items = append(h.items, it)
	for i := len(h.items) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h.less(i, parent) {
			break
		}
		h.items[i], h.items[parent] = h.items[parent], h.items[i]
		i = parent
	}
}

func (h *dueHeap) pop() dueItem {
	top, last := h.items[0], len(h.items)-1
	h.items[0] = h.items[last]
	h.items = h.items[:last]
	for i := 0; ; {
		least := i
		for _, child := range [2]int{2*i + 1, 2*i + 2} {
			if child < last && h.less(child, least) {
				least = child
			}
		}
		if least == i {
			return top
		}
		h.items[i], h.items[least] = h.items[least], h.items[i]
		i = least
	}
}

// NextExpiry returns when something is due by time alone; false if nothing is.
func (s *State) NextExpiry() (time.Time, bool) {
	for len(s.due.items) > 0 {
		if !s.stale(&s.due.items[0]) {
			return time.Unix(s.due.items[0].at, 0), true
		}
		s.due.pop()
	}
	return time.Time{}, false
}

// stale tells whether an item has lost its meaning.
func (s *State) stale(it *dueItem) bool {
	switch it.what {
	case dueInvitation:
		inv := s.codes[it.code]
		return inv == nil || inv.expires != it.at
	case dueOrder:
		o := s.orders[it.order]
		return o == nil || o.closed
	case dueSession:
		x := s.sessions[it.session]
		return x == nil || x.settled || x.expires != it.at
	case dueForgetOrder:
		return s.orders[it.order] == nil
	case dueForgetSession:
		return s.sessions[it.session] == nil
	}
	return true
}

// tick carries out what is due, at most maxTick things.
func (b *batch) tick() Result {
	var done int
	for done < maxTick {
		due, ok := b.s.NextExpiry()
		if !ok || due.UnixNano() > b.time {
			break
		}
		switch it := b.s.due.pop(); it.what {
		case dueInvitation:
			delete(b.s.codes, it.code)
		case dueOrder:
			b.closeOrder(b.s.orders[it.order])
		case dueSession:
			b.settle(b.s.sessions[it.session])
		case dueForgetOrder:
			b.forgetOrder(b.s.orders[it.order])
		case dueForgetSession:
			b.forgetSession(b.s.sessions[it.session])
		}
		done++
	}
	return Result{Changed: done > 0}
}
