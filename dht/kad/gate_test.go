package kad_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
	"google.golang.org/protobuf/proto"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad"
	"github.com/xenoserver/xeno/dht/kad/kadtest"
)

// An authority stands for XenoCorp: credentials "network/peer/expiry".
type authority struct {
	mu      sync.Mutex
	revoked map[dht.PeerID]bool
}

func newAuthority() *authority { return &authority{revoked: make(map[dht.PeerID]bool)} }

func credential(networkName string, id dht.PeerID, until time.Time) []byte {
	return fmt.Appendf(nil, "%s/%s/%d", networkName, id, until.UnixMilli())
}

func (a *authority) revoke(id dht.PeerID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.revoked[id] = true
}

func (a *authority) admit(id dht.PeerID, shown []byte) (time.Time, error) {
	part := strings.Split(string(shown), "/")
	if len(part) != 3 {
		return time.Time{}, errors.New("no credential: register first")
	}
	if part[0] != "xeno" {
		return time.Time{}, fmt.Errorf("credential of network %q", part[0])
	}
	if part[1] != id.String() {
		return time.Time{}, errors.New("credential of somebody else")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.revoked[id] {
		return time.Time{}, errors.New("credential was revoked")
	}
	var millis int64
	if _, err := fmt.Sscan(part[2], &millis); err != nil {
		return time.Time{}, err
	}
	return time.UnixMilli(millis), nil
}

// gate is the gate of one who shows what own returns.
func (a *authority) gate(own func() []byte) kad.Gate {
	return kad.Gate{Credential: own, Admit: a.admit}
}

// member shows a good credential.
func (a *authority) member(_ int, id dht.PeerID) kad.Gate {
	shown := credential("xeno", id, time.Now().Add(1000*time.Hour))
	return a.gate(func() []byte { return shown })
}

func echo(_ context.Context, _ dht.PeerID, request []byte) ([]byte, error) { return request, nil }

const echoProtocol, openProtocol = "/test/echo/1", "/test/open/1"

// handlers registers an ordinary and an open protocol.
func handlers(_ int, o *kad.Overlay) {
	o.Handle(echoProtocol, 1<<20, echo)
	o.HandleOpen(openProtocol, 1<<10, echo)
}

func TestStranger(t *testing.T) {
	const lax, registrar, strangerIndex = 3, 4, 100
	id := kadtest.PeerID(strangerIndex)
	for _, tc := range []struct {
		name       string
		credential func() []byte
		network    string
		why        string
	}{
		{"without credential", func() []byte { return nil }, kadtest.Network, "register first"},
		{"expired", func() []byte { return credential("xeno", id, time.Now().Add(-time.Second)) }, kadtest.Network, "expired"},
		{"revoked", func() []byte { return credential("xeno", id, time.Now().Add(time.Hour)) }, kadtest.Network, "revoked"},
		{"credential of another network", func() []byte { return credential("other", id, time.Now().Add(time.Hour)) }, kadtest.Network, `network "other"`},
		{"another's credential", func() []byte { return credential("xeno", kadtest.PeerID(0), time.Now().Add(time.Hour)) }, kadtest.Network, "somebody else"},
		{"of another network", func() []byte { return credential("xeno", id, time.Now().Add(time.Hour)) }, "foreign", `network "foreign", not "test"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAuthority()
				if tc.name == "revoked" {
					a.revoke(id)
				}
				fabric := kadtest.NewFabric(func(_, _ dht.PeerID) time.Duration { return 10 * time.Millisecond })
				hosts := kadtest.Cluster(t, 12, kadtest.WithFabric(fabric), kadtest.WithSetup(handlers),
					kadtest.WithConfig(func(i int, cfg *kad.Config) {
						cfg.Gate = a.member(i, kadtest.PeerID(i))
						if i == lax {
							cfg.Gate.Admit = func(dht.PeerID, []byte) (time.Time, error) { return time.Now().Add(time.Hour), nil }
						}
						cfg.Registrar = i == registrar
					}))
				cfg := kadtest.Config(fabric, strangerIndex, fabric.Addr())
				cfg.Network = tc.network
				cfg.Gate = kad.Gate{
					Credential: tc.credential,
					Admit:      func(dht.PeerID, []byte) (time.Time, error) { return time.Now().Add(time.Hour), nil },
				}
				cfg.Bootstrap = hosts[0].Addrs()
				stranger := kadtest.Start(t, cfg)
				handlers(0, stranger)
				attack(t, stranger, hosts, lax, registrar, tc.why)
			})
		})
	}
}

// attack tries everything a stranger can, and checks that it is in vain.
func attack(t *testing.T, stranger *kad.Overlay, hosts []*kad.Overlay, lax, registrar int, why string) {
	ctx := t.Context()
	refused := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s succeeded", what)
		} else if !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, does not tell %q", what, err, why)
		}
	}
	sameNetwork := !strings.Contains(why, "foreign")
	refused("bootstrap", stranger.Bootstrap(ctx))
	mh, err := multihash.Sum([]byte("loot"), multihash.SHA2_256, -1)
	if err != nil {
		t.Fatal(err)
	}
	loot := cid.NewCidV1(cid.Raw, mh)
	for i, h := range hosts {
		err := stranger.Connect(ctx, h.Contact())
		if i == lax && sameNetwork {
			if err != nil {
				t.Errorf("lax member: %v", err)
			}
			continue
		}
		refused("connect", err)
		_, err = stranger.Request(ctx, h.Contact(), echoProtocol, []byte("x"), 100)
		refused("request", err)
		intrude(t, stranger, h, mh)
		probe(t, stranger, h)
	}
	if got, err := stranger.Request(ctx, hosts[registrar].Contact(), openProtocol, []byte("invitation"), 100); sameNetwork && (err != nil || string(got) != "invitation") {
		t.Errorf("registration: %q, %v", got, err)
	}
	if sameNetwork { // the lax member takes the record, and shows the stranger around
		_ = stranger.ContentRouting().Provide(ctx, loot, true)
	}
	for _, h := range hosts {
		for range h.ContentRouting().FindProvidersAsync(ctx, loot, 0) {
			continue // perhaps the lax member's word; following it must not let the stranger in
		}
		_ = h.Connect(ctx, stranger.Contact())
		if _, err := h.Closest(ctx, dht.Key{1}, 8); err != nil {
			t.Error(err)
		}
	}
	checkOutside(t, stranger, hosts, lax, mh)
	if s := hosts[0].Stats(); s.Gated == 0 || s.Peers == 0 || s.Routing == 0 || s.Lookups == 0 {
		t.Errorf("%+v", s)
	}

	time.Sleep(kad.StrangerGrace + time.Second)
	for i, h := range hosts {
		if i != lax && i != registrar {
			checkBrief(t, stranger, h, kad.StrangerGrace)
		}
	}
	time.Sleep(kad.RegistrarGrace)
	checkBrief(t, stranger, hosts[registrar], kad.RegistrarGrace)
	checkOutside(t, stranger, hosts, lax, mh)
}

// checkBrief checks that no connection to the stranger outlives the grace;
// the stranger goes on dialling.
func checkBrief(t *testing.T, stranger, h *kad.Overlay, grace time.Duration) {
	t.Helper()
	for _, c := range h.Base().Network().ConnsToPeer(kad.ToPeer(stranger.ID())) {
		if age := time.Since(c.Stat().Opened); age > grace {
			t.Errorf("host %s has had a connection to the stranger for %v", h.ID().Short(), age)
		}
	}
}

// intrude stores a provider record without asking the stranger's own gate.
func intrude(t *testing.T, stranger, h *kad.Overlay, mh multihash.Multihash) {
	t.Helper()
	messenger, err := pb.NewProtocolMessenger(rawSender{stranger})
	if err != nil {
		t.Fatal(err)
	}
	_ = messenger.PutProviderAddrs(t.Context(), kad.ToPeer(h.ID()), mh, peer.AddrInfo{
		ID: kad.ToPeer(stranger.ID()), Addrs: stranger.Base().Addrs(),
	})
}

// probe opens every protocol the host serves.
func probe(t *testing.T, stranger, h *kad.Overlay) {
	t.Helper()
	open := []string{kad.HelloProtocol, openProtocol, "/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0"}
	for _, protocol := range h.Base().Mux().Protocols() {
		if slices.Contains(open, string(protocol)) {
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		s, err := stranger.Base().NewStream(ctx, kad.ToPeer(h.ID()), protocol)
		cancel()
		if err != nil {
			continue // disconnected already
		}
		var gated *network.StreamError
		_ = s.SetDeadline(time.Now().Add(time.Minute))
		_, _ = s.Write([]byte{1, 1})
		if _, err := s.Read(make([]byte, 1)); !errors.As(err, &gated) || gated.ErrorCode != network.StreamGated {
			t.Errorf("%s: stream of a stranger ends with %v", protocol, err)
		}
		_ = s.Reset()
	}
}

// checkOutside checks that the stranger is nowhere but with the lax member.
func checkOutside(t *testing.T, stranger *kad.Overlay, hosts []*kad.Overlay, lax int, mh multihash.Multihash) {
	t.Helper()
	for i, h := range hosts {
		if i == lax {
			continue
		}
		if slices.Contains(h.Routing(), stranger.ID()) {
			t.Errorf("host %d has the stranger in its routing table", i)
		}
		for _, p := range h.Peers() {
			if p.ID == stranger.ID() {
				t.Errorf("host %d admitted the stranger", i)
			}
		}
		providers, err := h.DHT().ProviderStore().GetProviders(t.Context(), mh)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range providers {
			if p.ID == kad.ToPeer(stranger.ID()) {
				t.Errorf("host %d stored the stranger's record", i)
			}
		}
		near, err := h.Closest(t.Context(), dht.Key{2}, 20)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(ids(near), stranger.ID()) {
			t.Errorf("host %d finds the stranger", i)
		}
	}
}

// rawSender sends kad-dht messages past the sender's own gate.
type rawSender struct{ o *kad.Overlay }

func (r rawSender) SendRequest(context.Context, peer.ID, *pb.Message) (*pb.Message, error) {
	return nil, errors.New("not needed")
}

func (r rawSender) SendMessage(ctx context.Context, p peer.ID, m *pb.Message) error {
	s, err := r.o.Base().NewStream(ctx, p, "/xeno/test/kad/1.0.0")
	if err != nil {
		return err
	}
	defer s.Close()
	b, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	_, err = s.Write(kad.AppendFrame(nil, nil, b))
	return err
}
