package network

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/xenoserver/xeno/hypervisor"
)

// subnetBits makes subnets of four addresses: network, host, guest, broadcast.
// Every guest understands that, which is not true of /31.
const subnetBits = 30

// aliasVersion begins an alias. History: xeno1, the first.
const aliasVersion = "xeno1"

// choose picks a free subnet for an environment. The caller holds the lock.
func (m *Manager) choose(id string) (Tap, error) {
	name := m.name(id)
	links, err := netlink.LinkList()
	if err != nil {
		return Tap{}, fmt.Errorf("network: list interfaces: %w", err)
	}
	for _, l := range links {
		if l.Attrs().Name == name {
			return Tap{}, fmt.Errorf("network: tap %s of %s: %w", name, id, hypervisor.ErrExists)
		}
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return Tap{}, fmt.Errorf("network: list addresses: %w", err)
	}
	used := make([]netip.Prefix, 0, len(addrs))
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok {
			used = append(used, p)
		}
	}
	seed := sha256.Sum256([]byte(name))
	host, ok := freeSubnet(m.config.Prefix, used, binary.BigEndian.Uint32(seed[:]))
	if !ok {
		return Tap{}, fmt.Errorf("network: range %v: %w", m.config.Prefix, ErrNoAddress)
	}
	return newTap(name, m.config.Owner, id, host), nil
}

func newTap(name, owner, id string, host netip.Addr) Tap {
	return Tap{
		Name: name, Owner: owner, ID: id, MAC: macOf(name),
		Host:  netip.PrefixFrom(host, subnetBits),
		Guest: netip.PrefixFrom(host.Next(), subnetBits),
	}
}

// freeSubnet returns the host's address in a subnet of prefix that overlaps
// nothing in use. It begins to look at a place given by seed, so that a
// subnet is not reused at once.
func freeSubnet(prefix netip.Prefix, used []netip.Prefix, seed uint32) (netip.Addr, bool) {
	taken := make(map[uint32]bool)
	base := number(prefix.Addr())
	slots := uint32(1) << (subnetBits - prefix.Bits())
	for _, p := range used {
		if !p.Overlaps(prefix) {
			continue
		}
		if p.Bits() <= prefix.Bits() {
			return netip.Addr{}, false // an interface covers the whole range
		}
		first := (number(p.Masked().Addr()) - base) / 4
		for n := range max(1, uint32(1)<<max(0, subnetBits-p.Bits())) {
			taken[first+n] = true
		}
	}
	for i := range slots {
		slot := (seed%slots + i) % slots
		if !taken[slot] {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], base+slot*4+1)
			return netip.AddrFrom4(b), true
		}
	}
	return netip.Addr{}, false
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), ones), ok && addr.Unmap().Is4()
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// alias is the record of a tap, kept by the kernel.
func (t Tap) alias() string {
	return strings.Join([]string{aliasVersion, t.Owner, t.ID, t.Host.String()}, " ")
}

// parseAlias is the inverse of alias.
func parseAlias(s string) (Tap, bool) {
	f := strings.Split(s, " ")
	if len(f) != 4 || f[0] != aliasVersion || hypervisor.ValidateID(f[1]) != nil || hypervisor.ValidateID(f[2]) != nil {
		return Tap{}, false
	}
	host, err := netip.ParsePrefix(f[3])
	if err != nil || !host.Addr().Is4() || host.Bits() != subnetBits || number(host.Addr())%4 != 1 {
		return Tap{}, false
	}
	return newTap(tapName(f[1], f[2]), f[1], f[2], host.Addr()), true
}
