package search

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// speculation is how many times what is still missing a query without order
// may expect from the cells it reads at once.
const speculation = 2

// scarce is how many times the limit a query without order must expect to
// match, or it asks a second holder of each cell at once: it will have to read
// them all.
const scarce = 2

// advance emits whatever the query needs next, and finishes it when it needs
// nothing more.
func (s *Seeker) advance(now time.Time) {
	if s.expired || s.requests >= s.cfg.Budget && s.waiting == 0 || len(s.active) > MaxFound {
		s.finish(now)
		return
	}
	s.plan(now)
	s.hurry()
	s.read(now)
	if s.lazy() && !s.again && !s.enough() && s.complete() {
		s.again = true // everything was read once and is not enough
		s.read(now)
	}
	if s.detour() {
		s.read(now)
	}
	s.verify()
	if s.waiting == 0 || s.complete() && len(s.asking) == 0 {
		s.finish(now)
	}
}

// complete tells whether every cell that may change the answer was read as often
// as is wanted; answers that are still under way would be one too many.
func (s *Seeker) complete() bool {
	if s.tree == "" && !s.enough() {
		return false
	}
	for _, v := range s.list {
		if s.reads(v) && s.wants(v) && !s.skips(v) && !s.done(v) {
			return false
		}
	}
	return true
}

// reads tells whether a cell is in the tree that was chosen, or until then a
// root.
func (s *Seeker) reads(v *visit) bool {
	return (v.cell.Tree == s.tree || s.tree == "" && v.cell.Prefix.Level == 0) && !s.covered(v)
}

// covered tells whether a cell above told of all ads in a cell, or may soon.
func (s *Seeker) covered(v *visit) bool {
	for a := v.above; a != nil; a = a.above {
		if n := s.witnesses(); a.gathered >= n || a.gathering(n) && !s.done(a) {
			return true
		}
	}
	return false
}

// skips tells whether a cell need not be read, since its children are known
// and any matches will do.
func (s *Seeker) skips(v *visit) bool {
	return v.glimpsed && v.cell.Tree == s.tree && s.lazy() && !s.again
}

// done tells whether a cell was read as often as is wanted, or possible.
func (s *Seeker) done(v *visit) bool {
	if v.answers > 0 && v.answers >= v.wanted(s.replicas(v)) {
		return true
	}
	if !v.started || v.pending > 0 {
		return false
	}
	_, more := v.next()
	return !more && (v.locate == locateDone || v.locate == locateNot && !v.lacks(s.replicas(v)))
}

// replicas returns how many holders of a cell are asked at least.
func (s *Seeker) replicas(v *visit) int {
	if s.tree == "" || v.glimpsed {
		return 1
	}
	return s.witnesses()
}

// witnesses is how many holders must tell of the ads in a cell.
func (s *Seeker) witnesses() int {
	if s.lazy() && !s.again && !s.eager {
		return 1
	}
	return s.cfg.Replicas
}

// plan chooses the tree when its candidates' roots have answered.
func (s *Seeker) plan(now time.Time) {
	if s.tree != "" {
		s.fallBack()
		s.turn()
		return
	}
	if s.outline != nil {
		s.outlined(now)
		if s.tree != "" || len(s.late) < len(s.schema.trees) {
			return
		}
	}
	// Without a sample there are no ads, or no root answers.
	for _, t := range s.trees {
		if v := s.visits[Root(t)]; v.answers == 0 && !s.dead(v) {
			return
		}
	}
	s.tree = s.trees[0]
	s.fallBack()
}

// hurry makes a query without order ask the holders of every cell that it
// would ask in the end at once, where it cannot hope to have enough before.
func (s *Seeker) hurry() {
	if s.eager || s.tree == "" || !s.lazy() {
		return
	}
	hoped := float64(len(s.active))
	for _, v := range s.list {
		if v.cell.Tree == s.tree && v.answers == 0 && !v.glimpsed {
			hoped += v.expect * v.chance
		}
	}
	// Before the root has answered nothing is known.
	root := s.visits[Root(s.tree)]
	s.eager = (root.answers > 0 || root.glimpsed) && hoped < scarce*float64(s.query.Limit)
}

// fallBack takes another tree when nobody holds the root of the chosen one:
// every ad is in every tree.
func (s *Seeker) fallBack() {
	v := s.visits[Root(s.tree)]
	if v.answers > 0 || !s.dead(v) {
		return
	}
	for _, t := range s.schema.trees {
		if !s.avoids(t.Name) {
			s.tree = t.Name
			s.visit(Root(t.Name))
			return
		}
	}
}

// dead tells whether no holder of the cell is left to be asked.
func (s *Seeker) dead(v *visit) bool {
	_, more := v.next()
	return !more && v.locate == locateDone && v.pending == 0 && v.answers == 0
}

// lazy tells whether one answer a cell will do at first: any matches are
// welcome, in any order.
func (s *Seeker) lazy() bool { return s.query.Limit > 0 && s.order.none() }

// enough tells whether nothing unread is wanted.
func (s *Seeker) enough() bool {
	return s.query.Limit > 0 && len(s.active) >= s.query.Limit && s.order.none()
}

// wants tells whether reading a cell may change the answer.
func (s *Seeker) wants(v *visit) bool {
	n := s.query.Limit
	if n == 0 || len(s.active) < n {
		return true
	}
	if s.order.none() {
		return false
	}
	worst := s.sorted()[n-1].standing
	if v.bound != worst.rank {
		return v.bound < worst.rank
	}
	// Where ranks are equal there may be a value more exact than the rank; steps
	// of latency are as exact as it gets.
	return !worst.value.IsZero()
}

// read starts visits and asks holders.
func (s *Seeker) read(now time.Time) {
	open := make([]*visit, 0, len(s.list))
	for _, v := range s.rank() {
		if s.reads(v) && s.wants(v) {
			open = append(open, v)
		}
	}
	busy, read := 0, 0
	for _, v := range open {
		switch {
		case s.done(v):
			read++
		case v.started:
			busy++
		}
	}
	most := s.width(read)
	var wake time.Time
	hoped := 0.0 // matches from cells that are asked already and come first
	for _, v := range open {
		if s.skips(v) {
			continue
		}
		if !v.started {
			if busy >= most || busy >= s.least(most, read) && hoped+s.settled(v.bound) >= speculation*float64(s.query.Limit) {
				continue
			}
			v.started = true
			busy++
		}
		if !v.glimpsed && v.answers == 0 {
			hoped += v.expect * v.chance
		}
		if at := s.ask(now, v); !at.IsZero() && (wake.IsZero() || at.Before(wake)) {
			wake = at
		}
	}
	if !wake.IsZero() {
		s.effects = append(s.effects, Wake{At: wake})
	}
}

// rank returns all visits, those that promise most first. Most steps change
// nothing in it.
func (s *Seeker) rank() []*visit {
	if !s.unranked {
		return s.ranked
	}
	s.unranked = false
	s.ranked = append(s.ranked, s.list[len(s.ranked):]...)
	slices.SortFunc(s.ranked, func(a, b *visit) int {
		if c := cmp.Compare(a.bound, b.bound); c != 0 && !s.order.none() {
			return c
		}
		return cmp.Or(cmp.Compare(b.expect*b.chance, a.expect*a.chance), cmp.Compare(a.index, b.index))
	})
	return s.ranked
}

// width is how many cells are read at once at most: more, the more were read,
// so that a query that turns out to be long does not take so long as well.
func (s *Seeker) width(read int) int {
	return max(s.cfg.InFlight, min(s.cfg.InFlight/2+read, maxInFlight))
}

// least is how many of at most so many cells are read at once at least, however
// much they promise. Where an order is wanted the next ones may have to be read
// all the same, and most likely where the tree is not one of that order. Where
// any matches will do, what was read and was not enough had promised too much.
func (s *Seeker) least(most, read int) int {
	t, _ := s.schema.Tree(s.tree)
	switch {
	case s.query.Limit == 0:
		return most
	case s.order.none():
		return min(most, 1+read/4)
	case s.outline == nil || !s.outline.orders(t, s.query.OrderBy):
		return most
	default:
		return min(most, most/4+read/4)
	}
}

// settled returns how many results no cell with that bound can displace.
func (s *Seeker) settled(bound float64) float64 {
	if s.order.none() {
		return float64(len(s.active))
	}
	at, _ := slices.BinarySearchFunc(s.sorted(), bound, func(c *candidate, bound float64) int {
		return cmp.Compare(c.standing.rank, bound)
	})
	return float64(at)
}

// ask asks as many holders of a cell as it takes. It returns when to look
// again, if an answer is awaited.
func (s *Seeker) ask(now time.Time, v *visit) (wake time.Time) {
	s.turnPages(now, v)
	replicas := s.replicas(v)
	if len(v.contacts) == 0 && v.cell.Prefix.Level == 0 {
		s.consult(now)
	}
	if s.guides.speaking(now) && (len(v.contacts) == 0 || s.listens(v)) {
		return s.guides.until
	}
	missing := v.wanted(replicas) - v.answers - v.pending
	if p := v.pending; p > 0 && v.answers < replicas && now.Sub(v.lastAsk) >= v.patience {
		missing = max(missing, 1) // somebody is slow
	}
	for ; missing > 0 && s.requests < s.cfg.Budget && !s.awaits(now, v); missing-- {
		to, ok := s.pick(v)
		if !ok {
			if v.locate == locateNot && v.lacks(replicas) {
				v.locate = locateAsked
				s.waiting++
				s.lookups++
				s.effects = append(s.effects, Locate{v.cell})
			}
			break
		}
		v.asks[to.ID] = &ask{}
		v.pending++
		v.lastAsk, v.patience = now, patience(s.cfg.Hedge, s.cfg.Near, to.ID)
		s.send(Ask{To: to, Query: s.cellQuery(v.cell, nil)})
	}
	if v.pending > 0 && v.answers < replicas {
		if _, more := v.next(); more {
			due := v.lastAsk.Add(v.patience)
			if !now.Before(due) {
				due = v.lastAsk.Add(patiently * v.patience)
			}
			if now.Before(due) {
				return due
			}
		}
	}
	return time.Time{}
}

// patience is how long a holder may take before another one is asked: longer
// where it is known to be far.
func patience(hedge time.Duration, near func(dht.PeerID) time.Duration, id dht.PeerID) time.Duration {
	if near == nil {
		return hedge
	}
	rtt := near(id)
	if rtt >= time.Second {
		return hedge // never measured
	}
	return max(2*hedge/3, hedge/3+3*rtt/2)
}

// turnPages asks for the rest of replies that were cut, where it is wanted.
func (s *Seeker) turnPages(now time.Time, v *visit) {
	if v.cut == 0 {
		return
	}
	for _, c := range v.everybody() {
		a := v.asks[c.ID]
		if a == nil || a.state != askAnswered || a.after == nil || s.requests >= s.cfg.Budget {
			continue
		}
		rest := s.order.standingOf(a.after.Value, a.after.Hash)
		if n := s.query.Limit; n > 0 && len(s.active) >= n &&
			(s.order.none() || s.order.compare(s.sorted()[n-1].standing, rest) <= 0) {
			continue
		}
		after := a.after
		a.state, a.after, v.lastAsk = askSent, nil, now
		v.pending++
		v.cut--
		v.answers--
		s.send(Ask{To: c, Query: s.cellQuery(v.cell, after)})
	}
}

func (s *Seeker) send(a Ask) {
	s.requests++
	s.waiting++
	s.effects = append(s.effects, a)
}

func (s *Seeker) cellQuery(cell CellID, after *Cursor) CellQuery {
	return CellQuery{
		Cell: cell, Query: s.query, After: after, Explain: s.cfg.Explain,
		Whole: whole(cell), Sample: cell.Prefix.Level == 0 && cell.Tree != "" && s.outline == nil && after == nil,
	}
}

// whole tells whether a cell is asked for all of its children, for later
// queries: the upper two levels of a tree are few, and everybody needs them.
func whole(cell CellID) bool { return cell.Tree != "" && cell.Prefix.Level <= tableBits }

// verify asks servers for their current ads: at once where any or all will do,
// and of the best where nothing better can come.
func (s *Seeker) verify() {
	if !s.cfg.Verify || !s.lazy() && s.query.Limit > 0 && s.waiting > len(s.asking) && !s.complete() {
		return
	}
	list := s.active
	if s.query.Limit > 0 {
		list = s.sorted()[:min(len(list), s.query.Limit)]
	}
	for _, c := range list {
		if s.requests >= s.cfg.Budget || len(s.asking) >= maxVerifying {
			return
		}
		if c.verified || s.asking[c.ad.Ad.Server] {
			continue
		}
		s.asking[c.ad.Ad.Server] = true
		s.requests++
		s.waiting++
		s.effects = append(s.effects, Verify{c.ad.Ad.Contact()})
	}
}

// finish emits the answer.
func (s *Seeker) finish(now time.Time) {
	s.finished = true
	a := Answer{Requests: s.requests, Lookups: s.lookups, Tree: s.tree, Complete: true, Completeness: 1}
	for _, c := range s.sorted() {
		if s.query.Limit > 0 && len(a.Results) >= s.query.Limit {
			break
		}
		if c.verified || !s.cfg.Verify {
			a.Results = append(a.Results, Result{Signed: c.ad, Verified: c.verified})
		}
	}
	s.account(&a)
	if s.outline != nil {
		a.Plan.Trees = s.schema.costs(func(t Tree) float64 { return s.outline.estimate(t, s.outline.unseen()) })
	}
	for _, c := range s.sorted()[:min(len(s.active), cmp.Or(s.query.Limit, math.MaxInt))] {
		if s.cfg.Verify && !c.verified {
			a.Complete = false
			a.Incomplete = cmp.Or(a.Incomplete, "some servers were not asked for confirmation in time")
		}
	}
	s.effects = append(s.effects, Finish{Answer: a, Seen: s.remembered(now), Sample: s.sample})
}

// account fills in how complete the answer is, how many match, and what was
// excluded.
func (s *Seeker) account(a *Answer) {
	counts := make([]int, len(s.conjuncts))
	var readCells, openCells float64
	for _, v := range s.list {
		if s.tree != "" && v.cell.Tree != s.tree || s.covered(v) {
			continue
		}
		whole := s.done(v) && v.answers > 0 && !s.lost(v)
		if whole {
			a.Plan.Cells++
		}
		if whole && !v.inner {
			a.Plan.Leaves++
			a.Seen += int(v.total)
		}
		if s.wants(v) {
			openCells++
			if whole {
				readCells++
			} else if a.Complete {
				a.Complete, a.Incomplete = false, s.why(v)
			}
		}
		for i := range counts {
			if i < len(v.pruned) {
				counts[i] += int(v.pruned[i])
			}
			if i < len(v.excluded) && !v.inner {
				counts[i] += int(v.excluded[i])
			}
		}
	}
	if openCells > 0 {
		a.Completeness = readCells / openCells
	}
	a.Matches = s.matching(a.Complete)
	for i, p := range s.conjuncts {
		a.Conditions = append(a.Conditions, Exclusion{p, counts[i]})
	}
	slices.SortStableFunc(a.Conditions, func(x, y Exclusion) int { return cmp.Compare(y.Count, x.Count) })
	s.explain(a)
}

// matching estimates how many ads match in all: what was found where everything
// was wanted and read, else what the cells tell that were.
func (s *Seeker) matching(complete bool) Estimate {
	found := float64(len(s.active))
	if complete && s.query.Limit == 0 {
		return Estimate{found, found, found}
	}
	root := s.visits[Root(s.tree)]
	if root == nil {
		return Estimate{found, found, math.Inf(1)}
	}
	if s.surveys[root.cell] == nil && len(root.children) > 0 { // it was known, and not asked
		r := CellReply{Inner: true, Children: root.children, Sample: s.cfg.Sample.Ads}
		s.surveys[root.cell] = s.schema.survey(s.query, s.conjuncts, root.cell, &r)
	}
	if s.surveys[root.cell] == nil {
		return Estimate{found, found, math.Inf(1)}
	}
	e, _ := s.surveys.estimate(root.cell)
	return Estimate{max(found, e.Count), max(found, e.Low), max(found, e.High)}
}

// why tells why a cell was not read.
func (s *Seeker) why(v *visit) string {
	switch {
	case len(s.active) > MaxFound:
		return fmt.Sprintf("more than %d servers fit; narrow the query", MaxFound)
	case s.requests >= s.cfg.Budget:
		return "the message budget is used up; raise it or narrow the query"
	case s.expired:
		return "the time is over; allow more or narrow the query"
	case s.barren():
		return "nobody has any advertisements: there are no servers yet, or all who had them died; ask again in a minute"
	case v.answers > 0 && s.lost(v):
		return "nobody has cell " + v.cell.String() + " any more: those who had it may have died; ask again in a minute"
	case s.dead(v):
		return "nobody who holds cell " + v.cell.String() + " answers"
	default:
		return "cell " + v.cell.String() + " was not read to its end"
	}
}

// explain lists the servers that were seen and excluded.
func (s *Seeker) explain(a *Answer) {
	if !s.cfg.Explain {
		return
	}
	for server, ad := range s.misfits {
		a.Excluded = append(a.Excluded, Excluded{Server: server, Signed: ad, Fails: s.schema.Explain(s.query.Where, ad.Ad)})
	}
	for server, ad := range s.gone {
		a.Excluded = append(a.Excluded, Excluded{Server: server, Signed: ad, Gone: true})
	}
	slices.SortFunc(a.Excluded, func(x, y Excluded) int { return x.Signed.hash.Compare(y.Signed.hash) })
}
