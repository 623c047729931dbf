package kad

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/autorelay"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
)

// newHost builds the host beneath the gate. It does not listen yet.
func (o *Overlay) newHost() (host.Host, error) {
	key, err := crypto.UnmarshalEd25519PrivateKey(o.cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("kad: config: key: %w", err)
	}
	manager, err := newResourceManager(&o.cfg)
	if err != nil {
		return nil, fmt.Errorf("kad: resource manager: %w", err)
	}
	conns, err := connmgr.NewConnManager(connsLow, connsHigh, connmgr.WithGracePeriod(time.Minute))
	if err != nil {
		return nil, fmt.Errorf("kad: connection manager: %w", err)
	}
	options := []libp2p.Option{
		libp2p.Identity(key),
		libp2p.NoListenAddrs, // until kad-dht and the gate stand
		libp2p.ResourceManager(manager),
		libp2p.ConnectionManager(conns),
		libp2p.UserAgent(agentName),
		libp2p.WithDialTimeout(dialTimeout),
		libp2p.DisableMetrics(),
		libp2p.Ping(false), // strangers could use it; /xeno/overlay/1 pings
	}
	if o.cfg.Transport != nil {
		options = append(options, o.cfg.Transport()...)
	} else {
		options = append(options,
			libp2p.Transport(libp2pquic.NewTransport),
			libp2p.Transport(tcp.NewTCPTransport),
			libp2p.Security(libp2ptls.ID, libp2ptls.New),
			libp2p.Security(noise.ID, noise.New),
		)
	}
	h, err := libp2p.New(append(options, o.natOptions()...)...)
	if err != nil {
		_ = conns.Close()
		_ = manager.Close()
		return nil, fmt.Errorf("kad: start host: %w", err)
	}
	return h, nil
}

// natOptions are what the switches of the configuration mean.
func (o *Overlay) natOptions() []libp2p.Option {
	var options []libp2p.Option
	if o.cfg.AutoNAT {
		options = append(options, libp2p.EnableAutoNATv2())
	} else {
		options = append(options, libp2p.ForceReachabilityPublic(), libp2p.DisableIdentifyAddressDiscovery())
	}
	if o.cfg.Relay || o.cfg.HolePunch {
		options = append(options, libp2p.EnableRelay())
	} else {
		options = append(options, libp2p.DisableRelay())
	}
	if o.cfg.Relay {
		options = append(options,
			libp2p.EnableRelayService(relay.WithACL(relayACL{o})),
			libp2p.EnableAutoRelayWithPeerSource(o.relayCandidates, autorelay.WithMinCandidates(1)))
	}
	if o.cfg.HolePunch {
		options = append(options, libp2p.EnableHolePunching())
	}
	return options
}

// relayCandidates offers admitted peers as relays.
func (o *Overlay) relayCandidates(_ context.Context, n int) <-chan peer.AddrInfo {
	found := make(chan peer.AddrInfo, n)
	defer close(found)
	for _, m := range o.gate.members() {
		if len(found) == n {
			break
		}
		found <- o.base.Peerstore().PeerInfo(toPeer(m.id))
	}
	return found
}

// relayACL lets admitted peers alone use this node as a relay.
type relayACL struct{ o *Overlay }

// AllowReserve implements relay.ACLFilter.
func (a relayACL) AllowReserve(p peer.ID, _ ma.Multiaddr) bool { return a.admitted(p) }

// AllowConnect implements relay.ACLFilter.
func (a relayACL) AllowConnect(src peer.ID, _ ma.Multiaddr, dest peer.ID) bool {
	return a.admitted(src) && a.admitted(dest)
}

func (a relayACL) admitted(p peer.ID) bool {
	id, err := fromPeer(p)
	return err == nil && a.o.gate.admitted(id, time.Now())
}

// newResourceManager sizes the host's limits for its role: a routing table
// and sessions for everybody, and newcomers beside them for a registrar.
func newResourceManager(cfg *Config) (network.ResourceManager, error) {
	inbound := 2 * connsHigh
	if cfg.Registrar {
		inbound = 8 * connsHigh
	}
	const streamsEach = 2 * maxPeerServed
	limits := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&limits)
	concrete := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{
			Conns: rcmgr.LimitVal(inbound + connsHigh), ConnsInbound: rcmgr.LimitVal(inbound), ConnsOutbound: 2 * connsHigh,
			FD: rcmgr.LimitVal(inbound), Memory: hostMemory,
			Streams: 16 * connsHigh * 2, StreamsInbound: 16 * connsHigh, StreamsOutbound: 16 * connsHigh,
		},
		Transient: rcmgr.ResourceLimits{
			Conns: connsHigh, ConnsInbound: connsHigh / 2, ConnsOutbound: connsHigh, FD: connsHigh / 2,
			Streams: 2048, StreamsInbound: 1024, StreamsOutbound: 2048, Memory: hostMemory / 4,
		},
		ServiceDefault: rcmgr.ResourceLimits{
			Streams: 16 * connsHigh, StreamsInbound: 16 * connsHigh, StreamsOutbound: 16 * connsHigh, Memory: hostMemory / 2,
		},
		ProtocolDefault: rcmgr.ResourceLimits{
			Streams: 8 * connsHigh, StreamsInbound: 8 * connsHigh, StreamsOutbound: 8 * connsHigh, Memory: hostMemory / 2,
		},
		ProtocolPeerDefault: rcmgr.ResourceLimits{
			Streams: 2 * streamsEach, StreamsInbound: streamsEach, StreamsOutbound: 2 * streamsEach, Memory: hostMemory / 4,
		},
		PeerDefault: rcmgr.ResourceLimits{
			Conns: 8, ConnsInbound: 8, ConnsOutbound: 8, FD: 8,
			Streams: 1024, StreamsInbound: 512, StreamsOutbound: 1024, Memory: hostMemory / 4,
		},
	}.Build(limits.Scale(hostMemory, 4096))
	v4, v6 := prefixLimits(cfg.PrivateConns)
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(concrete),
		rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: publicConns}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: publicConns}, {PrefixLength: 48, ConnCount: 8 * publicConns}}),
		rcmgr.WithNetworkPrefixLimit(v4, v6))
}

// prefixLimits are the limits for the networks where one address, or a few,
// stand for many nodes. The library counts all of a prefix together.
func prefixLimits(n int) (v4, v6 []rcmgr.NetworkPrefixLimit) {
	add := func(to *[]rcmgr.NetworkPrefixLimit, prefix string, n int) {
		*to = append(*to, rcmgr.NetworkPrefixLimit{Network: netip.MustParsePrefix(prefix), ConnCount: n})
	}
	add(&v4, "127.0.0.0/8", unlimitedConns)
	add(&v6, "::1/128", unlimitedConns)
	for _, p := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10"} {
		add(&v4, p, n)
	}
	for _, p := range []string{"fc00::/7", "fe80::/10"} {
		add(&v6, p, n)
	}
	return v4, v6
}
