package node

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/multiformats/go-multiaddr"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad"
)

// maxAddresses bounds the addresses of one key: each is a socket, or is dialled
// when the node joins.
const maxAddresses = 64

// checkListen tells whether a node can listen on a multiaddr of that form: QUIC
// or TCP on an IP address.
func checkListen(addr string) error {
	a, err := multiaddr.NewMultiaddr(addr)
	if err != nil {
		return fmt.Errorf("%w: listen %.200q: %w (write such as /ip4/192.0.2.1/udp/4001/quic-v1)", ErrConfig, addr, err)
	}
	var names []string
	for _, p := range a.Protocols() {
		names = append(names, p.Name)
	}
	if len(names) > 0 && names[0] == "ip6zone" {
		names = names[1:]
	}
	ip := len(names) > 0 && (names[0] == "ip4" || names[0] == "ip6")
	if !ip || !slices.Equal(names[1:], []string{"tcp"}) && !slices.Equal(names[1:], []string{"udp", "quic-v1"}) {
		return fmt.Errorf("%w: listen %.200q: neither QUIC nor TCP on an IP address (write such as /ip4/192.0.2.1/udp/4001/quic-v1)", ErrConfig, addr)
	}
	return nil
}

// checkBootstrap tells whether addr names a participant and how to dial it.
func checkBootstrap(addr string) error {
	c, err := dht.ParseContact(addr)
	if err == nil && len(c.Addrs) == 0 {
		err = errors.New("no address before /p2p/")
	}
	for _, a := range c.Addrs {
		if err == nil {
			_, err = multiaddr.NewMultiaddr(a)
		}
	}
	if err != nil {
		return fmt.Errorf("%w: bootstrap %.200q: %w (write such as /ip4/192.0.2.1/udp/4001/quic-v1/p2p/12D3KooW…)", ErrConfig, addr, err)
	}
	return nil
}

// checkAddresses checks the addresses of node.toml.
func (c *Config) checkAddresses() error {
	if len(c.Listen) > maxAddresses || len(c.Bootstrap) > maxAddresses {
		return fmt.Errorf("%w: %d addresses in listen, %d in bootstrap: at most %d", ErrConfig, len(c.Listen), len(c.Bootstrap), maxAddresses)
	}
	for _, a := range c.Listen {
		if err := checkListen(a); err != nil {
			return err
		}
	}
	for _, a := range c.Bootstrap {
		if err := checkBootstrap(a); err != nil {
			return err
		}
	}
	return nil
}

// listenError tells which file to correct where the overlay cannot listen on an
// address. One that another program has taken is no fault of the file: it may
// be free at the next start.
func (c *Config) listenError(err error) error {
	if !errors.Is(err, kad.ErrListen) || strings.Contains(err.Error(), "address already in use") {
		return err
	}
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	return fmt.Errorf("%s: %w: listen: this machine cannot listen there: %s", filepath.Join(c.Home, ConfigFile), ErrConfig, text)
}
