package dht

import "time"

const (
	// K is Kademlia's bucket size and the most contacts that one answer may
	// carry: 20, as in the paper and in go-libp2p-kad-dht.
	K = 20
	// MaxAddrs bounds the addresses of a contact: a host with two transports
	// on a handful of interfaces and a relay stays below it.
	MaxAddrs = 16
	// MaxAddrBytes bounds the text of one address: a relayed WebTransport
	// address with two certificate hashes takes about 400.
	MaxAddrBytes = 512
)

const (
	// maxCoordinate bounds every part of a coordinate, in seconds: no honest
	// one is farther out than the longest round trip that is measured.
	maxCoordinate = 10.0
	// maxRTT is the longest round trip that tells about the network rather
	// than about a busy host.
	maxRTT = 10 * time.Second
	// maxForce bounds how far, in seconds, one observation moves a
	// coordinate, so that a liar cannot throw a peer around: a quarter of
	// the longest round trip on the Internet proper.
	maxForce = 0.1
	// maxMedianPeers bounds the peers whose last round trip times are kept:
	// more than a routing table holds; 100 bytes each.
	maxMedianPeers = 1024
)

const (
	// MaxLookupWant bounds how many nearest contacts a lookup can look for.
	MaxLookupWant = K
	// lookupSpare is how many requests beyond three for each wanted contact a
	// lookup may send: enough for 60 dead peers in a row; without a bound, an
	// answerer that invents peers could keep a lookup going for ever.
	lookupSpare = 60
	// maxCandidates bounds the contacts a lookup remembers, the nearest first:
	// 16 full answers.
	maxCandidates = 16 * K
)
