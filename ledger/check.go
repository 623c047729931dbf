package ledger

import (
	"fmt"

	"github.com/xenoserver/xeno/dht"
)

// Check returns an error if the state contradicts itself: the sum over all
// accounts is not zero, an account but the external one is negative, orders
// and sessions disagree with the accounts that they reserve, or a reservation
// has no expiry. It costs time proportional to the state.
func (s *State) Check() error {
	if err := s.checkBalances(); err != nil {
		return err
	}
	due := make(map[dueItem]bool, len(s.due.items))
	for _, it := range s.due.items {
		it.n = 0
		due[it] = true
	}
	reservations := 0
	held := make(map[orderKey]Amount)
	live := make(map[orderKey]int)
	for id, x := range s.sessions {
		if err := s.checkSession(x); err != nil {
			return fmt.Errorf("session %s: %w", id, err)
		}
		if x.settled {
			continue
		}
		held[x.order] += x.hold
		live[x.order]++
		if !due[dueItem{at: x.expires, what: dueSession, session: id}] {
			return fmt.Errorf("session %s: its hold never expires", id)
		}
		reservations += count(s.balances[x.held()]) + count(s.balances[x.pending()])
	}
	for key, o := range s.orders {
		if err := s.checkOrder(o, held[key], live[key]); err != nil {
			return fmt.Errorf("order %s: %w", key.id, err)
		}
		if !o.closed && !due[dueItem{at: o.expires, what: dueOrder, order: key}] {
			return fmt.Errorf("order %s: it never expires", key.id)
		}
		reservations += count(o.free)
	}
	for a := range s.balances {
		if a.Kind == AccountReserved || a.Kind == AccountHeld || a.Kind == AccountPending {
			reservations--
		}
	}
	if reservations != 0 {
		return fmt.Errorf("%d reserved accounts without an order or session", -reservations)
	}
	return nil
}

func count(a Amount) int {
	if a == 0 {
		return 0
	}
	return 1
}

func (s *State) checkBalances() error {
	var sum Amount
	sums := make(map[dht.PeerID]Amount)
	for a, amount := range s.balances {
		sum += amount
		sums[a.Peer] += amount
		if amount < 0 && a.Kind != AccountExternal {
			return fmt.Errorf("account %s of %s is %s", a.Kind, a.Peer, amount)
		}
	}
	if sum != 0 {
		return fmt.Errorf("the accounts add up to %s", sum)
	}
	for peer, b := range s.sums {
		if b.Sum() != sums[peer] || b.Available != s.balances[available(peer)] {
			return fmt.Errorf("the accounts of %s add up to %s, not to %s", peer, sums[peer], b.Sum())
		}
	}
	return nil
}

func (s *State) checkSession(x *session) error {
	held, pending := s.balances[x.held()], s.balances[x.pending()]
	switch {
	case s.orders[x.order] == nil && !x.settled:
		return fmt.Errorf("its order is gone")
	case x.settled && (held != 0 || pending != 0):
		return fmt.Errorf("%s held and %s pending after it was settled", held, pending)
	case x.settled && x.claimed+x.released != x.hold:
		return fmt.Errorf("%s claimed and %s released of %s", x.claimed, x.released, x.hold)
	case !x.settled && (held != x.hold-x.claimed || pending != x.claimed):
		return fmt.Errorf("%s held and %s pending, of %s with %s claimed", held, pending, x.hold, x.claimed)
	case x.confirmed > x.claimed || x.claimed > x.hold:
		return fmt.Errorf("%s confirmed, %s claimed of %s", x.confirmed, x.claimed, x.hold)
	}
	for _, link := range x.revisions {
		if s.agreed[link] != x.id {
			return fmt.Errorf("agreement %s is not found", link)
		}
	}
	return nil
}

func (s *State) checkOrder(o *order, held Amount, live int) error {
	switch {
	case s.balances[o.account()] != o.free:
		return fmt.Errorf("%s reserved, %s free", s.balances[o.account()], o.free)
	case o.closed && o.free != 0:
		return fmt.Errorf("%s free after it was closed", o.free)
	case !o.closed && o.free+o.held+o.spent != o.amount:
		return fmt.Errorf("%s free, %s held and %s spent of %s", o.free, o.held, o.spent, o.amount)
	case o.held != held || o.live != live:
		return fmt.Errorf("%s held by %d sessions, not %s by %d", held, live, o.held, o.live)
	case s.links[o.link] != o.key:
		return fmt.Errorf("its link is not found")
	}
	return nil
}
