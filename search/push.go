package search

import "time"

// summaryLife is how long a summary stays without being repeated: one of two
// may be lost.
func (c HolderConfig) summaryLife() time.Duration { return 5 * c.PushEvery / 2 }

// widen notes that the table above a cell knows too little of it.
func (h *Holder) widen(c *cell) {
	if !c.dirty {
		c.dirty = true
		h.widened = append(h.widened, c)
	}
}

// hasten sends up the summaries of cells that this step made wider, unless they
// are new or told something within a second: then the next tick does.
func (h *Holder) hasten(now time.Time) {
	for _, c := range h.widened {
		if !c.toldAt.IsZero() && now.Sub(c.toldAt) >= TickEvery {
			h.report(now, c)
		}
	}
	h.widened = h.widened[:0]
}

// push takes in what a child cell tells, and answers.
func (h *Holder) push(now time.Time, in Push) {
	if in.Child.Tree == "" || in.Child.Prefix.Level == 0 || h.schema.CheckSummary(in.Summary) != nil {
		return
	}
	parent, index := in.Child.Prefix.Parent()
	id := CellID{Tree: in.Child.Tree, Prefix: parent}
	c := h.cells[id]
	if c == nil {
		if h.leases >= h.cfg.MaxAds || len(h.cells) >= h.cfg.MaxAds {
			return
		}
		c = h.make(now, id)
		c.inner = true // it has a child
		h.want(now, id)
	}
	e := entry{holder: in.From, mirrors: within(in.Mirrors, maxToldBytes), summary: in.Summary, epoch: in.Epoch, until: now.Add(h.cfg.summaryLife())}
	if in.Summary.Count == 0 {
		e.until = now // the child is going
	}
	if h.schema.tellable(in.Child, in.Below) && h.standing < maxToldBelow {
		e.below = in.Below
	}
	if c.learn(index, e) || c.lags(h.schema) {
		h.widen(c)
	}
	if !c.inner && c.below() > h.cfg.LeafAds/mergeShare {
		// Others had split this cell before it came here.
		h.split(now, c)
	}
	reply := PushReply{Level: in.Child.Prefix.Level}
	if up := in.Child.Prefix.up(); !c.inner {
		reply.Level = parent.Level
	} else if up != parent {
		if _, slot := up.Parent(); c.under(slot) <= h.cfg.LeafAds/mergeShare {
			reply.Level = up.Level
		}
	}
	if c.within(index) > h.cfg.LeafAds/mergeShare {
		reply.Level = in.Child.Prefix.Level + 1
	}
	h.effects = append(h.effects, reply)
}

// pushed takes in what the table above makes of a cell.
func (h *Holder) pushed(now time.Time, in Pushed) {
	c := h.cells[in.Child]
	if c == nil {
		return
	}
	c.rise, c.riseTo = (time.Time{}), in.Level
	switch level := in.Child.Prefix.Level; {
	case in.Level < level:
		c.rise = now.Add(2 * h.cfg.PushEvery)
	case in.Level > level && level < maxLevel && !c.inner:
		h.split(now, c) // it came back after it had been divided
	}
}
