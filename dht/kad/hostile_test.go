package kad_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/proto"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad"
	"github.com/xenoserver/xeno/dht/kad/kadtest"
	"github.com/xenoserver/xeno/wire"
)

// rogue returns a plain libp2p host that does what it likes.
func rogue(t *testing.T, fabric *kadtest.Fabric, i int) host.Host {
	t.Helper()
	key, err := crypto.UnmarshalEd25519PrivateKey(kadtest.Key(i))
	if err != nil {
		t.Fatal(err)
	}
	options := append(fabric.Transport(), libp2p.Identity(key), libp2p.ListenAddrStrings(fabric.Addr()), libp2p.DisableMetrics(), libp2p.DisableRelay())
	h, err := libp2p.New(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// dial connects the rogue and opens one stream.
func dial(t *testing.T, r host.Host, to *kad.Overlay, proto string) network.Stream {
	t.Helper()
	info := peer.AddrInfo{ID: kad.ToPeer(to.ID())}
	for _, s := range to.Contact().Addrs {
		info.Addrs = append(info.Addrs, ma.StringCast(s))
	}
	if err := r.Connect(t.Context(), info); err != nil {
		t.Fatal(err)
	}
	s, err := r.NewStream(t.Context(), info.ID, protocol.ID(proto))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func frame(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return kad.AppendFrame(nil, nil, b)
}

func goodHello() *wire.Hello {
	return &wire.Hello{Network: kadtest.Network, Version: 1, UnixMillis: time.Now().UnixMilli(), Credential: []byte("member")}
}

// sayHello makes the rogue an admitted peer.
func sayHello(t *testing.T, r host.Host, to *kad.Overlay) {
	t.Helper()
	s := dial(t, r, to, kad.HelloProtocol)
	if _, err := s.Write(frame(t, goodHello())); err != nil {
		t.Fatal(err)
	}
	b, err := kad.ReadFrame(s, kad.MaxHello)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := kad.DecodeHelloReply(b)
	if err != nil || reply.GetRefused() != "" {
		t.Fatalf("hello refused: %q, %v", reply.GetRefused(), err)
	}
	if _, err := s.Write(frame(t, &wire.HelloReply{})); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
}

// TestHelloRefusals: what is wrong with a hello is told, and the peer stays
// outside.
func TestHelloRefusals(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*wire.Hello)
		why    string
	}{
		{"network", func(h *wire.Hello) { h.Network = "other" }, `this is network "test", not "other"`},
		{"version", func(h *wire.Hello) { h.Version = 0 }, "update the program"},
		{"clock ahead", func(h *wire.Hello) { h.UnixMillis += 95_000 }, "your clock is 1m35s ahead of mine"},
		{"clock behind", func(h *wire.Hello) { h.UnixMillis -= 95_000 }, "your clock is 1m35s behind mine"},
		{"clock absurd", func(h *wire.Hello) { h.UnixMillis = -1 << 63 }, "set the clock"},
		{"credential", func(h *wire.Hello) { h.Credential = []byte("forged") }, "not a member"},
		{"huge network name", func(h *wire.Hello) { h.Network = strings.Repeat("\n", 20_000) }, "this is network"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fabric := kadtest.NewFabric(nil)
				victim := kadtest.Cluster(t, 1, kadtest.WithFabric(fabric))[0]
				s := dial(t, rogue(t, fabric, 77), victim, kad.HelloProtocol)
				hello := goodHello()
				tc.change(hello)
				_, _ = s.Write(frame(t, hello))
				b, err := kad.ReadFrame(s, kad.MaxHello)
				if err != nil {
					t.Fatal(err)
				}
				reply, err := kad.DecodeHelloReply(b)
				if err != nil || !strings.Contains(reply.GetRefused(), tc.why) || len(reply.GetRefused()) > 256 {
					t.Errorf("refused: %q, %v", reply.GetRefused(), err)
				}
				if len(victim.Peers()) != 0 || victim.Strangers() != 1 {
					t.Errorf("%d peers, %d strangers", len(victim.Peers()), victim.Strangers())
				}
				time.Sleep(kad.StrangerGrace + time.Second)
				if victim.Strangers() != 0 {
					t.Error("the stranger is still connected")
				}
			})
		})
	}
}

// TestHelloBroken: oversized, truncated, garbled, slow and no hellos end in
// disconnection, and nothing remains.
func TestHelloBroken(t *testing.T) {
	for name, say := range map[string]func(t *testing.T, s network.Stream){
		"oversized": func(_ *testing.T, s network.Stream) {
			_, _ = s.Write(binary.AppendUvarint(nil, kad.MaxHello+1))
		},
		"truncated": func(t *testing.T, s network.Stream) {
			b := frame(t, goodHello())
			_, _ = s.Write(b[:len(b)-1])
			_ = s.CloseWrite()
		},
		"garbled": func(_ *testing.T, s network.Stream) { _, _ = s.Write([]byte("\x03\xff\xff\xff")) },
		"slow": func(t *testing.T, s network.Stream) {
			for _, b := range frame(t, goodHello()) {
				if _, err := s.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		},
		"silent": func(*testing.T, network.Stream) {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fabric := kadtest.NewFabric(nil)
				victim := kadtest.Cluster(t, 1, kadtest.WithFabric(fabric))[0]
				s := dial(t, rogue(t, fabric, 77), victim, kad.HelloProtocol)
				say(t, s)
				time.Sleep(kad.HelloTimeout + time.Second)
				if _, err := s.Read(make([]byte, 1)); err == nil {
					t.Error("answered")
				}
				if len(victim.Peers()) != 0 {
					t.Error("admitted")
				}
				time.Sleep(kad.StrangerGrace)
				if victim.Strangers() != 0 || len(victim.Base().Network().Conns()) != 0 {
					t.Error("still connected")
				}
			})
		})
	}
}

// TestRequestBroken: what an admitted peer can do wrong with a request.
func TestRequestBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fabric := kadtest.NewFabric(nil)
		called := 0
		victim := kadtest.Cluster(t, 1, kadtest.WithFabric(fabric), kadtest.WithSetup(func(_ int, o *kad.Overlay) {
			o.Handle("/test/small/1", 100, func(context.Context, dht.PeerID, []byte) ([]byte, error) {
				called++
				return nil, nil
			})
		}))[0]
		r := rogue(t, fabric, 77)
		sayHello(t, r, victim)
		for name, say := range map[string]func(s network.Stream){
			"oversized": func(s network.Stream) { _, _ = s.Write(binary.AppendUvarint(nil, 101)) },
			"truncated": func(s network.Stream) {
				_, _ = s.Write([]byte("\x05abc"))
				_ = s.CloseWrite()
			},
			"malformed": func(s network.Stream) { _, _ = s.Write([]byte("\x80\x80\x80\x80\x80\x80")) },
			"slow":      func(s network.Stream) { _, _ = s.Write([]byte("\x05abc")) },
		} {
			s := dial(t, r, victim, "/test/small/1")
			say(s)
			began := time.Now()
			if b, err := io.ReadAll(s); err == nil {
				t.Errorf("%s: answered with %q", name, b)
			}
			if took := time.Since(began); took > 11*time.Second {
				t.Errorf("%s: took %v", name, took)
			}
		}
		if called != 0 {
			t.Errorf("the handler was called %d times", called)
		}
	})
}

// TestAnswerBroken: what a serving peer can do wrong with its answer.
func TestAnswerBroken(t *testing.T) {
	for name, tc := range map[string]struct {
		answer []byte
		err    error
	}{
		"oversized":     {binary.AppendUvarint(nil, 102), kad.ErrTooLarge},
		"truncated":     {[]byte("\x05\x00a"), io.ErrUnexpectedEOF},
		"no status":     {[]byte{0}, nil},
		"strange state": {[]byte{1, 9}, nil},
		"nothing":       {nil, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fabric := kadtest.NewFabric(nil)
				asker := kadtest.Cluster(t, 1, kadtest.WithFabric(fabric))[0]
				r := rogue(t, fabric, 77)
				r.SetStreamHandler("/test/small/1", func(s network.Stream) {
					_, _ = kad.ReadFrame(s, 100)
					_, _ = s.Write(tc.answer)
					_ = s.Close()
				})
				sayHello(t, r, asker)
				_, err := asker.Request(t.Context(), dht.Contact{ID: kadtest.PeerID(77)}, "/test/small/1", []byte("x"), 100)
				if err == nil || (tc.err != nil && !errors.Is(err, tc.err)) {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}

// TestStrangersBounded: more strangers than allowed are turned away at once.
func TestStrangersBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fabric := kadtest.NewFabric(nil)
		victim := kadtest.Cluster(t, 1, kadtest.WithFabric(fabric))[0]
		info := peer.AddrInfo{ID: kad.ToPeer(victim.ID()), Addrs: []ma.Multiaddr{ma.StringCast(victim.Contact().Addrs[0])}}
		for i := range kad.MaxStrangers + 20 {
			_ = rogue(t, fabric, 1000+i).Connect(t.Context(), info)
		}
		synctest.Wait()
		if n := victim.Strangers(); n > kad.MaxStrangers {
			t.Errorf("%d strangers, limit %d", n, kad.MaxStrangers)
		}
		time.Sleep(kad.StrangerGrace + time.Second)
		if n := victim.Strangers(); n != 0 {
			t.Errorf("%d strangers left", n)
		}
	})
}
