package kad

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p"

	"github.com/xenoserver/xeno/dht"
)

// Config says which overlay to join, as whom and how. Key, Network and Gate
// must be given; the zero value of everything else is a quiet node that
// listens nowhere.
type Config struct {
	// Key is the node's identity, 64 bytes.
	Key ed25519.PrivateKey
	// Listen are the multiaddrs to listen on, for example
	// "/ip4/127.0.0.1/udp/0/quic-v1". None: the node can dial, and be reached
	// only by those it dialled. No default, so that nobody listens on a public
	// address without having written it down.
	Listen []string
	// Bootstrap are full multiaddrs, with /p2p/, of participants to join
	// through. They are dialled again whenever the node is alone.
	Bootstrap []string
	// Network is the name of the network, 1 to 64 of a-z, 0-9 and "-"; the
	// protocols of the DHT begin with /xeno/<network>.
	Network string
	// Gate decides who is admitted.
	Gate Gate
	// Server makes the node a member of the others' routing tables. A node
	// without it uses the DHT and holds no part of it.
	Server bool
	// MDNS finds participants on the local network, and is found by them.
	MDNS bool
	// AutoNAT lets other participants tell this one whether it can be reached
	// from outside, and does the same for them.
	AutoNAT bool
	// Relay uses admitted participants as relays while the node cannot be
	// reached from outside, and is one for admitted participants when it can.
	// It includes AutoNAT.
	Relay bool
	// HolePunch upgrades relayed connections to direct ones. It includes
	// AutoNAT.
	HolePunch bool
	// Registrar keeps connections to peers that are not admitted for two
	// minutes instead of ten seconds, for the protocols of HandleOpen.
	Registrar bool
	// PrivateConns is how many connections each of the private, link-local and
	// carrier (RFC 6598) networks may hold, all its addresses together; 0 means
	// 1024. A public address may hold 8, loopback any number.
	PrivateConns int
	// Datastore keeps the provider records; nil means in memory. It is closed
	// by its owner, after the overlay.
	Datastore ds.Batching
	// Logger receives what an operator may want to know; nil means nobody.
	Logger *slog.Logger
	// Transport replaces QUIC and TCP, in tests.
	Transport func() []libp2p.Option
}

// A Gate decides who is admitted. Credentials are opaque here.
type Gate struct {
	// Credential returns the node's own, nil while it has none. It is called
	// for every new connection.
	Credential func() []byte
	// Admit returns until when a peer with that credential (empty if it shows
	// none) is admitted, or why it is not: the text of the error is sent to
	// the peer. A time in the past is a refusal. Calls may be concurrent; they
	// should take less than a millisecond.
	Admit func(peer dht.PeerID, credential []byte) (until time.Time, err error)
}

// validate names the field at fault, and fills in defaults.
func (c *Config) validate() error {
	if len(c.Key) != ed25519.PrivateKeySize {
		return fmt.Errorf("kad: config: key of %d bytes, expected %d", len(c.Key), ed25519.PrivateKeySize)
	}
	if err := checkNetwork(c.Network); err != nil {
		return fmt.Errorf("kad: config: %w", err)
	}
	if c.Gate.Admit == nil || c.Gate.Credential == nil {
		return errors.New("kad: config: gate without Admit or Credential")
	}
	if c.PrivateConns < 0 {
		return fmt.Errorf("kad: config: %d connections a private network", c.PrivateConns)
	}
	if c.PrivateConns == 0 {
		c.PrivateConns = 1024
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.AutoNAT = c.AutoNAT || c.Relay || c.HolePunch
	return nil
}

func checkNetwork(name string) error {
	if len(name) < 1 || len(name) > 64 {
		return fmt.Errorf("network name of %d characters, expected 1 to 64", len(name))
	}
	for _, r := range name {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
			return fmt.Errorf("network name %q: only a-z, 0-9 and - are allowed", name)
		}
	}
	return nil
}

// bootstrapContacts reads the configured addresses, those of one peer
// together.
func (c *Config) bootstrapContacts() ([]dht.Contact, error) {
	var contacts []dht.Contact
	index := make(map[dht.PeerID]int)
	for _, s := range c.Bootstrap {
		contact, err := dht.ParseContact(s)
		if err != nil {
			return nil, fmt.Errorf("kad: config: bootstrap: %w", err)
		}
		if _, err := toAddrInfo(contact); err != nil {
			return nil, fmt.Errorf("kad: config: bootstrap: %w", err)
		}
		if i, ok := index[contact.ID]; ok {
			contacts[i].Addrs = append(contacts[i].Addrs, contact.Addrs...)
			continue
		}
		index[contact.ID] = len(contacts)
		contacts = append(contacts, contact)
	}
	return contacts, nil
}
