// Package latency says how long a round trip takes: between sites, from a
// matrix file or from a fitted model of the world's cities, and between a node
// and the core of its site, its access link. The round trip time of two nodes
// is
//
//	access(a) + RTT(site of a, site of b) + access(b)
//
// where access is the node's part of a round trip, there and back. Embed gives
// every site the network coordinate that it would find for itself in
// production.
package latency
