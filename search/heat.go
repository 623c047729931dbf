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
	Fed   bool // as the update said
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
	versions
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

// warm lets a tick pass for how much a cell is asked for, and recruits mirrors,
// lets them go and tells them what changed.
func (h *Holder) warm(now time.Time, c *cell) {
	c.rate += (float64(c.asks) - c.rate) / heatTicks
	c.asks = 0
	least := h.standingMirrors(c)
	want := max(least, min(int(c.rate/AsksPerCopy), MaxMirrors))
	if c.id.Tree == "" || h.cfg.Self.IsZero() || c.hot == nil && want == 0 {
		return
	}
	if c.hot == nil {
		c.hot = &hot{versions: newVersions(now, 2*MirrorTTL)}
	}
	t := c.hot
	if most := max(least, int(2*c.rate/AsksPerCopy+0.5)); len(t.mirrors) > most {
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

// standingMirrors returns how many mirrors a cell has though it is not asked for
// much. A table that gathers has none: its holders alone have what is below.
func (h *Holder) standingMirrors(c *cell) int {
	large := func(n, least int) bool { return n >= least || c.hot != nil && 2*n >= least } // not to begin anew with every ad
	switch {
	case c.id.Tree == "" || c.gathering != nil:
		return 0
	case c.inner && c.id.Prefix.table() && large(c.below(), h.cfg.StandingAds):
		return leastMirrors(c.id)
	case !c.inner && c.id.Prefix.Level > 0 && large(len(c.leases), StandingLeaf):
		return leastMirrors(c.id)
	default:
		return 0
	}
}

// leastMirrors is how many mirrors that is.
func leastMirrors(cell CellID) int {
	if cell.Prefix.Level == 0 {
		return StandingMirrors
	}
	return StandingBelow
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
	if in.Fed {
		h.fedBy(now, c, in)
		return
	}
	if c == nil || c.hot == nil {
		return
	}
	t := c.hot
	i := slices.IndexFunc(t.mirrors, func(m *mirror) bool { return m.contact.ID == in.From })
	if i < 0 || !t.mirrors[i].busy {
		return
	}
	m := t.mirrors[i]
	if in.Reply.Accepted {
		c.asks += min(in.Reply.Asks, maxReported)
	}
	if in.Reply.Accepted && !m.joined {
		m.joined = true
		t.pause, t.rests = 0, time.Time{}
		h.record(now, c)
	}
	switch m.settle(in.Reply) {
	case settledWell:
		h.refresh(now, c, m) // there may be more
	case settledBadly:
		t.mirrors = slices.Delete(t.mirrors, i, i+1)
	case settledOtherwise:
	}
}

// A settlement is what became of an update.
type settlement uint8

const (
	settledOtherwise settlement = iota
	settledWell                 // the copy is as it was told
	settledBadly                // of no use, twice or to who did not serve: it is let go
)

// settle takes in what a mirror said to an update.
func (m *mirror) settle(reply MirrorReply) settlement {
	m.busy = false
	before := m.acked
	if reply.Accepted {
		m.acked = reply.Version
	}
	switch {
	case reply.Accepted && m.acked == m.to:
		m.failed, m.serving = false, m.serving || m.whole
		return settledWell
	case reply.Accepted && m.acked != before:
		m.failed, m.serving = false, false // an answer was lost, or it began anew
	case m.failed || !m.serving:
		return settledBadly
	default:
		m.failed, m.serving = true, false
	}
	return settledOtherwise
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
	ads := make([]*Signed, len(c.leases))
	for i, l := range c.leases {
		ads[i] = h.newest(l.ad)
	}
	c.hot.record(now, ads)
	c.hot.recordChildren(c.listing(h.schema))
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
