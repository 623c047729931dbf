package kad

import "sync/atomic"

// Stats are figures for an operator. Those of the second group only grow.
type Stats struct {
	Peers     int // connected and admitted
	Strangers int // connected and not admitted
	Routing   int // members of the routing table

	Served  uint64 // requests answered, with an error or without
	Busy    uint64 // requests and streams turned away because too many were under way
	Gated   uint64 // streams of peers that are not admitted
	Lookups uint64 // lookups begun
}

// counters are the second group.
type counters struct{ served, busy, gated, lookups atomic.Uint64 }

// Stats returns the figures of this moment.
func (o *Overlay) Stats() Stats {
	peers, strangers := o.gate.count()
	return Stats{
		Peers: peers, Strangers: strangers, Routing: o.dht.RoutingTable().Size(),
		Served: o.counts.served.Load(), Busy: o.counts.busy.Load(),
		Gated: o.counts.gated.Load(), Lookups: o.counts.lookups.Load(),
	}
}
