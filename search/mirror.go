package search

import (
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// A Mirror is a participant that answers for a cell that it does not hold, from
// a copy that one of the holders keeps fresh.
type Mirror struct {
	dht.Contact
	// Of is the holder that recruited it. Two mirrors of one holder are no more
	// than that holder where answers are to come from different ones.
	Of dht.PeerID
}

// Mirrors are some mirrors of a cell, drawn anew for every reply, and how many
// there are as far as the one who tells knows.
type Mirrors struct {
	List []Mirror
	All  int
}

// A MirrorUpdate is what a holder tells a mirror of a cell: what changed since
// a version of its copy, with version 0 everything. To version 0 it invites.
type MirrorUpdate struct {
	Cell     CellID
	Fed      bool          // to who gathers the cell's ads: see Gather
	Age      time.Duration // since the holder has the cell
	Inner    bool
	From, To uint64    // versions of the copy before and after
	Whole    bool      // nothing is left to be told: the copy may be served
	Ads      []*Signed // new ones and newer ones
	Gone     []Hash    // servers whose ads left
	Children []Child   // new ones and changed ones, with all their mirrors
	Bare     []int     // slots that are empty now
	Beside   Mirrors   // other mirrors of the holder, for replies
	// Rate is how many asks a second the holder and each of its mirrors answer
	// now. Who is asked half as much already does not become one more.
	Rate float64
}

// MirrorCell is a holder's update of a copy; answered by a MirrorReply. The
// interpreter has made sure that the sender may hold the cell: see MayHold.
type MirrorCell struct {
	From   dht.PeerID
	Update MirrorUpdate
}

// MirrorReply answers a MirrorCell.
type MirrorReply struct {
	Accepted bool   // it mirrors the cell for the sender
	Version  uint64 // that its copy has now
	Asks     uint32 // how often it was asked since its last reply
}

func (MirrorCell) holderInput()   {}
func (MirrorReply) holderEffect() {}

// mayHoldWithin is how many participants closer to a cell one may know before
// another cannot be a holder of it: twice the replicas, for those that are dead.
const mayHoldWithin = 2 * Replicas

// MayHold tells whether a participant can be one of the holders of a cell, as
// far as the participants that are known tell.
func MayHold(id dht.PeerID, cell CellID, known []dht.Contact) bool {
	at, closer := cell.Key().Position(), 0
	own := id.Position()
	for _, c := range known {
		if c.ID != id && at.Compare(c.ID.Position(), own) < 0 {
			closer++
		}
	}
	return closer < mayHoldWithin
}

// A replica is the copy of a cell that is mirrored here.
type replica struct {
	of      dht.PeerID
	cell    *cell
	version uint64
	until   time.Time // when it ends unless the holder refreshes it
	whole   bool
	bytes   int
	asks    uint32 // since the last reply to the holder
	beside  Mirrors
}

// serves tells whether a replica may be asked.
func (r *replica) serves(now time.Time) bool { return r != nil && r.whole && now.Before(r.until) }

// mirror takes in an update of a replica.
func (h *Holder) mirror(now time.Time, in MirrorCell) MirrorReply {
	u := in.Update
	if u.Fed {
		return h.fed(now, in)
	}
	r := h.replicas[u.Cell]
	if r != nil && r.of != in.From && now.Before(r.until) || h.cells[u.Cell] != nil {
		return MirrorReply{} // mirrored for another holder, or held
	}
	if r == nil || r.of != in.From {
		if r == nil && (len(h.replicas) >= maxReplicas || h.rate >= max(u.Rate/2, BusyRate)) {
			return MirrorReply{}
		}
		h.discard(r)
		r = &replica{of: in.From, until: now.Add(MirrorTTL), cell: &cell{id: u.Cell}}
		h.replicas[u.Cell] = r
	}
	reply := MirrorReply{Accepted: true, Asks: r.asks}
	r.asks = 0
	before := r.bytes
	ok := r.take(h.schema, now, u)
	h.mirrored += r.bytes - before
	if !ok || len(r.cell.leases) > maxOverflow*h.cfg.LeafAds || h.mirrored > maxReplicaBytes {
		h.discard(r)
		return MirrorReply{}
	}
	reply.Version = r.version
	if r.version == u.To {
		r.until, r.beside = now.Add(MirrorTTL), besideOf(u.Beside)
	}
	return reply
}

// take brings a replica from one version to another, if it is the next one or
// everything is told anew; false where the update is none of this cell.
func (r *replica) take(s *Schema, now time.Time, u MirrorUpdate) bool {
	if u.From == 0 && u.To != r.version {
		r.cell, r.version, r.bytes, r.whole = &cell{id: u.Cell}, 0, 0, false
	}
	if u.From == r.version && u.To != r.version {
		if !r.apply(s, now, u) {
			return false
		}
		r.version = u.To
	}
	if r.version == u.To {
		r.whole = u.Whole // who told it may know no more itself
		r.cell.born, r.cell.inner = now.Add(-u.Age), u.Inner
	}
	return true
}

// apply changes a replica; false where the update is of another cell.
func (r *replica) apply(s *Schema, now time.Time, u MirrorUpdate) bool {
	c := r.cell
	for _, hash := range u.Gone {
		if i, held := c.find(hash); held {
			r.bytes -= c.leases[i].ad.size
			c.leases = slices.Delete(c.leases, i, i+1)
		}
	}
	for _, ad := range u.Ads {
		if id, _, ok := s.locate(ad, Placement{Tree: u.Cell.Tree, Level: u.Cell.Prefix.Level}); !ok || id != u.Cell {
			return false
		}
		l := lease{ad: ad, from: r.of, until: ad.Ad.ExpiresAt()}
		i, held := c.find(ad.hash)
		if held {
			r.bytes -= c.leases[i].ad.size
			c.leases[i] = l
		} else {
			c.leases = slices.Insert(c.leases, i, l)
		}
		r.bytes += ad.size
	}
	c.listedNow = false
	for _, slot := range u.Bare {
		if slot >= 0 && slot < Slots {
			c.children[slot] = nil
		}
		delete(c.deep, slot)
	}
	if len(properChildren(c.id, u.Children)) < len(u.Children) {
		return false
	}
	for _, child := range u.Children {
		switch {
		case s.CheckSummary(child.Summary) != nil:
			return false
		case child.Index < Slots:
			c.children[child.Index] = entriesOf(child, now.Add(MaxAdLife))
		default:
			if c.deep == nil {
				c.deep = make(map[int]Child)
			}
			c.deep[child.Index] = child
			if len(c.deep) > maxListed {
				return false
			}
		}
	}
	return true
}

// entriesOf returns what the table of a cell says of a child, as a mirror has it.
func entriesOf(child Child, until time.Time) (list []entry) {
	for _, holder := range child.Holders[:min(len(child.Holders), maxEntries)] {
		e := entry{holder: holder, summary: child.Summary, until: until}
		for _, m := range child.Mirrors.List {
			if m.Of == holder.ID {
				e.mirrors = append(e.mirrors, m.Contact)
			}
		}
		e.mirrors = within(e.mirrors, maxToldBytes)
		list = append(list, e)
	}
	if len(list) == 0 {
		list = append(list, entry{summary: child.Summary, until: until})
	}
	return list
}

// besideOf returns what fits into a reply.
func besideOf(told Mirrors) Mirrors {
	told.List = slices.Clone(told.List[:min(len(told.List), maxMirrors)])
	for i := range told.List {
		told.List[i].Contact = trim(told.List[i].Contact)
	}
	return told
}

// discard ends a replica.
func (h *Holder) discard(r *replica) {
	if r != nil {
		h.mirrored -= r.bytes
		delete(h.replicas, r.cell.id)
	}
}

// expireReplicas ends the replicas that no holder refreshes.
func (h *Holder) expireReplicas(now time.Time) {
	for id, r := range h.replicas {
		if !now.Before(r.until) || h.cells[id] != nil {
			h.discard(r)
		}
	}
}

// DrawMirrors returns at most maxMirrors of all mirrors of a cell, evenly apart, and
// others the next time.
func DrawMirrors(all []Mirror, turn int) Mirrors {
	n := min(len(all), maxMirrors)
	out := Mirrors{All: len(all)}
	for i := range n {
		out.List = append(out.List, all[(turn+i*len(all)/n)%len(all)])
	}
	return out
}

// mirrorsOf returns the mirrors of a child, as its holders told.
func (c *cell) mirrorsOf(slot int) (all []Mirror) {
	for _, e := range c.children[slot] {
		for _, m := range e.mirrors {
			all = append(all, Mirror{m, e.holder.ID})
		}
	}
	return all
}
