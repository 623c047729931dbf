package network

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/internal/testenv"
)

func newManager(t *testing.T, owner string) *Manager {
	t.Helper()
	testenv.Require(t, "root", Available())
	m, err := New(Config{Owner: owner})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A guest plays the machine at the other end of a tap, frame by frame.
type guest struct {
	Tap
	t *testing.T
	f *os.File
}

func newGuest(t *testing.T, m *Manager, id string, rate uint64) *guest {
	t.Helper()
	tap, f, err := m.Create(t.Context(), Options{ID: id, Rate: rate})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		if err := m.Remove(context.Background(), id); err != nil {
			t.Error(err)
		}
	})
	return &guest{Tap: tap, t: t, f: f}
}

// vnetHeader is the size of struct virtio_net_hdr, in front of each frame.
const vnetHeader = 10

// send sends a frame.
func (g *guest) send(frame []byte) {
	g.t.Helper()
	if _, err := g.f.Write(append(make([]byte, vnetHeader), frame...)); err != nil {
		g.t.Fatal(err)
	}
}

// receive returns the first frame that ok accepts, or nil after wait.
func (g *guest) receive(wait time.Duration, ok func(frame []byte) bool) []byte {
	g.t.Helper()
	if err := g.f.SetReadDeadline(time.Now().Add(wait)); err != nil {
		g.t.Fatal(err)
	}
	buf := make([]byte, 65600)
	for {
		n, err := g.f.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			g.t.Fatal(err)
		}
		if frame := buf[vnetHeader:n]; ok(frame) {
			return frame
		}
	}
}

func (g *guest) hostMAC() net.HardwareAddr {
	link, err := netlink.LinkByName(g.Name)
	if err != nil {
		g.t.Fatal(err)
	}
	return link.Attrs().HardwareAddr
}

// udp returns a frame with a UDP datagram.
func (g *guest) udp(mac net.HardwareAddr, from, to netip.AddrPort, text string) []byte {
	src, dst := from.Addr().As4(), to.Addr().As4()
	ip := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0}
	ip = append(append(ip, src[:]...), dst[:]...)
	binary.BigEndian.PutUint16(ip[2:], uint16(28+len(text)))
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	udp := binary.BigEndian.AppendUint16(nil, from.Port())
	udp = binary.BigEndian.AppendUint16(udp, to.Port())
	udp = binary.BigEndian.AppendUint16(udp, uint16(8+len(text)))
	udp = append(append(udp, 0, 0), text...) // no checksum
	frame := append(append([]byte{}, g.hostMAC()...), mac...)
	return append(append(append(frame, 8, 0), ip...), udp...)
}

func (g *guest) arp(mac net.HardwareAddr, ip netip.Addr) []byte {
	frame := append([]byte{255, 255, 255, 255, 255, 255}, mac...)
	frame = append(frame, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	frame = append(append(frame, mac...), ip.AsSlice()...)
	return append(append(frame, make([]byte, 6)...), g.Host.Addr().AsSlice()...)
}

func isARP(f []byte) bool { return len(f) >= 42 && f[12] == 8 && f[13] == 6 && f[21] == 2 }

func TestCreateListRemove(t *testing.T) {
	m, other := newManager(t, "test-a"), newManager(t, "test-b")
	g := newGuest(t, m, "one", 1<<20)
	h := newGuest(t, other, "one", 0)
	if g.Guest == h.Guest || g.Name == h.Name {
		t.Fatalf("two owners got one network: %v, %v", g.Tap, h.Tap)
	}
	if !strings.HasPrefix(g.Name, "xeno") || len(g.Name) != 15 {
		t.Errorf("name %q", g.Name)
	}
	if _, _, err := m.Create(t.Context(), Options{ID: "one"}); !errors.Is(err, hypervisor.ErrExists) {
		t.Errorf("second create: %v", err)
	}
	taps, err := m.List()
	if err != nil {
		t.Fatal(err)
	}
	opt := cmpopts.EquateComparable(netip.Prefix{})
	if diff := cmp.Diff([]Tap{g.Tap}, taps, opt); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	g.f.Close()
	f, err := Open(g.Name) // it outlives its first user
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	for range 2 {
		if err := m.Remove(t.Context(), "one"); err != nil {
			t.Error(err)
		}
	}
	if _, err := netlink.LinkByName(g.Name); err == nil {
		t.Error("tap left after remove")
	}
	if taps, err := other.List(); err != nil || len(taps) != 1 {
		t.Errorf("other owner's taps: %v, %v", taps, err)
	}
}

// TestGuestIsConfined sends frames as a hostile guest would.
func TestGuestIsConfined(t *testing.T) {
	m := newManager(t, "test-c")
	g := newGuest(t, m, "guest", 0)
	neighbour := newGuest(t, m, "neighbour", 0)
	host, err := net.ListenUDP("udp4", &net.UDPAddr{IP: g.Host.Addr().AsSlice()})
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	hostAddr := host.LocalAddr().(*net.UDPAddr).AddrPort()
	self := netip.AddrPortFrom(g.Guest.Addr(), 7)
	stranger := net.HardwareAddr{2, 9, 9, 9, 9, 9}

	// The guest cannot begin; the host can, and then the guest answers.
	g.send(g.udp(g.MAC, self, hostAddr, "unasked"))
	if _, err := host.WriteToUDPAddrPort([]byte("ask"), self); err != nil {
		t.Fatal(err)
	}
	// Multicast is the machine's own, from whatever else runs on it.
	isUDP := func(f []byte) bool { return len(f) > 42 && f[12] == 8 && f[13] == 0 && f[23] == 17 && f[30] < 224 }
	if f := g.receive(5*time.Second, isUDP); f == nil || string(f[42:]) != "ask" {
		t.Fatalf("guest got %q", f)
	}
	g.send(g.udp(stranger, self, hostAddr, "wrong MAC"))
	g.send(g.udp(g.MAC, netip.AddrPortFrom(neighbour.Guest.Addr(), 7), hostAddr, "wrong IP"))
	g.send(g.udp(g.MAC, self, netip.AddrPortFrom(hostAddr.Addr(), hostAddr.Port()^1), "wrong port"))
	g.send(g.udp(g.MAC, self, hostAddr, "answer"))
	buf := make([]byte, 100)
	if err := host.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, from, err := host.ReadFromUDPAddrPort(buf)
	if err != nil || string(buf[:n]) != "answer" || from != self {
		t.Errorf("host got %q from %v, %v", buf[:n], from, err)
	}

	// ARP: for its own address only.
	g.send(g.arp(g.MAC, neighbour.Guest.Addr()))
	g.send(g.arp(stranger, g.Guest.Addr()))
	if f := g.receive(200*time.Millisecond, isARP); f != nil {
		t.Errorf("answer to a lying ARP request: %x", f)
	}
	g.send(g.arp(g.MAC, g.Guest.Addr()))
	if f := g.receive(5*time.Second, isARP); f == nil {
		t.Error("no answer to an honest ARP request")
	}

	// Nothing reaches the neighbour.
	g.send(g.udp(g.MAC, self, netip.AddrPortFrom(neighbour.Guest.Addr(), 7), "hello"))
	if f := neighbour.receive(200*time.Millisecond, isUDP); f != nil {
		t.Errorf("neighbour got %q", f)
	}
}

func TestCounters(t *testing.T) {
	m := newManager(t, "test-d")
	g := newGuest(t, m, "guest", 0)
	rx, tx, err := Counters(g.Name)
	if err != nil {
		t.Fatal(err)
	}
	frame := g.arp(g.MAC, g.Guest.Addr())
	g.send(frame)
	answer := g.receive(5*time.Second, isARP)
	rx2, tx2, err := Counters(g.Name)
	if err != nil || int(tx2-tx) != len(frame) || rx2 < rx+uint64(len(answer)) {
		t.Errorf("sent %d, received %d; counters from %d, %d to %d, %d, %v", len(frame), len(answer), tx, rx, tx2, rx2, err)
	}
}

func TestRateLimit(t *testing.T) {
	m := newManager(t, "test-e")
	const rate = 64 << 10
	g := newGuest(t, m, "guest", rate)
	host, err := net.ListenUDP("udp4", &net.UDPAddr{IP: g.Host.Addr().AsSlice()})
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	self := netip.AddrPortFrom(g.Guest.Addr(), 7)
	if _, err := host.WriteToUDPAddrPort([]byte("ask"), self); err != nil {
		t.Fatal(err)
	}
	to := host.LocalAddr().(*net.UDPAddr).AddrPort()
	const size = 1400
	if err := host.SetReadBuffer(4 << 20); err != nil {
		t.Fatal(err)
	}
	const sent = 4 * minBurst / size
	for range sent {
		g.send(g.udp(g.MAC, self, to, strings.Repeat("x", size)))
	}
	got := 0
	buf := make([]byte, 2*size)
	for {
		if err := host.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := host.Read(buf); err != nil {
			break
		}
		got++
	}
	if got == 0 || got > sent/2 {
		t.Errorf("%d of %d datagrams passed, want about a quarter", got, sent)
	}
}

func TestLockIsCancelled(t *testing.T) {
	name := filepath.Join(t.TempDir(), "dir", "lock")
	unlock, err := lock(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := lock(ctx, name); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	unlock()
	again, err := lock(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	again()
}
