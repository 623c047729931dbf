package network

// tables are routing tables kept in memory: what derive draws at the start,
// then changed as nodes come and go.
type tables struct {
	n       *Network
	begin   []uint32 // of each node's entries, by node; one more at the end
	entry   []NodeID // by node, bucket after bucket
	buckets []uint8  // bucket of each entry
}

func (n *Network) newTables() *tables {
	t := &tables{n: n, begin: make([]uint32, len(n.pos)+1)}
	for i := range n.pos {
		for cpl := range 64 {
			if n.alone(NodeID(i), cpl) {
				break
			}
			n.derive(NodeID(i), cpl, func(_ uint64, node NodeID) {
				t.entry = append(t.entry, node)
				t.buckets = append(t.buckets, uint8(cpl))
			})
		}
		t.begin[i+1] = uint32(len(t.entry))
	}
	return t
}

func (t *tables) bytes() int { return 4*len(t.begin) + 4*cap(t.entry) + cap(t.buckets) }

func (t *tables) entries(found *nearest, of NodeID, cpl int) {
	for i := t.begin[of]; i < t.begin[of+1]; i++ {
		if int(t.buckets[i]) == cpl {
			found.add(t.n.pos[t.entry[i]], t.entry[i])
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
