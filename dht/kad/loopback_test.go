package kad_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad"
)

// loopbackCluster joins n real hosts on loopback, over QUIC or TCP.
func loopbackCluster(t testing.TB, n int, listen string) []*kad.Overlay {
	t.Helper()
	hosts := make([]*kad.Overlay, n)
	for i := range hosts {
		cfg := loopback(t, i)
		cfg.Listen = []string{listen}
		cfg.Logger = slog.New(slog.DiscardHandler)
		for _, parent := range []int{i - 1, i / 2} {
			if parent >= 0 && parent < i {
				cfg.Bootstrap = append(cfg.Bootstrap, hosts[parent].Addrs()...)
			}
		}
		hosts[i] = start(t, cfg)
		hosts[i].Handle(echoProtocol, 1<<20, echo)
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	for i, h := range hosts {
		slots <- struct{}{}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := h.Bootstrap(ctx); err != nil {
				t.Errorf("host %d: %v", i, err)
			}
			<-slots
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return hosts
}

const quicListen, tcpListen = "/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"

// TestLoopback40 is the smoke test over real QUIC.
func TestLoopback40(t *testing.T) {
	began := time.Now()
	hosts := loopbackCluster(t, 40, quicListen)
	t.Logf("40 hosts joined in %v", time.Since(began))
	// On a busy machine a host may take longer than it is waited for, so
	// this does not insist on every single lookup as TestClosest100 does.
	exact := 0
	began = time.Now()
	for i := range 100 {
		key := dht.KeyspaceBlock.Key([]byte{byte(i)})
		got, err := hosts[i*7%40].Closest(t.Context(), key, 4)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Equal(ids(got), nearest(hosts, key, 4)) {
			exact++
		}
	}
	t.Logf("%d of 100 lookups exact, mean %v", exact, time.Since(began)/100)
	if exact < 90 {
		t.Errorf("%d of 100 lookups exact", exact)
	}
	for i, h := range hosts {
		got, err := h.Request(t.Context(), hosts[(i+17)%40].Contact(), echoProtocol, []byte("hi"), 10)
		if err != nil || string(got) != "hi" {
			t.Errorf("host %d: %q, %v", i, got, err)
		}
	}
}

// TestSwitches starts hosts with everything switched on, and closes them.
func TestSwitches(t *testing.T) {
	var bootstrap []string
	for i := range 2 {
		cfg := loopback(t, i)
		cfg.MDNS, cfg.Relay, cfg.HolePunch, cfg.AutoNAT = true, true, true, true
		cfg.Bootstrap = bootstrap
		o := start(t, cfg)
		if err := o.Bootstrap(t.Context()); err != nil {
			t.Fatal(err)
		}
		bootstrap = o.Addrs()
	}
}

// TestListenNowhere: a node without Listen can dial, and be asked over the
// connections it made.
func TestListenNowhere(t *testing.T) {
	cfg := loopback(t, 0)
	public := start(t, cfg)
	if err := public.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	cfg = loopback(t, 1)
	cfg.Listen, cfg.Bootstrap, cfg.Server = nil, public.Addrs(), false
	hidden := start(t, cfg)
	hidden.Handle(echoProtocol, 10, echo)
	if err := hidden.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := hidden.Addrs(); len(got) != 0 {
		t.Errorf("listens on %v", got)
	}
	if _, err := public.Request(t.Context(), dht.Contact{ID: hidden.ID()}, echoProtocol, []byte("x"), 10); err != nil {
		t.Error(err)
	}
	if near, err := hidden.Closest(t.Context(), dht.Key{}, 4); err != nil || len(near) != 1 || near[0].ID != public.ID() {
		t.Errorf("closest by a client: %v, %v", near, err)
	}
	near, err := public.Closest(t.Context(), dht.Key{}, 4)
	if err != nil || len(near) != 1 || near[0].ID != public.ID() {
		t.Errorf("a client counts as a holder: %v, %v", near, err)
	}
}

func TestConfigErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*kad.Config)
		why    string
	}{
		"key":       {func(c *kad.Config) { c.Key = c.Key[:10] }, "key of 10 bytes"},
		"network":   {func(c *kad.Config) { c.Network = "Not/Good" }, `network name "Not/Good"`},
		"no name":   {func(c *kad.Config) { c.Network = "" }, "network name of 0 characters"},
		"gate":      {func(c *kad.Config) { c.Gate.Admit = nil }, "gate without Admit"},
		"listen":    {func(c *kad.Config) { c.Listen = []string{"127.0.0.1:1"} }, `listen "127.0.0.1:1"`},
		"transport": {func(c *kad.Config) { c.Listen = []string{"/ip4/127.0.0.1/tcp/1/ws/x"} }, "listen"},
		"bootstrap": {func(c *kad.Config) { c.Bootstrap = []string{"/ip4/127.0.0.1/tcp/1"} }, "bootstrap"},
		"bad boot":  {func(c *kad.Config) { c.Bootstrap = []string{"/ip4/x/p2p/" + dht.PeerID{1}.String()} }, "bootstrap"},
		"private":   {func(c *kad.Config) { c.PrivateConns = -1 }, "private network"},
	} {
		cfg := loopback(t, 0)
		tc.change(&cfg)
		o, err := kad.New(t.Context(), cfg)
		if err == nil {
			_ = o.Close()
			t.Errorf("%s: no error", name)
		} else if !strings.Contains(err.Error(), tc.why) {
			t.Errorf("%s: %v, does not tell %q", name, err, tc.why)
		}
	}
}

// rss returns the resident memory of this process in bytes.
func rss(t testing.TB) int {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// cpu returns the processor time of this process.
func cpu(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkIdle measures what a host with 20 peers costs while nothing
// happens: 21 hosts in one process, each connected to all others.
func BenchmarkIdle(b *testing.B) {
	for name, listen := range map[string]string{"quic": quicListen, "tcp": tcpListen} {
		b.Run(name, func(b *testing.B) {
			debug.FreeOSMemory()
			goroutines, memory := runtime.NumGoroutine(), rss(b)
			hosts := loopbackCluster(b, 21, listen)
			for _, h := range hosts {
				for _, other := range hosts {
					if err := h.Connect(b.Context(), other.Contact()); err != nil {
						b.Fatal(err)
					}
				}
			}
			const idle = 20 * time.Second
			for b.Loop() {
				debug.FreeOSMemory()
				began := cpu(b)
				time.Sleep(idle)
				b.ReportMetric(float64(cpu(b)-began)/float64(idle)/float64(len(hosts))*100, "cpu%/host")
			}
			debug.FreeOSMemory()
			b.ReportMetric(float64(rss(b)-memory)/float64(len(hosts))/(1<<20), "MiB/host")
			b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/float64(len(hosts)), "goroutines/host")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkRequest measures round trips over a warm connection.
func BenchmarkRequest(b *testing.B) {
	for name, listen := range map[string]string{"quic": quicListen, "tcp": tcpListen} {
		for _, size := range []int{100, 10_000, 1_000_000} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				hosts := loopbackCluster(b, 2, listen)
				request := make([]byte, size)
				b.SetBytes(int64(2 * size))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := hosts[0].Request(b.Context(), hosts[1].Contact(), echoProtocol, request, size); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkClosest measures lookups of the 4 nearest among 20 real hosts.
func BenchmarkClosest(b *testing.B) {
	hosts := loopbackCluster(b, 20, quicListen)
	for i := 0; b.Loop(); i++ {
		if _, err := hosts[i%20].Closest(b.Context(), dht.KeyspaceXIS.Key(fmt.Append(nil, i)), 4); err != nil {
			b.Fatal(err)
		}
	}
}
