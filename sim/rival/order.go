package rival

import (
	"cmp"
	"math"

	"github.com/xenoserver/xeno/search"
)

// A standing is where a server stands in the order of a query; less is better.
// Equal values are in the order of the servers' hashes; where those are of
// latency, others with the same will do.
type standing struct {
	rank float64
	tie  uint32
}

func (s standing) compare(t standing) int {
	return cmp.Or(cmp.Compare(s.rank, t.rank), cmp.Compare(s.tie, t.tie))
}

// An order is what a query sorts by; zero: nothing.
type order struct {
	index *Index
	query *search.Query
	col   *column // of a number or a version
	near  bool    // by latency from the query's origin
}

func (x *Index) order(q *search.Query) order {
	o := order{index: x, query: q}
	d, ok := x.market.Schema().Dimension(q.OrderBy)
	if !ok {
		return o
	}
	if o.near = d.Kind == search.KindCoordinate; !o.near {
		o.col = x.column(d.Name, 0)
	}
	return o
}

func (o *order) none() bool { return o.col == nil && !o.near }

func (o *order) standing(server uint32) standing {
	switch {
	case o.col != nil:
		pos := o.col.rank[server]
		return o.at(int(pos), int(pos))
	case o.near:
		tie := o.index.hashes()[server]
		at, ok := o.index.market.Value(int(server), o.query.OrderBy).Coordinate()
		if !ok {
			return standing{math.Inf(1), tie}
		}
		rank := latencyStep(search.PredictRTT(at, *o.query.Origin).Seconds())
		if o.query.Desc {
			rank = -rank
		}
		return standing{rank, tie}
	default:
		return standing{}
	}
}

// at returns the standing of what has the value of one position, and stands at
// another one.
func (o *order) at(value, pos int) standing {
	if value >= o.col.present {
		return standing{math.Inf(1), uint32(pos)}
	}
	if o.query.Desc {
		return standing{-float64(o.col.runStart(value)), uint32(pos)}
	}
	return standing{float64(pos), uint32(pos)} // positions of equal values are in the order of hashes
}

// best returns the best standing that a server in a span of the order's column
// can have.
func (o *order) best(s span) standing {
	if !o.query.Desc || s.from >= o.col.present {
		return o.at(s.from, s.from)
	}
	last := min(s.to, o.col.present) - 1
	return o.at(last, max(s.from, o.col.runStart(last)))
}

// bound returns the best standing that a server in a box can have.
func (o *order) bound(b box) standing {
	switch {
	case o.col != nil:
		if s, ok := b.of(o.col); ok {
			return o.best(s)
		}
		return standing{math.Inf(-1), 0}
	case o.near && !o.query.Desc:
		return standing{latencyStep(o.nearest(b)), math.MaxUint32} // within a step any will do
	default:
		return standing{math.Inf(-1), 0}
	}
}

// latencyStep returns in which step of latency some seconds are.
func latencyStep(seconds float64) float64 {
	return math.Floor(seconds/search.LatencyStep.Seconds() + 1e-6)
}

// nearest bounds the latency from the origin to a box from below, in seconds.
func (o *order) nearest(b box) float64 {
	const slack = 1e-7
	sum := 0.0
	for i, c := range b.cols {
		if c.dim.Name != o.query.OrderBy {
			continue
		}
		s := b.spans[i]
		if s.from >= c.present {
			return math.Inf(1)
		}
		low, _ := c.number(int(c.order[s.from]))
		high, _ := c.number(int(c.order[min(s.to, c.present)-1]))
		if d := max(low-o.query.Origin.Vec[c.part], o.query.Origin.Vec[c.part]-high); d > 0 {
			sum += d * d
		}
	}
	return math.Sqrt(sum) + o.query.Origin.Height - slack
}
