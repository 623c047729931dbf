package storage

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/xenoserver/xeno/dht/kad"
	"github.com/xenoserver/xeno/dht/kad/kadtest"
)

// BenchmarkFetch moves a file of 64 MiB from two providers to a third host,
// over each transport: from adding it elsewhere to a durable file here.
func BenchmarkFetch(b *testing.B) {
	b.Run("memory", func(b *testing.B) { benchFetch(b, newWorld(b, 3, nil)) })
	b.Run("quic", func(b *testing.B) { benchFetch(b, loopback(b, "/ip4/127.0.0.1/udp/0/quic-v1")) })
	b.Run("tcp", func(b *testing.B) { benchFetch(b, loopback(b, "/ip4/127.0.0.1/tcp/0")) })
}

// loopback starts three connected hosts on real sockets.
func loopback(b *testing.B, addr string) *world {
	b.Helper()
	w := &world{}
	for i := range 3 {
		cfg := kad.Config{Key: kadtest.Key(i), Listen: []string{addr}, Network: kadtest.Network, Gate: kadtest.MemberGate(), Server: true}
		if i > 0 {
			cfg.Bootstrap = w.hosts[0].Addrs()
		}
		o := kadtest.Start(b, cfg)
		s, err := New(b.Context(), Config{Overlay: o, Key: kadtest.Key(i), Network: kadtest.Network, Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		w.hosts, w.services = append(w.hosts, o), append(w.services, s)
		b.Cleanup(func() { w.close(b, i) })
		if err := o.Bootstrap(b.Context()); err != nil {
			b.Fatal(err)
		}
		s.Start()
	}
	return w
}

func benchFetch(b *testing.B, w *world) {
	const size = 64 << 20
	b.SetBytes(size)
	for i := range b.N {
		b.StopTimer()
		data := testContent(byte(i), size)
		ref := w.add(b, 1, data)
		w.add(b, 2, data)
		b.StartTimer()
		path, err := w.services[0].Fetch(b.Context(), ref, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
			b.Fatalf("%d bytes, %v", len(got), err)
		}
		for _, s := range w.services {
			for _, p := range s.Pins() {
				if err := s.Unpin(p.Ref); err != nil {
					b.Fatal(err)
				}
			}
			s.blocks.Collect(b.Context(), 0)
		}
		b.StartTimer()
	}
}

// BenchmarkFirstByte measures a small file that only one of 20 hosts has.
func BenchmarkFirstByte(b *testing.B) {
	w := newWorld(b, 20, nil)
	dir := b.TempDir()
	for i := range b.N {
		b.StopTimer()
		ref := w.add(b, 1+i%19, testContent(byte(i), 1000+i))
		b.StartTimer()
		if _, err := w.services[0].Get(b.Context(), ref, filepath.Join(dir, ref.String()), nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkNames measures a publish and a resolve on 20 hosts.
func BenchmarkNames(b *testing.B) {
	w := newWorld(b, 20, nil)
	b.Run("publish", func(b *testing.B) {
		for b.Loop() {
			if _, err := w.services[0].Publish(b.Context(), "n", inline("v")); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("resolve", func(b *testing.B) {
		for b.Loop() {
			if _, err := w.services[1].Resolve(b.Context(), w.hosts[0].ID(), "n"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
