package search

import (
	"net/netip"
	"strings"
)

// An address group is whom addresses near to each other belong to, as far as
// one can tell: an IPv4 network of 24 bits, an IPv6 network of 48, or a host
// name.
//
// What an ad says of its addresses is signed and not proved. But a server that
// names others' addresses does not confirm its ad there, so nobody gets it as a
// result: the limit on groups makes filling cells with servers that can be
// reached cost addresses, beside credentials.

// groupOf returns the group of the first public address, or of the first if
// none is; empty where there are none.
func groupOf(addrs []string) string {
	first := ""
	for _, addr := range addrs {
		group, public := groupOfOne(addr)
		if public {
			return group
		}
		if first == "" {
			first = group
		}
	}
	return first
}

// groupOfOne returns the group of a multiaddress, and whether it is public.
func groupOfOne(addr string) (group string, public bool) {
	parts := strings.SplitN(addr, "/", 4)
	if len(parts) < 3 || parts[0] != "" {
		return "", false
	}
	kind, host := parts[1], parts[2]
	bits := 48
	switch kind {
	case "ip4":
		bits = 24
	case "ip6":
	case "dns", "dns4", "dns6", "dnsaddr":
		return host, true
	default:
		return "", false
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return "", false
	}
	network, err := ip.Prefix(bits)
	if err != nil {
		return "", false
	}
	return network.String(), ip.IsGlobalUnicast() && !ip.IsPrivate()
}
