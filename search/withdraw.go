package search

import (
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// Withdrawn answers a SendWithdraw, whether it arrived or not.
type Withdrawn struct{ To dht.PeerID }

func (Withdrawn) publisherInput() {}

// A retraction is what one holder has to be told to forget, once nothing else is
// under way to it: a publish that arrives after the withdrawal would bring the
// ad back for a whole lease.
type retraction struct {
	to    dht.Contact
	cells []CellID
}

// over notes that a message to a holder was answered, or failed.
func (p *Publisher) over(to dht.PeerID) {
	if p.sent[to]--; p.sent[to] <= 0 {
		delete(p.sent, to)
	}
}

// leave notes cells to withdraw the ad from, at every holder that may have it.
func (p *Publisher) leave(levels []*level) {
	for _, l := range levels {
		for _, s := range l.spots {
			if !s.held && !s.busy && s.failures == 0 {
				continue
			}
			at := slices.IndexFunc(p.leaving, func(r retraction) bool { return r.to.ID == s.contact.ID })
			if at < 0 {
				at = len(p.leaving)
				p.leaving = append(p.leaving, retraction{to: s.contact})
			}
			p.leaving[at].cells = append(p.leaving[at].cells, l.cell)
		}
	}
}

// retract emits the withdrawals that need wait no longer.
func (p *Publisher) retract(now time.Time) {
	late := p.stopped && !now.Before(p.ended.Add(WithdrawPatience))
	p.leaving = slices.DeleteFunc(p.leaving, func(r retraction) bool {
		if p.sent[r.to.ID] > 0 && !late {
			return false
		}
		cells := slices.DeleteFunc(r.cells, func(c CellID) bool { return !p.stopped && p.uses(c, r.to.ID) })
		for len(cells) > 0 {
			n := min(len(cells), maxPlaces)
			p.sent[r.to.ID]++
			p.effects = append(p.effects, SendWithdraw{To: r.to, Server: p.ad.Ad.Server, Seq: p.ad.Ad.Seq, Cells: cells[:n]})
			cells = cells[n:]
		}
		return true
	})
	switch {
	case !p.stopped:
	case late:
		p.wake = p.ended.Add(WithdrawTimeout)
	default:
		p.wake = p.ended.Add(WithdrawPatience)
	}
}

// uses tells whether the ad belongs into a cell at a holder, perhaps again.
func (p *Publisher) uses(cell CellID, holder dht.PeerID) bool {
	_, l := p.level(cell)
	return l != nil && slices.ContainsFunc(l.spots, func(s *spot) bool { return s.contact.ID == holder })
}

func (p *Publisher) stop(now time.Time) {
	if p.stopped {
		return
	}
	p.stopped, p.ended = true, now
	for _, w := range p.ways {
		p.leave(w.levels)
		p.leave(w.left)
	}
}

// Done tells whether a publisher that was stopped has nothing more to do: all
// withdrawals were answered, or it is time to give up. Where it gave up, the ad
// stays until its lease ends.
func (p *Publisher) Done(now time.Time) bool {
	return p.stopped && (len(p.leaving) == 0 && len(p.sent) == 0 || !now.Before(p.ended.Add(WithdrawTimeout)))
}
