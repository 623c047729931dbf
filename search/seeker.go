package search

import (
	"cmp"
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// SeekerConfig configures a Seeker. The zero value is usable.
type SeekerConfig struct {
	// Replicas is how many holders of each cell are asked; 0 means 2. One
	// more outvotes one more holder that lacks ads, and costs a request a cell.
	// All are asked where the answers differ or a cell is young.
	Replicas int
	// InFlight bounds the cells that are read at once; 0 means 8, and 32 where
	// everything is wanted.
	InFlight int
	// Budget bounds the messages to holders and servers; 0 means 2,000.
	Budget int
	// Hedge is how long a holder may take before another one is asked too;
	// 0 means 150 ms.
	Hedge time.Duration
	// Young is the age below which a copy of a cell is not trusted to be
	// complete; 0 means 7 min, after which every publisher has looked its
	// holders up anew and every child has told of itself.
	Young time.Duration
	// Verify asks every server in the results for its current ad.
	Verify bool
	// Explain collects the servers that were excluded.
	Explain bool
	// Known is what earlier queries saw of inner cells. It decides which tree
	// is read and lets the cells below be asked at once; where the answer
	// depends on it, the cells themselves are asked all the same. May be nil.
	Known map[CellID]Glimpse
	// Sample is what an earlier query saw of all ads. It decides which tree is
	// read. Zero: this query asks a root for it.
	Sample Sample
	// Guides are participants nearby, of whom two are asked who holds the roots
	// before they are looked up. May be nil.
	Guides []dht.Contact
	// Seed spreads queries over guides, and over the mirrors of cells that are
	// asked for much: it should be drawn at random for each.
	Seed uint64
	// Near estimates how far a participant is, to ask near holders first.
	// May be nil.
	Near func(dht.PeerID) time.Duration
}

func (c SeekerConfig) withDefaults(limit int) SeekerConfig {
	if limit == 0 {
		c.InFlight = cmp.Or(c.InFlight, 32)
	}
	c.Replicas = cmp.Or(c.Replicas, 2)
	c.InFlight = cmp.Or(c.InFlight, 8)
	c.Budget = cmp.Or(c.Budget, 2000)
	c.Hedge = cmp.Or(c.Hedge, 150*time.Millisecond)
	c.Young = cmp.Or(c.Young, 7*time.Minute)
	return c
}

// A SeekerInput is something that happens to a Seeker: Start, Located,
// Answered, Failed, Verified, SeekerTick or Expire.
//
//sumtype:decl
type SeekerInput interface{ seekerInput() }

// Start begins the query.
type Start struct{}

// Answered is a holder's reply to an Ask.
type Answered struct {
	Cell  CellID
	From  dht.PeerID
	Reply *CellReply
}

// Failed says that a holder did not answer an Ask.
type Failed struct {
	Cell CellID
	From dht.PeerID
}

// Guided answers a Consult; no glimpses where it failed.
type Guided struct {
	From     dht.PeerID
	Glimpses []Glimpse
}

// Verified answers a Verify: the server's current ad, nil where it has none or
// cannot be reached.
type Verified struct {
	Server dht.PeerID
	Signed *Signed
}

// SeekerTick lets time pass; due when a Wake says so.
type SeekerTick struct{}

// Expire ends the query with what was found.
type Expire struct{}

func (Start) seekerInput()      {}
func (Located) seekerInput()    {}
func (Guided) seekerInput()     {}
func (Answered) seekerInput()   {}
func (Failed) seekerInput()     {}
func (Verified) seekerInput()   {}
func (SeekerTick) seekerInput() {}
func (Expire) seekerInput()     {}

// A SeekerEffect is what a Seeker wants done: Consult, Locate, Ask, Verify,
// Wake, Hit or Finish. After Finish it wants nothing more.
//
//sumtype:decl
type SeekerEffect interface{ seekerEffect() }

// Consult wants a participant asked what it knows of cells.
type Consult struct {
	To    dht.Contact
	Cells []CellID
}

// Ask wants a cell asked of a holder.
type Ask struct {
	To    dht.Contact
	Query CellQuery
}

// Verify wants a server asked for its current ad.
type Verify struct{ Server dht.Contact }

// Wake wants a SeekerTick at At.
type Wake struct{ At time.Time }

// A Hit is one result of a query that wants everything, as soon as it is certain:
// confirmed by its server where that is asked for. The Answer has them all again.
type Hit struct{ Result }

// Finish is the answer, and what was seen of inner cells on the way, for
// SeekerConfig.Known of later queries.
type Finish struct {
	Answer Answer
	Seen   []Glimpse
	Sample Sample // for SeekerConfig.Sample; zero where none was asked for
}

func (Consult) seekerEffect() {}
func (Locate) seekerEffect()  {}
func (Ask) seekerEffect()     {}
func (Verify) seekerEffect()  {}
func (Wake) seekerEffect()    {}
func (Hit) seekerEffect()     {}
func (Finish) seekerEffect()  {}

// A candidate is a server that matches as far as is known.
type candidate struct {
	ad       *Signed
	standing standing
	verified bool
	told     bool
}

// A Seeker answers one query. It is a machine for one goroutine.
type Seeker struct {
	schema    *Schema
	cfg       SeekerConfig
	query     Query
	order     order
	conjuncts []Predicate

	trees    []string // candidates while no tree is chosen
	tree     string
	visits   map[CellID]*visit
	list     []*visit // in the order of their making
	ranked   []*visit // in that of reading, unless unranked
	unranked bool
	found    map[dht.PeerID]*candidate
	active   []*candidate // not dropped, best first
	stale    bool         // active must be sorted again
	surveys  surveys
	misfits  map[dht.PeerID]*Signed
	gone     map[dht.PeerID]*Signed
	asking   map[dht.PeerID]bool      // servers that were asked for their current ad
	hints    map[CellID][]dht.Contact // holders of roots, as guides know them
	hinted   map[CellID]mirrored      // and their mirrors
	outline  *outline                 // nil without a sample
	late     map[string]bool          // trees whose roots were waited for in vain
	turned   bool                     // to another tree than was chosen first
	lossy    []string                 // trees that cells are lost of
	missed   bool                     // somebody did not answer, or not have a cell
	doubt    bool                     // something was read since the tree was chosen
	sample   Sample
	seen     []Glimpse
	guides   guides

	eager bool // everything that matches will be needed

	requests, lookups int
	waiting           int // lookups, asks and verifications under way
	again             bool
	finished          bool
	expired           bool
	effects           []SeekerEffect
}

// NewSeeker returns the machine for one query; the error is Schema.Check's.
func NewSeeker(schema *Schema, q Query, cfg SeekerConfig) (*Seeker, error) {
	if err := schema.Check(q); err != nil {
		return nil, err
	}
	s := &Seeker{
		schema: schema, cfg: cfg.withDefaults(q.Limit), query: q, conjuncts: Conjuncts(q.Where),
		visits: make(map[CellID]*visit), found: make(map[dht.PeerID]*candidate),
		misfits: make(map[dht.PeerID]*Signed), gone: make(map[dht.PeerID]*Signed), asking: make(map[dht.PeerID]bool),
		surveys: make(surveys), hints: make(map[CellID][]dht.Contact), hinted: make(map[CellID]mirrored), late: make(map[string]bool),
	}
	s.order = schema.order(&s.query)
	return s, nil
}

// Step takes in what happened and returns what to do. The caller owns the
// effects.
func (s *Seeker) Step(now time.Time, input SeekerInput) []SeekerEffect {
	s.effects = nil
	if s.finished {
		return nil
	}
	switch in := input.(type) {
	case Start:
		s.start(now)
	case Located:
		s.located(in)
	case Guided:
		s.listen(in)
	case Answered:
		s.answered(now, in)
	case Failed:
		if v := s.visits[in.Cell]; v != nil && v.fail(in.From) {
			s.waiting--
			s.missed = true
		}
	case Verified:
		s.verified(in)
	case SeekerTick:
	case Expire:
		s.expired = true
	}
	s.advance(now)
	return s.effects
}

func (s *Seeker) start(now time.Time) {
	for _, g := range s.cfg.Known {
		s.guides.hot = s.guides.hot || g.busy()
	}
	if s.outline = s.schema.outline(s.query, s.cfg.Sample); s.outline != nil {
		s.trees = []string{s.best()}
	} else {
		s.trees = s.schema.candidates(s.query)
	}
	unknown := false
	for _, t := range s.trees {
		unknown = len(s.visit(Root(t)).contacts) == 0 || unknown
	}
	if unknown {
		s.consult(now)
	}
}

// consult asks the guides who holds the roots, once.
func (s *Seeker) consult(now time.Time) {
	if s.guides.awaited != nil {
		return
	}
	asked := s.guides.consult(s.schema, s.cfg.Guides, s.cfg.Seed, now.Add(s.cfg.Hedge))
	s.requests += len(asked)
	s.waiting += len(asked)
	s.effects = append(s.effects, asked...)
}

// listen takes in what a guide knows: who holds the roots.
func (s *Seeker) listen(in Guided) {
	if !s.guides.heard(in.From) {
		return
	}
	s.waiting--
	for _, g := range in.Glimpses[:min(len(in.Glimpses), maxGlimpses)] {
		if g.Cell.Prefix.Level > 0 {
			continue
		}
		s.hints[g.Cell] = append(s.hints[g.Cell], g.Holders[:min(len(g.Holders), maxEntries)]...)
		hinted := s.hinted[g.Cell]
		hinted.meet(g.Mirrors, in.From)
		s.hinted[g.Cell] = hinted
		s.guides.hot = s.guides.hot || g.busy()
		if v := s.visits[g.Cell]; v != nil {
			v.meet(g.Holders, s.cfg.Near)
			v.mirrored.meet(g.Mirrors, in.From)
		}
	}
}

// visit makes the visit of a cell, or returns the one there is.
func (s *Seeker) visit(cell CellID) *visit {
	v := s.visits[cell]
	if v == nil {
		v = &visit{cell: cell, index: len(s.list), summary: s.schema.NewSummary(), bound: -1e300, asks: make(map[dht.PeerID]*ask)}
		v.mirrored.least = leastMirrors(cell)
		if cell.Prefix.Level > 0 {
			v.bound = 1e300
		}
		s.visits[cell] = v
		s.list, s.unranked = append(s.list, v), true
		v.meet(s.hints[cell], s.cfg.Near)
		v.mirrored.sources, v.mirrored.all = slices.Clone(s.hinted[cell].sources), s.hinted[cell].all
		if g, ok := s.cfg.Known[cell]; ok && (s.tree == "" || s.tree == cell.Tree) {
			v.meet(g.Holders, s.cfg.Near)
			v.mirrored.meet(g.Mirrors, dht.PeerID{})
			v.glimpsed, v.children = len(g.Children) > 0, g.Children
			s.descend(v, dht.PeerID{}, g.Children)
			s.recall(v, g.Told)
		}
	}
	return v
}

func (s *Seeker) located(in Located) {
	v := s.visits[in.Cell]
	if v == nil || v.locate != locateAsked {
		return
	}
	s.waiting--
	v.locate = locateDone
	v.meet(in.Holders, s.cfg.Near)
}

func (s *Seeker) answered(now time.Time, in Answered) {
	v := s.visits[in.Cell]
	if v == nil {
		return
	}
	if _, mirror := v.mirrored.recruiter(in.From); mirror && !in.Reply.Known {
		if v.fail(in.From) { // its copy ended
			s.waiting--
		}
		return
	}
	if !v.settle(in.From, askAnswered) {
		return
	}
	s.waiting--
	r := in.Reply
	r.Children, r.Below = properChildren(v.cell, r.Children), properChildren(v.cell, r.Below)
	v.mirrored.hear(in.From, r.Mirrors)
	v.take(in.From, r, s.cfg.Young)
	s.doubt, s.missed = true, s.missed || !r.Known
	a := v.asks[in.From]
	a.after = nil
	if r.More && len(r.Ads) > 0 {
		a.after = s.order.cursor(r.Ads[len(r.Ads)-1])
		v.cut++
	}
	if have := s.surveys[v.cell]; r.Known && (have == nil || have.total < float64(r.Total)) {
		s.surveys[v.cell] = s.schema.survey(s.query, s.conjuncts, v.cell, r)
	}
	for _, ad := range r.Ads {
		s.consider(ad)
	}
	for _, ad := range r.ExcludedAds {
		s.misfit(ad)
	}
	if len(r.Children) > len(v.children) {
		v.children = r.Children
	}
	if s.outline == nil && len(r.Sample) > 0 && v.cell.Prefix.Level == 0 {
		s.sample = Sample{Ads: r.Sample, Total: max(v.count(), int(r.Total))}
		s.outline = s.schema.outline(s.query, s.sample)
	}
	if v.cell.Tree == "" {
		return // a record has no children, whatever its holder says
	}
	teller := in.From
	if holder, mirror := v.mirrored.recruiter(in.From); mirror {
		teller = holder
	}
	if whole(v.cell) && r.Known && len(r.Children) > 0 {
		s.seen = see(s.seen, s.cfg.Known, glimpse(now, v, teller, r))
	}
	s.descend(v, teller, r.toRead())
}

// descend takes in what one holder of a cell says of its children. It answers
// for the mirrors of theirs that it names, whichever holders it says recruited
// them.
func (s *Seeker) descend(v *visit, teller dht.PeerID, children []Child) {
	for _, c := range children {
		if i := s.schema.pruner(s.conjuncts, c.Summary); i >= 0 {
			v.prune(i, c, len(s.conjuncts))
			continue
		}
		cell := CellID{Tree: v.cell.Tree, Prefix: v.cell.Prefix.Child(c.Index)}
		if i := s.schema.missed(cell, s.conjuncts); i >= 0 {
			v.prune(i, c, len(s.conjuncts))
			continue
		}
		child := s.visit(cell)
		child.above = v
		if len(c.Holders) > 0 { // else only publishers on their way down tell of it
			child.name(teller)
		}
		child.summary.unite(c.Summary)
		child.summary.Count = max(child.summary.Count, c.Summary.Count)
		child.bound = s.order.bound(child.summary)
		if b, ok := s.order.keyBound(cell); ok {
			child.bound = max(child.bound, b)
		}
		child.expect, child.chance = s.schema.expect(s.query.Where, child.summary, c)
		s.unranked = true
		child.meet(c.Holders, s.cfg.Near)
		child.mirrored.meet(c.Mirrors, teller)
	}
}

// root returns what a root said.
func (s *Seeker) root(tree string) ([]Child, bool) {
	v := s.visits[Root(tree)]
	if v == nil {
		return nil, false
	}
	return v.children, v.known || v.glimpsed
}

// consider takes in an ad that matches, unless a newer one of its server was
// seen.
func (s *Seeker) consider(ad *Signed) {
	server := ad.Ad.Server
	c := s.found[server]
	if c != nil && (c.verified || c.ad.Ad.Seq >= ad.Ad.Seq) {
		return
	}
	if m := s.misfits[server]; m != nil && m.Ad.Seq >= ad.Ad.Seq || s.gone[server] != nil {
		return
	}
	if !s.schema.Matches(s.query.Where, ad.Ad) {
		s.misfit(ad)
		return
	}
	delete(s.misfits, server)
	if c == nil {
		c = &candidate{}
		s.found[server] = c
		s.active = append(s.active, c)
	}
	c.ad, c.standing = ad, s.order.standing(ad)
	s.stale = true
	if !s.cfg.Verify {
		s.tell(c)
	}
}

// tell gives out a result of a query that wants everything, once.
func (s *Seeker) tell(c *candidate) {
	if s.query.Limit == 0 && !c.told {
		c.told = true
		s.effects = append(s.effects, Hit{Result{Signed: c.ad, Verified: c.verified}})
	}
}

// misfit takes in an ad that does not match.
func (s *Seeker) misfit(ad *Signed) {
	server := ad.Ad.Server
	if c := s.found[server]; c != nil {
		if c.verified || c.ad.Ad.Seq >= ad.Ad.Seq {
			return
		}
		s.drop(server, c)
	}
	if m := s.misfits[server]; m == nil || m.Ad.Seq < ad.Ad.Seq {
		s.misfits[server] = ad
	}
}

func (s *Seeker) drop(server dht.PeerID, c *candidate) {
	delete(s.found, server)
	s.active = slices.DeleteFunc(s.active, func(o *candidate) bool { return o == c })
}

func (s *Seeker) verified(in Verified) {
	if !s.asking[in.Server] {
		return
	}
	s.waiting--
	delete(s.asking, in.Server)
	c := s.found[in.Server]
	if c == nil {
		return
	}
	switch {
	case in.Signed == nil || in.Signed.Ad.Server != in.Server:
		s.drop(in.Server, c)
		s.gone[in.Server] = c.ad
	case !s.schema.Matches(s.query.Where, in.Signed.Ad):
		s.drop(in.Server, c)
		s.misfits[in.Server] = in.Signed
	default:
		c.verified = true
		c.ad, c.standing = in.Signed, s.order.standing(in.Signed)
		s.stale = true
		s.tell(c)
	}
}

// sorted returns the active candidates, best first.
func (s *Seeker) sorted() []*candidate {
	if s.stale {
		s.stale = false
		slices.SortFunc(s.active, func(a, b *candidate) int { return s.order.compare(a.standing, b.standing) })
	}
	return s.active
}
