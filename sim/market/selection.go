package market

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/xenoserver/xeno/search"
)

// Count returns how many servers satisfy p.
func (m *Market) Count(p search.Predicate) int {
	matches, n := m.Matcher(p), 0
	for i := range m.servers {
		if matches(i) {
			n++
		}
	}
	return n
}

// Select returns what q must find, as search.Schema.Select has it: all that
// match, in order, up to the limit; those that lack what is ordered by come
// last, equal ones in the order of their servers' hashes.
func (m *Market) Select(q search.Query) []int {
	matches, rank := m.Matcher(q.Where), m.ranker(q)
	best := ranking{m: m, limit: q.Limit}
	for i := range m.servers {
		if matches(i) {
			best.offer(standing{rank: rank(i), hash: m.hashes[i], server: int32(i)})
		}
	}
	slices.SortFunc(best.all, m.compareStandings)
	servers := make([]int, len(best.all))
	for k, s := range best.all {
		servers[k] = int(s.server)
	}
	return servers
}

// A standing is where a server stands in an order; less is better.
type standing struct {
	rank   float64
	hash   uint64
	server int32
}

func (m *Market) compareStandings(a, b standing) int {
	if c := cmp.Compare(a.rank, b.rank); c != 0 {
		return c
	}
	if c := cmp.Compare(a.hash, b.hash); c != 0 {
		return c
	}
	if a.server == b.server {
		return 0
	}
	return search.HashOf(m.peerOf(int(a.server))).Compare(search.HashOf(m.peerOf(int(b.server))))
}

// A ranking keeps the best standings up to a limit, if there is one, in a heap
// with the worst at the root.
type ranking struct {
	m     *Market
	limit int
	all   []standing
}

func (r *ranking) offer(s standing) {
	switch {
	case r.limit == 0:
		r.all = append(r.all, s)
	case len(r.all) < r.limit:
		r.all = append(r.all, s)
		r.up(len(r.all) - 1)
	case r.worse(r.all[0], s):
		r.all[0] = s
		r.down()
	}
}

func (r *ranking) worse(a, b standing) bool { return r.m.compareStandings(a, b) > 0 }

func (r *ranking) up(k int) {
	for k > 0 {
		parent := (k - 1) / 2
		if !r.worse(r.all[k], r.all[parent]) {
			return
		}
		r.all[k], r.all[parent] = r.all[parent], r.all[k]
		k = parent
	}
}

func (r *ranking) down() {
	for k := 0; ; {
		child := 2*k + 1
		if child >= len(r.all) {
			return
		}
		if child+1 < len(r.all) && r.worse(r.all[child+1], r.all[child]) {
			child++
		}
		if !r.worse(r.all[child], r.all[k]) {
			return
		}
		r.all[k], r.all[child] = r.all[child], r.all[k]
		k = child
	}
}

// ranker returns the rank of server i in the order of q: the least is first,
// +Inf is what lacks the value.
func (m *Market) ranker(q search.Query) func(i int) float64 {
	sign := 1.0
	if q.Desc {
		sign = -1
	}
	rank := func(x float64) float64 {
		if x != x {
			return math.Inf(1)
		}
		return sign * x
	}
	if col, ok := m.numbers[q.OrderBy]; ok {
		return func(i int) float64 { return rank(float64(col[i])) }
	}
	if col, ok := m.texts[q.OrderBy]; ok {
		order := col.order()
		return func(i int) float64 { return rank(order[col.codes[i]]) }
	}
	if q.OrderBy == search.DimCoordinate && m.positions != nil && q.Origin != nil {
		return func(i int) float64 {
			at := &m.positions[i]
			if isMissing(at.height) {
				return math.Inf(1)
			}
			return sign * math.Floor(search.PredictRTT(at.coordinate(), *q.Origin).Seconds()/search.LatencyStep.Seconds()+1e-6)
		}
	}
	return func(int) float64 { return 0 }
}

// order returns for each code of a column of versions its place among them,
// the same for equal ones; NaN for code 0.
func (t *texts) order() []float64 {
	codes := make([]int, len(t.values)-1)
	for k := range codes {
		codes[k] = k + 1
	}
	slices.SortFunc(codes, func(a, b int) int { return versionOf(t.names[a]).compare(versionOf(t.names[b])) })
	order := make([]float64, len(t.values))
	order[0] = math.NaN()
	for k, code := range codes {
		order[code] = float64(k)
		if k > 0 && versionOf(t.names[code]).compare(versionOf(t.names[codes[k-1]])) == 0 {
			order[code] = order[codes[k-1]]
		}
	}
	return order
}

// measure draws the sample and the quantiles of the numbers in it.
func (m *Market) measure(seed uint64) {
	m.sample = make([]int32, min(m.servers, sampleServers))
	rng := rand.New(rand.NewPCG(seed, math.MaxUint64))
	for k := range m.sample {
		m.sample[k] = int32(k)
	}
	if m.servers > len(m.sample) { // reservoir
		for i := len(m.sample); i < m.servers; i++ {
			if k := rng.IntN(i + 1); k < len(m.sample) {
				m.sample[k] = int32(i)
			}
		}
	}
	slices.Sort(m.sample)
	m.quantiles = make(map[string][]float32)
	for _, name := range m.byNumber {
		var known []float32
		for _, i := range m.sample {
			if x := m.numbers[name][i]; !isMissing(x) {
				known = append(known, x)
			}
		}
		slices.Sort(known)
		m.quantiles[name] = known
	}
}
