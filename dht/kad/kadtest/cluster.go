// Package kadtest runs many real hosts of package kad in one process, over an
// in-memory transport, or over loopback for measurements. In memory it works
// under testing/synctest, where hundreds of hosts live through hours in seconds.
package kadtest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad"
)

// Network is the name of the clusters' network.
const Network = "test"

// joiners is how many hosts join at once.
const joiners = 8

// Key returns the identity of the i-th host of every cluster.
func Key(i int) ed25519.PrivateKey {
	seed := sha256.Sum256(fmt.Appendf(nil, "kadtest host %d", i))
	return ed25519.NewKeyFromSeed(seed[:])
}

// PeerID returns its public half.
func PeerID(i int) dht.PeerID { return dht.PeerID(Key(i).Public().(ed25519.PublicKey)) }

// MemberGate admits everybody who shows the credential that it shows itself.
func MemberGate() kad.Gate {
	return kad.Gate{
		Credential: func() []byte { return []byte("member") },
		Admit: func(_ dht.PeerID, credential []byte) (time.Time, error) {
			if string(credential) != "member" {
				return time.Time{}, errors.New("not a member: register first")
			}
			return time.Now().Add(1000 * time.Hour), nil
		},
	}
}

// options is what the Options change.
type options struct {
	fabric   *Fabric
	loopback bool
	config   []func(i int, cfg *kad.Config)
	setup    []func(i int, o *kad.Overlay)
}

// An Option changes a cluster.
type Option func(*options)

// WithFabric gives the fabric, for its latency, or to cut hosts off it.
func WithFabric(f *Fabric) Option { return func(o *options) { o.fabric = f } }

// WithLatency gives every byte the same way to go, one way.
func WithLatency(d time.Duration) Option {
	return WithFabric(NewFabric(func(_, _ dht.PeerID) time.Duration { return d }))
}

// WithLoopback runs the cluster over QUIC and TCP on loopback, as daemons on one
// machine do, instead of in memory.
func WithLoopback() Option { return func(o *options) { o.loopback = true } }

// WithGate gives every host its own gate; the default is MemberGate.
func WithGate(gate func(i int, id dht.PeerID) kad.Gate) Option {
	return WithConfig(func(i int, cfg *kad.Config) { cfg.Gate = gate(i, PeerID(i)) })
}

// WithConfig changes a host's configuration before it starts.
func WithConfig(change func(i int, cfg *kad.Config)) Option {
	return func(o *options) { o.config = append(o.config, change) }
}

// WithSetup is called for every host before any of them joins: the place to
// register handlers.
func WithSetup(setup func(i int, o *kad.Overlay)) Option {
	return func(o *options) { o.setup = append(o.setup, setup) }
}

// Cluster starts n hosts, lets them join one another, and closes them at the
// end of the test. Under synctest it must be called within the bubble.
func Cluster(t testing.TB, n int, opts ...Option) []*kad.Overlay {
	t.Helper()
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	if o.fabric == nil {
		o.fabric = NewFabric(nil)
	}
	hosts := make([]*kad.Overlay, n)
	for i := range hosts {
		cfg := Config(o.fabric, i, o.fabric.Addr())
		if o.loopback {
			cfg.Transport, cfg.Listen = nil, []string{"/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"}
		}
		for _, parent := range parents(i) {
			cfg.Bootstrap = append(cfg.Bootstrap, hosts[parent].Addrs()...)
		}
		for _, change := range o.config {
			change(i, &cfg)
		}
		hosts[i] = Start(t, cfg)
		for _, setup := range o.setup {
			setup(i, hosts[i])
		}
	}
	join(t, hosts)
	return hosts
}

// parents are the hosts through which the i-th joins: the one before it, and
// two that are spread, so that nobody is everybody's.
func parents(i int) []int {
	switch i {
	case 0:
		return nil
	case 1, 2:
		return []int{0}
	default:
		return []int{i - 1, i / 2, i * 31 % (i - 1)}
	}
}

// join bootstraps in order, some at once.
func join(t testing.TB, hosts []*kad.Overlay) {
	t.Helper()
	var wg sync.WaitGroup
	slots := make(chan struct{}, joiners)
	for i, h := range hosts {
		slots <- struct{}{}
		wg.Go(func() {
			if err := h.Bootstrap(t.Context()); err != nil {
				t.Errorf("host %d: %v", i, err)
			}
			<-slots
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// Config returns the configuration of the i-th host of a cluster, for hosts
// that join it later or otherwise.
func Config(f *Fabric, i int, addr string) kad.Config {
	return kad.Config{
		Key: Key(i), Listen: []string{addr}, Network: Network, Gate: MemberGate(), Server: true,
		Transport: f.Transport, Logger: slog.New(slog.DiscardHandler),
	}
}

// Start starts one host that is closed at the end of the test.
func Start(t testing.TB, cfg kad.Config) *kad.Overlay {
	t.Helper()
	h, err := kad.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Kill(t, h) })
	return h
}

// Kill closes a host; its peers notice at once. To let one vanish silently
// use Fabric.Cut.
func Kill(t testing.TB, h *kad.Overlay) {
	t.Helper()
	if err := h.Close(); err != nil {
		t.Errorf("close %s: %v", h.ID().Short(), err)
	}
}
