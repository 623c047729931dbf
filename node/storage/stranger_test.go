package storage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/xenoserver/xeno/dht/kad/kadtest"
	"github.com/xenoserver/xeno/store"
)

// known is a routing system that knows one provider of everything.
type known struct{ provider peer.AddrInfo }

func (known) Provide(context.Context, cid.Cid, bool) error { return nil }

func (k known) FindProvidersAsync(context.Context, cid.Cid, int) <-chan peer.AddrInfo {
	ch := make(chan peer.AddrInfo, 1)
	if k.provider.ID != "" {
		ch <- k.provider
	}
	close(ch)
	return ch
}

// stranger starts a host without a gate or a credential that speaks bitswap
// under the network's protocol.
func stranger(t *testing.T, f *kadtest.Fabric, knows peer.AddrInfo, stall time.Duration) (*content, host.Host) {
	t.Helper()
	key, err := crypto.UnmarshalEd25519PrivateKey(kadtest.Key(99))
	if err != nil {
		t.Fatal(err)
	}
	opts := append(f.Transport(), libp2p.Identity(key), libp2p.ListenAddrStrings(f.Addr()))
	h, err := libp2p.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	c, err := newContent(t.Context(), contentConfig{
		dir: t.TempDir(), maxImages: 1 << 30, stall: stall, log: slog.New(slog.DiscardHandler),
		host: h, routing: known{knows}, prefix: protocol.ID("/xeno/" + kadtest.Network),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.close(), h.Close()); err != nil {
			t.Error(err)
		}
	})
	return c, h
}

// TestStrangerIsNotServed: a peer without a credential gets no block, though
// it is connected and knows who has it, and its blocks are not taken.
func TestStrangerIsNotServed(t *testing.T) {
	f := kadtest.NewFabric(nil)
	w := newWorld(t, 2, func(_ int, cfg *Config) { cfg.Stall = 2 * time.Second }, kadtest.WithFabric(f))
	member := peer.AddrInfo{ID: w.hosts[0].Host().ID(), Addrs: w.hosts[0].Host().Addrs()}
	c, h := stranger(t, f, member, 2*time.Second)
	if err := h.Connect(t.Context(), member); err != nil {
		t.Fatal(err)
	}
	secret := w.add(t, 0, testContent(1, 1<<20))
	if b, err := io.ReadAll(c.Open(t.Context(), secret)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("the stranger reads %d bytes, %v, want ErrUnavailable", len(b), err)
	}
	if st := w.services[0].Stats(); st.BytesSent != 0 {
		t.Errorf("%d bytes were sent", st.BytesSent)
	}
	theirs, err := c.Add(t.Context(), "x", bytes.NewReader(testContent(2, 1<<20)))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Connect(t.Context(), member); err != nil {
		t.Log("the stranger is not even let in:", err)
	}
	if _, err := w.services[0].Fetch(t.Context(), theirs.Ref, nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("fetch from a stranger: %v, want ErrUnavailable", err)
	}
	if st := w.services[0].Stats(); st.BytesReceived != 0 {
		t.Errorf("%d bytes were taken", st.BytesReceived)
	}
}

// TestSlowReader: a reader who pauses for longer than the stall time is not
// told that the content is unavailable.
func TestSlowReader(t *testing.T) {
	const stall = 200 * time.Millisecond
	f := kadtest.NewFabric(nil)
	c, _ := stranger(t, f, peer.AddrInfo{}, stall)
	want := testContent(3, 40<<20)
	a, err := c.Add(t.Context(), "x", bytes.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	r := c.Open(t.Context(), a.Ref)
	defer r.Close()
	part := make([]byte, 1000)
	if _, err := io.ReadFull(r, part); err != nil {
		t.Fatal(err)
	}
	<-time.After(2 * stall) // what is tested is that nothing happens
	rest, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(append(part, rest...), want) {
		t.Errorf("after a pause: %d bytes, %v", len(rest), err)
	}
	missing, err := store.ParseRef("bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c.Open(t.Context(), missing)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("what nobody has: %v, want ErrUnavailable", err)
	}
}
