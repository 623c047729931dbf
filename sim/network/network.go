// Package network is an overlay of participants in memory under virtual time:
// their positions in Kademlia's metric, their routing tables, the latency
// between them, losses and deaths. It is deterministic: the same Config gives
// the same events, byte by byte, on every machine.
package network

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// A NodeID numbers a participant, from 0.
type NodeID uint32

// Latency says how far sites are from each other.
type Latency interface {
	// Sites is how many there are.
	Sites() int
	// RTT is the round trip time between two sites, access links not
	// included. It need not be symmetric.
	RTT(a, b int) time.Duration
}

// Config describes a network. Nodes and Latency must be given.
type Config struct {
	Nodes   int
	Seed    uint64
	Latency Latency
	// Site places a node; nil spreads them evenly over the sites.
	Site func(rng *rand.Rand) int
	// Access is the round trip time that a node's own link adds; nil: none.
	Access func(rng *rand.Rand) time.Duration
	// Jitter is the standard deviation of the logarithm of each message's
	// delay; 0.1 makes every sixth one a tenth slower or more.
	Jitter float64
	// Loss is the part of messages that are lost, each way.
	Loss float64
	// Unreachable is the part of nodes that stand in routing tables and never
	// answer, as behind a NAT.
	Unreachable float64
	// Identity gives a node the identity of a participant elsewhere, so that it
	// stands where that one does; no two may be the same. nil: its number and
	// the seed.
	Identity func(id NodeID) dht.PeerID
	// Timeout is when a request without an answer has failed; 0 means 2 s.
	Timeout time.Duration
	// Maintained keeps every routing table in memory and under churn as
	// Kademlia does over connections: who is silent for half a minute is left
	// out. Otherwise tables are derived from the seed when asked for, which costs
	// no memory.
	Maintained bool
	// Handshakes lets the first message between two nodes wait for their
	// connection, two round trips, and again when they did not talk for two
	// minutes. Otherwise all connections are open.
	Handshakes bool
}

// A Network is the participants and what is on its way between them.
type Network struct {
	Engine
	cfg    Config
	rng    *rand.Rand // of what happens while it runs
	hosts  []host
	sorted []slot   // by position
	index  []uint32 // first slot of every prefix of indexBits, and the end
	load   []uint32 // messages received
	tables *tables  // nil: derived
	cut    bool     // some are cut off from the others
	cutAt  time.Duration

	connections *connections // nil: all are open

	ids    []dht.PeerID // nil: made up
	nodes  map[dht.PeerID]NodeID
	sent   uint64
	lost   uint64
	spare  []*message // to be used again
	probes []*probe   // the same
}

// A host is what messages look at of a node, in a quarter of a cache line.
type host struct {
	pos    uint64
	site   uint16
	access uint16 // units of accessUnit
	state  uint8
	apart  bool // cut off from the others
}

// A slot is a node at its position.
type slot struct {
	pos  uint64
	node NodeID
}

const (
	// accessUnit is the resolution of access links: 16 bits reach 655 ms.
	accessUnit = 10 * time.Microsecond
	// MaxNodes bounds a network: a node takes about 40 bytes here, and with
	// maintained tables 1.4 KB among 100,000, 1.7 KB among a million.
	MaxNodes = 1 << 24
	// indexBits is how many leading bits of a position an index resolves, so
	// that a search among a million slots looks at four.
	indexBits = 16
)

// States of a node, as bits.
const (
	stateDead uint8 = 1 << iota
	stateUnreachable
)

// ErrBadConfig reports a configuration that contradicts itself.
var ErrBadConfig = errors.New("network: bad configuration")

func (c *Config) validate() error {
	switch {
	case c.Nodes < 1 || c.Nodes > MaxNodes:
		return fmt.Errorf("%w: %d nodes, expected 1 to %d", ErrBadConfig, c.Nodes, MaxNodes)
	case c.Latency == nil || c.Latency.Sites() < 1 || c.Latency.Sites() > math.MaxUint16:
		return fmt.Errorf("%w: a latency model of 1 to %d sites is needed", ErrBadConfig, math.MaxUint16)
	case !(c.Jitter >= 0 && c.Jitter <= 2):
		return fmt.Errorf("%w: jitter %g, expected 0 to 2", ErrBadConfig, c.Jitter)
	case !(c.Loss >= 0 && c.Loss < 1):
		return fmt.Errorf("%w: loss %g, expected 0 to below 1", ErrBadConfig, c.Loss)
	case !(c.Unreachable >= 0 && c.Unreachable < 1):
		return fmt.Errorf("%w: unreachable %g, expected 0 to below 1", ErrBadConfig, c.Unreachable)
	}
	c.Timeout = cmp.Or(c.Timeout, 2*time.Second)
	return nil
}

// New returns a network at rest. The error wraps ErrBadConfig.
func New(cfg Config) (*Network, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	n := &Network{
		cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0x6e6574)),
		hosts: make([]host, cfg.Nodes), sorted: make([]slot, cfg.Nodes), load: make([]uint32, cfg.Nodes),
	}
	if err := n.identify(); err != nil {
		return nil, err
	}
	made := rand.New(rand.NewPCG(cfg.Seed, 0x6e6f6465))
	for i := range cfg.Nodes {
		p := n.PeerID(NodeID(i)).Position()
		h := &n.hosts[i]
		h.pos = Short(p)
		n.sorted[i] = slot{h.pos, NodeID(i)}
		if cfg.Site != nil {
			h.site = uint16(cfg.Site(made))
		} else {
			h.site = uint16(made.IntN(cfg.Latency.Sites()))
		}
		if cfg.Access != nil {
			h.access = uint16(min(cfg.Access(made)/accessUnit, math.MaxUint16))
		}
		if cfg.Unreachable > 0 && made.Float64() < cfg.Unreachable {
			h.state = stateUnreachable
		}
	}
	slices.SortFunc(n.sorted, func(a, b slot) int { return cmp.Compare(a.pos, b.pos) })
	n.index = make([]uint32, 1<<indexBits+1)
	for i, at := 0, 0; i < len(n.index); i++ {
		for at < len(n.sorted) && n.sorted[at].pos>>(64-indexBits) < uint64(i) {
			at++
		}
		n.index[i] = uint32(at)
	}
	if cfg.Handshakes {
		n.connections = newConnections()
	}
	if cfg.Maintained {
		n.tables = n.newTables()
	}
	return n, nil
}

// Len returns how many nodes there are.
func (n *Network) Len() int { return len(n.hosts) }

// identify asks for the identities that are given.
func (n *Network) identify() error {
	if n.cfg.Identity == nil {
		return nil
	}
	n.ids, n.nodes = make([]dht.PeerID, len(n.hosts)), make(map[dht.PeerID]NodeID, len(n.hosts))
	for i := range n.ids {
		p := n.cfg.Identity(NodeID(i))
		if same, ok := n.nodes[p]; ok {
			return fmt.Errorf("%w: nodes %d and %d are both %s", ErrBadConfig, same, i, p)
		}
		n.ids[i], n.nodes[p] = p, NodeID(i)
	}
	return nil
}

// PeerID returns a node's identity: the one that was given to it, or its
// number and the seed.
func (n *Network) PeerID(id NodeID) (p dht.PeerID) {
	if n.ids != nil {
		return n.ids[id]
	}
	binary.BigEndian.PutUint32(p[:4], uint32(id)+1)
	binary.BigEndian.PutUint64(p[4:12], n.cfg.Seed)
	return p
}

// NodeOf returns the node of an identity.
func (n *Network) NodeOf(p dht.PeerID) (NodeID, bool) {
	if n.ids != nil {
		id, ok := n.nodes[p]
		return id, ok
	}
	id := binary.BigEndian.Uint32(p[:4]) - 1
	return NodeID(id), int64(id) < int64(len(n.hosts))
}

// Position returns the leading 64 bits of where a node stands.
func (n *Network) Position(id NodeID) uint64 { return n.hosts[id].pos }

// Site returns where a node is.
func (n *Network) Site(id NodeID) int { return int(n.hosts[id].site) }

// Access returns the round trip time of a node's own link.
func (n *Network) Access(id NodeID) time.Duration {
	return time.Duration(n.hosts[id].access) * accessUnit
}

// Alive tells whether a node is up.
func (n *Network) Alive(id NodeID) bool { return n.hosts[id].state&stateDead == 0 }

// Answers tells whether a node is up and can be reached.
func (n *Network) Answers(id NodeID) bool { return n.hosts[id].state == 0 }

// Kill lets a node die at once.
func (n *Network) Kill(id NodeID) {
	n.hosts[id].state |= stateDead
	if n.tables != nil {
		n.tables.left[id] = n.now
	}
}

// Revive brings a node back.
func (n *Network) Revive(id NodeID) { n.hosts[id].state &^= stateDead }

// Cut loses every message between these nodes and the others from now on, in
// place of an earlier cut; nobody: all are together again.
func (n *Network) Cut(nodes []NodeID) {
	for i := range n.hosts {
		n.hosts[i].apart = false
	}
	n.cut, n.cutAt = len(nodes) > 0, n.now
	for _, id := range nodes {
		n.hosts[id].apart = true
	}
}

// Together tells whether messages between two nodes can arrive.
func (n *Network) Together(a, b NodeID) bool { return !n.cut || n.hosts[a].apart == n.hosts[b].apart }

// Loads returns how many messages each node received. The caller must not
// change it.
func (n *Network) Loads() []uint32 { return n.load }

// ResetLoads begins to count anew.
func (n *Network) ResetLoads() { clear(n.load) }

// Sent returns how many requests were sent in all, and how many were lost.
func (n *Network) Sent() (sent, lost uint64) { return n.sent, n.lost }

// Bytes returns how much memory the nodes and their tables take.
func (n *Network) Bytes() int {
	const each = 16 + 16 + 4 // host, slot, load
	size := each*len(n.hosts) + 4*len(n.index)
	if n.tables != nil {
		size += n.tables.bytes()
	}
	if n.connections != nil {
		const connection = 2 * (8 + 16) // and its entry of a map half full
		size += connection * len(n.connections.open)
	}
	const named = 32 + 2*(32+4) // an identity, and its entry of a map half full
	return size + named*len(n.ids)
}

// RTT returns the round trip time between two nodes without jitter.
func (n *Network) RTT(a, b NodeID) time.Duration {
	if a == b {
		return 0
	}
	x, y := &n.hosts[a], &n.hosts[b]
	return n.cfg.Latency.RTT(int(x.site), int(y.site)) + time.Duration(x.access)*accessUnit + time.Duration(y.access)*accessUnit
}

// delay returns how long one message takes.
func (n *Network) delay(a, b NodeID) time.Duration {
	d := n.RTT(a, b) / 2
	if n.cfg.Jitter == 0 {
		return d
	}
	return time.Duration(float64(d) * math.Exp(n.rng.NormFloat64()*n.cfg.Jitter))
}
