package network

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
	"sort"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// Short returns the leading 64 bits of a position, in which all distances here
// are measured: among 2^24 nodes two share them once in 100,000 networks.
func Short(p dht.Position) uint64 { return binary.BigEndian.Uint64(p[:8]) }

// Closest appends to out the count live nodes nearest to key: the truth, which
// nobody knows.
func (n *Network) Closest(out []NodeID, key uint64, count int) []NodeID {
	want := len(out) + count
	n.walk(0, len(n.sorted), 63, key, func(id NodeID) bool {
		if n.Answers(id) {
			out = append(out, id)
		}
		return len(out) < want
	})
	return out
}

// walk visits the slots low to high, which agree above a bit, in the order of
// their distance to key, until visit returns false.
func (n *Network) walk(low, high, bit int, key uint64, visit func(NodeID) bool) bool {
	if low >= high {
		return true
	}
	if high-low == 1 {
		return visit(n.sorted[low].node)
	}
	mid := n.split(low, high, bit)
	if key>>bit&1 == 0 {
		return n.walk(low, mid, bit-1, key, visit) && n.walk(mid, high, bit-1, key, visit)
	}
	return n.walk(mid, high, bit-1, key, visit) && n.walk(low, mid, bit-1, key, visit)
}

// split returns the first of the slots low to high, which agree above a bit,
// that has the bit.
func (n *Network) split(low, high, bit int) int {
	return low + sort.Search(high-low, func(i int) bool { return n.sorted[low+i].pos>>bit&1 == 1 })
}

// first returns the first slot at or behind a position.
func (n *Network) first(pos uint64) int {
	at := pos >> (64 - indexBits)
	low, high := int(n.index[at]), int(n.index[at+1])
	if pos<<indexBits == 0 {
		return low // where a prefix begins, as most buckets do
	}
	for low < high {
		if mid := (low + high) / 2; n.sorted[mid].pos < pos {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

// bucket returns the slots that share exactly cpl leading bits with pos.
func (n *Network) bucket(pos uint64, cpl int) (low, high int) {
	prefix := pos>>(63-cpl) ^ 1
	low = n.first(prefix << (63 - cpl))
	if prefix == 1<<(cpl+1)-1 {
		return low, len(n.sorted)
	}
	return low, n.first((prefix + 1) << (63 - cpl))
}

// A near is a node at its distance from a key.
type near struct {
	distance uint64
	node     NodeID
}

// nearest gathers nodes and keeps those with the least distances, in order.
type nearest struct {
	key  uint64
	list [dht.K]near
	n    int
	most int
}

func (l *nearest) add(pos uint64, node NodeID) {
	d := pos ^ l.key
	if l.n == l.most {
		if l.list[l.n-1].distance <= d {
			return
		}
		l.n--
	}
	i := l.n
	for ; i > 0 && l.list[i-1].distance > d; i-- {
		l.list[i] = l.list[i-1]
	}
	l.list[i] = near{d, node}
	l.n++
}

// Nearest appends to out what a node knows: the count entries, at most dht.K,
// of its routing table nearest to key, nearest first.
func (n *Network) Nearest(out []NodeID, of NodeID, key uint64, count int) []NodeID {
	found := nearest{key: key, most: min(count, dht.K)}
	n.consult(&found, of)
	for _, c := range found.list[:found.n] {
		out = append(out, c.node)
	}
	return out
}

// consult adds what a node knows.
func (n *Network) consult(found *nearest, of NodeID) {
	key := found.key
	at := min(bits.LeadingZeros64(n.hosts[of].pos^key), 63)
	// First those that agree with key in one bit more than the node itself,
	// then those of the buckets nearer to the node, then the farther ones:
	// each group is farther from key than the one before.
	n.entries(found, of, at)
	if found.n < found.most {
		for cpl, end := at+1, n.depth(of); cpl < end; cpl++ {
			n.entries(found, of, cpl)
		}
	}
	for cpl := at - 1; cpl >= 0 && found.n < found.most; cpl-- {
		n.entries(found, of, cpl)
	}
}

// depth returns how many buckets a node has: nobody shares more leading bits
// with it.
func (n *Network) depth(of NodeID) int {
	pos := n.hosts[of].pos
	at, most := n.first(pos), -1
	if at > 0 {
		most = bits.LeadingZeros64(n.sorted[at-1].pos ^ pos)
	}
	if at+1 < len(n.sorted) {
		most = max(most, bits.LeadingZeros64(n.sorted[at+1].pos^pos))
	}
	return min(most+1, 64)
}

// entries adds a bucket of a node's routing table.
func (n *Network) entries(found *nearest, of NodeID, cpl int) {
	if n.tables != nil {
		n.tables.entries(found, of, cpl)
		return
	}
	var drawn [dht.K]slot
	for _, s := range n.derive(&drawn, of, cpl) {
		found.add(s.pos, s.node)
	}
}

// derive draws a bucket into drawn: all nodes that belong there, or K of them,
// always the same.
func (n *Network) derive(drawn *[dht.K]slot, of NodeID, cpl int) []slot {
	pos := n.hosts[of].pos
	low, high := n.bucket(pos, cpl)
	if high-low <= dht.K {
		return n.sorted[low:high]
	}
	// Places first, slots then: reads that do not wait for each other come
	// from memory at once.
	var places [dht.K]int
	var met uint64 // a filter of places: most draws need no search
	draw := pos ^ uint64(cpl)*golden
	for i := 0; i < dht.K; {
		draw += golden
		over, _ := bits.Mul64(mix(draw), uint64(high-low))
		at := low + int(over)
		bit := uint64(1) << (at & 63)
		if met&bit != 0 && slices.Contains(places[:i], at) {
			continue
		}
		met |= bit
		places[i] = at
		i++
	}
	for i, at := range places {
		drawn[i] = n.sorted[at]
	}
	return drawn[:]
}

// golden is 2^64 over the golden ratio, the step of SplitMix64 (Steele, Lea,
// Flood, 2014); mix is its output function.
const golden = 0x9e3779b97f4a7c15

func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Neighbours returns the count nodes of a routing table that answer and to
// which round trips are shortest, nearest first.
func (n *Network) Neighbours(of NodeID, count int) []NodeID {
	var known []NodeID
	for cpl := range n.depth(of) {
		found := nearest{key: n.hosts[of].pos, most: dht.K}
		n.entries(&found, of, cpl)
		for _, c := range found.list[:found.n] {
			if n.Answers(c.node) && n.Together(of, c.node) {
				known = append(known, c.node)
			}
		}
	}
	slices.SortStableFunc(known, func(a, b NodeID) int { return cmp.Compare(n.RTT(of, a), n.RTT(of, b)) })
	return known[:min(count, len(known))]
}

// start is when virtual time began, for machines that want a date.
var start = time.Unix(1_800_000_000, 0)

// Clock returns the date for the machines of production code.
func (n *Network) Clock() time.Time { return start.Add(n.Now()) }

// Lookup finds the want live nodes closest to a key as production does, with
// dht.Lookup over the routing tables. done gets them nearest first, and how
// many messages it took.
func (n *Network) Lookup(from NodeID, key dht.Position, want int, done func(nearest []NodeID, requests int)) {
	seeds := n.Nearest(nil, from, Short(key), dht.K)
	cfg := dht.LookupConfig{Target: key, Want: want, Timeout: n.cfg.Timeout, Self: dht.Contact{ID: n.PeerID(from)}}
	for _, s := range seeds {
		cfg.Seeds = append(cfg.Seeds, dht.Contact{ID: n.PeerID(s)})
	}
	l := &lookup{n: n, from: from, key: Short(key), machine: dht.NewLookup(cfg), done: done}
	l.step(dht.LookupStart{})
}

// A lookup carries out what one dht.Lookup wants.
type lookup struct {
	n       *Network
	from    NodeID
	key     uint64
	machine *dht.Lookup
	due     time.Duration // when a tick is planned, 0 none
	done    func(nearest []NodeID, requests int)
}

func (l *lookup) step(in dht.LookupInput) {
	n := l.n
	for _, e := range l.machine.Step(n.Clock(), in) {
		switch e := e.(type) {
		case dht.LookupQuery:
			l.ask(e.To.ID)
		case dht.LookupDone:
			nearest := make([]NodeID, 0, len(e.Nearest))
			for _, c := range e.Nearest {
				if id, ok := n.NodeOf(c.ID); ok {
					nearest = append(nearest, id)
				}
			}
			l.done(nearest, l.machine.Requests())
			return
		}
	}
	if at, ok := l.machine.Deadline(); ok {
		due := at.Sub(start)
		if l.due > n.Now() && l.due <= due {
			return
		}
		l.due = due
		n.After(due-n.Now(), func() { l.step(dht.LookupTick{}) })
	}
}

func (l *lookup) ask(peer dht.PeerID) {
	to, ok := l.n.NodeOf(peer)
	if !ok {
		l.n.After(l.n.cfg.Timeout, func() { l.step(dht.LookupFailure{From: peer}) })
		return
	}
	var known []NodeID
	l.n.Request(l.from, to, func() { known = l.n.Nearest(nil, to, l.key, dht.K) }, func(ok bool) {
		if !ok {
			l.step(dht.LookupFailure{From: peer})
			return
		}
		answer := dht.LookupAnswer{From: peer}
		for _, k := range known {
			answer.Contacts = append(answer.Contacts, dht.Contact{ID: l.n.PeerID(k)})
		}
		l.step(answer)
	})
}
