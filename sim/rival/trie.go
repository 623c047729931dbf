package rival

import (
	"cmp"
	"math/bits"
	"slices"
	"sort"
	"strconv"

	"github.com/xenoserver/xeno/search"
)

// A trie is a prefix hash tree: a binary trie over keys, which are positions in
// one column or the interleaved bits of positions in several (z-order). Its
// leaves are the shortest prefixes with at most leafAds keys.
type trie struct {
	name  string
	cols  []*column
	order []uint32 // servers in the order of their keys
	keys  []uint64 // nil: the key is the position
	bits  int      // length of a key
	shift int      // bits of a position that do not fit into the key
}

// A prefix is a node of a trie: the leading bits of keys, and which servers
// have them.
type prefix struct {
	of     uint64
	length int
	span   // positions in the trie's order
}

func newTrie(c *column) *trie {
	return &trie{name: c.name, cols: []*column{c}, order: c.order, bits: bits.Len(uint(max(c.len(), 2) - 1))}
}

// newZTrie returns a trie of several columns that are no sets.
func newZTrie(name string, cols []*column) *trie {
	n := cols[0].len()
	each := bits.Len(uint(max(n, 2) - 1))
	t := &trie{name: name, cols: cols, shift: max(0, each-zBits/len(cols))}
	each -= t.shift
	t.bits = each * len(cols)
	type entry struct {
		key    uint64
		server uint32
	}
	all := make([]entry, n)
	for i := range all {
		key := uint64(0)
		for b := each - 1; b >= 0; b-- {
			for _, c := range cols {
				key = key<<1 | uint64(c.rank[i]>>(b+t.shift)&1)
			}
		}
		all[i] = entry{key, uint32(i)}
	}
	slices.SortFunc(all, func(a, b entry) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.server, b.server)) })
	t.order, t.keys = make([]uint32, n), make([]uint64, n)
	for i, e := range all {
		t.order[i], t.keys[i] = e.server, e.key
	}
	return t
}

// node returns a node of the trie.
func (t *trie) node(of uint64, length int) prefix {
	return prefix{of, length, span{t.first(of, length), t.first(of+1, length)}}
}

// first returns the first position whose key is at or behind a prefix.
func (t *trie) first(of uint64, length int) int {
	if of>>length != 0 { // behind all keys
		return len(t.order)
	}
	key := of << (t.bits - length)
	if t.keys == nil {
		return min(int(key), len(t.order))
	}
	return sort.Search(len(t.keys), func(i int) bool { return t.keys[i] >= key })
}

func (t *trie) children(p prefix) [2]prefix {
	return [2]prefix{t.node(p.of<<1, p.length+1), t.node(p.of<<1|1, p.length+1)}
}

func (t *trie) isLeaf(p prefix) bool { return p.len() <= leafAds || p.length == t.bits }

// leafLength returns the length of the leaf that a long prefix is in, or the
// length of the prefix where there are inner nodes below it.
func (t *trie) leafLength(of uint64, length int) int {
	for l := range length {
		if t.isLeaf(t.node(of>>(length-l), l)) {
			return l
		}
	}
	return length
}

// box returns which positions of each column the keys below a prefix have.
func (t *trie) box(p prefix) box {
	b := newBox(t.cols)
	d := len(t.cols)
	for i, c := range t.cols {
		known := (p.length + d - 1 - i) / d // bits of this column in the prefix
		value := 0
		for j := range known {
			value = value<<1 | int(p.of>>(p.length-1-(j*d+i))&1)
		}
		rest := t.bits/d + t.shift - known
		b.spans[i] = span{value << rest, min((value+1)<<rest, c.len())}
	}
	return b
}

// leafSize returns how many positions a leaf of a trie of one column has.
func leafSize(*column) int {
	size := 1
	for size*2 <= leafAds {
		size *= 2
	}
	return size
}

// may tells whether a region can have servers below a prefix.
func (t *trie) may(r region, p prefix) bool { return p.len() > 0 && r.part(t.box(p)) > 0 }

// count returns how many leaves of the trie a region touches, or most.
func (t *trie) count(r region, p prefix, most int) int {
	if most <= 0 || !t.may(r, p) {
		return 0
	}
	if t.isLeaf(p) {
		return 1
	}
	n := 0
	for _, c := range t.children(p) {
		n += t.count(r, c, most-n)
	}
	return n
}

// cover returns the longest prefix that has all leaves that a region touches:
// what a client can compute from the query alone, whether there is such a node
// or not.
func (t *trie) cover(r region) prefix {
	p := t.node(0, 0)
	for p.length < t.bits {
		c := t.children(p)
		left, right := t.may(r, c[0]), t.may(r, c[1])
		switch {
		case left && right || !left && !right:
			return p
		case left:
			p = c[0]
		default:
			p = c[1]
		}
	}
	return p
}

// zTries returns the tries that interleave dimensions: places, what the schema
// has composite trees of, and processors, memory and price.
func (x *Index) zTries() []*trie {
	if x.tries != nil {
		return x.tries
	}
	add := func(name string, dims ...string) {
		var cols []*column
		for _, dim := range dims {
			d, ok := x.market.Schema().Dimension(dim)
			if !ok || !x.indexed(dim) || d.Kind == search.KindSet || d.Kind == search.KindCoordinate {
				return
			}
			for part := range parts(d) {
				cols = append(cols, x.column(dim, part))
			}
		}
		if len(cols) <= 3 && !slices.ContainsFunc(x.tries, func(t *trie) bool { return slices.Equal(t.cols, cols) }) {
			x.tries = append(x.tries, newZTrie(name, cols))
		}
	}
	x.tries = []*trie{}
	add("z/place", search.DimPlace)
	add("z/offer", "free_cpu", "free_memory", "price_hour")
	for i, t := range x.market.Schema().Trees() {
		if len(t.Dims) > 1 {
			add("z/"+strconv.Itoa(i), t.Dims...)
		}
	}
	return x.tries
}
