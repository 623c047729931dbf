package market

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"

	"github.com/xenoserver/xeno/search"
)

// ErrNoQuery reports a class of queries that the market cannot be asked, such
// as one for a tenth of a hundredth of five servers.
var ErrNoQuery = errors.New("market: no such query")

// The classes of queries, by how many servers match.
const (
	Needle     = "needle"     // 1 to 20 servers
	Selective  = "selective"  // 0.1 % to 1 %
	Broad      = "broad"      // 10 % and more
	Exhaustive = "exhaustive" // 0.1 % to 1 %, all of them wanted
	Proximity  = "proximity"  // 10 servers and more, near one to three hosts
	Count      = "count"      // 0.1 % and more, only their number wanted
)

// Classes returns all classes in the order of the figures.
func Classes() []string { return []string{Needle, Selective, Broad, Exhaustive, Proximity, Count} }

// Asking says how queries are drawn.
type Asking struct {
	// Distinct is from how many different queries they are drawn, by
	// popularity. Zero: every query is another.
	Distinct int
	// Zipf is the exponent of that popularity. Zero: 1; negative: 0, all alike.
	Zipf float64
	// Requests are real requests, as from ReadRequests: resource conditions are
	// those of one of them. None: they are drawn like the others.
	Requests []Request
}

// Queries draws n queries of a class: 1 to 4 conditions, with a limit of 10
// except for Exhaustive, whose limit is 0, half of the Selective and Broad
// ones ordered by price_hour, two thirds of the Proximity ones by latency from
// the first host. Each is built around a server that matches, and its
// conditions are as tight as the class needs. Proximity needs coordinates.
//
// The queries depend on rng and the market alone. They are worked out on all
// CPUs; a needle among a million servers takes some 20 ms. Errors wrap
// ErrNoQuery, or are that of ctx.
func (m *Market) Queries(ctx context.Context, class string, n int, how Asking, rng *rand.Rand) ([]search.Query, error) {
	if !slices.Contains(Classes(), class) {
		return nil, fmt.Errorf("%w: class %.40q: take one of %v", ErrNoQuery, class, Classes())
	}
	if class == Proximity && m.positions == nil {
		return nil, fmt.Errorf("%w: class %s: the servers of this market have no coordinates", ErrNoQuery, class)
	}
	different := n
	if how.Distinct > 0 {
		different = min(how.Distinct, n)
	}
	pool, err := m.drawAll(ctx, class, different, how, rng)
	if err != nil || how.Distinct == 0 {
		return pool, err
	}
	exponent := how.Zipf
	if exponent == 0 {
		exponent = 1
	}
	popularity := newZipf(different, max(0, exponent))
	queries := make([]search.Query, n)
	for k := range queries {
		queries[k] = pool[popularity.draw(rng)]
	}
	return queries, nil
}

// drawAll draws n queries, each from a random source of its own, so that the
// number of CPUs does not show.
func (m *Market) drawAll(ctx context.Context, class string, n int, how Asking, rng *rand.Rand) ([]search.Query, error) {
	seeds := make([][2]uint64, n)
	for k := range seeds {
		seeds[k] = [2]uint64{rng.Uint64(), rng.Uint64()}
	}
	queries, errs := make([]search.Query, n), make([]error, n)
	workers := min(runtime.GOMAXPROCS(0), n)
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for k := w; k < n && ctx.Err() == nil; k += workers {
				d := draft{m: m, class: class, how: &how, rng: rand.New(rand.NewPCG(seeds[k][0], seeds[k][1]))}
				if queries[k], errs[k] = d.query(); errs[k] != nil {
					return
				}
			}
		})
	}
	all.Wait()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("market: queries: %w", err)
	}
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return queries, nil
}

// bounds returns how many servers may match a query of the class.
func (m *Market) bounds(class string) (low, high int) {
	share := func(x float64) int { return int(math.Round(x * float64(m.servers))) }
	switch class {
	case Needle:
		return 1, 20
	case Selective, Exhaustive:
		return max(1, share(0.001)), max(1, share(0.01))
	case Broad:
		return max(1, share(0.1)), m.servers
	case Proximity:
		return min(10, m.servers), max(10, share(0.3))
	default:
		return max(1, share(0.001)), m.servers
	}
}
