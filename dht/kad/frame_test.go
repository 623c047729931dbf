package kad_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad"
	"github.com/xenoserver/xeno/dht/kad/kadtest"
	"github.com/xenoserver/xeno/wire"
)

func TestReadFrame(t *testing.T) {
	big := bytes.Repeat([]byte("x"), 200_000)
	for _, tc := range []struct {
		name string
		in   []byte
		want []byte
		err  error
	}{
		{"empty", []byte{0}, nil, nil},
		{"short", []byte("\x03abcd"), []byte("abc"), nil},
		{"big", kad.AppendFrame(nil, nil, big), big, nil},
		{"nothing", nil, nil, io.EOF},
		{"length cut short", []byte{0x80}, nil, io.ErrUnexpectedEOF},
		{"body cut short", []byte("\x05abc"), nil, io.ErrUnexpectedEOF},
		{"too large", binary.AppendUvarint(nil, 200_001), nil, kad.ErrTooLarge},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := kad.ReadFrame(bytes.NewReader(tc.in), 200_000)
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v", err)
			}
			if err == nil && !bytes.Equal(got, tc.want) {
				t.Errorf("%d bytes, expected %d", len(got), len(tc.want))
			}
		})
	}
	for name, in := range map[string]string{
		"not the shortest": "\x80\x00", "too long": "\xff\xff\xff\xff\xff\x01", "endless": strings.Repeat("\xff", 20),
	} {
		if got, err := kad.ReadFrame(strings.NewReader(in), 1<<40); err == nil {
			t.Errorf("%s: %d bytes", name, len(got))
		}
	}
}

// TestReadFrameAllocation: a peer that announces much and sends little does
// not cost much.
func TestReadFrameAllocation(t *testing.T) {
	in := append(binary.AppendUvarint(nil, 64<<20), "little"...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := kad.ReadFrame(bytes.NewReader(in), 64<<20); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
		t.Errorf("%d bytes allocated for 6", used)
	}
}

// FuzzReadFrame: what is read is within the limit, and in its only encoding.
func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("\x03abc"), 10)
	f.Add([]byte("\xff\xff\xff\xff\x0f"), 1<<20)
	f.Add([]byte("\x80\x01"), 200)
	f.Fuzz(func(t *testing.T, b []byte, limit int) {
		limit = max(0, min(limit, 1<<20))
		got, err := kad.ReadFrame(bytes.NewReader(b), limit)
		if err != nil {
			return
		}
		if len(got) > limit {
			t.Fatalf("%d bytes, limit %d", len(got), limit)
		}
		if again := kad.AppendFrame(nil, nil, got); !bytes.HasPrefix(b, again) {
			t.Fatalf("%x read from %x", got, b)
		}
	})
}

// FuzzHello: hellos and replies of any content are judged, never panicked at.
func FuzzHello(f *testing.F) {
	now := time.UnixMilli(1_900_000_000_000)
	hello := &wire.Hello{Network: kadtest.Network, Version: 1, UnixMillis: now.UnixMilli(), Credential: []byte("c"), Agent: "a"}
	b, err := proto.Marshal(hello)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	b, err = proto.Marshal(&wire.HelloReply{Hello: hello, Refused: "because\n\xff"})
	if err == nil {
		f.Add(b)
	}
	b, err = proto.Marshal(&wire.HelloReply{Hello: hello, Refused: "because"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := kad.DecodeHello(b); err == nil {
			if err := kad.CheckHello(h, kadtest.Network, now); err != nil && len(err.Error()) > 512 {
				t.Fatalf("reason of %d bytes", len(err.Error()))
			}
		}
		if r, err := kad.DecodeHelloReply(b); err == nil && len(r.GetRefused()) > 256 {
			t.Fatalf("reason of %d bytes", len(r.GetRefused()))
		}
	})
}

// FuzzOverlay: contacts and coordinates from outside are within their limits.
func FuzzOverlay(f *testing.F) {
	id := kadtest.PeerID(1)
	b, err := proto.Marshal(&wire.OverlayReply{
		Contacts:   []*wire.OverlayContact{{PeerId: id.Bytes(), Addrs: [][]byte{{4, 127, 0, 0, 1, 6, 0, 80}, {0xff}}}},
		Coordinate: &wire.OverlayCoordinate{Vec: make([]float64, 8), Error: 1, Height: 1e-5},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	b, err = proto.Marshal(&wire.OverlayRequest{Target: make([]byte, 32), Count: 20})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := kad.DecodeOverlay(b); err == nil && len(r.GetTarget()) != 0 && len(r.GetTarget()) != 32 {
			t.Fatal("target of a wrong size")
		}
		contacts, at, hasAt, err := kad.DecodeOverlayReply(b)
		if err != nil {
			return
		}
		if len(contacts) > dht.K {
			t.Fatalf("%d contacts", len(contacts))
		}
		if hasAt && at.Check() != nil {
			t.Fatal(at.Check())
		}
		for _, c := range contacts {
			info, err := kad.ToAddrInfo(c)
			if err != nil {
				t.Fatalf("%v: %v", c, err)
			}
			if len(info.Addrs) != len(c.Addrs) {
				t.Fatal(cmp.Diff(len(info.Addrs), len(c.Addrs)))
			}
		}
	})
}

// FuzzAddrInfo: an address that somebody typed is either dialled or refused.
func FuzzAddrInfo(f *testing.F) {
	f.Add("/ip4/192.0.2.1/udp/4001/quic-v1/p2p/" + kadtest.PeerID(1).String())
	f.Add("/ip6/::/tcp/0/p2p/" + kadtest.PeerID(1).String())
	f.Add("/dns/example.org/tcp/99999/p2p/" + kadtest.PeerID(1).String())
	f.Fuzz(func(t *testing.T, s string) {
		c, err := dht.ParseContact(s)
		if err != nil {
			return
		}
		info, err := kad.ToAddrInfo(c)
		if err != nil && !errors.Is(err, dht.ErrBadContact) {
			t.Fatalf("error %v", err)
		}
		if err == nil && info.ID != kad.ToPeer(c.ID) {
			t.Fatal("another identity")
		}
	})
}
