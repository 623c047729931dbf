package rival

import (
	"slices"
	"strconv"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
)

// A kdTree divides all servers by one dimension after another until at most
// leafAds are left. Its leaves are in the order of their servers.
type kdTree struct {
	cols    []*column
	servers []uint32
	nodes   []kdNode // node 0 is the root
}

// A kdNode is an inner node with a split plane, or a leaf.
type kdNode struct {
	from, to    uint32 // servers
	plane       uint32 // the left child has positions below it
	left, right int32  // 0: a leaf
	dim         uint8  // which column
}

const (
	// kdSample is of how many servers of a node the spread is measured.
	kdSample = 64
	// kdAxes is how many components of network coordinates are split: those
	// that vary most.
	kdAxes = 3
)

// tree returns the kd-tree over all indexed dimensions but sets and the
// identity of the server.
func (x *Index) tree() *kdTree {
	if x.kd != nil {
		return x.kd
	}
	t := &kdTree{servers: make([]uint32, x.market.Len())}
	for _, d := range x.market.Schema().Dimensions() {
		switch {
		case !d.Tree || d.Kind == search.KindSet || d.Name == search.DimServer:
		case d.Kind == search.KindCoordinate:
			for _, axis := range x.widestAxes(d.Name) {
				t.cols = append(t.cols, x.column(d.Name, axis))
			}
		default:
			for part := range parts(d) {
				t.cols = append(t.cols, x.column(d.Name, part))
			}
		}
	}
	for i := range t.servers {
		t.servers[i] = uint32(i)
	}
	t.nodes = append(t.nodes, kdNode{to: uint32(len(t.servers))})
	for i := 0; i < len(t.nodes); i++ { //nolint:intrange // splitting adds nodes
		t.split(i)
	}
	x.kd = t
	return t
}

// widestAxes returns the components of network coordinates with the greatest
// variance, ascending.
func (x *Index) widestAxes(dim string) []int {
	var sum, squares [dht.CoordinateDims]float64
	n := 0.0
	for i := 0; i < x.market.Len(); i += max(1, x.market.Len()/1024) {
		at, ok := x.market.Value(i, dim).Coordinate()
		if !ok {
			continue
		}
		n++
		for a, v := range at.Vec {
			sum[a] += v
			squares[a] += v * v
		}
	}
	axes := make([]int, dht.CoordinateDims)
	for a := range axes {
		axes[a] = a
	}
	variance := func(a int) float64 { return squares[a] - sum[a]*sum[a]/max(1, n) }
	slices.SortStableFunc(axes, func(a, b int) int {
		switch va, vb := variance(a), variance(b); {
		case va > vb:
			return -1
		case va < vb:
			return 1
		default:
			return 0
		}
	})
	axes = axes[:kdAxes]
	slices.Sort(axes)
	return axes
}

// split divides node i, if it is too large, at the median of the dimension in
// which the middle half of its servers is widest, between two values if they
// are near.
func (t *kdTree) split(i int) {
	n := t.nodes[i]
	servers := t.servers[n.from:n.to]
	if len(servers) <= leafAds {
		return
	}
	dim := t.widest(servers)
	c := t.cols[dim]
	slices.SortFunc(servers, func(a, b uint32) int { return int(c.rank[a]) - int(c.rank[b]) })
	middle := t.plane(c, servers)
	at := n.from + uint32(middle)
	t.nodes[i].dim = uint8(dim)
	t.nodes[i].plane = c.rank[servers[middle]]
	t.nodes[i].left = int32(len(t.nodes))
	t.nodes[i].right = int32(len(t.nodes) + 1)
	t.nodes = append(t.nodes, kdNode{from: n.from, to: at}, kdNode{from: at, to: n.to})
}

func (t *kdTree) widest(servers []uint32) (dim int) {
	var sample [kdSample]int
	widest := -1
	for i, c := range t.cols {
		for k := range sample {
			sample[k] = int(c.rank[servers[k*len(servers)/kdSample]])
		}
		slices.Sort(sample[:])
		low, high := sample[kdSample/4], sample[kdSample*3/4]
		if high-low > widest && !c.same(low, high) {
			widest, dim = high-low, i
		}
	}
	return dim
}

// plane returns the first of the sorted servers that goes to the right: that
// in the middle, or the begin or end of its value if less than a quarter away.
func (t *kdTree) plane(c *column, servers []uint32) int {
	half := len(servers) / 2
	value := int(c.rank[servers[half]])
	differs := func(i int) bool { return !c.same(int(c.rank[servers[i]]), value) }
	for d := range half / 2 {
		if differs(half - d - 1) {
			return half - d
		}
		if differs(half + d) {
			return half + d
		}
	}
	return half
}

func (t *kdTree) isLeaf(node int32) bool { return t.nodes[node].left == 0 }

// kdBranch is a subtree whose servers are in a box, with the way to it: for
// every level, whether it went right.
type kdBranch struct {
	node  int32
	right bool // is it a right child?
	box   box
}

// corner returns the leaf that the naming function of a subtree's root leads
// to, and the branches beside the way there.
func (t *kdTree) corner(b kdBranch) (leaf kdBranch, beside []kdBranch) {
	right := !b.right // from a left child always right, from a right child always left
	if b.node == 0 {
		right = false
	}
	for !t.isLeaf(b.node) {
		n := t.nodes[b.node]
		s := b.box.spans[n.dim]
		l := kdBranch{n.left, false, b.box.with(int(n.dim), span{s.from, min(s.to, int(n.plane))})}
		r := kdBranch{n.right, true, b.box.with(int(n.dim), span{max(s.from, int(n.plane)), s.to})}
		if right {
			l, r = r, l
		}
		b = l
		beside = append(beside, r)
	}
	return b, beside
}

// label names the leaf.
func (t *kdTree) label(leaf kdBranch) string { return "kd/" + strconv.Itoa(int(leaf.node)) }
