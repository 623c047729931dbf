// Package xeno runs production's search machines in a simulated network.
//
// The network is at rest: every ad stands where its publisher would have put
// it, and every summary says what is below. That state follows from the ads
// alone, so a cell is made when somebody asks for it: production's Holder gets
// it as it would from another holder, and answers.
package xeno

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/trial"
)

// An Index is the cells of all trees at rest.
type Index struct {
	world  trial.World
	schema *search.Schema
	trees  map[string]*tree
	names  []string
	occupy *occupancies
	balls  []search.Ball // of every ad, one for each coordinate dimension; without radius: none
	leaf   int           // ads in a leaf at most
	sample int           // ads in the sample of an inner cell

	cached map[*cell]*search.Holder
	below  map[*cell][]search.Child // what stands in the place of tables
	leaves cache                    // and tables whose holders have all ads below
	inners cache                    // which are asked for more often

	mirrors mirrors
	ads     map[network.NodeID]*search.Signed
}

// A cache says what cells were made, and when to forget them.
type cache struct {
	queue []*cell // in the order of making
	sizes []int   // of their ads
	held  int     // ads in all of them
}

// maxHeld bounds the ads of the cells that are cached with all ads in them, and
// of those with a sample alone, and the ads that are kept for other cells. A
// query reads a cell from two holders at about the same time, up to 64 cells at
// once; later ones seldom read the same, but each ad stands in a cell of every
// tree.
const maxHeld = 400_000

// A tree is one tree at rest.
type tree struct {
	search.Tree
	keys []keyed // ascending
	root *cell
}

// keyed is a server at its key, of which 64 bits decide.
type keyed struct {
	key  uint64
	node network.NodeID
}

// A cell is a range of a tree's keys.
type cell struct {
	id      search.CellID
	low     int // in tree.keys
	high    int
	halves  [2]*cell // of a divided cell
	inner   bool
	occupy  []uint64
	balls   []search.Ball
	sample  []network.NodeID // those with the smallest hashes, ascending
	holders []network.NodeID
}

// NewIndex places all ads of a world. leaf is how many fit into a leaf cell, 0
// means production's. It takes about 15 µs a server; the context ends it.
func NewIndex(ctx context.Context, world trial.World, leaf int) (*Index, error) {
	x := &Index{
		world: world, schema: world.Market.Schema(), trees: make(map[string]*tree),
		leaf: cmp.Or(leaf, search.LeafAds), cached: make(map[*cell]*search.Holder), below: make(map[*cell][]search.Child),
	}
	x.sample = search.SampleAds(x.leaf)
	x.occupy = newOccupancies(world.Market.Len(), x.schema.Words())
	coordinates := 0
	for _, d := range x.schema.Dimensions() {
		if d.Kind == search.KindCoordinate {
			coordinates++
		}
	}
	x.balls = make([]search.Ball, coordinates*world.Market.Len())
	var trees []*tree
	for _, t := range x.schema.Trees() {
		own := &tree{Tree: t, keys: make([]keyed, world.Market.Len())}
		x.trees[t.Name], x.names = own, append(x.names, t.Name)
		trees = append(trees, own)
	}
	// Each ad is made once; the parts write to places of their own.
	spread(world.Market.Len(), func(i int) {
		if ctx.Err() != nil {
			return
		}
		ad := world.Market.Ad(i)
		m := x.schema.SummaryOf(ad)
		x.occupy.set(i, m.Occupancy)
		copy(x.balls[coordinates*i:], m.Balls)
		for _, t := range trees {
			k := x.schema.KeyOf(t.Tree, ad)
			t.keys[i] = keyed{binary.BigEndian.Uint64(k[:8]), network.NodeID(i)}
		}
	})
	spread(len(trees), func(i int) {
		if ctx.Err() != nil {
			return
		}
		t := trees[i]
		slices.SortFunc(t.keys, func(a, b keyed) int { return cmp.Compare(a.key, b.key) })
		t.root = x.build(t, search.Root(t.Name), 0, len(t.keys))
	})
	if ctx.Err() == nil {
		x.stand()
	}
	return x, ctx.Err()
}

// spread calls do for 0 to n-1, from several goroutines, stretches of
// neighbours from one: they lie in the same lines of memory.
func spread(n int, do func(i int)) {
	const parts, stretch = 4, 64
	var next atomic.Int64
	var wg sync.WaitGroup
	for range parts {
		wg.Go(func() {
			size := max(1, min(stretch, n/(16*parts)))
			for {
				to := int(next.Add(int64(size)))
				for i := to - size; i < min(to, n); i++ {
					do(i)
				}
				if to >= n {
					return
				}
			}
		})
	}
	wg.Wait()
}

// build makes the cell of keys low to high and all below.
func (x *Index) build(t *tree, id search.CellID, low, high int) *cell {
	c := &cell{id: id, low: low, high: high, occupy: make([]uint64, x.schema.Words())}
	level := int(id.Prefix.Level)
	c.inner = high-low > x.leaf && level < 64
	if !c.inner {
		nodes, balls := make([]network.NodeID, 0, high-low), make([]search.Ball, 0, high-low)
		for _, k := range t.keys[low:high] {
			x.occupy.unite(c.occupy, int(k.node))
			balls = x.appendBalls(balls, int(k.node))
			nodes = append(nodes, k.node)
		}
		c.balls = search.Enclose(nil, balls)
		c.sample = x.smallest(nodes)
		return c
	}
	middle := low + sort.Search(high-low, func(i int) bool { return t.keys[low+i].key>>(63-level)&1 == 1 })
	for bit, span := range [2][2]int{{low, middle}, {middle, high}} {
		if span[0] == span[1] {
			continue
		}
		half := x.build(t, search.CellID{Tree: id.Tree, Prefix: id.Prefix.Half(bit)}, span[0], span[1])
		c.halves[bit] = half
		for d, b := range half.occupy {
			c.occupy[d] |= b
		}
		c.balls = search.Enclose(c.balls, half.balls)
		c.sample = append(c.sample, half.sample...)
	}
	c.sample = x.smallest(c.sample)
	return c
}

// appendBalls appends those of an ad.
func (x *Index) appendBalls(to []search.Ball, ad int) []search.Ball {
	each := len(x.balls) / x.world.Market.Len()
	for _, b := range x.balls[each*ad : each*(ad+1)] {
		if b.Radius > 0 {
			to = append(to, b)
		}
	}
	return to
}

// table calls do for the cells that stand in the table of an inner cell: the
// leaves down to four levels below, and the inner ones there.
func (c *cell) table(do func(below *cell)) {
	for _, half := range c.halves {
		switch {
		case half == nil:
		case half.inner && half.id.Prefix.Level%4 != 0:
			half.table(do)
		default:
			do(half)
		}
	}
}

// smallest returns the nodes with the smallest hashes, as many as a sample has.
func (x *Index) smallest(nodes []network.NodeID) []network.NodeID {
	m := x.world.Market
	slices.SortFunc(nodes, func(a, b network.NodeID) int { return cmp.Compare(m.Hash(int(a)), m.Hash(int(b))) })
	return slices.Clone(nodes[:min(len(nodes), x.sample)])
}

// find returns a cell, nil if there is none.
func (x *Index) find(id search.CellID) *cell {
	t := x.trees[id.Tree]
	if t == nil {
		return nil
	}
	c := t.root
	key := binary.BigEndian.Uint64(id.Prefix.Key[:8])
	for level := 0; c != nil && level < int(id.Prefix.Level); level++ {
		c = c.halves[key>>(63-level)&1]
	}
	if c != nil && c.inner && c.id.Prefix.Level%4 != 0 {
		return nil // divided, and long forgotten
	}
	return c
}

// holders returns the nodes that hold a cell.
func (x *Index) holders(c *cell) []network.NodeID {
	if c.holders == nil {
		c.holders = x.world.Net.Closest(nil, network.Short(c.id.Key().Position()), search.Replicas)
	}
	return c.holders
}

func (x *Index) place() (*network.Network, *search.Schema) { return x.world.Net, x.schema }

func (x *Index) locate(from network.NodeID, cell search.CellID, done func(holders []network.NodeID, requests int)) {
	x.world.Net.Lookup(from, cell.Key().Position(), search.Replicas, done)
}

// recall knows all holders: a server publishes to every root. It knows mirrors
// of roots that it has asked itself.
func (x *Index) recall(_ network.NodeID, cells []search.CellID) (known []search.Glimpse) {
	for _, id := range cells {
		c := x.find(id)
		g := search.Glimpse{Cell: id, Mirrors: x.rumours(c)}
		for _, h := range x.holders(c) {
			g.Holders = append(g.Holders, dht.Contact{ID: x.world.Net.PeerID(h)})
		}
		known = append(known, g)
	}
	return known
}

func (x *Index) current(server network.NodeID) *search.Signed { return x.world.Market.Ad(int(server)) }

func (x *Index) silent(_, _ network.NodeID) {}

func (x *Index) saw(network.NodeID, []search.Glimpse) {}

// answer is what a node says when it is asked for a cell.
func (x *Index) answer(at network.NodeID, q search.CellQuery) search.CellReply {
	c := x.find(q.Cell)
	if c == nil {
		return search.CellReply{}
	}
	holder, mirror, ok := x.part(c, at)
	if !ok {
		return search.CellReply{}
	}
	if x.mirrors.asks != nil {
		asks := x.mirrors.asks[c]
		asks[holder]++
		x.mirrors.asks[c] = asks
	}
	for _, e := range x.holder(c).Step(x.world.Net.Clock(), search.AskCell{Query: q}) {
		if reply, ok := e.(search.CellReply); ok {
			reply.Mirrored, reply.Mirrors = mirror, x.mirrorsOf(c, holder)
			return reply
		}
	}
	return search.CellReply{}
}

// age is how long everything has been at rest, and how long it still is.
const age = 24 * time.Hour

// holder returns production's Holder with a cell in it.
func (x *Index) holder(c *cell) *search.Holder {
	if h := x.cached[c]; h != nil {
		return h
	}
	now := x.world.Net.Clock()
	in := x.copyOf(c, now.Add(age), x.ad)
	if x.gathers(c) {
		for _, k := range x.trees[c.id.Tree].keys[c.low:c.high] {
			in.Gathered = append(in.Gathered, search.Lease{Ad: x.ad(k.node), From: x.world.Net.PeerID(k.node), Until: now.Add(age)})
		}
	}
	h := x.newHolder()
	h.Step(now, search.Restore{Copy: in})
	x.cached[c] = h
	kind := &x.leaves
	if c.inner && len(in.Gathered) == 0 {
		kind = &x.inners
	}
	for _, old := range kind.add(c, len(in.Leases)+len(in.Gathered)) {
		delete(x.cached, old)
	}
	return h
}

func (x *Index) newHolder() *search.Holder {
	return search.NewHolder(x.schema, search.HolderConfig{LeafAds: x.leaf, MaxPerPublisher: 1 << 30, MaxBytes: 1 << 40})
}

// add notes a cell with so many ads, and returns those that are forgotten for it.
func (k *cache) add(c *cell, ads int) (forgotten []*cell) {
	k.queue, k.sizes, k.held = append(k.queue, c), append(k.sizes, ads), k.held+ads
	n := 0
	for ; k.held > maxHeld && n < len(k.queue)-1; n++ {
		k.held -= k.sizes[n]
	}
	forgotten = k.queue[:n]
	k.queue, k.sizes = k.queue[n:], k.sizes[n:]
	return forgotten
}

// ad returns the ad of a server, the same one for all cells while there is room.
func (x *Index) ad(n network.NodeID) *search.Signed {
	if a := x.ads[n]; a != nil {
		return a
	}
	if x.ads == nil || len(x.ads) >= maxHeld {
		x.ads = make(map[network.NodeID]*search.Signed)
	}
	a := x.world.Market.Ad(int(n))
	x.ads[n] = a
	return a
}

// copyOf returns a cell as its holders have it, with leases that end at until.
// Servers without an ad are left out.
func (x *Index) copyOf(c *cell, until time.Time, ad func(network.NodeID) *search.Signed) search.Copy {
	in := search.Copy{Cell: c.id, Born: x.world.Net.Clock().Add(-age), Inner: c.inner}
	nodes := c.sample
	if !c.inner {
		nodes = nil
		for _, k := range x.trees[c.id.Tree].keys[c.low:c.high] {
			nodes = append(nodes, k.node)
		}
	}
	for _, n := range nodes {
		if ad := ad(n); ad != nil {
			in.Leases = append(in.Leases, search.Lease{Ad: ad, From: x.world.Net.PeerID(n), Until: until})
		}
	}
	c.table(func(below *cell) {
		_, slot := below.id.Prefix.Parent()
		standIns := x.standIns(below)
		for i, at := range x.holders(below) {
			in.Children = append(in.Children, search.Told{
				Index: slot, Holder: dht.Contact{ID: x.world.Net.PeerID(at)}, Mirrors: x.recruits(below, i), Until: until,
				Summary: summaryOf(below), Below: standIns,
			})
		}
	})
	return in
}

func summaryOf(c *cell) search.Summary {
	return search.Summary{Count: uint32(c.high - c.low), Occupancy: c.occupy, Balls: c.balls}
}

// standIns returns the cells that the holders of a table want listed in its
// place by the table above: production's Holder says so when a summary is due.
// Tables of few ads answer for all of them.
func (x *Index) standIns(c *cell) []search.Child {
	if !c.inner || c.high-c.low <= x.leaf*search.GatherLeaves {
		return nil
	}
	if below, known := x.below[c]; known {
		return below
	}
	now := x.world.Net.Clock()
	h := x.newHolder()
	h.Step(now, search.Restore{Copy: x.copyOf(c, now.Add(age), x.ad)})
	x.below[c] = nil
	for _, e := range h.Step(now, search.HolderTick{}) {
		if push, ok := e.(search.SendPush); ok && push.Child == c.id {
			x.below[c] = push.Below
		}
	}
	return x.below[c]
}

// gathers tells whether the holders of a table answer for all cells below: not
// where they are asked for it much.
func (x *Index) gathers(c *cell) bool {
	level := c.id.Prefix.Level
	return c.inner && level > 0 && level%4 == 0 && c.high-c.low <= x.leaf*search.GatherLeaves && !x.mirrors.busy[c]
}

// each calls do for every cell that somebody holds.
func (x *Index) each(do func(c *cell)) {
	var walk func(c *cell)
	walk = func(c *cell) {
		if !c.inner || c.id.Prefix.Level%4 == 0 {
			do(c)
		}
		for _, half := range c.halves {
			if half != nil {
				walk(half)
			}
		}
	}
	for _, name := range x.names {
		walk(x.trees[name].root)
	}
}

// Leaves returns the sizes of all leaf cells.
func (x *Index) Leaves() (sizes []int) {
	var walk func(c *cell)
	walk = func(c *cell) {
		if !c.inner {
			sizes = append(sizes, c.high-c.low)
			return
		}
		for _, half := range c.halves {
			if half != nil {
				walk(half)
			}
		}
	}
	for _, name := range x.names {
		walk(x.trees[name].root)
	}
	return sizes
}

// Refresh returns how many messages it takes a server to renew its leases, in
// the mean over the first few: one to each holder of its leaf cells, of the
// inner cells in whose sample it is, and of its record.
func (x *Index) Refresh(servers int) float64 {
	servers = min(servers, x.world.Market.Len())
	sum := 0
	for i := range servers {
		id := network.NodeID(i) //nolint:gosec // below MaxNodes
		record := search.RecordOf(x.world.Net.PeerID(id))
		holders := x.world.Net.Closest(nil, network.Short(record.Key().Position()), search.Replicas)
		ad := x.world.Market.Ad(i)
		for _, name := range x.names {
			t := x.trees[name]
			k := x.schema.KeyOf(t.Tree, ad)
			key := binary.BigEndian.Uint64(k[:8])
			for c := t.root; c != nil; c = c.halves[key>>(63-c.id.Prefix.Level)&1] {
				if !c.inner || c.id.Prefix.Level%4 == 0 && slices.Contains(c.sample, id) {
					holders = append(holders, x.holders(c)...)
				}
				if !c.inner {
					break
				}
			}
		}
		slices.Sort(holders)
		sum += len(slices.Compact(holders))
	}
	return float64(sum) / float64(servers)
}
