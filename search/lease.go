package search

import (
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// A lease is an ad in a cell, until its publisher should have renewed it.
type lease struct {
	ad      *Signed
	from    dht.PeerID
	until   time.Time
	settled bool  // a cell below has it, too
	ticks   uint8 // that passed since the ad came here
}

// full tells whether a limit forbids one more lease.
func (h *Holder) full(in Publish) bool {
	size := 0
	if h.ads[in.Ad.Ad.Server] == nil {
		size = in.Ad.size
	}
	return h.leases >= h.cfg.MaxAds || h.bytes+size > h.cfg.MaxBytes ||
		h.placed[in.From] >= h.cfg.MaxPerPublisher || h.groups[in.Ad.group] >= h.cfg.MaxPerGroup
}

func (h *Holder) make(now time.Time, id CellID) *cell {
	// Epochs begin at the time, so that they grow over restarts too.
	c := &cell{id: id, at: id.Key().Position(), born: now, changed: now, told: h.schema.NewSummary(), epoch: uint64(now.UnixMilli()), dirty: true}
	h.cells[id] = c
	h.order = append(h.order, id)
	return c
}

// put adds or replaces a lease.
func (h *Holder) put(c *cell, l lease) {
	l.ad = h.share(l.ad)
	c.edits++
	i, held := c.find(l.ad.hash)
	if held {
		h.release(c.leases[i])
		l.ticks = c.leases[i].ticks
		c.leases[i] = l
	} else {
		c.leases = slices.Insert(c.leases, i, l)
	}
	h.leases++
	h.placed[l.from]++
	h.groups[l.ad.group]++
	if c.id.Prefix.Level > 0 && !c.dirty && !c.told.Covers(c.summaryOf(h.schema, l.ad)) {
		h.widen(c)
	}
}

// drop removes a server's lease from a cell, if there is one.
func (h *Holder) drop(c *cell, hash Hash) {
	if i, held := c.find(hash); held {
		h.release(c.leases[i])
		c.leases = slices.Delete(c.leases, i, i+1)
		c.edits++
	}
}

// share returns the copy of ad that all cells use. A newer ad takes the place
// of an older one for new leases only.
func (h *Holder) share(ad *Signed) *Signed {
	have := h.ads[ad.Ad.Server]
	if have == nil || have.ad.Ad.Seq < ad.Ad.Seq {
		if have != nil {
			h.bytes -= have.ad.size
			have.ad = ad
		} else {
			have = &shared{ad: ad}
			h.ads[ad.Ad.Server] = have
		}
		h.bytes += ad.size
	}
	have.uses++
	if have.ad.Ad.Seq == ad.Ad.Seq {
		return have.ad
	}
	return ad
}

// newest returns the newest ad known here of the server of ad: its lease in
// another cell may be newer.
func (h *Holder) newest(ad *Signed) *Signed {
	if have := h.ads[ad.Ad.Server]; have != nil && have.ad.Ad.Seq > ad.Ad.Seq {
		return have.ad
	}
	return ad
}

// release undoes what put counted for a lease.
func (h *Holder) release(l lease) {
	h.leases--
	if h.placed[l.from]--; h.placed[l.from] <= 0 {
		delete(h.placed, l.from)
	}
	if h.groups[l.ad.group]--; h.groups[l.ad.group] <= 0 {
		delete(h.groups, l.ad.group)
	}
	server := l.ad.Ad.Server
	if s := h.ads[server]; s != nil {
		if s.uses--; s.uses <= 0 {
			h.bytes -= s.ad.size
			delete(h.ads, server)
		}
	}
}
