// Package network gives each virtual machine a network of its own: a tap with
// two addresses, the host's and the guest's, and rules that hold whatever the
// guest does.
//
//   - The guest can send with its own MAC and IPv4 address only (nftables,
//     netdev family, hook ingress of its tap). IPv6 and other protocols are
//     dropped there.
//   - It reaches no service of the host and no other guest. The host reaches
//     every port of the guest, and replies come back.
//   - Beyond the host it reaches nothing, or, with Config.Egress, public
//     addresses through NAT, but no private ones.
//   - Its traffic is limited in both directions.
//
// Taps outlive the daemon. Their alias says whose they are and for what, so a
// restarted daemon finds its own and leaves those of others alone:
//
//	xeno1 OWNER ID HOST-ADDRESS/30
//
// The rules are in two tables, "inet xeno" and "netdev xeno", which all
// daemons of a machine share and the last one removes.
package network

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/xenoserver/xeno/hypervisor"
)

// ErrNoAddress reports that every subnet of the range is in use.
var ErrNoAddress = errors.New("no free address")

// A Config says how guests are connected.
type Config struct {
	// Owner names the daemon among all that run on the machine: 1 to 40 of
	// [0-9a-z-]. Taps are listed and removed by owner.
	Owner string
	// Prefix is the private range that guests get their addresses from: a
	// /30 each, so a /16 has room for 16384. Zero: DefaultPrefix.
	Prefix netip.Prefix
	// Egress lets guests reach public addresses through NAT. It switches on
	// IPv4 forwarding for the whole machine.
	Egress bool
	// LockFile serialises the daemons of one machine. Empty: DefaultLockFile.
	LockFile string
}

// Defaults of Config.
const (
	DefaultLockFile = "/run/xeno/network.lock"
	defaultPrefix   = "10.213.0.0/16"
)

func (c *Config) validate() error {
	if c.LockFile == "" {
		c.LockFile = DefaultLockFile
	}
	if !c.Prefix.IsValid() {
		c.Prefix = netip.MustParsePrefix(defaultPrefix)
	}
	c.Prefix = c.Prefix.Masked()
	if !c.Prefix.Addr().Is4() || !c.Prefix.Addr().IsPrivate() || c.Prefix.Bits() > subnetBits {
		return fmt.Errorf("network: Prefix %v is not a private IPv4 range of /%d or more", c.Prefix, subnetBits)
	}
	if err := hypervisor.ValidateID(c.Owner); err != nil {
		return fmt.Errorf("network: Owner: %w", err)
	}
	return nil
}

// A Tap is a guest's network, seen from the host.
type Tap struct {
	Name  string           // of the host's interface
	Owner string           // Config.Owner
	ID    string           // the environment's
	Host  netip.Prefix     // the host's address in the subnet: the guest's gateway
	Guest netip.Prefix     // the guest's address
	MAC   net.HardwareAddr // the guest's
}

// A Manager makes and removes taps. Its methods may be called at once, also by
// several processes.
type Manager struct {
	config Config // fixed
}

// New returns a manager. It touches nothing yet.
func New(config Config) (*Manager, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	return &Manager{config: config}, nil
}

// Available says why taps cannot be made here, if they cannot. Its errors wrap
// hypervisor.ErrNotSupported.
func Available() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("network: taps need root (start the daemon as root): %w", hypervisor.ErrNotSupported)
	}
	f, err := os.OpenFile(tunDevice, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("network: no tap devices (modprobe tun): %w: %w", hypervisor.ErrNotSupported, err)
	}
	f.Close()
	if err := probeRules(); err != nil {
		return fmt.Errorf("network: no nftables (modprobe nf_tables): %w: %w", hypervisor.ErrNotSupported, err)
	}
	return nil
}

// Options say what a tap is for.
type Options struct {
	ID   string // the environment's
	User uint32 // who may open the tap besides root
	Rate uint64 // bytes a second each way; 0: no limit
}

// Create makes a tap with its addresses and rules, and opens it for the
// hypervisor. A failed call leaves nothing behind. Errors wrap
// hypervisor.ErrExists, hypervisor.ErrNotSupported or ErrNoAddress.
func (m *Manager) Create(ctx context.Context, opts Options) (Tap, *os.File, error) {
	if err := hypervisor.ValidateID(opts.ID); err != nil {
		return Tap{}, nil, fmt.Errorf("network: %w", err)
	}
	unlock, err := lock(ctx, m.config.LockFile)
	if err != nil {
		return Tap{}, nil, err
	}
	defer unlock()
	tap, err := m.choose(opts.ID)
	if err != nil {
		return Tap{}, nil, err
	}
	f, err := openTap(tap.Name, opts.User)
	if err != nil {
		return Tap{}, nil, err
	}
	if err := m.setUp(tap, opts.Rate); err != nil {
		f.Close()
		return Tap{}, nil, errors.Join(err, remove(tap.Name))
	}
	return tap, f, nil
}

// setUp gives a new tap its alias, rules and addresses, in an order in which
// no packet passes before its rules are there.
func (m *Manager) setUp(tap Tap, rate uint64) error {
	link, err := netlink.LinkByName(tap.Name)
	if err != nil {
		return fmt.Errorf("network: find %s: %w", tap.Name, err)
	}
	if err := netlink.LinkSetAlias(link, tap.alias()); err != nil {
		return fmt.Errorf("network: name the owner of %s: %w", tap.Name, err)
	}
	if err := setSysctls(tap.Name, m.config.Egress); err != nil {
		return err
	}
	if err := addRules(tap, rate, m.config.Egress); err != nil {
		return err
	}
	if err := shape(link, rate); err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(tap.Host)}); err != nil {
		return fmt.Errorf("network: address %s: %w", tap.Name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("network: bring up %s: %w", tap.Name, err)
	}
	// The guest need not be asked, and cannot lie, about its MAC address.
	err = netlink.NeighSet(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT,
		IP: tap.Guest.Addr().AsSlice(), HardwareAddr: tap.MAC,
	})
	if err != nil {
		return fmt.Errorf("network: neighbour of %s: %w", tap.Name, err)
	}
	return nil
}

// Remove deletes the tap of an environment with its rules. An unknown ID is no
// error.
func (m *Manager) Remove(ctx context.Context, id string) error {
	unlock, err := lock(ctx, m.config.LockFile)
	if err != nil {
		return err
	}
	defer unlock()
	return remove(m.name(id))
}

// remove deletes a tap and its rules; the last one takes the tables along.
func remove(name string) error {
	err := removeRules(name)
	link, linkErr := netlink.LinkByName(name)
	switch {
	case linkErr == nil:
		if linkErr = netlink.LinkDel(link); linkErr != nil {
			linkErr = fmt.Errorf("network: delete %s: %w", name, linkErr)
		}
	case errors.As(linkErr, new(netlink.LinkNotFoundError)):
		linkErr = nil
	}
	if err = errors.Join(err, linkErr); err != nil {
		return err
	}
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("network: list interfaces: %w", err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, namePrefix) {
			return nil
		}
	}
	return removeTables()
}

// List returns the taps of this owner.
func (m *Manager) List() ([]Tap, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("network: list interfaces: %w", err)
	}
	var taps []Tap
	for _, l := range links {
		tap, ok := parseAlias(l.Attrs().Alias)
		if ok && tap.Owner == m.config.Owner && tap.Name == l.Attrs().Name {
			taps = append(taps, tap)
		}
	}
	return taps, nil
}

// Counters returns the bytes that went through a tap, as the guest sees them.
// They start with the tap.
func Counters(name string) (rx, tx uint64, err error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return 0, 0, fmt.Errorf("network: %s: %w", name, err)
	}
	s := link.Attrs().Statistics
	if s == nil {
		return 0, 0, fmt.Errorf("network: %s has no counters", name)
	}
	return s.TxBytes, s.RxBytes, nil
}

// name is the interface of an environment: a hash, for an ID is too long.
func (m *Manager) name(id string) string { return tapName(m.config.Owner, id) }

func tapName(owner, id string) string {
	sum := sha256.Sum256([]byte(owner + " " + id))
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:])
	return namePrefix + strings.ToLower(text[:maxName-len(namePrefix)])
}

// macOf returns a locally administered unicast address.
func macOf(name string) net.HardwareAddr {
	sum := sha256.Sum256([]byte("mac " + name))
	return net.HardwareAddr{0x02, 'x', sum[0], sum[1], sum[2], sum[3]}
}
