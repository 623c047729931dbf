package node

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/xenoserver/xeno/dht"
)

// Init makes a home directory: identity, node.toml and network.toml. With
// cfg.Corp the directory becomes the XenoCorp of a new network: Network needs
// only a name then, and its network file is what the other participants get.
// Port 0 in Listen is replaced by a free port, so that the address outlives a
// restart. It refuses a directory that holds a participant already.
func Init(cfg Config) (Config, error) {
	if err := cfg.check(); err != nil {
		return cfg, err
	}
	if err := os.MkdirAll(cfg.Home, 0o700); err != nil {
		return cfg, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if err := os.Chmod(cfg.Home, 0o700); err != nil { //nolint:gosec // a directory
		return cfg, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if _, err := os.Stat(filepath.Join(cfg.Home, ConfigFile)); err == nil {
		return cfg, fmt.Errorf("%w: %s: %w; choose another directory", ErrConfig, cfg.Home, errHomeInUse)
	}
	key, err := createIdentity(cfg.Home)
	if err != nil {
		return cfg, err
	}
	if len(cfg.Listen) == 0 {
		cfg.Listen = []string{"/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"}
	}
	for i, a := range cfg.Listen {
		if cfg.Listen[i], err = fixPort(a); err != nil {
			return cfg, err
		}
	}
	if cfg.Corp != nil {
		cfg.Network.XenoCorp = idOf(key)
		cfg.Network.Bootstrap = nil
		for _, a := range cfg.Listen {
			cfg.Network.Bootstrap = append(cfg.Network.Bootstrap, a+"/p2p/"+idOf(key).String())
		}
	}
	if err := cfg.validate(); err != nil {
		return cfg, err
	}
	if err := cfg.Network.Save(cfg.Home); err != nil {
		return cfg, err
	}
	return cfg, cfg.Save()
}

// check tells what is wrong before anything is written.
func (c Config) check() error {
	if c.Corp != nil && c.Network.XenoCorp.IsZero() {
		c.Network.XenoCorp[0] = 1 // it is not known yet
	}
	return c.validate()
}

// ID returns the identity of the home directory.
func (c Config) ID() (dht.PeerID, error) {
	key, err := LoadIdentity(c.Home)
	if err != nil {
		return dht.PeerID{}, err
	}
	return idOf(key), nil
}

// fixPort replaces port 0 of an IP multiaddr by one that is free now.
func fixPort(addr string) (string, error) {
	parts := strings.Split(addr, "/")
	if len(parts) < 5 || parts[4] != "0" || (parts[1] != "ip4" && parts[1] != "ip6") {
		return addr, nil
	}
	host := net.JoinHostPort(parts[2], "0")
	var port int
	switch parts[3] {
	case "tcp":
		l, err := net.Listen("tcp", host)
		if err != nil {
			return "", fmt.Errorf("%w: listen %s: %w", ErrConfig, addr, err)
		}
		port = l.Addr().(*net.TCPAddr).Port
		_ = l.Close()
	case "udp":
		l, err := net.ListenPacket("udp", host)
		if err != nil {
			return "", fmt.Errorf("%w: listen %s: %w", ErrConfig, addr, err)
		}
		port = l.LocalAddr().(*net.UDPAddr).Port
		_ = l.Close()
	default:
		return addr, nil
	}
	parts[4] = strconv.Itoa(port)
	return strings.Join(parts, "/"), nil
}
