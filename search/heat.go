package search

import (
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// Recruit wants Recruits: participants, drawn at random from those that are
// known, which may mirror a cell that is asked for much.
type Recruit struct {
	Cell  CellID
	Count int
}

// Recruits answers a Recruit.
type Recruits struct {
	Cell     CellID
	Contacts []dht.Contact
}

// SendMirror wants an update sent to a mirror.
type SendMirror struct {
	To     dht.Contact
	Update MirrorUpdate
}

// Mirrored is the mirror's answer to a SendMirror; zero where there was none.
type Mirrored struct {
	Cell  CellID
	From  dht.PeerID
	Reply MirrorReply
}

func (Recruits) holderInput()    {}
func (Mirrored) holderInput()    {}
func (Recruit) holderEffect()    {}
func (SendMirror) holderEffect() {}

// A hot cell has mirrors, and keeps what they should have, in versions.
type hot struct {
	mirrors []*mirror
	told    int // how many mirrors the parent was told of
	// Where nobody wants to mirror the cell, as in a small network where all
	// are as busy, recruiting pauses, ever longer.
	pause time.Duration
	rests time.Time // until when

	version  uint64
	urgent   uint64 // the last version without which an ad is not found
	base     uint64 // the oldest version that what follows tells of
	leases   []mirrorLease
	children [Slots]mirrorChild
}

// A mirror is one that the holder recruited.
type mirror struct {
	contact dht.Contact
	joined  bool      // it accepted, and may be sent the cell
	acked   uint64    // version that it has
	sent    time.Time // when it was told last
	to      uint64    // version that it has then
	whole   bool      // and that is everything
	busy    bool      // the answer has not come
	serving bool      // it had everything, and answers
	failed  bool      // the last update was of no use
}

// A mirrorLease is an ad as mirrors should have it.
type mirrorLease struct {
	hash    Hash
	ad      *Signed // nil: gone
	version uint64
	at      time.Time // of that version
}

// A mirrorChild is a child as mirrors should have it.
type mirrorChild struct {
	child   Child
	version uint64 // 0: there never was one
	bare    bool
}

// warm lets a tick pass for how much a cell is asked for, and recruits mirrors,
// lets them go and tells them what changed.
func (h *Holder) warm(now time.Time, c *cell) {
	c.rate += (float64(c.asks) - c.rate) / heatTicks
	c.asks = 0
	want := min(int(c.rate/AsksPerCopy), MaxMirrors)
	if c.id.Tree == "" || h.cfg.Self.IsZero() || c.hot == nil && want == 0 {
		return
	}
	if c.hot == nil {
		// Versions begin at the time, so that they grow over restarts too.
		c.hot = &hot{version: uint64(now.UnixMilli())}
		c.hot.base = c.hot.version
	}
	t := c.hot
	if most := int(2*c.rate/AsksPerCopy + 0.5); len(t.mirrors) > most {
		t.mirrors = slices.Delete(t.mirrors, most, len(t.mirrors)) // they end by themselves
	}
	if len(t.mirrors) == 0 && want == 0 {
		c.hot, c.dirty = nil, c.dirty || t.told > 0
		return
	}
	if len(t.mirrors) > 0 {
		h.record(now, c)
	}
	for _, m := range t.mirrors {
		h.refresh(now, c, m)
	}
	if missing := min(want-len(t.mirrors), maxRecruits); missing > 0 && !now.Before(t.rests) {
		t.pause = min(max(2*t.pause, recruitPause), maxRecruitPause)
		t.rests = now.Add(t.pause)
		h.effects = append(h.effects, Recruit{Cell: c.id, Count: missing})
	}
	if n := len(t.serving()); 4*max(n-t.told, t.told-n) > t.told && c.id.Prefix.Level > 0 {
		c.dirty = true // the parent should know
	}
}

// recruits takes in participants that may mirror a cell.
func (h *Holder) recruits(now time.Time, in Recruits) {
	c := h.cells[in.Cell]
	if c == nil || c.hot == nil {
		return
	}
	for _, to := range in.Contacts {
		if len(c.hot.mirrors) >= MaxMirrors || slices.ContainsFunc(c.hot.mirrors, func(m *mirror) bool { return m.contact.ID == to.ID }) {
			continue
		}
		m := &mirror{contact: trim(to)}
		c.hot.mirrors = append(c.hot.mirrors, m)
		h.refresh(now, c, m)
	}
}

// mirroredBy takes in what a mirror said.
func (h *Holder) mirroredBy(now time.Time, in Mirrored) {
	c := h.cells[in.Cell]
	if c == nil || c.hot == nil {
		return
	}
	t := c.hot
	i := slices.IndexFunc(t.mirrors, func(m *mirror) bool { return m.contact.ID == in.From })
	if i < 0 || !t.mirrors[i].busy {
		return
	}
	m := t.mirrors[i]
	m.busy = false
	before := m.acked
	if in.Reply.Accepted {
		m.acked = in.Reply.Version
		c.asks += min(in.Reply.Asks, maxReported)
	}
	if in.Reply.Accepted && !m.joined {
		m.joined = true
		t.pause, t.rests = 0, time.Time{}
		h.record(now, c)
	}
	switch {
	case in.Reply.Accepted && m.acked == m.to:
		m.failed, m.serving = false, m.serving || m.whole
		h.refresh(now, c, m) // there may be more
	case in.Reply.Accepted && m.acked != before:
		m.failed, m.serving = false, false // an answer was lost, or it began anew
	case m.failed || !m.serving:
		t.mirrors = slices.Delete(t.mirrors, i, i+1)
	default:
		m.failed, m.serving = true, false
	}
}

// serving returns the mirrors that have everything.
func (t *hot) serving() (contacts []dht.Contact) {
	for _, m := range t.mirrors {
		if m.serving {
			contacts = append(contacts, m.contact)
		}
	}
	return contacts
}

// record gives what changed in a cell a version.
func (h *Holder) record(now time.Time, c *cell) {
	t := c.hot
	next := func() uint64 { t.version++; return t.version }
	old, merged := t.leases, make([]mirrorLease, 0, len(c.leases))
	for _, l := range c.leases {
		for ; len(old) > 0 && old[0].hash.Compare(l.ad.hash) < 0; old = old[1:] {
			merged = t.bury(now, merged, old[0])
		}
		ad := h.newest(l.ad)
		at := mirrorLease{hash: ad.hash}
		if len(old) > 0 && old[0].hash == ad.hash {
			at, old = old[0], old[1:]
		}
		if at.ad == nil || at.ad.Ad.Seq != ad.Ad.Seq {
			fresh := at.ad == nil
			at.ad, at.version, at.at = ad, next(), now
			if fresh {
				t.urgent = t.version
			}
		}
		merged = append(merged, at)
	}
	for ; len(old) > 0; old = old[1:] {
		merged = t.bury(now, merged, old[0])
	}
	t.leases = merged
	for i := range t.children {
		at := &t.children[i]
		if len(c.children[i]) == 0 {
			if at.version > 0 && !at.bare {
				*at = mirrorChild{version: next(), bare: true}
			}
			continue
		}
		child := c.child(h.schema, i)
		child.Mirrors.List = c.mirrorsOf(i)
		if at.version > 0 && !at.bare && at.child.sameAs(child) {
			continue
		}
		wider := at.version == 0 || at.bare || !at.child.Summary.covers(child.Summary)
		*at = mirrorChild{child: child, version: next()}
		if wider {
			t.urgent = t.version
		}
	}
}

// bury keeps that an ad is gone until every mirror has been told, or must begin
// anew.
func (t *hot) bury(now time.Time, list []mirrorLease, l mirrorLease) []mirrorLease {
	if l.ad != nil {
		t.version++
		return append(list, mirrorLease{hash: l.hash, version: t.version, at: now})
	}
	if now.Sub(l.at) < 2*MirrorTTL {
		return append(list, l)
	}
	t.base = max(t.base, l.version)
	return list
}

// sameAs tells whether mirrors need not be told of a child again.
func (c Child) sameAs(d Child) bool {
	return c.Summary.Count == d.Summary.Count && slices.Equal(c.Summary.Occupancy, d.Summary.Occupancy) &&
		slices.EqualFunc(c.Holders, d.Holders, func(a, b dht.Contact) bool { return a.ID == b.ID }) &&
		slices.EqualFunc(c.Mirrors.List, d.Mirrors.List, func(a, b Mirror) bool { return a.ID == b.ID && a.Of == b.Of })
}

// refresh tells a mirror what changed where that is due: at once where an ad
// might not be found.
func (h *Holder) refresh(now time.Time, c *cell, m *mirror) {
	t := c.hot
	due := !m.serving || m.acked < t.urgent || now.Sub(m.sent) >= mirrorRefresh
	if m.busy || !due || m.failed && now.Sub(m.sent) < mirrorRefresh {
		return
	}
	var u MirrorUpdate // an invitation: most of those who are invited may be busy, and a cell is large
	if m.joined {
		u = t.update(m.acked)
	}
	m.busy, m.sent, m.to, m.whole, m.serving = true, now, u.To, u.Whole, m.serving && u.From > 0
	u.Cell, u.Age, u.Inner = c.id, now.Sub(c.born), c.inner
	u.Rate = c.rate / float64(1+len(t.serving()))
	c.turn++
	u.Beside = h.ownMirrors(c)
	h.effects = append(h.effects, SendMirror{To: m.contact, Update: u})
}

// update returns what a mirror with a version lacks, as much as fits.
func (t *hot) update(from uint64) MirrorUpdate {
	if from < t.base || from > t.version {
		from = 0
	}
	type part struct {
		version uint64
		lease   *mirrorLease
		slot    int
	}
	var parts []part
	for i := range t.leases {
		if l := &t.leases[i]; l.version > from && (l.ad != nil || from > 0) {
			parts = append(parts, part{version: l.version, lease: l})
		}
	}
	for i := range t.children {
		if at := t.children[i]; at.version > from && (!at.bare || from > 0) {
			parts = append(parts, part{version: at.version, slot: i})
		}
	}
	slices.SortFunc(parts, func(a, b part) int {
		if a.version < b.version {
			return -1
		}
		return 1
	})
	u := MirrorUpdate{From: from, To: t.version, Whole: true}
	size := 0
	for i, p := range parts {
		switch {
		case p.lease == nil && t.children[p.slot].bare:
			u.Bare = append(u.Bare, p.slot)
		case p.lease == nil:
			child := t.children[p.slot].child
			u.Children = append(u.Children, child)
			size += 8*len(child.Summary.Occupancy) + bytesOf(child.Holders)
			for _, m := range child.Mirrors.List {
				size += contactBytes(m.Contact)
			}
		case p.lease.ad == nil:
			u.Gone = append(u.Gone, p.lease.hash)
		default:
			u.Ads = append(u.Ads, p.lease.ad)
			size += p.lease.ad.size
		}
		if size >= maxUpdateBytes && i+1 < len(parts) {
			u.To, u.Whole = p.version, false
			break
		}
	}
	return u
}

// ownMirrors draws some of the mirrors of a cell that is held here.
func (h *Holder) ownMirrors(c *cell) Mirrors {
	if c.hot == nil {
		return Mirrors{}
	}
	var all []Mirror
	for _, contact := range c.hot.serving() {
		all = append(all, Mirror{contact, h.cfg.Self})
	}
	return DrawMirrors(all, c.turn)
}

// tell returns the mirrors that the parent is to tell of.
func (c *cell) tell() []dht.Contact {
	if c.hot == nil {
		return nil
	}
	all := c.hot.serving()
	c.hot.told = len(all)
	return within(all, maxToldBytes)
}

// contactBytes is about what a contact takes in a message.
func contactBytes(c dht.Contact) int {
	size := 40
	for _, a := range c.Addrs {
		size += len(a) + 3
	}
	return size
}

func bytesOf(contacts []dht.Contact) (size int) {
	for _, c := range contacts {
		size += contactBytes(c)
	}
	return size
}

// trim leaves out addresses that take too much.
func trim(c dht.Contact) dht.Contact {
	for contactBytes(c) > maxContactBytes {
		c.Addrs = c.Addrs[:len(c.Addrs)-1]
	}
	return c
}

// within returns the first contacts, as many as fit.
func within(contacts []dht.Contact, size int) (out []dht.Contact) {
	for _, c := range contacts[:min(len(contacts), MaxMirrors)] {
		c = trim(c)
		if size -= contactBytes(c); size < 0 {
			break
		}
		out = append(out, c)
	}
	return out
}
