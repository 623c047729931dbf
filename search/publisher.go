package search

import (
	"cmp"
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// PublisherConfig configures a Publisher. The zero value is usable.
type PublisherConfig struct {
	// Renew is how long a round lasts; 0 means 60 s. A lease is renewed every
	// second round, at half of the holders in one and at the others in the
	// next: one message to a holder, however many cells it holds.
	Renew time.Duration
	// Relocate is how often the holders of a cell are looked up anew while
	// they all answer; 0 means 5 min. A participant that joined closer to a
	// cell is used from then on; one that died is replaced at once.
	Relocate time.Duration
	// Settle is after how long that happens for the first time; every later
	// pause is as long as all before together, twice, up to Relocate. Whoever
	// has just joined knows few others, and takes the wrong ones for the
	// closest. 0 means 3 s.
	Settle time.Duration
	// Gather is how long a publish may wait for others to the same holder
	// while lookups are under way; 0 means 300 ms. Longer saves messages, and
	// makes a new ad searchable that much later where peers are dead.
	Gather time.Duration
	// Retry is how long the first repetition waits after a failure; it
	// doubles up to Renew. 0 means 2 s.
	Retry time.Duration
}

func (c PublisherConfig) withDefaults() PublisherConfig {
	c.Renew = cmp.Or(c.Renew, 60*time.Second)
	c.Relocate = cmp.Or(c.Relocate, 5*time.Minute)
	c.Settle = cmp.Or(c.Settle, 3*time.Second)
	c.Gather = cmp.Or(c.Gather, 300*time.Millisecond)
	c.Retry = cmp.Or(c.Retry, 2*time.Second)
	return c
}

const (
	// relocateAfter is how many failures in a row make a publisher look for
	// other holders.
	relocateAfter = 2
	// ignoreAfter is how many failures in a row make it go on without one.
	ignoreAfter = 3
)

// A PublisherInput is something that happens to a Publisher: Offer, Located,
// Published, Withdrawn, PublisherTick or Stop.
//
//sumtype:decl
type PublisherInput interface{ publisherInput() }

// Offer gives the ad to publish from now on; one with a Seq that is not higher
// changes nothing. Whoever leases the ad is told at once, unless it looks the
// same to every summary: numbers that moved by less than a 64th of their range
// are told with the next renewal, two and a half rounds later at most.
type Offer struct{ Ad *Signed }

// Located answers a Locate: the live participants closest to the cell's key,
// nearest first; none where the lookup failed.
type Located struct {
	Cell    CellID
	Holders []dht.Contact
}

// Published answers a SendPublish; Placing is nil where it failed.
type Published struct {
	To      dht.PeerID
	Places  []Placement
	Cells   []CellID
	Placing Placing
}

// PublisherTick lets time pass.
type PublisherTick struct{}

// Stop withdraws the ad everywhere, which lasts until Done.
type Stop struct{}

func (Offer) publisherInput()         {}
func (Located) publisherInput()       {}
func (Published) publisherInput()     {}
func (PublisherTick) publisherInput() {}
func (Stop) publisherInput()          {}

// A PublisherEffect is what a Publisher wants done: Locate, SendPublish or
// SendWithdraw.
//
//sumtype:decl
type PublisherEffect interface{ publisherEffect() }

// Locate wants the Replicas live participants closest to the cell's key.
type Locate struct{ Cell CellID }

// SendPublish wants the ad put into cells of one holder. Cells are where the
// places were when it was sent; they come back in Published.
type SendPublish struct {
	To     dht.Contact
	Ad     *Signed
	Places []Placement
	Cells  []CellID
}

// SendWithdraw wants the ad forgotten by one holder; answered by Withdrawn.
type SendWithdraw struct {
	To     dht.Contact
	Server dht.PeerID
	Seq    uint64
	Cells  []CellID
}

func (Locate) publisherEffect()       {}
func (SendPublish) publisherEffect()  {}
func (SendWithdraw) publisherEffect() {}

// A spot is one holder of one cell on the way of an ad.
type spot struct {
	contact  dht.Contact
	next     time.Time // when to publish there again
	busy     bool      // a publish is under way
	answered bool
	held     bool // it leases the ad
	inner    bool // it sends publishers down
	settled  bool // it was told that another cell has the ad
	failures int
}

// A Publisher keeps one server's ad where queries look for it. It is a machine
// for one goroutine.
type Publisher struct {
	schema  *Schema
	cfg     PublisherConfig
	ad      *Signed
	ways    []*way
	begun   time.Time          // when the first ad was offered, and the first round began
	wake    time.Time          // nothing is due before
	gather  time.Time          // what is due waits for more until then; zero: nothing does
	sent    map[dht.PeerID]int // messages under way to a holder; what is due there goes when they are over
	leaving []retraction       // that wait for that
	stopped bool
	ended   time.Time // when it was stopped
	effects []PublisherEffect
}

// NewPublisher returns a Publisher that waits for its first Offer.
func NewPublisher(schema *Schema, cfg PublisherConfig) *Publisher {
	return &Publisher{schema: schema, cfg: cfg.withDefaults(), sent: make(map[dht.PeerID]int)}
}

// Settled tells whether the ad stands in every tree, in a leaf cell of at
// least one holder.
func (p *Publisher) Settled() bool {
	if p.ad == nil {
		return false
	}
	for _, w := range p.ways {
		if last := len(w.levels) - 1; !w.has(last) || w.levels[last].anyInner() {
			return false
		}
	}
	return true
}

// InPlace tells whether every holder has answered to the current ad or one that
// looks the same, a leaf of every tree leases it, and nothing is under way or
// left to withdraw.
func (p *Publisher) InPlace(now time.Time) bool {
	if p.ad == nil || len(p.leaving) > 0 {
		return false
	}
	for _, w := range p.ways {
		if last := w.levels[len(w.levels)-1]; len(w.left) > 0 || last.anyInner() || !last.allHold() {
			return false
		}
		for _, l := range w.levels {
			for _, s := range l.spots {
				if s.busy || s.failures > 0 || !now.Before(s.next) {
					return false
				}
			}
		}
	}
	return true
}

// Ad returns the ad that was offered last, nil if none was.
func (p *Publisher) Ad() *Signed { return p.ad }

// Wake returns when a PublisherTick is due.
func (p *Publisher) Wake() time.Time { return p.wake }

// Step takes in what happened and returns what to do. The caller owns the
// effects.
func (p *Publisher) Step(now time.Time, input PublisherInput) []PublisherEffect {
	p.effects = nil
	switch in := input.(type) {
	case Offer:
		p.offer(now, in.Ad)
	case Located:
		p.located(now, in)
	case Published:
		p.published(now, in)
	case Withdrawn:
		p.over(in.To)
	case PublisherTick:
		if now.Before(p.wake) {
			return nil
		}
	case Stop:
		p.stop(now)
	}
	if p.ad != nil && !p.stopped {
		p.plan(now)
	}
	p.retract(now)
	return p.effects
}

func (p *Publisher) offer(now time.Time, ad *Signed) {
	if p.stopped || p.ad != nil && ad.Ad.Seq <= p.ad.Ad.Seq {
		return
	}
	before := p.ad
	p.ad = ad
	if before == nil {
		p.begun = now
		p.ways = append(p.ways, &way{levels: []*level{{cell: RecordOf(ad.Ad.Server)}}})
		for _, t := range p.schema.trees {
			p.ways = append(p.ways, &way{tree: t, key: p.schema.KeyOf(t, ad), levels: []*level{{cell: Root(t.Name)}}})
		}
		return
	}
	same := p.schema.sameLook(before, ad)
	for _, w := range p.ways {
		if moved := w.move(now, p.schema, ad); same && !moved {
			continue // renewals tell of it
		}
		for _, l := range w.levels {
			for _, s := range l.spots {
				if s.held {
					s.next = now // and tables hear of it from below
				}
			}
		}
	}
}

func (p *Publisher) located(now time.Time, in Located) {
	w, l := p.level(in.Cell)
	if l == nil {
		return
	}
	l.locating = false
	if len(in.Holders) == 0 {
		l.again = now.Add(p.cfg.Retry)
		return
	}
	l.located = now
	spots := make([]*spot, 0, Replicas)
	for _, c := range in.Holders[:min(len(in.Holders), Replicas)] {
		i := slices.IndexFunc(l.spots, func(s *spot) bool { return s.contact.ID == c.ID })
		if i < 0 {
			spots = append(spots, &spot{contact: c, next: now})
			continue
		}
		l.spots[i].contact = c
		spots = append(spots, l.spots[i])
	}
	old := slices.DeleteFunc(l.spots, func(s *spot) bool { return slices.Contains(spots, s) || !s.held && !s.busy })
	if len(old) > 0 {
		w.left = append(w.left, &level{cell: l.cell, spots: old})
	}
	l.spots = spots
}

// level returns the level that a cell is, and its way; nil if it is on none.
func (p *Publisher) level(cell CellID) (*way, *level) {
	for _, w := range p.ways {
		if w.tree.Name != cell.Tree {
			continue
		}
		for _, l := range w.levels {
			if l.cell == cell {
				return w, l
			}
		}
	}
	return nil, nil
}

func (p *Publisher) published(now time.Time, in Published) {
	p.over(in.To)
	for i, cell := range in.Cells {
		_, l := p.level(cell)
		if l == nil {
			continue
		}
		at := slices.IndexFunc(l.spots, func(s *spot) bool { return s.contact.ID == in.To })
		if at < 0 {
			continue
		}
		s := l.spots[at]
		s.busy = false
		if i >= len(in.Placing) {
			p.failed(now, l, s)
			continue
		}
		p.answered(now, l, s, in.Placing[i])
	}
}

func (p *Publisher) failed(now time.Time, l *level, s *spot) {
	s.failures++
	s.next = now.Add(min(p.cfg.Renew, p.cfg.Retry<<min(s.failures-1, 8)))
	if s.failures >= relocateAfter {
		l.located = time.Time{}
		l.again = now.Add(p.cfg.Retry)
	}
}

func (p *Publisher) answered(now time.Time, l *level, s *spot, a Placed) {
	fresh := a.Held && !s.held
	s.answered, s.failures, s.held, s.inner = true, 0, a.Held, a.Verdict == VerdictInner
	if a.Verdict == VerdictInner && int(a.Next) > l.next {
		l.next, l.below = int(a.Next), nil
	}
	if len(a.Below) >= Replicas && int(a.Next) == l.next {
		l.below = a.Below
	}
	if !s.next.After(now) {
		return // the ad changed while this was under way
	}
	if fresh {
		s.next = p.turn(now, s.contact.ID, 1) // a cell that grows may be divided by then
	} else {
		s.next = p.turn(now, s.contact.ID, p.rounds(l, a))
	}
	if a.Verdict == VerdictRise {
		p.rise(now, l, int(a.Next))
	}
}

// rise publishes at a level above l, where it is told that few are left. While
// that still sends down, who holds both says so whenever it is told of either:
// so it is asked once in half a round.
func (p *Publisher) rise(now time.Time, l *level, to int) {
	w, _ := p.level(l.cell)
	if to >= int(l.cell.Prefix.Level) || w == nil || now.Before(l.rise) {
		return
	}
	l.rise = now.Add(p.cfg.Renew / 2)
	cell := CellID{Tree: l.cell.Tree, Prefix: PrefixOf(l.cell.Prefix.Key, to)}
	at := slices.IndexFunc(w.levels, func(up *level) bool { return int(up.cell.Prefix.Level) >= to })
	if w.levels[at].cell != cell {
		w.levels = slices.Insert(w.levels, at, &level{cell: cell})
		return
	}
	for _, s := range w.levels[at].spots {
		if !s.held {
			s.next = now
		}
	}
}

// plan emits everything that is due.
func (p *Publisher) plan(now time.Time) {
	p.wake = now.Add(p.cfg.Renew)
	due, lookups := false, false
	for _, w := range p.ways {
		p.shape(now, w)
		for i, l := range w.levels {
			p.relieve(now, w, i)
			p.locate(now, l)
			lookups = lookups || l.locating
			due = p.due(now, l) || due
		}
	}
	if !due {
		return
	}
	if p.gather.IsZero() {
		p.gather = now.Add(p.cfg.Gather)
	}
	if lookups && now.Before(p.gather) {
		p.wake = earlier(p.wake, p.gather)
		return
	}
	p.gather = time.Time{}
	p.send(now)
}

// locate looks up the holders of a cell where that is due.
func (p *Publisher) locate(now time.Time, l *level) {
	at := l.again
	if !l.located.IsZero() {
		at = later(at, l.located.Add(p.trust(l.located)))
	}
	switch {
	case l.locating:
	case now.Before(at):
		p.wake = earlier(p.wake, at)
	default:
		l.locating = true
		p.effects = append(p.effects, Locate{l.cell})
	}
}

// trust returns for how long the outcome of a lookup at that time holds.
func (p *Publisher) trust(at time.Time) time.Duration {
	return min(p.cfg.Relocate, max(p.cfg.Settle, 2*at.Sub(p.begun)))
}

// due tells whether a level has something to send.
func (p *Publisher) due(now time.Time, l *level) (due bool) {
	for _, s := range l.spots {
		switch {
		case s.busy || p.sent[s.contact.ID] > 0:
		case now.Before(s.next):
			p.wake = earlier(p.wake, s.next)
		default:
			due = true
		}
	}
	return due
}

// relieve makes it due to tell the holders of level i, which keep the ad only
// until the cell below has it, that it has.
func (p *Publisher) relieve(now time.Time, w *way, i int) {
	if !w.settled(i) {
		return
	}
	for _, s := range w.levels[i].spots {
		if s.held && s.inner && !s.settled {
			s.next = now
		}
	}
}

// descend returns the level below l, with its holders where l's told of them.
func (p *Publisher) descend(now time.Time, w *way, l *level) *level {
	from := int(l.cell.Prefix.Level)
	to := min(max(l.next, from+1), from/tableBits*tableBits+tableBits)
	down := &level{cell: CellID{Tree: w.tree.Name, Prefix: PrefixOf(w.key, to)}}
	if len(l.below) >= Replicas && to == l.next {
		down.located = now
		for _, c := range closest(down.cell, slices.Clone(l.below)) {
			down.spots = append(down.spots, &spot{contact: c, next: now})
		}
	}
	l.next, l.below = 0, nil
	return down
}

// shape makes a way longer where a cell sends down, and shorter where a cell
// above has become a leaf.
func (p *Publisher) shape(now time.Time, w *way) {
	for i := 0; i < len(w.levels); i++ {
		l := w.levels[i]
		if l.passed() && w.settled(i) {
			// A cell that was divided has nothing more to say.
			w.levels = slices.Delete(w.levels, i, i+1)
			i--
			continue
		}
		if l.anyInner() {
			if i+1 == len(w.levels) && l.cell.Prefix.Level < maxLevel {
				w.levels = append(w.levels, p.descend(now, w, l))
			}
			continue
		}
		if i+1 < len(w.levels) && l.allHold() {
			w.left = append(w.left, w.levels[i+1:]...)
			w.levels = w.levels[:i+1]
		}
	}
	if len(w.left) > 0 && w.levels[len(w.levels)-1].allHold() {
		p.leave(w.left)
		w.left = nil
	}
}
