package market

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/xenoserver/xeno/search"
)

func TestQueriesAreOfTheirClass(t *testing.T) {
	for _, servers := range []int{1000, 60_000} {
		m := newMarket(t, testConfig(servers))
		for _, class := range Classes() {
			n := 40
			queries, err := m.Queries(t.Context(), class, n, Asking{}, newRand(4))
			if err != nil {
				t.Errorf("%d servers: %v", servers, err)
				continue
			}
			low, high := m.bounds(class)
			var counts []int
			ordered, conditions := 0, make([]int, 6)
			for _, q := range queries {
				if err := m.Schema().Check(q); err != nil {
					t.Errorf("%s: %v", class, err)
				}
				count := m.Count(q.Where)
				counts = append(counts, count)
				if count < low || count > high {
					t.Errorf("%d servers, %s: %d match %s, want %d to %d", servers, class, count, q.Where, low, high)
				}
				parts := len(search.Conjuncts(q.Where))
				if parts < 1 || parts > 5 {
					t.Errorf("%s: %d conditions in %s", class, parts, q.Where)
				}
				conditions[min(parts, 5)]++
				if q.OrderBy != "" {
					ordered++
				}
				if want := map[bool]int{true: 0, false: 10}[class == Exhaustive]; q.Limit != want {
					t.Errorf("%s: limit %d", class, q.Limit)
				}
			}
			slices.Sort(counts)
			t.Logf("%d servers, %s: count p10 %d p50 %d p90 %d, %d of %d ordered, conditions %v, such as %s", servers, class,
				counts[n/10], counts[n/2], counts[n*9/10], ordered, n, conditions[1:], queries[0].Where)
			if want := class == Selective || class == Broad || class == Proximity; want != (ordered > n/4) || ordered > n*9/10 {
				t.Errorf("%s: %d of %d are ordered", class, ordered, n)
			}
		}
	}
}

// TestQueriesAreDeterministic holds that neither the run nor the CPUs show.
func TestQueriesAreDeterministic(t *testing.T) {
	m := newMarket(t, testConfig(30_000))
	for _, class := range Classes() {
		var first []string
		for range 3 {
			queries, err := m.Queries(t.Context(), class, 10, Asking{}, newRand(6))
			if err != nil {
				t.Fatal(err)
			}
			var text []string
			for _, q := range queries {
				text = append(text, fmt.Sprint(q.Where, q.OrderBy))
			}
			if first == nil {
				first = text
			}
			if !slices.Equal(text, first) {
				t.Errorf("%s: %v, then %v", class, first, text)
			}
		}
	}
}

func TestQueriesByPopularity(t *testing.T) {
	m := newMarket(t, testConfig(2000))
	queries, err := m.Queries(t.Context(), Broad, 1000, Asking{Distinct: 20}, newRand(6))
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]int)
	most := 0
	for _, q := range queries {
		text := fmt.Sprint(q.Where, q.OrderBy)
		counts[text]++
		most = max(most, counts[text])
	}
	if len(counts) > 20 || len(counts) < 15 || most < 200 || most > 350 {
		t.Errorf("%d different queries, the most popular asked %d times of 1000", len(counts), most)
	}
}

func TestQueriesFromRequests(t *testing.T) {
	m := newMarket(t, testConfig(5000))
	how := Asking{Requests: []Request{{CPU: 2, MemMiB: 1024}, {CPU: 4, MemMiB: 8192, GPUs: 1}, {CPU: 0.5}}}
	queries, err := m.Queries(t.Context(), Broad, 40, how, newRand(6))
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range queries {
		first, ok := search.Conjuncts(q.Where)[0].(search.Compare)
		x, _ := first.Value.Number()
		if !ok || first.Dim != "free_cpu" || x != 2 && x != 4 && x != 0.5 {
			t.Errorf("%s does not begin with a request", q.Where)
		}
	}
}

func TestQueriesRefuse(t *testing.T) {
	bare := testConfig(50)
	bare.CoordinateOf = nil
	m := newMarket(t, bare)
	for _, class := range []string{"fancy", Proximity} {
		if _, err := m.Queries(t.Context(), class, 1, Asking{}, newRand(1)); !errors.Is(err, ErrNoQuery) {
			t.Errorf("%s: %v", class, err)
		}
	}
	impossible := Asking{Requests: []Request{{CPU: 1e6}}}
	if _, err := m.Queries(t.Context(), Broad, 1, impossible, newRand(1)); !errors.Is(err, ErrNoQuery) {
		t.Errorf("a request that no server has: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Queries(ctx, Broad, 1, Asking{}, newRand(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if queries, err := m.Queries(t.Context(), Broad, 0, Asking{}, newRand(1)); err != nil || len(queries) != 0 {
		t.Errorf("no queries: %v, %v", queries, err)
	}
}
