package network

import (
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// tables are routing tables kept in memory: what derive draws at the start,
// then changed as nodes come and go.
type tables struct {
	n       *Network
	begin   []uint32        // of each node's entries, by node; one more at the end
	entry   []NodeID        // by node, bucket after bucket
	buckets []uint8         // bucket of each entry
	left    []time.Duration // when a node that is dead died, by node
}

// noticed is how long a connection that carries nothing any more is taken for
// one that does, as of QUIC.
const noticed = 30 * time.Second

func (n *Network) newTables() *tables {
	t := &tables{n: n, begin: make([]uint32, len(n.hosts)+1), left: make([]time.Duration, len(n.hosts))}
	size := uint32(0)
	for i := range n.hosts {
		for cpl := range n.depth(NodeID(i)) {
			low, high := n.bucket(n.hosts[i].pos, cpl)
			size += uint32(min(high-low, dht.K))
		}
		t.begin[i+1] = size
	}
	// What grows as needed would be a quarter larger.
	t.entry, t.buckets = make([]NodeID, 0, size), make([]uint8, 0, size)
	for i := range n.hosts {
		for cpl := range n.depth(NodeID(i)) {
			var drawn [dht.K]slot
			for _, s := range n.derive(&drawn, NodeID(i), cpl) {
				t.entry = append(t.entry, s.node)
				t.buckets = append(t.buckets, uint8(cpl))
			}
		}
	}
	return t
}

func (t *tables) bytes() int {
	return 4*len(t.begin) + 4*cap(t.entry) + cap(t.buckets) + 8*len(t.left)
}

// entries adds those of a bucket to whom there is a connection, as far as the
// node knows.
func (t *tables) entries(found *nearest, of NodeID, cpl int) {
	for i := t.begin[of]; i < t.begin[of+1]; i++ {
		if int(t.buckets[i]) != cpl {
			continue
		}
		if t.ended(of, t.entry[i]) {
			t.repair(of, t.entry[i])
		}
		if e := t.entry[i]; !t.ended(of, e) {
			found.add(t.n.hosts[e].pos, e)
		}
	}
}

// ended tells whether a node knows that its connection to another one is over.
// Those that could never be reached stand in tables nevertheless.
func (t *tables) ended(of, other NodeID) bool {
	n := t.n
	return !n.Alive(other) && n.now-t.left[other] >= noticed || !n.Together(of, other) && n.now-n.cutAt >= noticed
}

// repairTries bounds the search for a node in the place of a silent one: that
// none of as many answers is rare even where most are gone.
const repairTries = 8

// repair lets a node that got no answer put another of the same bucket in the
// place of the silent one, as Kademlia does with those that it met since. Where
// all of a bucket are known, or nobody is found, the entry stays, and counts
// again when the silent one is back.
func (t *tables) repair(of, silent NodeID) {
	n := t.n
	own := t.entry[t.begin[of]:t.begin[of+1]]
	at := slices.Index(own, silent)
	if at < 0 {
		return
	}
	low, high := n.bucket(n.hosts[of].pos, int(t.buckets[int(t.begin[of])+at]))
	if high-low <= dht.K {
		return
	}
	for range repairTries {
		met := n.sorted[low+n.rng.IntN(high-low)].node
		if n.Answers(met) && n.Together(of, met) && !slices.Contains(own, met) {
			own[at] = met
			return
		}
	}
}
