package xeno

import (
	"slices"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/network"
)

// reconcile tells the holder who is near, so that it compares its cells with
// theirs, again and again.
func (n *liveNode) reconcile() {
	if n.gone {
		return
	}
	net, self := n.live.net, n.contact().ID
	var near []dht.Contact
	for _, id := range net.Nearest(nil, n.id, network.Short(self.Position()), search.ReconcileNear) {
		near = append(near, n.live.contact(id))
	}
	if len(near) > 0 {
		n.compared++
	}
	n.step(search.Neighbourhood{Self: self, Near: near})
	net.After(search.ReconcileAfter(n.compared), n.reconcile)
}

// handOff asks other holders what this one wants of them, one after the other.
func (n *liveNode) handOff() {
	if n.handingOff || n.gone || len(n.handoffs) == 0 {
		return
	}
	e := n.handoffs[0]
	n.handoffs = slices.Delete(n.handoffs, 0, 1)
	n.handingOff = true
	n.live.stats.HandedOff++
	if e, ok := e.(search.SendReconcile); ok {
		in := search.Reconciled{From: e.To}
		n.askHolder(e.To, search.Reconcile{From: n.contact().ID}, func(answer search.HolderEffect) search.HolderInput {
			in.Inventory, _ = answer.(search.Inventory)
			return in
		})
	}
	if e, ok := e.(search.SendGather); ok {
		in := search.Gathering{From: e.To.ID, Cell: e.Cell}
		n.askHolder(e.To, search.Gather{From: n.contact(), Cell: e.Cell}, func(answer search.HolderEffect) search.HolderInput {
			reply, _ := answer.(search.GatherReply)
			in.Accepted = reply.Accepted
			return in
		})
	}
	if e, ok := e.(search.SendFetch); ok {
		in := search.Fetched{From: e.To, Cell: e.Cell}
		n.askHolder(e.To, search.Fetch{Cell: e.Cell, Have: e.Have}, func(answer search.HolderEffect) search.HolderInput {
			in.Handed, _ = answer.(search.Handed)
			return in
		})
	}
}

// askHolder carries a question to another holder, and the input that back
// makes of its answer to this one.
func (n *liveNode) askHolder(to dht.Contact, question search.HolderInput, back func(search.HolderEffect) search.HolderInput) {
	id, _ := n.live.net.NodeOf(to.ID)
	var answer search.HolderEffect
	n.request(id, func(at *liveNode) {
		if g, ok := question.(search.Gather); ok {
			if above, ok := g.Cell.Above(); !ok || !at.mayHold(g.From.ID, above) {
				return
			}
		}
		answer = at.step(question)
	}, func(ok bool) {
		n.handingOff = false
		if ok {
			n.step(back(answer))
		}
		n.handOff()
	})
}
