package search

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// CounterConfig configures a Counter. The zero value is usable.
type CounterConfig struct {
	// Error is how far the bounds may lie from the number, as a part of it, for
	// the Counter to stop; 0 means a tenth. Less costs more messages: the error
	// goes down with their square root, until the cells in question are read
	// through.
	Error float64
	// Budget bounds the messages to holders; 0 means 10, and 2,000 where an
	// Error is asked for.
	Budget int
	// InFlight bounds the cells that are read at once at first; 0 means 4. More
	// is faster, and later reads know less of what earlier ones said. A count
	// that turns out to be long reads up to 32 at once.
	InFlight int
	// Hedge is how long a holder may take before another one is asked too;
	// 0 means 150 ms.
	Hedge time.Duration
	// Known, Sample, Guides, Seed and Near are as for a Seeker. A root in Known
	// is not asked where Sample is there too.
	Known  map[CellID]Glimpse
	Sample Sample
	Guides []dht.Contact
	Seed   uint64
	Near   func(dht.PeerID) time.Duration
}

func (c CounterConfig) withDefaults() CounterConfig {
	if c.Error > 0 {
		c.Budget = cmp.Or(c.Budget, 2000)
	}
	c.Error = cmp.Or(c.Error, 0.1)
	c.Budget = cmp.Or(c.Budget, 10)
	c.InFlight = cmp.Or(c.InFlight, 4)
	c.Hedge = cmp.Or(c.Hedge, 150*time.Millisecond)
	return c
}

// A Counter estimates how many ads match, from few cells of one tree: the
// tables tell how many ads lie where, their samples which part of them matches,
// and leaves have the rest. It reads next what narrows the bounds most. It
// takes the inputs of a Seeker and wants the same done; its Finish has no
// results. It is a machine for one goroutine.
//
// Samples of cells of different trees are not intersected: as their members
// are whole ads, the whole condition is evaluated on each, and whichever
// sample has more of the range knows all that the intersection would.
type Counter struct {
	schema    *Schema
	cfg       CounterConfig
	query     Query
	conjuncts []Predicate

	trees   []string // whose roots are asked first
	tree    string   // that is read; empty until it is chosen
	visits  map[CellID]*visit
	list    []*visit // in the order of their making
	surveys surveys
	tables  map[CellID]*CellReply // what the inner ones of them are of
	doubted map[CellID]*doubted   // what may not be so, for want of better
	outline *outline
	late    map[string]bool // trees whose roots were waited for in vain
	sample  Sample
	seen    []Glimpse
	guides  guides

	requests, lookups int
	waiting           int // lookups and asks under way
	finished, expired bool
	young             bool // a cell was that cannot know yet what is below
	effects           []SeekerEffect
}

// NewCounter returns the machine that counts what satisfies where; nil is
// satisfied by all. The error is Schema.Check's.
func NewCounter(schema *Schema, where Predicate, cfg CounterConfig) (*Counter, error) {
	q := Query{Where: where}
	if err := schema.Check(q); err != nil {
		return nil, err
	}
	return &Counter{
		schema: schema, cfg: cfg.withDefaults(), query: q, conjuncts: Conjuncts(where),
		visits: make(map[CellID]*visit), surveys: make(surveys), tables: make(map[CellID]*CellReply), doubted: make(map[CellID]*doubted),
		late: make(map[string]bool),
	}, nil
}

// Step takes in what happened and returns what to do. The caller owns the
// effects.
func (c *Counter) Step(now time.Time, input SeekerInput) []SeekerEffect {
	c.effects = nil
	if c.finished {
		return nil
	}
	switch in := input.(type) {
	case Start:
		c.start(now)
	case Located:
		if v := c.visits[in.Cell]; v != nil && v.locate == locateAsked {
			c.waiting--
			v.locate = locateDone
			v.meet(in.Holders, c.cfg.Near)
		}
	case Guided:
		c.listen(in)
	case Answered:
		c.answered(now, in)
	case Failed:
		if v := c.visits[in.Cell]; v != nil && v.settle(in.From, askFailed) {
			c.waiting--
		}
	case Expire:
		c.expired = true
	case SeekerTick, Verified:
	}
	c.advance(now)
	return c.effects
}

// firstRoots is how many roots are asked at once by who knows nothing: any of
// them has the sample, and one may be slow.
const firstRoots = 1

func (c *Counter) start(now time.Time) {
	c.recall()
	c.trees = c.schema.candidates(c.query)
	c.trees = c.trees[:min(len(c.trees), firstRoots)]
	if c.outline != nil {
		c.trees = []string{c.best()}
	}
	unknown := false
	for _, t := range c.trees {
		unknown = unknown || c.surveys[Root(t)] == nil && len(c.visit(Root(t)).contacts) == 0
	}
	if !unknown {
		return
	}
	asked := c.guides.consult(c.schema, c.cfg.Guides, c.cfg.Seed, now.Add(c.cfg.Hedge))
	c.requests += len(asked)
	c.waiting += len(asked)
	c.effects = append(c.effects, asked...)
}

// recall takes in what earlier queries saw of the roots.
func (c *Counter) recall() {
	if c.outline = c.schema.outline(c.query, c.cfg.Sample); c.outline == nil {
		return
	}
	for _, t := range c.schema.trees {
		root := Root(t.Name)
		r := CellReply{Known: true, Inner: true, Children: c.cfg.Known[root].Children, Sample: c.cfg.Sample.Ads}
		if v := c.visit(root); len(r.Children) > 0 && !c.surprising(v, &r) {
			c.learn(v, &r)
		}
	}
}

func (c *Counter) listen(in Guided) {
	if !c.guides.heard(in.From) {
		return
	}
	c.waiting--
	for _, g := range in.Glimpses[:min(len(in.Glimpses), maxGlimpses)] {
		if _, ok := c.schema.Tree(g.Cell.Tree); ok && g.Cell.Prefix.Level == 0 {
			c.visit(g.Cell).meet(g.Holders, c.cfg.Near)
		}
	}
}

// visit makes the visit of a cell, or returns the one there is.
func (c *Counter) visit(cell CellID) *visit {
	v := c.visits[cell]
	if v == nil {
		v = &visit{cell: cell, index: len(c.list), asks: make(map[dht.PeerID]*ask)}
		c.visits[cell] = v
		c.list = append(c.list, v)
		v.meet(c.cfg.Known[cell].Holders, c.cfg.Near)
	}
	return v
}

func (c *Counter) answered(now time.Time, in Answered) {
	v := c.visits[in.Cell]
	if v == nil || !v.settle(in.From, askAnswered) {
		return
	}
	c.waiting--
	r := in.Reply
	r.Children = properChildren(v.cell, r.Children)
	if !r.Known || c.surveys[v.cell] != nil {
		return // another holder has it, or was faster
	}
	if r.Inner && !r.table(v.cell) && c.divide(v.cell, r) {
		return
	}
	if strange := c.surprising(v, r); strange || r.Age < settling {
		c.doubt(v, r, strange)
		return
	}
	c.learn(v, r)
	if whole(v.cell) && len(r.Children) > 0 {
		c.seen = see(c.seen, c.cfg.Known, glimpse(now, v, in.From, r))
	}
	if c.outline == nil && len(r.Sample) > 0 && v.cell.Prefix.Level == 0 {
		c.sample = Sample{Ads: r.Sample, Total: max(int(r.count(v.cell)), int(r.Total))}
		c.outline = c.schema.outline(c.query, c.sample)
	}
}

// divide takes a cell out of the table above that was divided there and is no
// more than a memory: its halves have what it had.
func (c *Counter) divide(cell CellID, r *CellReply) bool {
	above := c.visits[cell].above
	if above == nil || c.tables[above.cell] == nil {
		return false
	}
	prefix, without := above.cell.Prefix, *c.tables[above.cell]
	slot := prefix.slotOf(cell.Prefix)
	without.Children = slices.DeleteFunc(slices.Clone(without.Children), func(child Child) bool { return child.Index == slot })
	left := uint32(0)
	for _, child := range disjoint(without.Children) {
		if cell.Prefix.Contains(prefix.Child(child.Index).Key) {
			left += child.Summary.Count
		}
	}
	if left < r.Total {
		return false // the halves have not got them all yet
	}
	c.learn(above, &without)
	return true
}

// learn takes in what a holder said of a cell.
func (c *Counter) learn(v *visit, r *CellReply) *survey {
	if len(r.Sample) > maxSampled {
		r.Sample = r.Sample[:maxSampled]
	}
	own := c.schema.survey(c.query, c.conjuncts, v.cell, r)
	if own.inner {
		c.tables[v.cell] = r
	} else {
		own.matched = min(own.matched, c.evidence(r))
	}
	c.surveys[v.cell] = own
	for _, child := range r.Children {
		below := CellID{Tree: v.cell.Tree, Prefix: v.cell.Prefix.Child(child.Index)}
		if slices.ContainsFunc(own.branches, func(b branch) bool { return b.cell == below }) {
			visit := c.visit(below)
			visit.summary, visit.above = child.Summary, v
			visit.meet(child.Holders, c.cfg.Near)
		}
	}
	return own
}

// advance emits whatever is needed next, and finishes when nothing is.
func (c *Counter) advance(now time.Time) {
	c.believe(false)
	c.plan(now)
	e, open, known := c.estimate()
	if c.expired || known && e.Error() <= c.cfg.Error {
		c.finish(e, known)
		return
	}
	c.read(now, open)
	if c.waiting == 0 {
		c.believe(true)
		e, _, known = c.estimate()
		c.finish(e, known)
	}
}

// plan chooses the tree once there is a sample: the one that takes the fewest
// reads to count, if its root answers in time.
func (c *Counter) plan(now time.Time) {
	if c.tree != "" {
		return
	}
	if c.outline == nil {
		c.small()
		return
	}
	for range c.schema.trees {
		tree := c.best()
		if tree == "" {
			c.tree = c.anyRoot()
			return
		}
		v := c.visit(Root(tree))
		if c.surveys[v.cell] != nil {
			c.tree = tree
			return
		}
		if v.lastAsk.IsZero() && !c.dead(v) {
			c.trees = append(c.trees, tree)
			return
		}
		if due := v.lastAsk.Add(2 * v.patience); !c.dead(v) && now.Before(due) {
			c.effects = append(c.effects, Wake{At: due})
			return
		}
		c.late[tree] = true
	}
}

// small chooses the tree where no root has a sample: all ads fit into one
// cell, which was read, or no candidate answers and another one must do.
func (c *Counter) small() {
	if c.tree = c.anyRoot(); c.tree != "" {
		return
	}
	for _, t := range c.trees {
		if !c.dead(c.visit(Root(t))) {
			return
		}
	}
	for _, t := range c.schema.trees {
		if !slices.Contains(c.trees, t.Name) {
			c.trees = append(c.trees, t.Name)
			return
		}
	}
}

// anyRoot returns a tree whose root was read.
func (c *Counter) anyRoot() string {
	for _, t := range c.schema.trees {
		if c.surveys[Root(t.Name)] != nil {
			return t.Name
		}
	}
	return ""
}

// best returns the tree that takes the fewest reads among those that are not
// late.
func (c *Counter) best() (tree string) {
	least := math.Inf(1)
	for _, t := range c.schema.trees {
		reads := c.reads(t)
		if c.surveys[Root(t.Name)] == nil {
			reads += rootCost
		}
		if reads < least && !c.late[t.Name] {
			tree, least = t.Name, reads
		}
	}
	return tree
}

// reads estimates how many cells of a tree are read until the number is exact.
func (c *Counter) reads(t Tree) float64 {
	if !c.clean(t) {
		p := c.outline.unseen()
		if v := c.surveys[Root(t.Name)]; v != nil {
			p = v.prospect()
		}
		return c.outline.estimate(t, p)
	}
	// Of each table on the way down, the cells at the ends of the range.
	return 2 * max(1, math.Log2(c.outline.total/LeafAds)/tableBits)
}

// clean tells whether the place of a cell in the tree, but for those at the
// ends of a range, tells whether its ads match.
func (c *Counter) clean(t Tree) bool {
	if len(t.Dims) != 1 {
		return false
	}
	for _, p := range c.conjuncts {
		d, _ := c.schema.Dimension(dimOf(p))
		if d.Name != t.Dims[0] || d.Kind != KindNumber && d.Kind != KindVersion && d.Kind != KindEnum {
			return false
		}
	}
	return len(c.conjuncts) > 0
}

// estimate returns what is known of the number, and the cells that may be read
// to know more; known is false where nothing is.
func (c *Counter) estimate() (e Estimate, open []branch, known bool) {
	root := Root(cmp.Or(c.tree, c.anyRoot()))
	if c.surveys[root] == nil {
		return e, nil, false
	}
	e, open = c.surveys.estimate(root)
	return e, open, true
}

// read asks holders of roots until the tree is chosen, then of the cells that
// narrow the bounds most.
func (c *Counter) read(now time.Time, open []branch) {
	var next []*visit
	if c.tree == "" {
		for _, t := range c.trees {
			next = append(next, c.visit(Root(t)))
		}
	} else {
		for _, b := range open {
			next = append(next, c.visit(b.cell))
		}
	}
	busy := 0
	for _, v := range next {
		if v.started && c.surveys[v.cell] == nil && !c.dead(v) {
			busy++
		}
	}
	most := max(c.cfg.InFlight, min(len(c.surveys)/2, maxInFlight))
	var wake time.Time
	for _, v := range next {
		if c.surveys[v.cell] != nil || c.dead(v) || !v.started && busy >= most {
			continue
		}
		if !v.started {
			v.started = true
			busy++
		}
		if at := c.ask(now, v); !at.IsZero() && (wake.IsZero() || at.Before(wake)) {
			wake = at
		}
	}
	if !wake.IsZero() {
		c.effects = append(c.effects, Wake{At: wake})
	}
}

// ask asks a holder of a cell, and another one where that one is slow or knew
// nothing. It returns when to look again, if an answer is awaited.
func (c *Counter) ask(now time.Time, v *visit) (wake time.Time) {
	if len(v.contacts) == 0 && c.guides.speaking(now) {
		return c.guides.until
	}
	if due := v.lastAsk.Add(v.patience); v.pending > 0 && now.Before(due) {
		return due
	}
	to, ok := v.next()
	if !ok {
		if v.pending == 0 && v.locate == locateNot {
			v.locate = locateAsked
			c.waiting++
			c.lookups++
			c.effects = append(c.effects, Locate{v.cell})
		}
		return time.Time{}
	}
	if c.requests >= c.cfg.Budget {
		return time.Time{}
	}
	v.asks[to.ID] = &ask{}
	v.pending++
	v.lastAsk, v.patience = now, patience(c.cfg.Hedge, c.cfg.Near, to.ID)
	c.requests++
	c.waiting++
	c.effects = append(c.effects, Ask{To: to, Query: CellQuery{
		Cell: v.cell, Query: Query{Where: c.query.Where, Limit: maxShown}, Count: true, Whole: whole(v.cell),
	}})
	return v.lastAsk.Add(v.patience)
}

// dead tells whether no holder of the cell is left to be asked.
func (c *Counter) dead(v *visit) bool {
	_, more := v.next()
	return !more && v.locate == locateDone && v.pending == 0 && c.surveys[v.cell] == nil
}

// finish emits the answer.
func (c *Counter) finish(e Estimate, known bool) {
	c.finished = true
	a := Answer{Requests: c.requests, Lookups: c.lookups, Tree: c.tree, Matches: e, Complete: known && e.Exact() && !c.young, Completeness: 1}
	switch {
	case !known:
		a.Matches.High = math.Inf(1)
		a.Completeness, a.Incomplete = 0, "nobody who holds a root answers"
	case e.Exact() && c.young:
		a.Incomplete = "some holders have not had their cells for long; ask again in two minutes"
	case !a.Complete:
		a.Completeness = 1 - min(1, e.Error())
		a.Incomplete = "not every cell was read; ask for a smaller error or raise the budget"
	}
	for i, p := range c.conjuncts {
		excluded := 0
		if c.outline != nil {
			excluded = int(math.Round(c.outline.total * (1 - c.outline.alone(c.outline.sets[i]))))
		}
		a.Conditions = append(a.Conditions, Exclusion{p, excluded})
	}
	slices.SortStableFunc(a.Conditions, func(x, y Exclusion) int { return cmp.Compare(y.Count, x.Count) })
	a.Plan = c.planned()
	c.effects = append(c.effects, Finish{Answer: a, Seen: c.seen, Sample: c.sample})
}

// planned returns what was read, and what would have had to be for an exact
// number.
func (c *Counter) planned() (p Plan) {
	for _, v := range c.list {
		if own := c.surveys[v.cell]; own != nil && !v.lastAsk.IsZero() && v.cell.Tree == c.tree {
			p.Cells++
			if !own.inner {
				p.Leaves++
			}
		}
	}
	if c.outline != nil {
		p.Trees = c.schema.costs(c.reads)
	}
	return p
}
