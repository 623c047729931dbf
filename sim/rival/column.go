package rival

import (
	"cmp"
	"slices"
	"sort"
	"strings"

	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/market"
)

// A column is all servers in the order of one dimension: equal ones in the
// order of their hashes, those that lack it last. Where a server stands in it
// is its position. A set has an entry for each member of each server.
type column struct {
	name    string // "price_hour", "place/lat", "coordinate/3"
	dim     search.Dimension
	part    int // of a place or a coordinate
	market  *market.Market
	order   []uint32 // server at each position
	rank    []uint32 // position of each server; nil for a set
	present int      // positions from here on lack the dimension
	members []member // of a set, ascending
}

// A member is where the entries of one member of a set begin.
type member struct {
	name string
	from int
}

// A keyed server is an entry while a column is sorted.
type keyed struct {
	key         float64
	tie, server uint32
}

func sortKeyed(all []keyed) {
	slices.SortFunc(all, func(a, b keyed) int {
		if a.key != b.key {
			return cmp.Compare(a.key, b.key)
		}
		return cmp.Compare(a.tie, b.tie)
	})
}

func newColumn(m *market.Market, name string, dim search.Dimension, part int, byHash []uint32) *column {
	c := &column{name: name, dim: dim, part: part, market: m}
	n := m.Len()
	var all []keyed
	lacking := make([]keyed, 0, 16)
	switch dim.Kind {
	case search.KindSet:
		all, lacking = c.sets(byHash)
	case search.KindNumber, search.KindPlace, search.KindCoordinate:
		all = make([]keyed, 0, n)
		for i := range n {
			if v, ok := c.number(i); ok {
				all = append(all, keyed{v, byHash[i], uint32(i)})
			} else {
				lacking = append(lacking, keyed{0, byHash[i], uint32(i)})
			}
		}
	default:
		all, lacking = c.texts(byHash)
	}
	sortKeyed(all)
	sortKeyed(lacking)
	c.present = len(all)
	c.order = make([]uint32, 0, len(all)+len(lacking))
	for _, k := range all {
		c.order = append(c.order, k.server)
	}
	for _, k := range lacking {
		c.order = append(c.order, k.server)
	}
	if dim.Kind == search.KindSet {
		for i, k := range all {
			if m := int(k.key); i == 0 || int(all[i-1].key) != m {
				c.members[m].from = i
			}
		}
		return c
	}
	c.rank = make([]uint32, n)
	for pos, server := range c.order {
		c.rank[server] = uint32(pos)
	}
	return c
}

// number returns the number of server i.
func (c *column) number(i int) (float64, bool) {
	v := c.market.Value(i, c.dim.Name)
	switch c.dim.Kind {
	case search.KindPlace:
		p, ok := v.Place()
		if c.part == 0 {
			return p.Lat, ok
		}
		return p.Lon, ok
	case search.KindCoordinate:
		at, ok := v.Coordinate()
		return at.Vec[c.part], ok
	default:
		return v.Number()
	}
}

// text returns the text of server i.
func (c *column) text(i int) string {
	s, _ := c.market.Value(i, c.dim.Name).Text()
	return s
}

func (c *column) compareTexts(a, b string) int {
	if c.dim.Kind == search.KindVersion {
		return compareVersions(a, b)
	}
	return strings.Compare(a, b)
}

// texts gives every text its rank among the different ones as key.
func (c *column) texts(byHash []uint32) (all, lacking []keyed) {
	ranks := make(map[string]float64)
	var names []string
	for i := range byHash {
		s := c.text(i)
		if _, known := ranks[s]; !known && s != "" {
			ranks[s] = 0
			names = append(names, s)
		}
	}
	slices.SortFunc(names, c.compareTexts)
	for k, s := range names {
		ranks[s] = float64(k)
		if k > 0 && c.compareTexts(names[k-1], s) == 0 {
			ranks[s] = ranks[names[k-1]]
		}
	}
	for i, tie := range byHash {
		if s := c.text(i); s != "" {
			all = append(all, keyed{ranks[s], tie, uint32(i)})
		} else {
			lacking = append(lacking, keyed{0, tie, uint32(i)})
		}
	}
	return all, lacking
}

func (c *column) sets(byHash []uint32) (all, lacking []keyed) {
	known := make(map[string]int)
	for i := range byHash {
		set, _ := c.market.Value(i, c.dim.Name).Set()
		for _, m := range set {
			if _, ok := known[m]; !ok {
				known[m] = 0
				c.members = append(c.members, member{name: m})
			}
		}
	}
	slices.SortFunc(c.members, func(a, b member) int { return strings.Compare(a.name, b.name) })
	for k, m := range c.members {
		known[m.name] = k
	}
	for i, tie := range byHash {
		set, _ := c.market.Value(i, c.dim.Name).Set()
		for _, m := range set {
			all = append(all, keyed{float64(known[m]), tie, uint32(i)})
		}
		if len(set) == 0 {
			lacking = append(lacking, keyed{0, tie, uint32(i)})
		}
	}
	return all, lacking
}

// len returns how many positions there are.
func (c *column) len() int { return len(c.order) }

// first returns the first position whose number is at least x, or greater.
func (c *column) first(x float64, greater bool) int {
	return sort.Search(c.present, func(pos int) bool {
		v, _ := c.number(int(c.order[pos]))
		return v > x || v == x && !greater
	})
}

// firstText is first for texts and versions.
func (c *column) firstText(s string, greater bool) int {
	return sort.Search(c.present, func(pos int) bool {
		d := c.compareTexts(c.text(int(c.order[pos])), s)
		return d > 0 || d == 0 && !greater
	})
}

// same tells whether two positions have equal values, or both none.
func (c *column) same(a, b int) bool {
	if a >= c.present || b >= c.present {
		return a >= c.present && b >= c.present
	}
	i, j := int(c.order[a]), int(c.order[b])
	switch c.dim.Kind {
	case search.KindNumber, search.KindPlace, search.KindCoordinate:
		x, _ := c.number(i)
		y, _ := c.number(j)
		return x == y
	default:
		return c.compareTexts(c.text(i), c.text(j)) == 0
	}
}

// runStart returns the first position with the value of pos.
func (c *column) runStart(pos int) int {
	if pos >= c.present {
		return c.present
	}
	return sort.Search(pos, func(i int) bool { return c.same(i, pos) })
}

// span returns the positions of one member of a set.
func (c *column) span(name string) (span, bool) {
	k, ok := slices.BinarySearchFunc(c.members, name, func(m member, s string) int { return strings.Compare(m.name, s) })
	if !ok {
		return span{}, false
	}
	to := c.present
	if k+1 < len(c.members) {
		to = c.members[k+1].from
	}
	return span{c.members[k].from, to}, true
}
