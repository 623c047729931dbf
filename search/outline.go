package search

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
)

// An outline is what a sample of all ads tells of a query. All roots have the
// same sample, so one tells what every tree is worth.
type outline struct {
	schema *Schema
	query  Query
	sets   []sampled // the ads of the sample that satisfy each conjunct
	drawn  float64   // ads in the sample
	total  float64   // how many ads there are
	leaf   float64   // how many of them a leaf has, in the mean
	match  float64   // how much of them matches
	chance float64   // that about so many match, and not next to none
	// goal is how much of all ads comes before the last of the results, and
	// front which of the sample; 1 where everything that matches is wanted, or
	// any will do.
	goal  float64
	front uint64
	ranks []int // the ads of the sample in that order
	// seen is how many times as many ads match as the sample tells, by what was
	// read: 1 at most.
	seen float64
	// near tells that who is near in place is near in network coordinate.
	near bool
}

// sampled is a conjunct, and which ads of a sample satisfy it, a bit each.
type sampled struct {
	dims []string
	set  uint64
}

// A ranked ad of a sample, by its index; weight is how much like a match it is.
type ranked struct {
	ad           int
	rank, weight float64
}

// outlineAds is how many ads of a sample are looked at: all that an honest
// root has in it.
const outlineAds = maxSampled

// outline judges a query by a sample; nil without one.
func (s *Schema) outline(q Query, m Sample) *outline {
	ads := m.Ads[:min(len(m.Ads), outlineAds)]
	if len(ads) == 0 {
		return nil
	}
	o := &outline{schema: s, query: q, drawn: float64(len(ads)), total: float64(max(m.Total, len(ads))), goal: 1, chance: 1, seen: 1, near: s.nearby(ads)}
	o.leaf = o.total / leavesIn(o.total, LeafAds)
	for _, p := range Conjuncts(q.Where) {
		c := sampled{dims: Mentioned(p)}
		for i, ad := range ads {
			if s.Eval(p, ad.Ad) == True {
				c.set |= 1 << i
			}
		}
		o.sets = append(o.sets, c)
	}
	all, product := o.those(func(sampled) bool { return true })
	if o.match = o.together(all, product); all == 0 {
		o.chance = chanceOf(o.match, o.drawn)
	}
	if ord := s.order(&q); q.Limit > 0 && !ord.none() {
		o.reach(ord, ads)
	}
	return o
}

// those returns which ads of the sample satisfy all chosen conjuncts, and how
// much of all ads would if these had nothing to do with each other.
func (o *outline) those(chosen func(sampled) bool) (set uint64, product float64) {
	set, product = ^uint64(0)>>(outlineAds-int(o.drawn)), 1
	for _, c := range o.sets {
		if chosen(c) {
			set &= c.set
			product *= o.alone(c)
		}
	}
	return set, product
}

// together estimates how much of all ads satisfies what those do: the product,
// times how many more of the sample do than would then, with one for doubt.
func (o *outline) together(set uint64, product float64) float64 {
	return min(1, product*(float64(bits.OnesCount64(set))+1)/(o.drawn*product+1))
}

// alone estimates how much of all ads satisfies a conjunct. What is not in the
// sample may be half of one ad in it.
func (o *outline) alone(c sampled) float64 {
	return (float64(bits.OnesCount64(c.set)) + 0.5) / (o.drawn + 1)
}

// nearMiss is how much an ad of the sample counts, for where in the order the
// matches are, with each condition that it does not satisfy: few ads of the
// sample match, and those that nearly do tell what the conditions have to do
// with the order.
const nearMiss = 0.05

// reach estimates how far the order is read until the last of the results.
func (o *outline) reach(ord order, ads []*Signed) {
	wanted := float64(o.query.Limit) / (o.total * o.match)
	if wanted >= 1 {
		return
	}
	list, sum := make([]ranked, len(ads)), 0.0
	for i, ad := range ads {
		list[i] = ranked{i, ord.standing(ad).rank, 1}
		for _, c := range o.sets {
			if c.set>>i&1 == 0 {
				list[i].weight *= nearMiss
			}
		}
	}
	slices.SortStableFunc(list, func(a, b ranked) int { return cmp.Compare(a.rank, b.rank) })
	barrier := o.barrier(list)
	for i := range list {
		if float64(i+1) <= barrier {
			list[i].weight = 0
		}
		sum += list[i].weight
	}
	before := 0.0
	for i, w := range list {
		own := w.weight / sum
		if own > 0 && before+own >= wanted {
			o.goal = min(1, (max(float64(i), barrier)+(wanted-before)/own)/o.drawn)
			break
		}
		before += own
	}
	for _, w := range list {
		o.ranks = append(o.ranks, w.ad)
	}
	o.mark()
}

// chancy is how unlikely it must be that the first ads in the order fail a
// condition by chance, for these to be what it excludes: its inverse.
const chancy = 64

// barrier estimates how many ads of the sample, which come first in the order,
// are such that a condition excludes them all: the cheapest machines may all
// be too small. It is between two of them where that may be chance.
func (o *outline) barrier(list []ranked) (most float64) {
	for _, c := range o.sets {
		first := 0
		for first < len(list) && c.set>>list[first].ad&1 == 0 {
			first++
		}
		chance := math.Pow(1-o.alone(c), float64(first))
		most = max(most, math.Pow(1-chance, chancy)*float64(first))
	}
	return most
}

const (
	// usualLeaf is how many ads a leaf has, in the mean, and fewLeaves into how
	// many a cell is divided that has few ads more than one.
	usualLeaf, fewLeaves = GatherAds / 3, 8
	// innerShare is how many cells are read for each leaf, inner ones included.
	innerShare = 1.2
	// placeAxes and coordinateAxes are how many dimensions a place and a network
	// coordinate are worth in a tree; of the latter's axes some say little.
	placeAxes, coordinateAxes = 2, 5
)

// leavesIn returns into how many leaves so many ads are divided, if a cell of
// most is a leaf.
func leavesIn(ads, most float64) float64 {
	if ads <= most {
		return 1
	}
	return max(fewLeaves, ads/usualLeaf)
}

// orders tells whether the cells of a tree differ in a dimension. Those that
// differ in place may do so in network coordinate, too.
func (o *outline) orders(t Tree, dim string) bool {
	return slices.ContainsFunc(t.Dims, func(own string) bool { return o.follows(own, dim) })
}

// follows tells whether cells that differ in one dimension differ in another, too.
func (o *outline) follows(own, dim string) bool {
	return own == dim || o.near && o.schema.kind(dim) == KindCoordinate && o.schema.kind(own) == KindPlace
}

const (
	// leastPairs is how many pairs of servers tell whether place says anything
	// of network coordinate, and leastCorrelation from which correlation of the
	// distances on it does: 0.8 is usual where latency is that of cables, and
	// three standard deviations of 64 pairs without any are 0.38.
	leastPairs, leastCorrelation = 8, 0.4
)

// nearby tells whether servers of a sample that are near in place are near in
// network coordinate. Where coordinates have not settled, or say more of links
// than of cables, they are not.
func (s *Schema) nearby(ads []*Signed) bool {
	place := slices.IndexFunc(s.dims, func(d Dimension) bool { return d.Kind == KindPlace })
	coordinate := slices.IndexFunc(s.dims, func(d Dimension) bool { return d.Kind == KindCoordinate })
	if place < 0 || coordinate < 0 {
		return false
	}
	var n, x, y, xx, yy, xy float64
	for i, ad := range ads {
		km, rtt, ok := apart(ad.Ad, ads[(i+1)%len(ads)].Ad, s.dims[place].Name, s.dims[coordinate].Name)
		if ok {
			n, x, y, xx, yy, xy = n+1, x+km, y+rtt, xx+km*km, yy+rtt*rtt, xy+km*rtt
		}
	}
	spread := (n*xx - x*x) * (n*yy - y*y)
	return n >= leastPairs && spread > 0 && n*xy-x*y >= leastCorrelation*math.Sqrt(spread)
}

// apart returns how far two servers are from each other in place, kilometres,
// and in network coordinate, seconds.
func apart(a, b *Ad, place, coordinate string) (km, rtt float64, ok bool) {
	placeA, okA := a.Attributes.Get(place).Place()
	placeB, okB := b.Attributes.Get(place).Place()
	at, hasA := a.Attributes.Get(coordinate).Coordinate()
	to, hasB := b.Attributes.Get(coordinate).Coordinate()
	at.Height, to.Height = 0, 0
	return Distance(placeA, placeB), PredictRTT(at, to).Seconds(), okA && okB && hasA && hasB
}

// axesOf returns by how many axes a dimension divides space.
func (s *Schema) axesOf(dim string) float64 {
	switch s.kind(dim) {
	case KindPlace:
		return placeAxes
	case KindCoordinate:
		return coordinateAxes
	default:
		return 1
	}
}

// touched returns how many of a tree's leaves a range touches that has so many
// leaves' worth of ads. Along each axis that it bounds it touches one leaf more
// than fit into it, and along the others all there are: a tree divides all of its
// dimensions alike.
func (o *outline) touched(t Tree, within float64) float64 {
	axes, across := 0.0, 1.0
	for _, dim := range t.Dims {
		if o.bounds(dim) {
			axes += o.schema.axesOf(dim)
		} else {
			across *= math.Pow(o.total/o.leaf, 1/float64(len(t.Dims)))
		}
	}
	return across * math.Pow(math.Pow(within/across, 1/axes)+1, axes)
}

// bounds tells whether a conjunct is about a dimension, or the order, as far as
// it is read.
func (o *outline) bounds(dim string) bool {
	return o.goal < 1 && o.follows(dim, o.query.OrderBy) || slices.ContainsFunc(o.sets, func(c sampled) bool {
		return slices.ContainsFunc(c.dims, func(of string) bool { return o.follows(dim, of) })
	})
}

// A prospect is what is known of the cells of a tree that are not read yet:
// the leaves among them, those of them that will be read whatever the range,
// how many leaves' worth of ads the others have, and how many of those surely lie
// within the range. part is how much of all ads does so by what the root tells, 0
// where it tells little. found is how many matches there are already.
type prospect struct{ leaves, certain, room, inside, part, found float64 }

// unseen is the prospect of a tree of which nothing was read.
func (o *outline) unseen() prospect { return prospect{room: o.total / o.leaf} }

// estimate returns how many cells a query has still to read in a tree.
func (o *outline) estimate(t Tree, p prospect) float64 {
	set, product := o.those(func(c sampled) bool { return o.sorts(t, c) })
	passed := 1.0
	for _, c := range o.sets {
		if !o.sorts(t, c) {
			passed *= o.inLeaf(o.alone(c), c.dims...)
		}
	}
	part := o.together(set, product)
	within, known := part, 1.0
	if p.part > 0 {
		known = math.Sqrt(p.part / part) // neither is better than the other
	}
	if o.goal < 1 && o.orders(t, o.query.OrderBy) {
		within = o.together(set&o.front, product*o.goal)
	} else if o.goal < 1 {
		passed *= o.inLeaf(o.goal, o.query.OrderBy)
	}
	within *= known
	leaves := p.room
	if o.schema.kind(o.query.OrderBy) == KindCoordinate {
		leaves, p.leaves = leaves+p.leaves, 0 // cells of any bound may have to be read
	}
	if within < 1 {
		leaves = max(p.inside, min(leaves, o.touched(t, o.total*within/o.leaf)))
	}
	reads := p.certain + p.leaves + innerShare*leaves*passed
	if o.query.Limit > 0 && o.query.OrderBy == "" {
		// Some of the cells will do, unless next to nothing matches.
		missing := max(1, float64(o.query.Limit)-p.found)
		some := 1 + reads*missing*math.Sqrt(float64(len(t.Dims)))/(o.total*o.seen*min(o.match, part)+0.5)
		chance := o.chance * o.seen
		reads = chance*min(reads, some) + (1-chance)*reads
	}
	return reads
}

// sorts tells whether the cells of a tree differ in all that a conjunct is
// about.
func (o *outline) sorts(t Tree, c sampled) bool {
	return !slices.ContainsFunc(c.dims, func(dim string) bool { return !o.orders(t, dim) })
}

// inLeaf returns the chance that a leaf of ads drawn at random seems to have
// one of those ads of which there are so many: occupancy does not tell values
// within a bucket apart, and nothing where ads are all over the world.
func (o *outline) inLeaf(part float64, dims ...string) float64 {
	for _, dim := range dims {
		if k := o.schema.kind(dim); k == KindPlace || k == KindCoordinate {
			return 1
		}
	}
	return 1 - math.Pow(1-min(1, part+1./64), o.leaf)
}

// extend notes that the order is read so far at least.
func (o *outline) extend(goal float64) {
	if goal = min(goal, below1); goal <= o.goal {
		return
	}
	o.goal = goal
	o.mark()
}

// mark notes which ads of the sample come before the last of the results.
func (o *outline) mark() {
	o.front = 0
	for i, ad := range o.ranks {
		if float64(i)+0.5 < o.goal*o.drawn {
			o.front |= 1 << ad
		}
	}
}
