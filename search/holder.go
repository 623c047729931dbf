package search

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// HolderConfig configures a Holder. The zero value is usable.
type HolderConfig struct {
	// Self is this participant; zero: cells that are asked for much get no
	// mirrors.
	Self dht.PeerID
	// Lease is how long an ad stays without renewal; 0 means 300 s. Shorter
	// forgets dead servers sooner; below LeaseRounds renewal intervals a few
	// lost messages lose ads.
	Lease time.Duration
	// PushEvery is how often a cell repeats its summary to its parent, which
	// forgets it after 2.5 times as long; 0 means 60 s.
	PushEvery time.Duration
	// MaxAds bounds the leases of all cells together; 0 means 200,000, about
	// 400 MB at 2 KB an ad where nothing is shared.
	MaxAds int
	// MaxBytes bounds the distinct ads in memory; 0 means 64 MiB.
	MaxBytes int
	// MaxPerPublisher bounds the leases that one participant may place; 0
	// means 4,096: thirty trees at a few levels for some servers.
	MaxPerPublisher int
	// MaxPerGroup bounds the leases of servers whose addresses lie in one IPv4
	// network of 24 bits, one IPv6 network of 48, or have one name; 0 means a
	// quarter of MaxAds, so that nobody crowds the others out.
	MaxPerGroup int
	// LeafAds is how many ads a leaf cell holds before it becomes inner; 0
	// means the constant. More makes queries read fewer, larger cells. A quarter
	// of it is how few ads make an inner cell a leaf again.
	LeafAds int
	// GatherAds is how many ads below a table its holders gather at most, to answer
	// for them all; 0 means sixteen leaves' worth, less than zero that they do not.
	GatherAds int
	// StandingAds is how many ads a tree has at least whose root has mirrors though
	// it is not asked for much; 0 means the constant.
	StandingAds int
}

// SampleAds is how many ads the sample of an inner cell has where a leaf holds
// so many: 64, or a quarter of a leaf if that is less, but one.
func SampleAds(leaf int) int { return max(1, min(maxSampled, leaf/4)) }

func (c HolderConfig) withDefaults() HolderConfig {
	c.Lease = cmp.Or(c.Lease, LeaseRounds*time.Minute)
	c.PushEvery = cmp.Or(c.PushEvery, 60*time.Second)
	c.MaxAds = cmp.Or(c.MaxAds, 200_000)
	c.MaxBytes = cmp.Or(c.MaxBytes, 64<<20)
	c.MaxPerPublisher = cmp.Or(c.MaxPerPublisher, 4096)
	c.MaxPerGroup = cmp.Or(c.MaxPerGroup, max(1, c.MaxAds/4))
	c.LeafAds = cmp.Or(c.LeafAds, LeafAds)
	c.GatherAds = cmp.Or(c.GatherAds, GatherLeaves*c.LeafAds)
	c.StandingAds = cmp.Or(c.StandingAds, StandingAds)
	return c
}

// A HolderInput is something that happens to a Holder: Publish, Withdraw,
// Push, Pushed, AskCell, Neighbourhood, Reconcile, Reconciled, Fetch, Fetched,
// Restore, MirrorCell, Recruits, Mirrored, Gather, Gathering or HolderTick.
//
//sumtype:decl
type HolderInput interface{ holderInput() }

// Publish asks to lease an ad in some cells; answered by a Placing.
type Publish struct {
	From   dht.PeerID
	Ad     *Signed
	Places []Placement
}

// Withdraw asks to forget a server's ad in some cells, if it is not newer than
// Seq. Only the server itself and whoever placed the ad may.
type Withdraw struct {
	From   dht.PeerID
	Server dht.PeerID
	Seq    uint64
	Cells  []CellID
}

// Push tells a parent what a child cell holds; answered by a PushReply.
type Push struct {
	From    dht.Contact
	Child   CellID
	Summary Summary
	Epoch   uint64
	Mirrors []dht.Contact // that the sender recruited
	Below   []Child       // the cells below, which shall stand in the child's place; nil: it shall be read itself
}

// Pushed is the parent's answer to a SendPush.
type Pushed struct {
	Child CellID
	Level uint8 // of the reply
}

// AskCell asks for a cell; answered by a CellReply.
type AskCell struct{ Query CellQuery }

// HolderTick lets time pass: leases end, summaries go up. It is due about
// once a second.
type HolderTick struct{}

func (Publish) holderInput()    {}
func (Withdraw) holderInput()   {}
func (Push) holderInput()       {}
func (Pushed) holderInput()     {}
func (AskCell) holderInput()    {}
func (HolderTick) holderInput() {}

// A HolderEffect is what a Holder wants done: an answer (Placing, PushReply,
// CellReply, MirrorReply, Inventory or Handed, at most one for an input),
// SendPush, Recruit, SendMirror, SendReconcile or SendFetch.
//
//sumtype:decl
type HolderEffect interface{ holderEffect() }

// Placing answers a Publish, place by place.
type Placing []Placed

// PushReply answers a Push. Level is that at which the ads of the child should
// be: its own, one above where few are left, or one below where many are there.
type PushReply struct{ Level uint8 }

// SendPush wants a summary sent to the holders of Parent.
type SendPush struct {
	Parent  CellID
	Child   CellID
	Summary Summary
	Epoch   uint64
	Mirrors []dht.Contact
	Below   []Child
}

func (Placing) holderEffect()   {}
func (PushReply) holderEffect() {}
func (CellReply) holderEffect() {}
func (SendPush) holderEffect()  {}

// HolderStats count what a Holder has.
type HolderStats struct {
	Cells, Leases, Ads, Bytes int
	Published, Asked, Pushed  uint64
	// Mirrors are those that were recruited, Replicas the cells of others that
	// are mirrored here; Reflected is how often these were asked.
	Mirrors, Replicas int
	Reflected         uint64
	// Gathering are the tables here that answer for all cells below, Gathered the
	// ads that those have, and Feeding how many others gather ads from here.
	Gathering, Gathered, Feeding int
	Summed                       uint64 // how often one answered for all
}

// A Holder keeps the cells that this participant is close to: soft state,
// leased by publishers. It is a machine for one goroutine.
type Holder struct {
	schema *Schema
	cfg    HolderConfig

	cells   map[CellID]*cell
	order   []CellID // the cells in the order of their making, for ticks
	widened []*cell  // those that a step made dirty
	ads     map[dht.PeerID]*shared
	placed  map[dht.PeerID]int // leases by publisher
	groups  map[string]int     // leases by address group
	around  neighbourhood
	leases  int
	bytes   int
	stats   HolderStats
	effects []HolderEffect

	replicas map[CellID]*replica
	mirrored int     // bytes of ads in them
	gathered int     // bytes of ads that tables gather
	standing int     // cells that stand in the place of tables to be passed over, as told, at the last tick
	asked    uint64  // Stats.Asked at the last tick
	rate     float64 // asks a second, over the last ticks
}

// shared is an ad that cells share, with how many leases do.
type shared struct {
	ad   *Signed
	uses int
}

// NewHolder returns a Holder without cells.
func NewHolder(schema *Schema, cfg HolderConfig) *Holder {
	return &Holder{
		schema: schema, cfg: cfg.withDefaults(),
		cells: make(map[CellID]*cell), ads: make(map[dht.PeerID]*shared), placed: make(map[dht.PeerID]int), groups: make(map[string]int),
		replicas: make(map[CellID]*replica),
	}
}

// Stats returns the counts.
func (h *Holder) Stats() HolderStats {
	s := h.stats
	s.Cells, s.Leases, s.Ads, s.Bytes = len(h.cells), h.leases, len(h.ads), h.bytes
	s.Replicas = len(h.replicas)
	for _, c := range h.cells {
		if c.hot != nil {
			s.Mirrors += len(c.hot.mirrors)
		}
		if c.gathering != nil {
			s.Gathering++
			s.Gathered += len(c.gathering.all())
		}
		if c.feed != nil {
			s.Feeding += len(c.feed.to)
		}
	}
	return s
}

// Step takes in what happened and returns what to do. The caller owns the
// effects.
func (h *Holder) Step(now time.Time, input HolderInput) []HolderEffect {
	h.effects = nil
	switch in := input.(type) {
	case Publish:
		h.stats.Published++
		h.publish(now, in)
	case Withdraw:
		h.withdraw(in)
	case Push:
		h.stats.Pushed++
		h.push(now, in)
	case Pushed:
		h.pushed(now, in)
	case AskCell:
		h.stats.Asked++
		h.effects = append(h.effects, h.ask(now, in.Query))
	case Restore:
		h.restore(now, in.Copy)
	case MirrorCell:
		h.effects = append(h.effects, h.mirror(now, in))
	case Recruits:
		h.recruits(now, in)
	case Mirrored:
		h.mirroredBy(now, in)
	case Gather:
		h.gatherHere(now, in)
	case Gathering:
		h.gatheringFrom(in)
	case Neighbourhood:
		h.neighbourhood(in)
	case Reconcile:
		h.reconcile(now, in)
	case Reconciled:
		h.reconciled(now, in)
	case Fetch:
		h.hand(now, in)
	case Fetched:
		h.fetched(now, in)
	case HolderTick:
		h.tick(now)
	}
	h.hasten(now)
	return h.effects
}

func (h *Holder) publish(now time.Time, in Publish) {
	out := make(Placing, min(len(in.Places), maxPlaces))
	for i := range out {
		out[i] = h.place(now, in, in.Places[i])
		if c := h.cells[Root(in.Places[i].Tree)]; c != nil && in.Places[i].Level == 0 {
			c.turn++
			out[i].Mirrors = h.ownMirrors(c)
		}
	}
	h.effects = append(h.effects, out)
}

// place puts the ad of in into one cell.
func (h *Holder) place(now time.Time, in Publish, p Placement) Placed {
	refused := Placed{Verdict: VerdictRefused}
	id, key, ok := h.schema.locate(in.Ad, p)
	until := earlier(now.Add(h.cfg.Lease), in.Ad.Ad.ExpiresAt())
	if !ok || !now.Before(until) || h.newest(in.Ad).Ad.Seq > in.Ad.Ad.Seq {
		return refused
	}
	c := h.cells[id]
	if c == nil {
		if h.full(in) {
			return refused
		}
		c = h.make(now, id)
		h.want(now, id)
	}
	at, held := c.find(in.Ad.hash)
	next := c.next(key)
	if c.inner {
		if id.Prefix.table() {
			_, slot := PrefixOf(key, next).Parent()
			c.widenChild(h.schema, slot, in.Ad.Ad, now.Add(h.cfg.summaryLife()))
		}
		if !c.dirty && (!c.told.Covers(c.summaryOf(h.schema, in.Ad)) || c.lags(h.schema)) {
			h.widen(c)
		}
		if p.Settled && (!id.Prefix.table() || !c.sampled(in.Ad.hash, SampleAds(h.cfg.LeafAds))) {
			if held {
				c.leases[at].until = earlier(c.leases[at].until, now.Add(lingering))
			}
			return c.sendDown(p, key, next)
		}
	}
	if !held && (h.full(in) || len(c.leases) >= maxOverflow*h.cfg.LeafAds) {
		if c.inner {
			return c.sendDown(p, key, next)
		}
		return refused
	}
	h.put(c, lease{ad: in.Ad, from: in.From, until: until, settled: p.Settled})
	if !c.inner && id.Tree != "" && len(c.leases)+c.below() > h.cfg.LeafAds && id.Prefix.Level < maxLevel {
		h.split(now, c)
	}
	out := c.sendDown(p, key, next)
	out.Verdict, out.Held = c.verdict(now), true
	if out.Verdict == VerdictRise {
		out.Next = c.riseTo
	}
	return out
}

// sendDown tells a publisher where to go from an inner cell.
func (c *cell) sendDown(p Placement, key Key, next int) Placed {
	return Placed{Verdict: VerdictInner, Next: uint8(next), Below: c.holdersBelow(p, key, next)}
}

// holdersBelow returns the holders of the cell at a level below on the way to
// key, the closest Replicas of those that told of themselves, if a placement
// asks for them.
func (c *cell) holdersBelow(p Placement, key Key, level int) []dht.Contact {
	if !p.Hint || !c.inner || !c.id.Prefix.table() {
		return nil
	}
	child := CellID{Tree: c.id.Tree, Prefix: PrefixOf(key, level)}
	_, slot := child.Prefix.Parent()
	var below []dht.Contact
	for _, e := range c.children[slot] {
		if !e.holder.ID.IsZero() {
			below = append(below, e.holder)
		}
	}
	return closest(child, below)
}

// closest returns the Replicas contacts that are nearest to a cell, or all if
// there are fewer. It changes the order of contacts.
func closest(cell CellID, contacts []dht.Contact) []dht.Contact {
	at := cell.Key().Position()
	slices.SortFunc(contacts, func(a, b dht.Contact) int { return at.Compare(a.ID.Position(), b.ID.Position()) })
	return contacts[:min(len(contacts), Replicas)]
}

// summaryOf returns the summary of one ad.
func (c *cell) summaryOf(s *Schema, ad *Signed) Summary {
	m := s.NewSummary()
	s.add(&m, ad.Ad)
	return m
}

func (c *cell) verdict(now time.Time) Verdict {
	switch {
	case c.inner:
		return VerdictInner
	case now.Before(c.rise):
		return VerdictRise
	default:
		return VerdictLeaf
	}
}

// locate returns the cell that a placement of ad names, and the ad's key there.
func (s *Schema) locate(ad *Signed, p Placement) (CellID, Key, bool) {
	if p.Tree == "" {
		return RecordOf(ad.Ad.Server), Key{}, p.Level == 0
	}
	t, ok := s.Tree(p.Tree)
	if !ok || p.Level > maxLevel {
		return CellID{}, Key{}, false
	}
	key := s.KeyOf(t, ad)
	return CellID{Tree: p.Tree, Prefix: PrefixOf(key, int(p.Level))}, key, true
}

// split makes a leaf an inner cell. Its ads stay until their publishers moved
// them down; until then they are found here, and the children are widened by
// them when that happens.
func (h *Holder) split(now time.Time, c *cell) {
	c.inner, c.changed, c.rise = true, now, time.Time{}
}

func (h *Holder) withdraw(in Withdraw) {
	hash := HashOf(in.Server)
	for _, id := range in.Cells[:min(len(in.Cells), maxPlaces)] {
		c := h.cells[id]
		if c == nil {
			continue
		}
		i, held := c.find(hash)
		if !held {
			continue
		}
		l := c.leases[i]
		if (in.From == in.Server || in.From == l.from) && l.ad.Ad.Seq <= in.Seq {
			h.drop(c, hash)
		}
	}
}

// tick ends leases, merges what became small and sends summaries up.
func (h *Holder) tick(now time.Time) {
	kept, standing := h.order[:0], 0
	for _, id := range h.order {
		c := h.cells[id]
		for i, l := range c.leases {
			if !now.Before(l.until) {
				h.release(l)
			}
			if l.ticks < math.MaxUint8 {
				c.leases[i].ticks++
			}
		}
		c.expire(now)
		if c.empty() {
			h.farewell(c)
			h.warnFed(now, c)
			h.scatter(c)
			delete(h.cells, id)
			continue
		}
		kept = append(kept, id)
		if c.inner && now.Sub(c.changed) >= 2*h.cfg.summaryLife() && c.total() <= h.cfg.LeafAds/mergeShare {
			c.inner, c.changed = false, now
		}
		standing += c.toldOf()
		h.warm(now, c)
		h.feedAll(now, c)
		h.gather(now, c)
		h.report(now, c)
	}
	clear(h.order[len(kept):])
	h.order, h.standing = kept, standing
	h.rate += (float64(h.stats.Asked-h.asked) - h.rate) / heatTicks
	h.asked = h.stats.Asked
	h.expireReplicas(now)
}

// total estimates how many ads the cell has, itself and below: those of an
// inner cell are its sample and counted below as well.
func (c *cell) total() int { return max(len(c.leases), c.below()) }

// report sends the cell's summary up when the parent knows too little or when
// it is time.
func (h *Holder) report(now time.Time, c *cell) {
	if c.id.Tree == "" || c.id.Prefix.Level == 0 {
		return
	}
	due := c.toldAt.IsZero() || now.Sub(c.toldAt) >= h.cfg.PushEvery
	if len(c.toldBelow) > 0 && h.standIns(now, c) == nil {
		c.dirty = true // it is not to be passed over any more
	}
	if !due && !c.dirty {
		return
	}
	c.epoch++
	c.told, c.toldBelow, c.toldAt, c.dirty = c.summary(h.schema), h.standIns(now, c), now, false
	h.sendPush(c)
}

// farewell tells the parent that the cell is gone.
func (h *Holder) farewell(c *cell) {
	if c.id.Tree == "" || c.id.Prefix.Level == 0 || c.toldAt.IsZero() {
		return
	}
	c.epoch++
	c.told, c.toldBelow = h.schema.NewSummary(), nil
	h.sendPush(c)
}

func (h *Holder) sendPush(c *cell) {
	parent, _ := c.id.Prefix.Parent()
	h.effects = append(h.effects, SendPush{
		Parent: CellID{Tree: c.id.Tree, Prefix: parent}, Child: c.id, Summary: c.told, Epoch: c.epoch, Mirrors: c.tell(), Below: c.toldBelow,
	})
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// check returns an error if an invariant does not hold.
func (h *Holder) check() error {
	leases := 0
	for _, id := range h.order {
		c := h.cells[id]
		if c == nil {
			return fmt.Errorf("cell %s is listed but gone", id)
		}
		if err := c.check(maxOverflow * h.cfg.LeafAds); err != nil {
			return err
		}
		leases += len(c.leases)
	}
	if leases != h.leases || len(h.order) != len(h.cells) {
		return fmt.Errorf("%d leases counted as %d, %d cells listed of %d", leases, h.leases, len(h.order), len(h.cells))
	}
	return nil
}
