package xeno

import (
	"math"
	"slices"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/network"
)

// recruit draws participants that may mirror a cell from those the node knows.
func (n *liveNode) recruit(e search.Recruit) {
	l := n.live
	known := l.net.Neighbours(n.id, math.MaxInt)
	l.rng.Shuffle(len(known), func(i, j int) { known[i], known[j] = known[j], known[i] })
	in := search.Recruits{Cell: e.Cell}
	for _, id := range known[:min(e.Count, len(known))] {
		in.Contacts = append(in.Contacts, l.contact(id))
	}
	n.step(in)
}

// saw lets a node remember what it may tell others of.
func (l *Live) saw(client network.NodeID, seen []search.Glimpse) {
	if n := l.nodes[client]; n != nil {
		n.directory.Saw(l.net.Clock(), seen)
	}
}

// mirror queues an update for a mirror; one that finds no place counts as lost.
func (n *liveNode) mirror(e search.SendMirror) {
	if len(n.updates) >= search.MaxUpdates {
		n.step(search.Mirrored{Cell: e.Update.Cell, From: e.To.ID, Fed: e.Update.Fed})
		return
	}
	n.updates = append(n.updates, e)
	n.update()
}

// update begins as many updates as may be under way.
func (n *liveNode) update() {
	for n.updating < search.UpdateWorkers && len(n.updates) > 0 {
		e := n.updates[0]
		n.updates = slices.Delete(n.updates, 0, 1)
		n.updating++
		if e.Update.Fed {
			n.live.stats.Fed++
		} else {
			n.live.stats.Mirrored++
		}
		to, _ := n.live.net.NodeOf(e.To.ID)
		in, reply := search.Mirrored{Cell: e.Update.Cell, From: e.To.ID, Fed: e.Update.Fed}, search.MirrorReply{}
		n.request(to, func(at *liveNode) { reply = at.serveMirror(n.contact().ID, e.Update) }, func(ok bool) {
			if ok {
				in.Reply = reply
			}
			n.updating--
			n.step(in)
			n.update()
		})
	}
}

// serveMirror takes in an update from somebody who may hold the cell.
func (n *liveNode) serveMirror(from dht.PeerID, update search.MirrorUpdate) search.MirrorReply {
	if !n.mayHold(from, update.Cell) {
		return search.MirrorReply{}
	}
	reply, _ := n.step(search.MirrorCell{From: from, Update: update}).(search.MirrorReply)
	return reply
}

// mayHold tells whether somebody may hold a cell, as far as this node knows.
func (n *liveNode) mayHold(id dht.PeerID, cell search.CellID) bool {
	var known []dht.Contact
	for _, id := range n.live.net.Nearest(nil, n.id, network.Short(cell.Key().Position()), dht.K) {
		known = append(known, n.live.contact(id))
	}
	return search.MayHold(id, cell, known)
}
