package rival

import (
	"encoding/binary"
	"slices"
	"strconv"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/market"
	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/trial"
)

// An Index is what the rivals' index structures look like when every server
// has published: made from the market when asked for, and shared by those
// algorithms that are made with Index.New. It takes eight bytes a server and
// dimension that queries use. It belongs to one goroutine.
type Index struct {
	market  *market.Market
	net     *network.Network
	byHash  []uint32 // of each server, its place in the order of hashes
	columns map[string]*column
	tries   []*trie
	facets  []*facet
	kd      *kdTree
	renewed time.Duration // when the market was looked at
	changes uint64        // of the servers looked at, until then
}

// NewIndex returns an index of which nothing is built yet.
func NewIndex(world trial.World) *Index {
	return &Index{market: world.Market, net: world.Net, columns: make(map[string]*column)}
}

// renew drops what was built if the market has drifted for a renewal, so that
// it is built anew from what the servers have now: as if they had all renewed
// their ads at this moment. Queries under way keep what they have.
func (x *Index) renew() {
	now := x.net.Now()
	if now < x.renewed+renewal {
		return
	}
	x.renewed = now
	changes := uint64(0)
	for i := 0; i < x.market.Len(); i += max(1, x.market.Len()/driftSample) {
		changes += x.market.Seq(i)
	}
	if changes == x.changes {
		return
	}
	x.changes = changes
	clear(x.columns)
	x.tries, x.facets, x.kd = nil, nil, nil
}

// Bytes returns about how much memory the index takes.
func (x *Index) Bytes() int {
	total := 4 * len(x.byHash)
	for _, c := range x.columns {
		total += 4*len(c.order) + 4*len(c.rank)
	}
	for _, t := range x.tries {
		if t.keys != nil {
			total += 8*len(t.keys) + 4*len(t.order)
		}
	}
	for _, f := range x.facets {
		if f.pair {
			total += 4 * len(f.order)
		}
	}
	if x.kd != nil {
		total += 4*len(x.kd.servers) + 24*len(x.kd.nodes)
	}
	return total
}

// hashes returns the place of each server in the order of hashes.
func (x *Index) hashes() []uint32 {
	if x.byHash != nil {
		return x.byHash
	}
	type hashed struct {
		hash   uint64
		server uint32
	}
	all := make([]hashed, x.market.Len())
	for i := range all {
		h := search.HashOf(x.net.PeerID(network.NodeID(i)))
		all[i] = hashed{binary.BigEndian.Uint64(h[:]), uint32(i)}
	}
	slices.SortFunc(all, func(a, b hashed) int {
		if a.hash != b.hash {
			if a.hash < b.hash {
				return -1
			}
			return 1
		}
		return search.HashOf(x.net.PeerID(network.NodeID(a.server))).Compare(search.HashOf(x.net.PeerID(network.NodeID(b.server))))
	})
	x.byHash = make([]uint32, len(all))
	for place, h := range all {
		x.byHash[h.server] = uint32(place)
	}
	return x.byHash
}

// indexed tells whether the rivals have an index of a dimension: where the
// schema gives it a tree.
func (x *Index) indexed(dim string) bool {
	d, ok := x.market.Schema().Dimension(dim)
	return ok && d.Tree
}

// partNames are what the components of a place are called.
var partNames = [2]string{"lat", "lon"}

// column returns the column of a dimension, or of a part of it; the dimension
// must be in the schema.
func (x *Index) column(dim string, part int) *column {
	d, _ := x.market.Schema().Dimension(dim)
	name := dim
	switch d.Kind {
	case search.KindPlace:
		name += "/" + partNames[part]
	case search.KindCoordinate:
		name += "/" + strconv.Itoa(part)
	default:
	}
	c := x.columns[name]
	if c == nil {
		c = newColumn(x.market, name, d, part, x.hashes())
		x.columns[name] = c
	}
	return c
}

// parts returns how many columns a dimension has.
func parts(d search.Dimension) int {
	switch d.Kind {
	case search.KindPlace:
		return len(partNames)
	case search.KindCoordinate:
		return dht.CoordinateDims
	default:
		return 1
	}
}

// rings returns how many entries an ad has in an index with one order for each
// dimension, sets counted with two members.
func (x *Index) rings() (n int) {
	for _, d := range x.market.Schema().Dimensions() {
		switch {
		case !d.Tree:
		case d.Kind == search.KindSet:
			n += 2
		default:
			n += parts(d)
		}
	}
	return n
}

// keyOf returns where a record stands in Kademlia's metric.
func keyOf(label string) uint64 {
	return network.Short(dht.Keyspace("rival").Key([]byte(label)).Position())
}
