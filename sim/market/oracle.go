package market

import (
	"slices"

	"github.com/xenoserver/xeno/search"
)

// A Wanted is what the answer to one query must be, among the servers that
// count.
type Wanted struct {
	// Matches is how many match.
	Matches int
	// Best are those up to the limit, in order.
	Best []int
	// kin are Best and the servers that are as good: any that match where there
	// is a limit without an order, and in an order by latency those of the last
	// step. They have their rank.
	kin map[int]float64
}

// Want returns what q must find among the servers that count says so of; nil:
// all.
func (m *Market) Want(q search.Query, count func(i int) bool) Wanted {
	every := q
	every.Limit = 0
	all := m.Select(every)
	if count != nil {
		all = slices.DeleteFunc(all, func(i int) bool { return !count(i) })
	}
	w := Wanted{Matches: len(all), Best: all}
	if q.Limit == 0 || len(all) <= q.Limit {
		return w
	}
	w.Best = all[:q.Limit]
	rank := m.ranker(q)
	if q.OrderBy == "" || q.OrderBy == search.DimCoordinate {
		w.kin = make(map[int]float64)
		last := rank(w.Best[q.Limit-1])
		for k, i := range all {
			r := rank(i)
			if k >= q.Limit && r > last {
				break
			}
			w.kin[i] = r
		}
	}
	return w
}

// Hits returns how many of Best an answer has, or servers as good instead: with
// the same rank, where the order has no more to tell.
func (w *Wanted) Hits(answer []int) (hits int) {
	seen := make(map[int]struct{}, len(answer))
	for _, i := range answer {
		seen[i] = struct{}{}
	}
	if w.kin == nil {
		for _, i := range w.Best {
			if _, ok := seen[i]; ok {
				hits++
			}
		}
		return hits
	}
	left := make(map[float64]int)
	for _, i := range w.Best {
		left[w.kin[i]]++
	}
	for i := range seen {
		if rank, ok := w.kin[i]; ok && left[rank] > 0 {
			left[rank]--
			hits++
		}
	}
	return hits
}
