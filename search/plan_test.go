package search

import (
	"cmp"
	"slices"
	"testing"
)

// TestPlan: an answer says what was read, and what other trees would have cost.
func TestPlan(t *testing.T) {
	w := grown(t, 61, 120)
	where := Compare{Dim: "free_cpu", Op: OpLess, Value: Number(1)}
	check := func(a Answer) {
		t.Helper()
		p := a.Plan
		if p.Cells == 0 || p.Leaves == 0 || p.Leaves >= p.Cells || p.Cells > a.Requests {
			t.Errorf("%d cells, %d of them leaves, %d requests", p.Cells, p.Leaves, a.Requests)
		}
		if len(p.Trees) != len(w.schema.Trees()) || !slices.IsSortedFunc(p.Trees, func(a, b TreeCost) int { return cmp.Compare(a.Cells, b.Cells) }) {
			t.Errorf("trees %v", p.Trees)
		}
	}
	check(w.search(Query{Where: where}, SeekerConfig{}))
	check(w.count(where, through))
	if a := newWorld(t, 62, 4, 16).search(Query{}, SeekerConfig{}); a.Plan.Trees != nil {
		t.Errorf("an empty network has costs: %v", a.Plan.Trees)
	}
}
