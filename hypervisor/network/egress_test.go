package network

import (
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/internal/testenv"
)

// inNamespace runs f in a network namespace of its own, which ends with it.
func inNamespace(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread, and its namespace, end with the goroutine.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		defer close(done)
		f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestEgress lets a guest out by NAT and sees what arrives: packets for public
// addresses only, from the host's address. Another guest, of a daemon without
// Egress, gets nothing out.
func TestEgress(t *testing.T) {
	testenv.Require(t, "root", Available())
	inNamespace(t, func() { testEgress(t) })
}

func testEgress(t *testing.T) {
	// The outside is a tap as well, played by the test.
	outside, err := openTap("outside", 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer outside.Close()
	link, err := netlink.LinkByName("outside")
	if err != nil {
		t.Error(err)
		return
	}
	mac := net.HardwareAddr{2, 1, 1, 1, 1, 1}
	router := net.IPv4(203, 0, 113, 1)
	for _, err := range []error{
		netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("203.0.113.2/24"))}),
		netlink.LinkSetUp(link),
		netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: router, HardwareAddr: mac}),
		netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: router}),
	} {
		if err != nil {
			t.Error(err)
			return
		}
	}
	lock := t.TempDir() + "/lock"
	var guests []*guest
	for _, egress := range []bool{true, false} {
		owner := "test-out"
		if !egress {
			owner = "test-in"
		}
		m, err := New(Config{Owner: owner, Egress: egress, LockFile: lock})
		if err != nil {
			t.Error(err)
			return
		}
		tap, f, err := m.Create(t.Context(), Options{ID: "guest"})
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		guests = append(guests, &guest{Tap: tap, t: t, f: f})
	}
	for _, g := range guests {
		for _, to := range []string{"10.1.2.3:9", "192.168.1.1:9", "169.254.169.254:9", "198.51.100.7:9"} {
			g.send(g.udp(g.MAC, netip.AddrPortFrom(g.Guest.Addr(), 7), netip.MustParseAddrPort(to), g.Owner))
		}
	}
	world := &guest{t: t, f: outside}
	var got []string
	for {
		f := world.receive(300*time.Millisecond, func(f []byte) bool { return len(f) > 42 && f[12] == 8 && f[13] == 0 && f[23] == 17 })
		if f == nil {
			break
		}
		src, _ := netip.AddrFromSlice(f[26:30])
		dst, _ := netip.AddrFromSlice(f[30:34])
		got = append(got, src.String()+" > "+dst.String()+" "+string(f[42:]))
	}
	if len(got) != 1 || got[0] != "203.0.113.2 > 198.51.100.7 test-out" {
		t.Errorf("outside got %q", got)
	}
}
