// Package node composes one participant of a Xeno network: the overlay, the
// search index, XenoStore, what it sells, what it buys and, on the network's
// trusted third party, XenoCorp itself. The daemon xeno-node is one Node, and
// so is the Node that a Go program embeds:
//
//	n, err := node.New(ctx, node.Config{Home: dir})
//
// # A home directory
//
//	network.toml   which network: name, XenoCorp, bootstrap peers (mode 0644)
//	node.toml      what this participant is (mode 0644)
//	identity.pem   Ed25519 private key, PKCS #8 (mode 0600)
//	credential     what XenoCorp certified about it, a ledger envelope
//	revocations    the newest list of revoked credentials, a ledger envelope
//	api.sock       the local API, while the daemon runs
//	corp/ sessions/ store/ env/   state of the services
package node
