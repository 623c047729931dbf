package market

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/xenoserver/xeno/search"
)

// TestWant compares what counts as a hit with the ranks of an answer.
func TestWant(t *testing.T) {
	m := newMarket(t, testConfig(3000))
	rng := rand.New(rand.NewPCG(7, 7))
	even := func(i int) bool { return i%2 == 0 }
	for _, class := range []string{Selective, Broad, Proximity, Exhaustive} {
		queries, err := m.Queries(t.Context(), class, 20, Asking{}, rng)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range queries {
			w := m.Want(q, even)
			all := slices.DeleteFunc(m.Select(search.Query{Where: q.Where, OrderBy: q.OrderBy, Origin: q.Origin}), func(i int) bool { return !even(i) })
			if w.Matches != len(all) || len(w.Best) != len(all) && len(w.Best) != q.Limit {
				t.Fatalf("%s: %d match and %d are wanted of %d", class, w.Matches, len(w.Best), len(all))
			}
			if got := w.Hits(w.Best); got != len(w.Best) {
				t.Errorf("%s: %d hits of %d", class, got, len(w.Best))
			}
			if got := w.Hits([]int{w.Best[0], w.Best[0]}); got != 1 {
				t.Errorf("%s: %d hits of one server twice", class, got)
			}
			for _, i := range m.Select(search.Query{Where: q.Where}) {
				if i%2 == 1 && w.Hits([]int{i}) > 0 {
					t.Errorf("%s: server %d does not count and is a hit", class, i)
				}
			}
			// Any other choice is right as far as its ranks are those of the best.
			rank := m.ranker(q)
			other := slices.Clone(all)
			rng.Shuffle(len(other), func(i, k int) { other[i], other[k] = other[k], other[i] })
			if q.OrderBy != "" {
				slices.SortStableFunc(other, func(a, b int) int {
					switch x, y := rank(a), rank(b); {
					case x < y:
						return -1
					case x > y:
						return 1
					default:
						return 0
					}
				})
			}
			other = other[:len(w.Best)]
			if got := w.Hits(other); got != len(w.Best) && (q.OrderBy == "" || q.OrderBy == search.DimCoordinate) {
				t.Errorf("%s order by %q: %d hits of %d", class, q.OrderBy, got, len(w.Best))
			}
			if last := len(all) - 1; q.OrderBy == search.DimCoordinate && rank(all[last]) > rank(w.Best[len(w.Best)-1]) {
				other[0] = all[last] // instead of the nearest
				if got := w.Hits(other); got != len(w.Best)-1 {
					t.Errorf("%s: %d hits of %d with one that is too far", class, got, len(w.Best))
				}
			}
		}
	}
}
