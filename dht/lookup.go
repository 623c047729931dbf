package dht

import (
	"fmt"
	"slices"
	"time"
)

// LookupConfig says what a Lookup looks for and how hard.
type LookupConfig struct {
	Target Position
	// Want is how many nearest live contacts to find, 1 to MaxLookupWant.
	Want int
	// Alpha is how many requests may be under way at once, those that are
	// slow not counted. More is faster when peers are dead, and wastes
	// requests when they are not. 0 means max(3, Want).
	Alpha int
	// SlowAfter is when a request no longer counts towards Alpha, so that the
	// next nearest is asked in its stead. 0 means 400 ms.
	SlowAfter time.Duration
	// Timeout is when a peer that does not answer counts as dead. 0 means 2 s.
	Timeout time.Duration
	// Self is the one who looks, as a candidate that need not be asked; the
	// zero PeerID if it cannot be a result.
	Self Contact
	// Seeds are the contacts to begin with, nearest known first or not.
	Seeds []Contact
}

// A LookupInput is what happens to a Lookup.
//
//sumtype:decl
type LookupInput interface{ lookupInput() }

type (
	// LookupStart begins the lookup.
	LookupStart struct{}
	// LookupAnswer is the answer of a peer that was asked: the contacts
	// nearest to the target that it knows. Only the first K count.
	LookupAnswer struct {
		From     PeerID
		Contacts []Contact
	}
	// LookupFailure says that a peer that was asked cannot be reached, is not
	// admitted, or answered nonsense.
	LookupFailure struct{ From PeerID }
	// LookupTick says that time has passed; due at Deadline.
	LookupTick struct{}
)

func (LookupStart) lookupInput()   {}
func (LookupAnswer) lookupInput()  {}
func (LookupFailure) lookupInput() {}
func (LookupTick) lookupInput()    {}

// A LookupEffect is what a Lookup wants done.
//
//sumtype:decl
type LookupEffect interface{ lookupEffect() }

type (
	// LookupQuery asks To for the contacts nearest to the target.
	LookupQuery struct{ To Contact }
	// LookupDone ends the lookup; nothing follows it.
	LookupDone struct {
		// Nearest are those that answered (and Self), nearest first, at most
		// Want.
		Nearest []Contact
		// Exhausted tells that the bound on requests ended the lookup before
		// it knew that Nearest are the nearest.
		Exhausted bool
	}
)

func (LookupQuery) lookupEffect() {}
func (LookupDone) lookupEffect()  {}

type candidateState uint8

const (
	candidateNew candidateState = iota
	candidateAsked
	candidateSlow // asked, and no longer waited for with Alpha
	candidateLive
	candidateDead
)

type candidate struct {
	contact Contact
	at      Position
	state   candidateState
	asked   time.Time
	tries   int
}

// A Lookup is the iterative lookup of Kademlia (Maymounkov and Mazières,
// 2002) as a machine without a clock, except that it stops as soon as the
// nearest Want candidates that are not dead have all answered, instead of
// asking the nearest K: with warm connections that is one round trip or two.
//
// Laws: every contact in the result answered in this lookup (or is Self);
// none that was offered, is nearer and alive was left unasked unless
// Exhausted; at most one request is under way to a peer; the number of
// requests is bounded by 3 Want + 60.
type Lookup struct {
	cfg        LookupConfig
	candidates []candidate // by distance, nearest first
	sent       int
	done       bool
}

// NewLookup returns a lookup that waits for LookupStart. It panics if
// cfg.Want is out of range.
func NewLookup(cfg LookupConfig) *Lookup {
	if cfg.Want < 1 || cfg.Want > MaxLookupWant {
		panic(fmt.Sprintf("dht: lookup of %d contacts, limit %d", cfg.Want, MaxLookupWant))
	}
	if cfg.Alpha <= 0 {
		cfg.Alpha = max(3, cfg.Want)
	}
	if cfg.SlowAfter <= 0 {
		cfg.SlowAfter = 400 * time.Millisecond
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 2 * time.Second
	}
	return &Lookup{cfg: cfg}
}

// Requests returns how many queries were sent so far.
func (l *Lookup) Requests() int { return l.sent }

// Deadline returns when the next LookupTick is due, false if none is.
func (l *Lookup) Deadline() (due time.Time, ok bool) {
	if l.done {
		return time.Time{}, false
	}
	for i := range l.candidates {
		var at time.Time
		switch c := &l.candidates[i]; c.state {
		case candidateAsked:
			at = c.asked.Add(min(l.cfg.SlowAfter, l.cfg.Timeout))
		case candidateSlow:
			at = c.asked.Add(l.cfg.Timeout)
		default:
			continue
		}
		if !ok || at.Before(due) {
			due, ok = at, true
		}
	}
	return due, ok
}

// Step takes in what happened at now and returns what to do about it.
func (l *Lookup) Step(now time.Time, in LookupInput) []LookupEffect {
	if l.done {
		return nil
	}
	switch in := in.(type) {
	case LookupStart:
		if !l.cfg.Self.ID.IsZero() {
			l.add(l.cfg.Self, candidateLive)
		}
		for _, c := range l.cfg.Seeds {
			l.add(c, candidateNew)
		}
	case LookupAnswer:
		c := l.find(in.From)
		if c == nil || (c.state != candidateAsked && c.state != candidateSlow) {
			return nil // not asked, or counted as dead already
		}
		c.state = candidateLive
		for _, known := range in.Contacts[:min(len(in.Contacts), K)] {
			l.add(known, candidateNew)
		}
	case LookupFailure:
		if c := l.find(in.From); c != nil && (c.state == candidateAsked || c.state == candidateSlow) {
			c.state = candidateDead
		}
	case LookupTick:
		l.expire(now)
	}
	l.prune()
	return l.proceed(now)
}

// expire marks those slow and dead that have not answered for so long.
func (l *Lookup) expire(now time.Time) {
	for i := range l.candidates {
		c := &l.candidates[i]
		if c.state != candidateAsked && c.state != candidateSlow {
			continue
		}
		if waited := now.Sub(c.asked); waited >= l.cfg.Timeout {
			c.state = candidateDead
		} else if waited >= l.cfg.SlowAfter {
			c.state = candidateSlow
		}
	}
}

// proceed asks those of the nearest that were not asked, and ends the lookup
// when none is left to wait for.
func (l *Lookup) proceed(now time.Time) []LookupEffect {
	var effects []LookupEffect
	active, waiting, near := 0, 0, 0
	for i := range l.candidates {
		if l.candidates[i].state == candidateAsked {
			active++
		}
	}
	exhausted := false
	for i := range l.candidates {
		if near == l.cfg.Want {
			break
		}
		c := &l.candidates[i]
		switch c.state {
		case candidateDead:
		case candidateSlow:
			waiting++ // does not take the place of one that may answer
		case candidateLive:
			near++
		case candidateAsked:
			near++
			waiting++
		case candidateNew:
			near++
			if l.sent == 3*l.cfg.Want+lookupSpare {
				exhausted = true
				continue
			}
			waiting++
			if active < l.cfg.Alpha {
				active++
				l.sent++
				c.state, c.asked, c.tries = candidateAsked, now, c.tries+1
				effects = append(effects, LookupQuery{To: c.contact.Clone()})
			}
		}
	}
	if waiting > 0 {
		return effects
	}
	l.done = true
	return append(effects, LookupDone{Nearest: l.live(), Exhausted: exhausted})
}

// live returns the nearest that answered.
func (l *Lookup) live() []Contact {
	var nearest []Contact
	for i := range l.candidates {
		if c := &l.candidates[i]; c.state == candidateLive && len(nearest) < l.cfg.Want {
			nearest = append(nearest, c.contact.Clone())
		}
	}
	return nearest
}

// find returns the candidate with that identity, nil if there is none.
func (l *Lookup) find(id PeerID) *candidate {
	at, ok := l.search(id.Position())
	if !ok {
		return nil
	}
	return &l.candidates[at]
}

func (l *Lookup) search(p Position) (at int, ok bool) {
	return slices.BinarySearchFunc(l.candidates, p, func(c candidate, p Position) int {
		return l.cfg.Target.Compare(c.at, p)
	})
}

// add takes in a contact that somebody offered. Addresses that are new are
// kept beside those known, and give one that seemed dead a second chance:
// whoever offers false addresses first must not hide a live peer.
func (l *Lookup) add(c Contact, state candidateState) {
	if c.Check() != nil || (c.ID == l.cfg.Self.ID && state == candidateNew) {
		return
	}
	p := c.ID.Position()
	at, known := l.search(p)
	if !known {
		l.candidates = slices.Insert(l.candidates, at, candidate{contact: c.Clone(), at: p, state: state})
		return
	}
	old := &l.candidates[at]
	fresh := false
	for _, a := range c.Addrs {
		if len(old.contact.Addrs) < MaxAddrs && !slices.Contains(old.contact.Addrs, a) {
			old.contact.Addrs = append(old.contact.Addrs, a)
			fresh = true
		}
	}
	if fresh && old.state == candidateDead && old.tries < 2 {
		old.state = candidateNew
	}
}

// prune forgets the farthest that were not asked yet, beyond maxCandidates.
func (l *Lookup) prune() {
	for i := len(l.candidates) - 1; i >= 0 && len(l.candidates) > maxCandidates; i-- {
		if l.candidates[i].state == candidateNew {
			l.candidates = slices.Delete(l.candidates, i, i+1)
		}
	}
}

// check returns an error if the machine contradicts itself; for tests.
func (l *Lookup) check() error {
	for i := range l.candidates {
		c := &l.candidates[i]
		if i > 0 && l.cfg.Target.Compare(l.candidates[i-1].at, c.at) >= 0 {
			return fmt.Errorf("candidates %d and %d out of order", i-1, i)
		}
		if asked := c.state == candidateAsked || c.state == candidateSlow; asked && (c.tries == 0 || l.done) {
			return fmt.Errorf("candidate %s is waited for in vain", c.contact.ID.Short())
		}
	}
	if limit := 3*l.cfg.Want + lookupSpare; l.sent > limit {
		return fmt.Errorf("%d requests, limit %d", l.sent, limit)
	}
	return nil
}
