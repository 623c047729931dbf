package rival

import (
	"cmp"
	"math"
	"slices"
	"sort"

	"github.com/xenoserver/xeno/search"
)

// A facet is what there are content identifiers of: the values of a dimension,
// cut into buckets, or pairs of values of two.
type facet struct {
	name   string
	cols   []*column
	cuts   [][]int  // of each column, where its buckets begin, and the end of what is present
	pair   bool     // two columns; order is its own
	order  []uint32 // servers, bucket after bucket
	starts []int    // of each bucket, and the end
}

const (
	// numberBuckets is how many identifiers a number has: as many buckets as
	// an occupancy map of Xeno.
	numberBuckets = 64
	// placeBuckets is how many bands of five degrees go around the globe.
	placeBuckets = 72
)

// cuts returns where the buckets of a column begin: each value of a text, each
// member of a set, bands of a number.
func (c *column) cuts() []int {
	var cuts []int
	switch c.dim.Kind {
	case search.KindSet:
		for _, m := range c.members {
			cuts = append(cuts, m.from)
		}
	case search.KindNumber:
		for i := range numberBuckets {
			f := float64(i) / numberBuckets
			edge := c.dim.Min + f*(c.dim.Max-c.dim.Min)
			if c.dim.Scale == search.ScaleLog {
				edge = c.dim.Min * math.Pow(c.dim.Max/c.dim.Min, f)
			}
			cuts = append(cuts, c.first(edge, false))
		}
		cuts[0] = 0
	case search.KindPlace, search.KindCoordinate:
		for i := range placeBuckets {
			cuts = append(cuts, c.first(-180+float64(i)*360/placeBuckets, false))
		}
		cuts[0] = 0
	default:
		for pos := 0; pos < c.present; pos = c.firstText(c.text(int(c.order[pos])), true) {
			cuts = append(cuts, pos)
		}
	}
	return append(cuts, c.present)
}

// bucketsOf returns which buckets some spans touch.
func bucketsOf(cuts []int, spans []span) (out []int) {
	for k := range len(cuts) - 1 {
		if slices.ContainsFunc(spans, span{cuts[k], cuts[k+1]}.overlaps) {
			out = append(out, k)
		}
	}
	return out
}

// facet returns the facet of one or two columns.
func (x *Index) facet(cols ...*column) *facet {
	for _, f := range x.facets {
		if slices.Equal(f.cols, cols) {
			return f
		}
	}
	f := &facet{cols: cols, pair: len(cols) == 2}
	for _, c := range cols {
		f.cuts = append(f.cuts, c.cuts())
		f.name += "/" + c.name
	}
	if f.pair {
		f.makePairs(x.market.Len())
	} else {
		f.order, f.starts = cols[0].order, f.cuts[0]
	}
	x.facets = append(x.facets, f)
	return f
}

func (f *facet) makePairs(n int) {
	a, b := f.cols[0], f.cols[1]
	width := len(f.cuts[1]) - 1
	type entry struct {
		bucket int
		server uint32
	}
	bucket := func(cuts []int, pos uint32) int {
		return sort.Search(len(cuts), func(k int) bool { return cuts[k] > int(pos) }) - 1
	}
	var all []entry
	for i := range n {
		if int(a.rank[i]) < a.present && int(b.rank[i]) < b.present {
			all = append(all, entry{bucket(f.cuts[0], a.rank[i])*width + bucket(f.cuts[1], b.rank[i]), uint32(i)})
		}
	}
	slices.SortFunc(all, func(x, y entry) int {
		return cmp.Or(cmp.Compare(x.bucket, y.bucket), cmp.Compare(x.server, y.server))
	})
	f.starts = make([]int, (len(f.cuts[0])-1)*width+1)
	f.order = make([]uint32, len(all))
	at := 0
	for k := range f.starts {
		for at < len(all) && all[at].bucket < k {
			at++
		}
		f.starts[k] = at
	}
	for i, e := range all {
		f.order[i] = e.server
	}
}

// all tells whether every server of a region is in a bucket: those that lack a
// dimension are not.
func (f *facet) all(r region) bool {
	return !slices.ContainsFunc(f.cols, func(c *column) bool {
		spans := r.on(c)
		return len(spans) > 0 && spans[len(spans)-1].to > c.present
	})
}

// buckets returns which buckets a region touches, and how many servers are in
// them.
func (f *facet) buckets(r region) (out []int, servers int) {
	first := bucketsOf(f.cuts[0], r.on(f.cols[0]))
	if !f.pair {
		out = first
	} else {
		second := bucketsOf(f.cuts[1], r.on(f.cols[1]))
		for _, a := range first {
			for _, b := range second {
				out = append(out, a*(len(f.cuts[1])-1)+b)
			}
		}
	}
	for _, k := range out {
		servers += f.starts[k+1] - f.starts[k]
	}
	return out, servers
}

// knownPairs are the combinations that servers provide beside single values.
func knownPairs() [][2]string {
	return [][2]string{
		{"place/lat", "place/lon"},
		{"free_cpu", "free_memory"},
		{"free_cpu", "price_hour"},
		{"country", "free_cpu"},
		{"arch", "free_cpu"},
		{"free_gpu", "free_cpu"},
	}
}

// facetsOf returns the facets that know something about a region.
func (x *Index) facetsOf(r region) (out []*facet) {
	cols := r.columns()
	for _, c := range cols {
		if c.dim.Kind != search.KindPlace && c.dim.Kind != search.KindCoordinate {
			out = append(out, x.facet(c))
		}
	}
	for _, p := range knownPairs() {
		a := slices.IndexFunc(cols, func(c *column) bool { return c.name == p[0] })
		b := slices.IndexFunc(cols, func(c *column) bool { return c.name == p[1] })
		if a >= 0 && b >= 0 {
			out = append(out, x.facet(cols[a], cols[b]))
		}
	}
	return out
}
