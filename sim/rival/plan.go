package rival

import "slices"

// A plan is which leaves of one column a query reads, and in which order.
type plan struct {
	col     *column
	size    int   // positions in a leaf
	leaves  []int // leaf i begins at position i · size
	ordered bool  // the best standings come first, so that a limit ends the reading
}

func (p *plan) span(leaf int) span {
	return span{leaf * p.size, min((leaf+1)*p.size, p.col.len())}
}

func (p *plan) servers(leaf int) []uint32 {
	s := p.span(leaf)
	return p.col.order[s.from:s.to]
}

// leavesOf returns the leaves that some spans touch, ascending.
func leavesOf(spans []span, size int) []int {
	var leaves []int
	for _, s := range spans {
		for leaf := s.from / size; leaf*size < s.to; leaf++ {
			if len(leaves) == 0 || leaves[len(leaves)-1] < leaf {
				leaves = append(leaves, leaf)
			}
		}
	}
	return leaves
}

// plan chooses the column by exact counts: the one with the fewest positions
// that can match; or the column of the order, if reading it in order to the
// limit takes fewer leaves. sizeOf says how large the leaves of a column are.
func (r *run) plan(reg region, sizeOf func(*column) int) plan {
	var best plan
	least := -1
	for _, c := range r.candidates(reg) {
		if spans := reg.on(c); least < 0 || size(spans) < least {
			least = size(spans)
			best = plan{col: c, size: sizeOf(c), leaves: leavesOf(spans, sizeOf(c))}
		}
	}
	if c := r.order.col; c != nil && r.limit() > 0 && r.index.indexed(c.dim.Name) {
		p := plan{col: c, size: sizeOf(c), ordered: true}
		p.leaves = r.inOrder(leavesOf(reg.on(c), p.size), &p)
		if best.col == c || r.reads(&p, len(best.leaves)) < len(best.leaves) {
			return p
		}
	}
	return best
}

// candidates returns the columns a plan may use: those the query restricts, or
// any.
func (r *run) candidates(reg region) []*column {
	if cols := reg.columns(); len(cols) > 0 {
		return cols
	}
	for _, d := range r.world.Market.Schema().Dimensions() {
		if r.index.indexed(d.Name) {
			return []*column{r.index.column(d.Name, 0)}
		}
	}
	return nil // cannot be: every schema has a tree
}

// inOrder sorts leaves by the best standing that each can have.
func (r *run) inOrder(leaves []int, p *plan) []int {
	if !r.order.query.Desc {
		return leaves
	}
	type bounded struct {
		leaf int
		best standing
	}
	all := make([]bounded, len(leaves))
	for i, leaf := range leaves {
		all[i] = bounded{leaf, r.order.best(p.span(leaf))}
	}
	slices.SortFunc(all, func(a, b bounded) int { return a.best.compare(b.best) })
	for i := range all {
		leaves[i] = all[i].leaf
	}
	return leaves
}

// reads returns how many leaves of an ordered plan are read, or most.
func (r *run) reads(p *plan, most int) int {
	var found []result
	for i, leaf := range p.leaves {
		if i == most || r.passed(p, found, i) {
			return i
		}
		found = append(found, r.evaluate(p.servers(leaf))...)
	}
	return len(p.leaves)
}

// passed tells whether what was found leaves nothing to find in the i-th leaf
// of a plan and those behind it.
func (r *run) passed(p *plan, found []result, i int) bool {
	if r.limit() == 0 || len(found) < r.limit() {
		return false
	}
	if r.order.none() || i == len(p.leaves) {
		return true
	}
	if !p.ordered {
		return false
	}
	worst, ok := r.worst(found)
	return ok && worst.compare(r.order.best(p.span(p.leaves[i]))) < 0
}
