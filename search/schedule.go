package search

import (
	"encoding/binary"
	"math"
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

const (
	// renewRounds is every how many rounds a lease is renewed: LeaseRounds bear
	// the two and a half that may pass after a change, and two of repetitions.
	renewRounds = 2
	// nearRounds is every how many rounds a publisher asks an inner cell that
	// does not hold its ad whether that is still so, and farRounds the same
	// where its hash is far from those of the cell's sample: its turn does not
	// come soon, and whoever merges cells tells the publishers below.
	nearRounds, farRounds = 20, 100
	// nearLeaves is how many leaves' worth of ads with smaller hashes an inner
	// cell may have for an ad to be near to its sample: that is a quarter to a
	// whole leaf, and how many ads there are is a guess.
	nearLeaves = 2
)

// rounds returns every how many rounds a holder of level l is told, by what it
// made of the ad.
func (p *Publisher) rounds(l *level, a Placed) int {
	switch {
	case a.Verdict == VerdictRefused:
		return 1
	case a.Verdict != VerdictInner || a.Held:
		return renewRounds
	case p.near(l):
		return nearRounds
	default:
		return farRounds
	}
}

// near tells whether the ad may soon be in the sample of an inner cell. All of
// its leaves would be as deep as the one on the ad's way if they were equal, but
// not deeper than the whole of the tree that is as good as that, of the servers
// themselves.
func (p *Publisher) near(l *level) bool {
	if slices.ContainsFunc(l.spots, func(s *spot) bool { return s.answered && s.held }) {
		return true
	}
	w, _ := p.level(l.cell)
	if w == nil {
		return true
	}
	below := int(w.levels[len(w.levels)-1].cell.Prefix.Level - l.cell.Prefix.Level)
	for _, o := range p.ways {
		if o.tree.Name == DimServer {
			below = min(below, int(o.levels[len(o.levels)-1].cell.Prefix.Level))
		}
	}
	return math.Ldexp(p.ad.hash.fraction(), below) < nearLeaves
}

// turn returns when to tell a holder again what it is told every so many
// rounds: at a round that is at least half of Renew from now, and whose number is
// the holder's own modulo rounds. So all that goes to one holder goes together, and
// neither one publisher's messages nor those of many that began at once crowd
// into one round.
func (p *Publisher) turn(now time.Time, holder dht.PeerID, rounds int) time.Time {
	own, at := p.ad.hash, holder.Position()
	number := int64(binary.BigEndian.Uint32(own[:4]) ^ binary.BigEndian.Uint32(at[:4]))
	round := int64((now.Sub(p.begun)+p.cfg.Renew/2)/p.cfg.Renew) + 1
	ahead := (number - round) % int64(rounds)
	if ahead < 0 {
		ahead += int64(rounds)
	}
	return p.begun.Add(time.Duration(round+ahead) * p.cfg.Renew)
}

// send emits the publishes that are due, one message to a holder. What is due
// there within Renew goes with them.
func (p *Publisher) send(now time.Time) {
	told := p.overdue(now)
	soon := now.Add(p.cfg.Renew)
	var out batches
	for _, w := range p.ways {
		for i, l := range w.levels {
			settled := w.settled(i) || w.covered(i)
			for _, s := range l.spots {
				if s.busy || !told[s.contact.ID] || soon.Before(s.next) {
					continue
				}
				// If the ad changes while this is under way, next is brought forward.
				s.busy, s.settled, s.next = true, settled, now.Add(renewRounds*p.cfg.Renew)
				out.add(s.contact, l.cell, Placement{
					Tree: w.tree.Name, Level: l.cell.Prefix.Level, Settled: settled, Hint: i+1 == len(w.levels),
				})
			}
		}
	}
	for _, b := range out.list {
		for len(b.Places) > 0 {
			p.sent[b.To.ID]++
			n := min(len(b.Places), maxPlaces)
			p.effects = append(p.effects, SendPublish{To: b.To, Ad: p.ad, Places: b.Places[:n], Cells: b.Cells[:n]})
			b.Places, b.Cells = b.Places[n:], b.Cells[n:]
		}
	}
}

// overdue returns the holders to whom something is due.
func (p *Publisher) overdue(now time.Time) map[dht.PeerID]bool {
	told := make(map[dht.PeerID]bool)
	for _, w := range p.ways {
		for _, l := range w.levels {
			for _, s := range l.spots {
				if !s.busy && p.sent[s.contact.ID] == 0 && !now.Before(s.next) {
					told[s.contact.ID] = true
				}
			}
		}
	}
	return told
}

// batches gather what goes to one holder into one message.
type batches struct {
	list  []*SendPublish
	index map[dht.PeerID]int
}

func (b *batches) add(to dht.Contact, cell CellID, place Placement) {
	i, ok := b.index[to.ID]
	if !ok {
		if b.index == nil {
			b.index = make(map[dht.PeerID]int)
		}
		i = len(b.list)
		b.index[to.ID] = i
		b.list = append(b.list, &SendPublish{To: to})
	}
	b.list[i].Cells = append(b.list[i].Cells, cell)
	b.list[i].Places = append(b.list[i].Places, place)
}
