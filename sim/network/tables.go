package network

import "github.com/xenoserver/xeno/dht"

// tables are routing tables kept in memory: what derive draws at the start,
// then changed as nodes come and go.
type tables struct {
	n       *Network
	begin   []uint32 // of each node's entries, by node; one more at the end
	entry   []NodeID // by node, bucket after bucket
	buckets []uint8  // bucket of each entry
}

func (n *Network) newTables() *tables {
	t := &tables{n: n, begin: make([]uint32, len(n.hosts)+1)}
	size := uint32(0)
	for i := range n.hosts {
		for cpl := 0; cpl < 64 && !n.alone(NodeID(i), cpl); cpl++ {
			low, high := n.bucket(n.hosts[i].pos, cpl)
			size += uint32(min(high-low, dht.K))
		}
		t.begin[i+1] = size
	}
	// What grows as needed would be a quarter larger.
	t.entry, t.buckets = make([]NodeID, 0, size), make([]uint8, 0, size)
	for i := range n.hosts {
		for cpl := 0; cpl < 64 && !n.alone(NodeID(i), cpl); cpl++ {
			var drawn [dht.K]slot
			for _, s := range n.derive(&drawn, NodeID(i), cpl) {
				t.entry = append(t.entry, s.node)
				t.buckets = append(t.buckets, uint8(cpl))
			}
		}
	}
	return t
}

func (t *tables) bytes() int { return 4*len(t.begin) + 4*cap(t.entry) + cap(t.buckets) }

func (t *tables) entries(found *nearest, of NodeID, cpl int) {
	for i := t.begin[of]; i < t.begin[of+1]; i++ {
		if int(t.buckets[i]) == cpl {
			found.add(t.n.hosts[t.entry[i]].pos, t.entry[i])
		}
	}
}

// Replace puts a node in the place of another in a routing table, as Kademlia
// does when an entry did not answer and another of its bucket was met.
func (n *Network) Replace(of, dead, by NodeID) {
	t := n.tables
	if t == nil {
		return
	}
	for i := t.begin[of]; i < t.begin[of+1]; i++ {
		if t.entry[i] == dead {
			t.entry[i] = by
		}
	}
}
