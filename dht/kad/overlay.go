// Package kad carries package dht over libp2p: one host, one kad-dht instance
// under the network's own prefix, a gate that keeps everybody out who has no
// credential, and requests and streams between those who have.
//
// # Protocols
//
// All messages are frames: an unsigned varint of at most 5 bytes, and that
// many bytes.
//
//	/xeno/hello/1    Hello → HelloReply → HelloReply (verdict only)
//	/xeno/overlay/1  OverlayRequest → OverlayReply: nearest contacts, or ping
//	a service's own  request → one status byte (0 answer, 1 error) and bytes
//
// A stream proposes its protocol together with its first bytes, so a request
// over a warm connection takes one round trip.
//
// # Admission
//
// The dialer of a connection says hello; each side judges the other's
// credential by Config.Gate. Until then, and after a refusal, the peer reaches
// no protocol but the hello and those of HandleOpen, is in no routing table
// and stores nothing, and after a grace its connections are closed. kad-dht
// keeps the routing table; lookups are our own (dht.Lookup).
package kad

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	ds "github.com/ipfs/go-datastore"
	dsync "github.com/ipfs/go-datastore/sync"
	kaddht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/routing"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/xenoserver/xeno/dht"
)

// An Overlay is one participant's place in the network. All methods may be
// called at once.
type Overlay struct {
	// Fixed after New.
	cfg              Config
	id               dht.PeerID
	log              *slog.Logger
	bootstrap        []dht.Contact
	base             host.Host
	host             *gatedHost
	dht              *kaddht.IpfsDHT
	dhtProtocols     []protocol.ID
	backoff          *swarm.DialBackoff // nil with a strange network
	protocolsUpdated event.Emitter
	mdns             mdns.Service // nil without Config.MDNS
	ctx              context.Context
	cancel           context.CancelFunc

	// Safe for concurrent use by themselves.
	gate        *gate
	latency     *latency
	hellos      *quota
	joined      atomic.Bool
	counts      counters
	kicked      chan struct{} // to janitor, capacity 1
	lost        chan struct{} // to keeper, capacity 1
	firstMember chan struct{} // closed when the routing table is not empty
	memberOnce  sync.Once
	closeOnce   sync.Once
	closeErr    error
	wg          sync.WaitGroup // begun under closeMu only

	closeMu sync.Mutex // guards the following
	closed  bool

	servicesMu sync.Mutex // guards the following
	services   map[string]*service
}

// New starts a participant: it listens and answers hellos when New returns,
// and joins the others with Bootstrap. ctx bounds the start only.
func New(ctx context.Context, cfg Config) (*Overlay, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	bootstrap, err := cfg.bootstrapContacts()
	if err != nil {
		return nil, err
	}
	listen, err := parseAddrs(cfg.Listen)
	if err != nil {
		return nil, err
	}
	o := &Overlay{
		cfg: cfg, id: dht.PeerID(cfg.Key.Public().(ed25519.PublicKey)), log: cfg.Logger, bootstrap: bootstrap,
		gate: newGate(cfg.Registrar), latency: newLatency(), hellos: newQuota(maxHellos, maxPeerHellos),
		kicked: make(chan struct{}, 1), lost: make(chan struct{}, 1), firstMember: make(chan struct{}),
		services: make(map[string]*service),
	}
	o.ctx, o.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if o.base, err = o.newHost(); err != nil {
		o.cancel()
		return nil, err
	}
	if err := o.start(listen); err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

// start puts the gate, kad-dht and our protocols on the host, and only then
// listens.
func (o *Overlay) start(listen []ma.Multiaddr) error {
	var err error
	o.host = &gatedHost{Host: o.base, o: o}
	if s, ok := o.base.Network().(*swarm.Swarm); ok {
		o.backoff = s.Backoff()
	}
	if o.protocolsUpdated, err = o.base.EventBus().Emitter(new(event.EvtPeerProtocolsUpdated)); err != nil {
		return fmt.Errorf("kad: start: %w", err)
	}
	if err := o.startDHT(); err != nil {
		return fmt.Errorf("kad: start DHT: %w", err)
	}
	o.base.Network().Notify(&network.NotifyBundle{ConnectedF: o.onConnected, DisconnectedF: o.onDisconnected})
	o.base.SetStreamHandler(helloProtocol, func(s network.Stream) {
		if _, leave, err := o.begin(o.ctx); err == nil {
			defer leave()
			o.serveHello(s)
		}
	})
	o.Handle(overlayProtocol, maxOverlayMessage, o.serveOverlay)
	if len(listen) > 0 {
		if err := o.base.Network().Listen(listen...); err != nil {
			return fmt.Errorf("%w: %w", ErrListen, err)
		}
	}
	for _, loop := range []func(){o.janitor, o.keeper, o.pinger} {
		o.spawn(loop)
	}
	if o.cfg.MDNS {
		o.mdns = mdns.NewMdnsService(o.base, "_xeno-"+o.cfg.Network+"._udp", mdnsNotifee{o})
		if err := o.mdns.Start(); err != nil {
			return fmt.Errorf("kad: start mDNS: %w", err)
		}
	}
	return nil
}

// startDHT starts kad-dht behind the gate. It keeps the routing table and the
// provider records of blocks; values are refused altogether.
func (o *Overlay) startDHT() error {
	store := o.cfg.Datastore
	if store == nil {
		store = dsync.MutexWrap(ds.NewMapDatastore())
	}
	mode := kaddht.ModeClient
	if o.cfg.Server {
		mode = kaddht.ModeServer
	}
	prefix := protocol.ID("/xeno/" + o.cfg.Network)
	o.dhtProtocols = []protocol.ID{prefix + "/kad/1.0.0"}
	d, err := kaddht.New(o.host,
		kaddht.Mode(mode),
		kaddht.ProtocolPrefix(prefix),
		kaddht.BucketSize(dht.K),
		kaddht.DisableValues(),
		kaddht.DisableAutoRefresh(), // the keeper does it: by itself kad-dht begins anew with each of its first ten peers
		kaddht.Datastore(store))
	if err != nil {
		return err
	}
	o.dht = d
	table := d.RoutingTable()
	added, removed := table.PeerAdded, table.PeerRemoved
	// Nobody is connected yet, so nobody calls these while they change.
	table.PeerAdded = func(p peer.ID) {
		added(p)
		o.base.ConnManager().Protect(p, routingTag)
		o.memberOnce.Do(func() { close(o.firstMember) })
		if id, err := fromPeer(p); err != nil || !o.gate.admitted(id, time.Now()) {
			signal(o.lost) // the keeper removes it: the table is locked here
		}
	}
	table.PeerRemoved = func(p peer.ID) {
		removed(p)
		o.base.ConnManager().Unprotect(p, routingTag)
	}
	return nil
}

// routingTag protects members of the routing table from the connection
// manager.
const routingTag = "xeno-routing"

// onConnected is called by the swarm before the connection carries streams.
func (o *Overlay) onConnected(_ network.Network, c network.Conn) {
	id, err := fromPeer(c.RemotePeer())
	inbound := c.Stat().Direction == network.DirInbound
	if err != nil || !o.gate.connected(id, inbound, time.Now()) {
		o.spawn(func() { _ = c.CloseWithError(network.ConnResourceLimitExceeded) })
		return
	}
	if !inbound {
		o.spawn(func() { o.greet(o.ctx, id, c) })
	}
	o.kick()
}

// onDisconnected is called once for every onConnected.
func (o *Overlay) onDisconnected(_ network.Network, c network.Conn) {
	id, err := fromPeer(c.RemotePeer())
	if err != nil || !o.gate.disconnected(id) {
		return
	}
	o.latency.forget(id)
	signal(o.lost)
}

// begin ties a call to the overlay's life: the context also ends when the
// overlay closes, and Close waits for leave.
func (o *Overlay) begin(ctx context.Context) (_ context.Context, leave func(), err error) {
	if !o.enter() {
		return nil, nil, ErrClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(o.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
		o.wg.Done()
	}, nil
}

func (o *Overlay) enter() bool {
	o.closeMu.Lock()
	defer o.closeMu.Unlock()
	if !o.closed {
		o.wg.Add(1)
	}
	return !o.closed
}

// spawn runs f beside, unless the overlay is closed; Close waits for it.
func (o *Overlay) spawn(f func()) {
	if o.enter() {
		go func() {
			defer o.wg.Done()
			f()
		}()
	}
}

// refreshTable lets kad-dht look for more members of its routing table, unless
// the overlay is closed: kad-dht does not allow that beside its own Close.
func (o *Overlay) refreshTable() {
	o.closeMu.Lock()
	defer o.closeMu.Unlock()
	if !o.closed {
		o.dht.RefreshRoutingTable()
	}
}

// Close leaves the network and waits for everything that was started. Calls
// under way end with an error. It may be called again.
func (o *Overlay) Close() error {
	o.closeOnce.Do(func() {
		o.closeMu.Lock()
		o.closed = true
		o.closeMu.Unlock()
		o.cancel()
		var errs []error
		if o.mdns != nil {
			errs = append(errs, o.mdns.Close())
		}
		if o.dht != nil {
			errs = append(errs, o.dht.Close())
		}
		errs = append(errs, o.base.Close())
		o.wg.Wait()
		if o.protocolsUpdated != nil {
			errs = append(errs, o.protocolsUpdated.Close())
		}
		o.closeErr = errors.Join(errs...)
	})
	return o.closeErr
}

func (o *Overlay) kick() { signal(o.kicked) }

// signal wakes the reader of a channel of capacity 1.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// mdnsNotifee connects to participants that mDNS finds.
type mdnsNotifee struct{ o *Overlay }

// HandlePeerFound implements mdns.Notifee.
func (n mdnsNotifee) HandlePeerFound(info peer.AddrInfo) {
	id, err := fromPeer(info.ID)
	if err != nil {
		return
	}
	n.o.spawn(func() {
		if err := n.o.reach(n.o.ctx, toContact(id, info.Addrs)); err != nil {
			n.o.log.Debug("neighbour is of no use", logPeer(id), logErr(err))
		}
	})
}

// ID returns the node's identity.
func (o *Overlay) ID() dht.PeerID { return o.id }

// Contact returns the node's identity and the addresses it is reached at.
func (o *Overlay) Contact() dht.Contact { return toContact(o.id, o.base.Addrs()) }

// Addrs returns the addresses it is reached at, with /p2p/.
func (o *Overlay) Addrs() []string { return o.Contact().FullAddrs() }

// Coordinate returns where the node stands in the network's coordinate space.
func (o *Overlay) Coordinate() dht.Coordinate { return o.latency.own() }

// RTT returns the smoothed round trip time to a connected peer, false if none
// was measured.
func (o *Overlay) RTT(id dht.PeerID) (time.Duration, bool) {
	m, ok := o.latency.of(id)
	return m.rtt, ok
}

// Near returns the n members of the routing table that stand nearest to this
// node in the Kademlia metric, nearest first: the other holders of what it
// holds are among them.
func (o *Overlay) Near(n int) []dht.Contact {
	return o.nearestKnown(o.ID().Position(), n, o.ID())
}

// Neighbours returns the n admitted peers, connected now, to which round trips
// are shortest, nearest first; those never measured come last.
func (o *Overlay) Neighbours(n int) []dht.Contact {
	type neighbour struct {
		id  dht.PeerID
		rtt time.Duration
	}
	now := time.Now()
	var all []neighbour
	for _, id := range o.gate.connectedPeers() {
		if !o.gate.admitted(id, now) {
			continue
		}
		rtt, ok := o.RTT(id)
		if !ok {
			rtt = math.MaxInt64
		}
		all = append(all, neighbour{id, rtt})
	}
	slices.SortFunc(all, func(a, b neighbour) int {
		return cmp.Or(cmp.Compare(a.rtt, b.rtt), bytes.Compare(a.id[:], b.id[:]))
	})
	contacts := make([]dht.Contact, min(n, len(all)))
	for i := range contacts {
		contacts[i] = o.contactOf(all[i].id)
	}
	return contacts
}

// Host returns the host behind the gate, for protocols of others: streams on
// it reach admitted peers only.
func (o *Overlay) Host() host.Host { return o.host }

// ContentRouting returns the provider records of blocks.
func (o *Overlay) ContentRouting() routing.ContentRouting { return o.dht }

// PeerInfo describes a connected, admitted peer.
type PeerInfo struct {
	dht.Contact
	Outbound   bool           // this node dialled
	Routing    bool           // member of the routing table
	RTT        time.Duration  // 0 if not measured yet
	Coordinate dht.Coordinate // the peer's claim; NewCoordinate if not known yet
	Agent      string         // the peer's program, as it says
	Until      time.Time      // end of the admission
}

// Peers returns the connected, admitted peers in no particular order.
func (o *Overlay) Peers() []PeerInfo {
	var infos []PeerInfo
	for _, member := range o.gate.members() {
		until, agent, ok := o.gate.describe(member.id)
		conns := o.base.Network().ConnsToPeer(toPeer(member.id))
		if !ok || len(conns) == 0 {
			continue
		}
		info := PeerInfo{
			Contact: o.contactOf(member.id), Agent: agent, Until: until, Coordinate: dht.NewCoordinate(),
			Outbound: conns[0].Stat().Direction == network.DirOutbound,
			Routing:  o.dht.RoutingTable().Find(toPeer(member.id)) != "",
		}
		if m, ok := o.latency.of(member.id); ok {
			info.RTT = m.rtt
			if m.hasAt {
				info.Coordinate = m.at
			}
		}
		infos = append(infos, info)
	}
	return infos
}

func parseAddrs(addrs []string) ([]ma.Multiaddr, error) {
	var parsed []ma.Multiaddr
	for _, s := range addrs {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			return nil, fmt.Errorf("kad: config: listen %q: %w", s, err)
		}
		parsed = append(parsed, a)
	}
	return parsed, nil
}
