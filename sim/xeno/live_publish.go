package xeno

import (
	"slices"
	"time"

	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/network"
)

// offer gives the publisher the ad as it is now.
func (n *liveNode) offer() {
	if n.gone || n.leaving {
		return
	}
	ad := n.ad // cells at rest share it
	if n.live.world.Market.Seq(int(n.id)) >= ad.Ad.Seq {
		ad = n.live.world.Market.Ad(int(n.id))
	}
	changed, stats := n.offered && n.ad.Ad.Seq < ad.Ad.Seq, &n.live.stats
	before := n.ad
	n.ad, n.offered = ad, true
	if !changed {
		n.publish(search.Offer{Ad: ad})
		return
	}
	stats.Changed++
	idle := stats.Changed%lookAt == 0 && n.live.idle(before, ad)
	told := n.publish(search.Offer{Ad: ad})
	if idle {
		stats.Idle++
		if !told {
			stats.Suppressed++
		}
	}
}

// publish steps the publisher and carries out what it wants. It tells whether
// cells above the leaves hear of it.
func (n *liveNode) publish(in search.PublisherInput) (above bool) {
	l := n.live
	effects := n.pub.Step(l.net.Clock(), in)
	for _, e := range effects {
		switch e := e.(type) {
		case search.Locate:
			n.locate(e.Cell, func(holders []network.NodeID, _ int) {
				if n.gone {
					return
				}
				out := search.Located{Cell: e.Cell}
				for _, h := range holders {
					out.Holders = append(out.Holders, l.contact(h))
				}
				n.publish(out)
			})
		case search.SendPublish:
			n.call(func() { n.send(e) })
		case search.SendWithdraw:
			n.call(func() { n.withdraw(e, search.WithdrawTries, search.WithdrawPause) })
		}
	}
	n.wake()
	return aboveLeaf(effects)
}

// wake plans the publisher's next tick.
func (n *liveNode) wake() {
	net := n.live.net
	if n.gone || n.pub.Done(net.Clock()) {
		return
	}
	due := net.Now() + max(n.pub.Wake().Sub(net.Clock()), search.LeastWake)
	if n.due > 0 && n.due <= due {
		return
	}
	n.due = due
	net.After(due-net.Now(), func() {
		if n.gone || n.due != due {
			return
		}
		n.due = 0
		n.publish(search.PublisherTick{})
	})
}

// call does a call of the publisher when fewer than search.MaxCalls are under way.
func (n *liveNode) call(do func()) {
	if n.calls >= search.MaxCalls {
		n.waiting = append(n.waiting, do)
		return
	}
	n.calls++
	do()
}

// hangUp ends a call.
func (n *liveNode) hangUp() {
	n.calls--
	if len(n.waiting) > 0 {
		do := n.waiting[0]
		n.waiting = slices.Delete(n.waiting, 0, 1)
		n.calls++
		do()
	}
}

func (n *liveNode) send(e search.SendPublish) {
	to, _ := n.live.net.NodeOf(e.To.ID)
	if to != n.id {
		n.live.stats.Published++
	}
	out := search.Published{To: e.To.ID, Places: e.Places, Cells: e.Cells}
	n.request(to, func(at *liveNode) {
		out.Placing, _ = at.step(search.Publish{From: n.contact().ID, Ad: e.Ad, Places: e.Places}).(search.Placing)
	}, func(ok bool) {
		if !ok {
			out.Placing = nil
		}
		n.hangUp()
		n.directory.Learn(n.live.net.Clock(), out)
		n.publish(out)
	})
}

// withdraw tells one holder to forget the ad, several times if need be.
func (n *liveNode) withdraw(e search.SendWithdraw, tries int, pause time.Duration) {
	to, _ := n.live.net.NodeOf(e.To.ID)
	if to != n.id {
		n.live.stats.Withdrawn++
	}
	n.request(to, func(at *liveNode) {
		at.step(search.Withdraw{From: n.contact().ID, Server: e.Server, Seq: e.Seq, Cells: e.Cells})
	}, func(ok bool) {
		if ok || tries <= 1 {
			n.hangUp()
			n.publish(search.Withdrawn{To: e.To.ID})
			return
		}
		n.live.net.After(pause, func() {
			if !n.gone {
				n.withdraw(e, tries-1, 2*pause)
			}
		})
	})
}
