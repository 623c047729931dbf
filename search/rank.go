package search

import (
	"cmp"
	"math"
	"math/bits"
	"time"
)

// An order compares ads as a query wants them. Rank is a number that never
// contradicts the order and that summaries can bound: the fraction of the
// dimension's range, the predicted seconds, or +Inf for what lacks the value.
type order struct {
	schema *Schema
	query  *Query
	dim    Dimension
	index  int
}

func (s *Schema) order(q *Query) order {
	o := order{schema: s, query: q, index: -1}
	if i, ok := s.index[q.OrderBy]; ok {
		o.dim, o.index = s.dims[i], i
	}
	return o
}

// Rank returns where an ad stands in the order of a query, among all that there
// may be: from 0, the best, to 1, also of ads that lack the value.
func (s *Schema) Rank(q Query, ad *Signed) float64 {
	rank := s.order(&q).standing(ad).rank
	if q.Desc {
		rank++
	}
	return max(0, min(rank, 1))
}

// none tells whether the query wants no order.
func (o order) none() bool { return o.index < 0 }

// LatencyStep is the width of the steps that an order by latency has.
const LatencyStep = 5 * time.Millisecond

// A standing is where an ad stands in an order.
type standing struct {
	rank  float64
	value Value // none where the ad lacks it
	hash  Hash
}

// standing returns where an ad stands; less is better.
func (o order) standing(ad *Signed) standing {
	if o.none() {
		return standing{hash: ad.hash}
	}
	return o.standingOf(o.schema.value(ad.Ad, o.index), ad.hash)
}

func (o order) standingOf(v Value, h Hash) standing {
	switch {
	case o.none():
		return standing{hash: h}
	case v.IsZero():
		return standing{rank: math.Inf(1), hash: h}
	case o.dim.Kind == KindCoordinate:
		rank := latencyStep(PredictRTT(*v.coord(), *o.query.Origin).Seconds())
		if o.query.Desc {
			rank = -rank
		}
		return standing{rank: rank, hash: h}
	case o.query.Desc:
		return standing{rank: -o.dim.fraction(v), value: v, hash: h}
	default:
		return standing{rank: o.dim.fraction(v), value: v, hash: h}
	}
}

// compare orders two standings: by rank, exact value, then server hash.
func (o order) compare(a, b standing) int {
	if c := cmp.Compare(a.rank, b.rank); c != 0 {
		return c
	}
	if !a.value.IsZero() && !b.value.IsZero() {
		if c := compareValues(a.value, b.value, o.dim.Kind); c != 0 {
			if o.query.Desc {
				return -c
			}
			return c
		}
	}
	return a.hash.Compare(b.hash)
}

// bound returns the best rank that a match of a range can have.
func (o order) bound(m Summary) float64 {
	if o.none() {
		return 0
	}
	set := m.Occupancy[o.index]
	if set == 0 {
		return math.Inf(1)
	}
	if o.dim.Kind == KindCoordinate {
		return o.latencyBound(m)
	}
	if o.query.Desc {
		return -float64(bits.Len64(set)) / 64
	}
	return float64(bits.TrailingZeros64(set)) / 64
}

// latencyBound is bound by latency. No match is nearer than the nearest ball,
// nor than the box.
func (o order) latencyBound(m Summary) float64 {
	if o.query.Desc {
		return math.Inf(-1)
	}
	var near []RTT
	for _, p := range Conjuncts(o.query.Where) {
		if rtt, ok := p.(RTT); ok && rtt.Dim == o.dim.Name {
			near = append(near, rtt)
		}
	}
	r := o.schema.box(o.index, m)
	box, nearest := o.leastIn(r, near), math.Inf(1)
	told := false
	for i := range m.Balls {
		if r.ball = &m.Balls[i]; int(r.ball.Dim) == o.index {
			told, nearest = true, min(nearest, o.leastIn(r, near))
		}
	}
	if told {
		box = max(box, nearest)
	}
	return latencyStep(box)
}

// leastIn bounds the latency of the matches in a region. What must be near to
// other hosts, too, may not be as near to the origin as others of the region.
func (o order) leastIn(r region, near []RTT) float64 {
	origin := o.query.Origin
	least := r.leastRTT(origin)
	for _, p := range near {
		if !r.near(p) {
			return math.Inf(1)
		}
		least = max(least, r.leastBeside(origin, p.To, p.Most)+r.height+origin.Height-2e-9)
	}
	return least
}

// latencyStep is the rank of a predicted round trip time in seconds: whole
// steps of LatencyStep. Predictions are not so good that less would matter,
// and among equals the hash decides, which spreads the load.
func latencyStep(rtt float64) float64 {
	return math.Floor(rtt/LatencyStep.Seconds()+1e-6) * LatencyStep.Seconds()
}
