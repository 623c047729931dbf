package kadtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/xenoserver/xeno/dht"
)

// cutDetection is after how long a connection to a host that was cut off
// breaks, as QUIC's idle timeout does.
const cutDetection = 30 * time.Second

var errRefused = errors.New("kadtest: connection refused")

// A Fabric connects hosts in memory. It authenticates nobody and encrypts
// nothing: a host says who it is, and a dialer checks that it reached whom it
// dialled. Addresses look like TCP on 11.0.0.0/8.
type Fabric struct {
	latency func(from, to dht.PeerID) time.Duration

	mu        sync.RWMutex // guards the following
	listeners map[string]*listener
	conns     map[*memConn]struct{}
	cut       map[peer.ID]bool
	addrs     int
}

// NewFabric returns a fabric where bytes take latency from one host to
// another, one way, and a dial a round trip; nil means no time at all.
// latency must be symmetric and may be called at once.
func NewFabric(latency func(from, to dht.PeerID) time.Duration) *Fabric {
	if latency == nil {
		latency = func(_, _ dht.PeerID) time.Duration { return 0 }
	}
	return &Fabric{
		latency: latency, listeners: make(map[string]*listener), conns: make(map[*memConn]struct{}), cut: make(map[peer.ID]bool),
	}
}

// Addr returns a new address to listen on.
func (f *Fabric) Addr() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.addrs++
	return fmt.Sprintf("/ip4/11.%d.%d.%d/tcp/4001", f.addrs>>16&255, f.addrs>>8&255, f.addrs&255)
}

// Transport returns what Config.Transport wants.
func (f *Fabric) Transport() []libp2p.Option {
	return []libp2p.Option{libp2p.Transport(func(key crypto.PrivKey, rm network.ResourceManager) (transport.Transport, error) {
		id, err := peer.IDFromPrivateKey(key)
		if err != nil {
			return nil, err
		}
		return &memTransport{fabric: f, id: id, key: key.GetPublic(), rm: rm}, nil
	})}
}

// Cut takes a host off the network without a word, like a pulled cable: what
// it sends and what is sent to it is lost, dials hang, and its connections
// break after half a minute.
func (f *Fabric) Cut(id dht.PeerID) {
	p := peer.ID(id.Bytes())
	f.mu.Lock()
	f.cut[p] = true
	var broken []*memConn
	for c := range f.conns {
		if c.localID == p || c.remoteID == p {
			broken = append(broken, c)
		}
	}
	f.mu.Unlock()
	time.AfterFunc(cutDetection, func() {
		for _, c := range broken {
			c.shut(&network.ConnError{TransportError: errors.New("kadtest: no recent network activity")})
		}
	})
}

// Restore puts a host back that was cut off.
func (f *Fabric) Restore(id dht.PeerID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.cut, peer.ID(id.Bytes()))
}

func (f *Fabric) cutOff(a, b peer.ID) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.cut[a] || f.cut[b]
}

func (f *Fabric) remove(c *memConn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, c)
}

func (f *Fabric) delay(a, b peer.ID) time.Duration {
	from, err := dht.PeerIDFromBytes([]byte(a))
	if err != nil {
		return 0
	}
	to, err := dht.PeerIDFromBytes([]byte(b))
	if err != nil {
		return 0
	}
	return f.latency(from, to)
}

// A memTransport is one host's access to the fabric.
type memTransport struct {
	fabric *Fabric
	id     peer.ID
	key    crypto.PubKey
	rm     network.ResourceManager
}

// CanDial implements transport.Transport.
func (t *memTransport) CanDial(a ma.Multiaddr) bool {
	_, err := a.ValueForProtocol(ma.P_TCP)
	return err == nil
}

// Protocols implements transport.Transport.
func (t *memTransport) Protocols() []int { return []int{ma.P_TCP} }

// Proxy implements transport.Transport.
func (t *memTransport) Proxy() bool { return false }

// Listen implements transport.Transport.
func (t *memTransport) Listen(a ma.Multiaddr) (transport.Listener, error) {
	f := t.fabric
	l := &listener{t: t, addr: a, incoming: make(chan *memConn, 64), done: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.listeners[a.String()] != nil {
		return nil, fmt.Errorf("kadtest: %s is in use", a)
	}
	f.listeners[a.String()] = l
	return l, nil
}

// Dial implements transport.Transport.
func (t *memTransport) Dial(ctx context.Context, addr ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	f := t.fabric
	delay := f.delay(t.id, p)
	if f.cutOff(t.id, p) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if delay > 0 {
		handshake := time.NewTimer(2 * delay)
		defer handshake.Stop()
		select {
		case <-handshake.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	f.mu.RLock()
	l := f.listeners[addr.String()]
	f.mu.RUnlock()
	if l == nil {
		return nil, errRefused
	}
	if l.t.id != p {
		return nil, fmt.Errorf("kadtest: %s is %s, not %s", addr, l.t.id, p)
	}
	return t.handOver(ctx, l, addr, delay)
}

// handOver makes the connection and gives its other end to the listener.
func (t *memTransport) handOver(ctx context.Context, l *listener, addr ma.Multiaddr, delay time.Duration) (transport.CapableConn, error) {
	local := t.fabric.addrOf(t.id)
	near, far := connect(t, l.t, local, addr, delay)
	var err error
	if near.scope, err = openScope(t.rm, network.DirOutbound, addr, l.t.id); err != nil {
		return nil, err
	}
	if far.scope, err = openScope(l.t.rm, network.DirInbound, local, t.id); err != nil {
		near.scope.Done()
		return nil, err
	}
	t.fabric.mu.Lock()
	t.fabric.conns[near], t.fabric.conns[far] = struct{}{}, struct{}{}
	t.fabric.mu.Unlock()
	select {
	case l.incoming <- far:
		return near, nil
	case <-l.done:
		err = errRefused
	case <-ctx.Done():
		err = ctx.Err()
	}
	_ = near.Close()
	return nil, err
}

func openScope(rm network.ResourceManager, dir network.Direction, addr ma.Multiaddr, p peer.ID) (network.ConnManagementScope, error) {
	scope, err := rm.OpenConnection(dir, false, addr)
	if err != nil {
		return nil, err
	}
	if err := scope.SetPeer(p); err != nil {
		scope.Done()
		return nil, err
	}
	return scope, nil
}

// addrOf returns an address the host listens on; one that does not listen
// dials from 11.255.255.255.
func (f *Fabric) addrOf(p peer.ID) ma.Multiaddr {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for _, l := range f.listeners {
		if l.t.id == p {
			return l.addr
		}
	}
	return ma.StringCast("/ip4/11.255.255.255/tcp/4001")
}

// A listener accepts a host's connections.
type listener struct {
	t        *memTransport
	addr     ma.Multiaddr
	incoming chan *memConn
	done     chan struct{}
	once     sync.Once
}

// Accept implements transport.Listener.
func (l *listener) Accept() (transport.CapableConn, error) {
	select {
	case c := <-l.incoming:
		return c, nil
	case <-l.done:
		return nil, transport.ErrListenerClosed
	}
}

// Close implements transport.Listener.
func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.t.fabric.mu.Lock()
		delete(l.t.fabric.listeners, l.addr.String())
		l.t.fabric.mu.Unlock()
	})
	return nil
}

// Addr implements transport.Listener.
func (l *listener) Addr() net.Addr {
	a, err := manet.ToNetAddr(l.addr)
	if err != nil {
		return &net.TCPAddr{}
	}
	return a
}

// Multiaddr implements transport.Listener.
func (l *listener) Multiaddr() ma.Multiaddr { return l.addr }
