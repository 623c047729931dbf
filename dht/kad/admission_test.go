package kad_test

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad"
	"github.com/xenoserver/xeno/dht/kad/kadtest"
)

// routing counts the hosts, but for the one itself, that have id in their
// routing table.
func routing(hosts []*kad.Overlay, id dht.PeerID) (n int) {
	for _, h := range hosts {
		if h.ID() != id && slices.Contains(h.Routing(), id) {
			n++
		}
	}
	return n
}

// small returns a cluster behind the authority's gate.
func small(t *testing.T, a *authority, n int, opts ...kadtest.Option) (*kadtest.Fabric, []*kad.Overlay) {
	t.Helper()
	fabric := kadtest.NewFabric(func(_, _ dht.PeerID) time.Duration { return 20 * time.Millisecond })
	opts = append([]kadtest.Option{kadtest.WithFabric(fabric), kadtest.WithGate(a.member), kadtest.WithSetup(handlers)}, opts...)
	return fabric, kadtest.Cluster(t, n, opts...)
}

func TestReadmit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority()
		_, hosts := small(t, a, 12)
		time.Sleep(time.Minute)
		bad, others := hosts[5], slices.Delete(slices.Clone(hosts), 5, 6)
		if n := routing(others, bad.ID()); n < 6 {
			t.Fatalf("only %d hosts know host 5", n)
		}
		a.revoke(bad.ID())
		for _, h := range others {
			h.Readmit()
			if slices.Contains(h.Routing(), bad.ID()) {
				t.Errorf("%s keeps the revoked in its routing table", h.ID().Short())
			}
			for _, p := range h.Peers() {
				if p.ID == bad.ID() {
					t.Errorf("%s keeps the revoked as a peer", h.ID().Short())
				}
			}
		}
		time.Sleep(time.Minute)
		if n := routing(others, bad.ID()); n != 0 {
			t.Errorf("%d hosts took the revoked back", n)
		}
		_, err := bad.Request(t.Context(), hosts[1].Contact(), echoProtocol, nil, 10)
		if !errors.Is(err, kad.ErrRefused) || !strings.Contains(err.Error(), "revoked") {
			t.Errorf("request of the revoked: %v", err)
		}
		_, err = hosts[1].Request(t.Context(), bad.Contact(), echoProtocol, nil, 10)
		if !errors.Is(err, kad.ErrNotAdmitted) || !strings.Contains(err.Error(), "revoked") {
			t.Errorf("request to the revoked: %v", err)
		}
	})
}

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const renewing, forgetful = 2, 3
		a := newAuthority()
		began := time.Now()
		_, hosts := small(t, a, 10, kadtest.WithConfig(func(i int, cfg *kad.Config) {
			id := kadtest.PeerID(i)
			switch i {
			case renewing: // has a new credential when it is asked
				cfg.Gate = a.gate(func() []byte {
					return credential("xeno", id, began.Add(time.Since(began).Truncate(time.Hour)+61*time.Minute))
				})
			case forgetful:
				cfg.Gate = a.gate(func() []byte { return credential("xeno", id, began.Add(61*time.Minute)) })
			}
		}))
		time.Sleep(time.Hour + 2*time.Minute)
		others := slices.DeleteFunc(slices.Clone(hosts), func(h *kad.Overlay) bool { return h.ID() == hosts[forgetful].ID() })
		if n := routing(others, hosts[forgetful].ID()); n != 0 {
			t.Errorf("%d hosts keep the expired in their routing table", n)
		}
		if n := routing(others, hosts[renewing].ID()); n < 5 {
			t.Errorf("only %d hosts keep the one that renewed", n)
		}
		if _, err := hosts[0].Request(t.Context(), hosts[renewing].Contact(), echoProtocol, nil, 10); err != nil {
			t.Error(err)
		}
		if _, err := hosts[0].Request(t.Context(), hosts[forgetful].Contact(), echoProtocol, nil, 10); !errors.Is(err, kad.ErrNotAdmitted) {
			t.Errorf("request to the expired: %v", err)
		}
	})
}

func TestReannounce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority()
		fabric, hosts := small(t, a, 8, kadtest.WithConfig(func(i int, cfg *kad.Config) { cfg.Registrar = i == 0 }))
		var registered atomic.Bool
		cfg := kadtest.Config(fabric, 50, fabric.Addr())
		cfg.Gate = a.gate(func() []byte {
			if !registered.Load() {
				return nil
			}
			return credential("xeno", kadtest.PeerID(50), time.Now().Add(time.Hour))
		})
		cfg.Bootstrap = hosts[0].Addrs()
		newcomer := kadtest.Start(t, cfg)
		if err := newcomer.Bootstrap(t.Context()); !errors.Is(err, kad.ErrRefused) {
			t.Fatalf("bootstrap without credential: %v", err)
		}
		if _, err := newcomer.Request(t.Context(), hosts[0].Contact(), openProtocol, []byte("code"), 10); err != nil {
			t.Fatal(err)
		}
		registered.Store(true)
		newcomer.Reannounce()
		if err := newcomer.Bootstrap(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := newcomer.Request(t.Context(), hosts[7].Contact(), echoProtocol, nil, 10); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if n := routing(hosts, newcomer.ID()); n < 6 {
			t.Errorf("only %d hosts have the newcomer in their routing table", n)
		}
		testClosest(t, append(hosts, newcomer), 40)
	})
}

func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fabric, hosts := small(t, newAuthority(), 12)
		const restarted = 4
		addr := hosts[restarted].Contact()
		kadtest.Kill(t, hosts[restarted])
		if _, err := hosts[1].Request(t.Context(), addr, echoProtocol, nil, 10); !errors.Is(err, kad.ErrUnreachable) {
			t.Errorf("request to the dead: %v", err)
		}
		alive := slices.Delete(slices.Clone(hosts), restarted, restarted+1)
		testClosest(t, alive, 40)
		if n := routing(alive, addr.ID); n != 0 {
			time.Sleep(kad.WarmInterval)
			if n = routing(alive, addr.ID); n != 0 {
				t.Errorf("%d hosts keep the dead in their routing table", n)
			}
		}
		cfg := kadtest.Config(fabric, restarted, addr.Addrs[0])
		cfg.Gate = newAuthority().member(restarted, addr.ID)
		cfg.Bootstrap = hosts[0].Addrs()
		hosts[restarted] = kadtest.Start(t, cfg)
		handlers(restarted, hosts[restarted])
		if err := hosts[restarted].Bootstrap(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := hosts[1].Request(t.Context(), addr, echoProtocol, nil, 10); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		testClosest(t, hosts, 40)
	})
}

// TestAlone takes the only bootstrap peer away and back.
func TestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fabric, hosts := small(t, newAuthority(), 2)
		addr := hosts[0].Contact()
		kadtest.Kill(t, hosts[0])
		time.Sleep(10 * time.Minute)
		if n := len(hosts[1].Peers()); n != 0 {
			t.Fatalf("%d peers, expected none", n)
		}
		cfg := kadtest.Config(fabric, 0, addr.Addrs[0])
		cfg.Gate = newAuthority().member(0, addr.ID)
		again := kadtest.Start(t, cfg)
		time.Sleep(2 * time.Minute)
		if routing([]*kad.Overlay{again}, hosts[1].ID()) != 1 || routing(hosts[1:], addr.ID) != 1 {
			t.Error("the two did not find each other again")
		}
	})
}

// TestCut lets a third of the hosts vanish without a word.
func TestCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fabric, hosts := small(t, newAuthority(), 30)
		for _, h := range hosts[20:] {
			fabric.Cut(h.ID())
		}
		alive := hosts[:20]
		t.Logf("mean latency right after: %v", testClosest(t, alive, 60))
		time.Sleep(2 * time.Minute)
		if mean := testClosest(t, alive, 60); mean > 200*time.Millisecond {
			t.Errorf("lookups take %v after two minutes", mean)
		}
		for _, h := range hosts[20:] {
			if n := routing(alive, h.ID()); n != 0 {
				t.Errorf("%d hosts keep a vanished one in their routing table", n)
			}
			fabric.Restore(h.ID())
		}
		time.Sleep(3 * time.Minute)
		testClosest(t, hosts, 60)
	})
}

func TestSelfRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, hosts := small(t, newAuthority(), 1)
		h := hosts[0]
		got, err := h.Request(t.Context(), h.Contact(), echoProtocol, []byte("me"), 10)
		if err != nil || string(got) != "me" {
			t.Errorf("echo of itself: %q, %v", got, err)
		}
		if _, err := h.Request(t.Context(), h.Contact(), echoProtocol, make([]byte, 11), 10); !errors.Is(err, kad.ErrTooLarge) {
			t.Errorf("answer above the limit: %v", err)
		}
		near, err := h.Closest(t.Context(), dht.Key{}, 3)
		if err != nil || len(near) != 1 || near[0].ID != h.ID() {
			t.Errorf("closest of a lonely host: %v, %v", near, err)
		}
		if _, err := h.Find(t.Context(), kadtest.PeerID(9)); !errors.Is(err, kad.ErrNotFound) {
			t.Errorf("find nobody: %v", err)
		}
		if c, err := h.Find(t.Context(), h.ID()); err != nil || len(c.Addrs) == 0 {
			t.Errorf("find itself: %v, %v", c, err)
		}
	})
}
