package dht

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
