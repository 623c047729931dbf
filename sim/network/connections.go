package network

import "time"

const (
	// handshakes is how many round trips a new connection takes before the first
	// request: one of the transport and one of its security, as TCP with TLS or
	// Noise does.
	handshakes = 2
	// idleAfter is when a connection that nobody used is closed: connection
	// managers of libp2p keep what was used within some minutes, as far as there
	// is room.
	idleAfter = 2 * time.Minute
	// sweepFrom is from how many connections on those that are closed are
	// forgotten, whenever there are twice as many as were left.
	sweepFrom = 1 << 16
)

// connections are those that are open, in a network where opening one costs.
type connections struct {
	open  map[uint64]connection
	sweep int // when there are as many, forget the closed ones
}

// A connection is open from ready on, until nobody used it for long enough.
type connection struct{ ready, used time.Duration }

func newConnections() *connections {
	return &connections{open: make(map[uint64]connection), sweep: sweepFrom}
}

// pair names a connection, whoever opened it.
func pair(a, b NodeID) uint64 { return uint64(min(a, b))<<32 | uint64(max(a, b)) }

// use returns how long a message has to wait for its connection.
func (c *connections) use(n *Network, from, to NodeID) time.Duration {
	key := pair(from, to)
	open, ok := c.open[key]
	if !ok || n.now > open.used+idleAfter {
		open.ready = n.now + handshakes*n.RTT(from, to)
	}
	open.used = max(n.now, open.ready)
	c.keep(n.now, key, open)
	return open.used - n.now
}

func (c *connections) keep(now time.Duration, key uint64, open connection) {
	if c.open[key] = open; len(c.open) < c.sweep {
		return
	}
	for key, open := range c.open { // in any order: what is kept does not depend on it
		if now > open.used+idleAfter {
			delete(c.open, key)
		}
	}
	c.sweep = max(sweepFrom, 2*len(c.open))
}

// Acquaint says that two nodes have a connection, because they talk all the
// time. Where connections cost nothing it does nothing.
func (n *Network) Acquaint(a, b NodeID) {
	if n.connections == nil || a == b {
		return
	}
	open := n.connections.open[pair(a, b)]
	if n.now > open.used+idleAfter {
		open.ready = n.now // not one that is being opened
	}
	open.used = max(n.now, open.ready)
	n.connections.keep(n.now, pair(a, b), open)
}
