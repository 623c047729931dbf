package node

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/internal/stricttoml"
)

// NetworkFile is the name of the network file in a home directory.
const NetworkFile = "network.toml"

// maxConfigFile bounds what is read of a configuration file.
const maxConfigFile = 1 << 20

// ErrConfig reports a configuration that cannot be used; the text names the
// file, the place and the remedy.
var ErrConfig = errors.New("node: configuration")

// A Network names one deployment of the platform. It is the same file on every
// participant; whoever holds it knows whom to trust.
type Network struct {
	// Name separates this network from all others; 1 to 40 of [a-z0-9-].
	Name string `toml:"name"`
	// Currency is the unit of its money, for people.
	Currency string `toml:"currency"`
	// XenoCorp is the peer ID of the trusted third party.
	XenoCorp dht.PeerID `toml:"xenocorp"`
	// Bootstrap are multiaddrs with /p2p/, XenoCorp's among them, by which a
	// participant joins.
	Bootstrap []string `toml:"bootstrap"`
	// Renew is how often a XenoServer renews its ad, at half of its holders;
	// zero: 60 s. Shorter finds dead servers sooner and costs more messages:
	// trees × 2 holders each time.
	Renew Duration `toml:"renew,omitempty"`
	// Revocations is how often participants ask for revoked credentials; zero:
	// 20 s. The platform promises that a revocation is honoured within 60 s.
	Revocations Duration `toml:"revocations,omitempty"`
}

// A Duration is a time.Duration written as text, such as "60s".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a duration such as \"60s\"", b)
	}
	*d = Duration(v)
	return nil
}

var networkName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)

// ParseNetwork reads a network file, strictly. The error wraps ErrConfig.
func ParseNetwork(b []byte) (Network, error) {
	var n Network
	if err := decodeTOML(b, &n); err != nil {
		return Network{}, err
	}
	return n, n.validate()
}

func (n *Network) validate() error {
	if n.Renew == 0 {
		n.Renew = Duration(time.Minute)
	}
	if n.Revocations == 0 {
		n.Revocations = Duration(20 * time.Second)
	}
	if n.Currency == "" {
		n.Currency = "XEN"
	}
	switch {
	case !networkName.MatchString(n.Name):
		return fmt.Errorf("%w: name %.60q: 1 to 40 of a-z, 0-9 and '-'", ErrConfig, n.Name)
	case n.XenoCorp.IsZero():
		return fmt.Errorf("%w: xenocorp is missing: the peer ID of the network's XenoCorp", ErrConfig)
	case len(n.Currency) > 12:
		return fmt.Errorf("%w: currency %.30q: at most 12 characters", ErrConfig, n.Currency)
	case len(n.Bootstrap) > maxAddresses:
		return fmt.Errorf("%w: %d bootstrap addresses, at most %d", ErrConfig, len(n.Bootstrap), maxAddresses)
	case time.Duration(n.Renew) < time.Second || time.Duration(n.Renew) > maxRenew:
		return fmt.Errorf("%w: renew %s: between 1s and %s", ErrConfig, time.Duration(n.Renew), maxRenew)
	case time.Duration(n.Revocations) < time.Second || time.Duration(n.Revocations) > 50*time.Second:
		return fmt.Errorf("%w: revocations %s: between 1s and 50s", ErrConfig, time.Duration(n.Revocations))
	}
	for _, a := range n.Bootstrap {
		if err := checkBootstrap(a); err != nil {
			return err
		}
	}
	return nil
}

// corp returns how to reach XenoCorp.
func (n *Network) corp() dht.Contact {
	c := dht.Contact{ID: n.XenoCorp}
	for _, a := range n.Bootstrap {
		if b, err := dht.ParseContact(a); err == nil && b.ID == n.XenoCorp {
			c.Addrs = append(c.Addrs, b.Addrs...)
		}
	}
	return c
}

// LoadNetwork reads the network file of a home directory.
func LoadNetwork(home string) (Network, error) {
	path := filepath.Join(home, NetworkFile)
	b, err := readConfig(path)
	if err != nil {
		return Network{}, err
	}
	n, err := ParseNetwork(b)
	if err != nil {
		return Network{}, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

// Save writes the network file into a home directory.
func (n Network) Save(home string) error {
	if err := n.validate(); err != nil {
		return err
	}
	b, err := toml.Marshal(n)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if err := writeFile(filepath.Join(home, NetworkFile), b, 0o644); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return nil
}

// readConfig reads a configuration file of bounded size.
func readConfig(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w (xeno init makes one)", ErrConfig, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfigFile+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if len(b) > maxConfigFile {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrConfig, path, maxConfigFile)
	}
	return b, nil
}

// decodeTOML refuses unknown keys and says where what is wrong stands.
func decodeTOML(b []byte, into any) error {
	if err := stricttoml.Decode(b, into); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return nil
}
