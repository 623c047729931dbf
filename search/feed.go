package search

import (
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// Gather asks a holder to tell From of all ads in a cell and below it, and from
// then on of what changes, as a mirror is told; answered by a GatherReply. The
// interpreter has made sure that From may hold the table above: see MayHold.
type Gather struct {
	From dht.Contact
	Cell CellID
}

// GatherReply answers a Gather: whether From will be told.
type GatherReply struct{ Accepted bool }

func (Gather) holderInput()       {}
func (GatherReply) holderEffect() {}

// A feed is what those who gather the ads of a cell should have, and who they are.
type feed struct {
	to       []*mirror
	recorded uint64    // the cell's edits that have a version
	ends     time.Time // when ads may have ended since
	versions
}

// gatherHere takes in that somebody wants to be told of a cell's ads.
func (h *Holder) gatherHere(now time.Time, in Gather) {
	c := h.cells[in.Cell]
	if c == nil || in.Cell.Tree == "" || in.Cell.Prefix.Level == 0 || !c.knowsAll(now) || h.around.closer(c.at) >= Replicas {
		h.effects = append(h.effects, GatherReply{})
		return
	}
	if c.feed == nil {
		c.feed = &feed{versions: newVersions(now, 2*feedTTL)}
	}
	i := slices.IndexFunc(c.feed.to, func(m *mirror) bool { return m.contact.ID == in.From.ID })
	if i < 0 {
		if len(c.feed.to) >= maxFed {
			h.effects = append(h.effects, GatherReply{})
			return
		}
		i = len(c.feed.to)
		c.feed.to = append(c.feed.to, &mirror{contact: trim(in.From), joined: true})
	}
	h.effects = append(h.effects, GatherReply{Accepted: true})
	h.recordFeed(now, c)
	c.feed.to[i].sent = time.Time{}
	h.serveFeed(now, c, c.feed.to[i])
}

// feedAll lets a tick pass for those who gather a cell's ads: they are told what
// changed, or that the cell does not know everything itself.
func (h *Holder) feedAll(now time.Time, c *cell) {
	if c.feed == nil {
		return
	}
	if len(c.feed.to) == 0 {
		c.feed = nil
		return
	}
	if !c.knowsAll(now) {
		h.warnFed(now, c)
		return
	}
	h.recordFeed(now, c)
	for _, m := range c.feed.to {
		h.serveFeed(now, c, m)
	}
}

// warnFed tells those who gather a cell's ads that there may be others by now.
func (h *Holder) warnFed(now time.Time, c *cell) {
	if c.feed == nil {
		return
	}
	for _, m := range c.feed.to {
		if m.serving && !m.busy {
			m.busy, m.sent, m.to, m.whole, m.serving = true, now, m.acked, false, false
			u := MirrorUpdate{Cell: c.id, Fed: true, Age: c.ageOfAll(now), From: m.acked, To: m.acked}
			h.effects = append(h.effects, SendMirror{To: m.contact, Update: u})
		}
	}
}

// recordFeed gives what changed of a cell's ads a version.
func (h *Holder) recordFeed(now time.Time, c *cell) {
	edits := c.edits
	if c.gathering != nil {
		edits += c.gathering.edits
	}
	if edits == c.feed.recorded && now.Before(c.feed.ends) {
		return
	}
	c.feed.recorded, c.feed.ends = edits, now.Add(feedRefresh)
	var ads []*Signed
	c.eachAd(func(l lease) {
		if now.Before(l.until) {
			ads = append(ads, h.newest(l.ad))
		}
	})
	c.feed.record(now, ads)
}

// serveFeed tells one of those who gather what it lacks, where that is due: at
// once where an ad might not be found, else as mirrors are told, and if nothing
// changed seldom.
func (h *Holder) serveFeed(now time.Time, c *cell, m *mirror) {
	f, since := c.feed, now.Sub(m.sent)
	due := !m.serving || m.acked < f.urgent || m.acked < f.version && since >= mirrorRefresh || since >= feedRefresh
	if m.busy || !due || m.failed && since < mirrorRefresh {
		return
	}
	u := f.update(m.acked)
	m.busy, m.sent, m.to, m.whole, m.serving = true, now, u.To, u.Whole, m.serving && u.From > 0
	u.Cell, u.Fed, u.Age = c.id, true, c.ageOfAll(now)
	h.effects = append(h.effects, SendMirror{To: m.contact, Update: u})
}

// fedBy takes in what one of those who gather said to an update.
func (h *Holder) fedBy(now time.Time, c *cell, in Mirrored) {
	if c == nil || c.feed == nil {
		return
	}
	f := c.feed
	i := slices.IndexFunc(f.to, func(m *mirror) bool { return m.contact.ID == in.From })
	if i < 0 || !f.to[i].busy {
		return
	}
	switch f.to[i].settle(in.Reply) {
	case settledWell:
		if c.knowsAll(now) {
			h.serveFeed(now, c, f.to[i]) // there may be more
		}
	case settledBadly:
		f.to = slices.Delete(f.to, i, i+1)
	case settledOtherwise:
	}
}
