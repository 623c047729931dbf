package rival

import (
	"math"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
)

// region returns where the servers that satisfy p can stand; of is false for
// those that do not satisfy it, although they have what it is about.
func (x *Index) region(p search.Predicate, of bool) region {
	switch p := p.(type) {
	case nil:
		return everywhere
	case search.And:
		return x.all(p, of, regionAnd)
	case search.Or:
		return x.all(p, of, regionOr)
	case search.Not:
		return x.region(p.Of, !of)
	case search.Has:
		return x.has(p.Dim, of)
	case search.Compare:
		return x.compare(p, of)
	case search.Range:
		if !x.indexed(p.Dim) {
			return everywhere
		}
		c := x.column(p.Dim, 0)
		return c.inOrOut(of, span{c.first(p.Low, false), c.first(p.High, true)})
	case search.In:
		if !x.indexed(p.Dim) {
			return everywhere
		}
		c := x.column(p.Dim, 0)
		var spans []span
		for _, v := range p.Values {
			spans = append(spans, c.equal(v))
		}
		return c.inOrOut(of, spans...)
	case search.Contains:
		if !x.indexed(p.Dim) || !of {
			return everywhere
		}
		c := x.column(p.Dim, 0)
		s, ok := c.span(p.Member)
		if !ok {
			return nowhere
		}
		return in(c, s)
	case search.Within:
		if !x.indexed(p.Dim) || !of {
			return everywhere
		}
		return x.within(p)
	case search.RTT:
		if !x.indexed(p.Dim) || !of {
			return everywhere
		}
		return x.near(p)
	default:
		return everywhere
	}
}

// all joins members; the opposite of a conjunction is the disjunction of the
// opposites.
func (x *Index) all(ps []search.Predicate, of bool, kind regionKind) region {
	if !of {
		kind = regionAnd + regionOr - kind
	}
	r := region{kind: kind}
	for _, p := range ps {
		r.of = append(r.of, x.region(p, of))
	}
	return r
}

// inOrOut returns the spans of what has the dimension, or the rest.
func (c *column) inOrOut(of bool, spans ...span) region {
	if of {
		return in(c, spans...)
	}
	return in(c, except(span{0, c.present}, normal(spans))...)
}

func (x *Index) has(dim string, of bool) region {
	if !x.indexed(dim) {
		return everywhere
	}
	c := x.column(dim, 0)
	if of {
		return in(c, span{0, c.present})
	}
	return in(c, span{c.present, c.len()})
}

// equal returns the positions with the value v.
func (c *column) equal(v search.Value) span {
	if f, ok := v.Number(); ok {
		return span{c.first(f, false), c.first(f, true)}
	}
	s, _ := v.Text()
	return span{c.firstText(s, false), c.firstText(s, true)}
}

func (x *Index) compare(p search.Compare, of bool) region {
	if !x.indexed(p.Dim) {
		return everywhere
	}
	c := x.column(p.Dim, 0)
	eq := c.equal(p.Value)
	below, above := span{0, eq.from}, span{eq.to, c.present}
	switch p.Op {
	case search.OpEqual:
		return c.inOrOut(of, eq)
	case search.OpNotEqual:
		return c.inOrOut(!of, eq)
	case search.OpLess:
		return c.inOrOut(of, below)
	case search.OpLessEqual:
		return c.inOrOut(of, below, eq)
	case search.OpGreater:
		return c.inOrOut(of, above)
	case search.OpGreaterEqual:
		return c.inOrOut(of, eq, above)
	default:
		return everywhere
	}
}

// within returns the rectangle of latitudes and longitudes around a circle.
func (x *Index) within(p search.Within) region {
	const earthKm, slack = 6371.0088, 1e-4 // slack in degrees, some ten metres
	angle := p.Km / earthKm
	degrees := angle*180/math.Pi + slack
	lat := x.column(p.Dim, 0)
	rows := in(lat, span{lat.first(p.Center.Lat-degrees, false), lat.first(p.Center.Lat+degrees, true)})
	if math.Abs(p.Center.Lat)+degrees >= 90 {
		return rows // around a pole: every longitude
	}
	wide := math.Asin(min(1, math.Sin(angle)/math.Cos(p.Center.Lat*math.Pi/180)))*180/math.Pi + slack
	lon := x.column(p.Dim, 1)
	var spans []span
	for _, turn := range [3]float64{-360, 0, 360} { // across the date line
		spans = append(spans, span{lon.first(p.Center.Lon+turn-wide, false), lon.first(p.Center.Lon+turn+wide, true)})
	}
	return region{kind: regionAnd, of: []region{rows, in(lon, spans...)}}
}

// near returns the boxes around hosts within which a round trip time can be.
func (x *Index) near(p search.RTT) region {
	const slack = 1e-7 // seconds; predictions are rounded to nanoseconds
	r := region{kind: regionAnd}
	for _, to := range p.To {
		reach := p.Most.Seconds() - to.Height + slack
		if reach < 0 {
			return nowhere
		}
		for i := range dht.CoordinateDims {
			c := x.column(p.Dim, i)
			r.of = append(r.of, in(c, span{c.first(to.Vec[i]-reach, false), c.first(to.Vec[i]+reach, true)}))
		}
	}
	return r
}
