package meter

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/internal/testenv"
)

// inNetwork moves the test's thread to a network namespace of its own, for
// good: the thread ends with the test.
func inNetwork(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

// A guest is the far end of a tap.
type guest struct {
	file  *os.File
	link  netlink.Link
	mac   net.HardwareAddr
	addr  net.IP
	outer net.IP // the host's
}

func newGuest(t *testing.T, name string, vnet bool) *guest {
	t.Helper()
	flags := netlink.TUNTAP_NO_PI | netlink.TUNTAP_ONE_QUEUE
	if vnet {
		flags |= netlink.TUNTAP_VNET_HDR
	}
	tap := &netlink.Tuntap{
		LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TAP,
		Flags: flags, Queues: 1, NonPersist: true,
	}
	if err := netlink.LinkAdd(tap); err != nil {
		t.Fatal(err)
	}
	g := &guest{
		file: tap.Fds[0], mac: net.HardwareAddr{2, 0, 0, 0, 0, 9},
		addr: net.IPv4(10, 99, 0, 2).To4(), outer: net.IPv4(10, 99, 0, 1).To4(),
	}
	t.Cleanup(func() { g.file.Close() })
	var err error
	if g.link, err = netlink.LinkByName(name); err != nil {
		t.Fatal(err)
	}
	mask := net.CIDRMask(24, 32)
	must(t, netlink.AddrAdd(g.link, &netlink.Addr{IPNet: &net.IPNet{IP: g.outer, Mask: mask}}))
	// Without IPv6 nothing is sent that the test does not send.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0); !errors.Is(err, os.ErrNotExist) {
		must(t, err)
	}
	must(t, netlink.LinkSetUp(g.link))
	must(t, netlink.NeighAdd(&netlink.Neigh{
		LinkIndex: g.link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: g.addr, HardwareAddr: g.mac,
	}))
	return g
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// frame is a UDP or TCP packet from the guest with that much payload.
func (g *guest) frame(proto byte, payload int) []byte {
	head := 8
	if proto == protoTCP {
		head = 20
	}
	f := make([]byte, 14+20+head+payload)
	copy(f, g.link.Attrs().HardwareAddr)
	copy(f[6:], g.mac)
	binary.BigEndian.PutUint16(f[12:], 0x0800)
	ip := f[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	copy(ip[12:], g.addr)
	copy(ip[16:], g.outer)
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	binary.BigEndian.PutUint16(ip[20:], 4000)
	binary.BigEndian.PutUint16(ip[22:], 9)
	if proto == protoTCP {
		ip[32] = 5 << 4
	} else {
		binary.BigEndian.PutUint16(ip[24:], uint16(8+payload))
	}
	return f
}

const (
	protoTCP = 6
	protoUDP = 17
)

type count struct{ RxBytes, RxPackets, TxBytes, TxPackets uint64 }

// interfaceCounters are the kernel's, seen from the guest.
func (g *guest) interfaceCounters(t *testing.T) count {
	t.Helper()
	l, err := netlink.LinkByIndex(g.link.Attrs().Index)
	must(t, err)
	s := l.Attrs().Statistics
	return count{s.TxBytes, s.TxPackets, s.RxBytes, s.RxPackets}
}

func (g *guest) drain(n int) error {
	buf := make([]byte, 1<<16)
	for range n {
		if _, err := g.file.Read(buf); err != nil {
			return err
		}
	}
	return nil
}

func trackTap(t *testing.T, tap string) *Meter {
	t.Helper()
	m := newMeter(t, unique())
	t.Cleanup(func() { destroy(t, m) })
	grp := newGroup(t, unique())
	must(t, m.Track(context.Background(), hypervisor.Instance{ID: "net", Cgroup: grp.name, Tap: tap}))
	return m
}

// traffic is the meter's count, as handed over and as on a wire.
func traffic(t *testing.T, m *Meter) (whole, wire count) {
	t.Helper()
	d, err := m.Detail(context.Background(), "net")
	must(t, err)
	return count{d.Rx.Bytes, d.Rx.Packets, d.Tx.Bytes, d.Tx.Packets},
		count{d.Rx.WireBytes, d.Rx.WirePackets, d.Tx.WireBytes, d.Tx.WirePackets}
}

func TestCountsTap(t *testing.T) {
	newGroup(t, unique()) // asks for the privilege first
	inNetwork(t)
	g := newGuest(t, "xt0", false)
	m := trackTap(t, "xt0")
	in, err := net.ListenUDP("udp4", &net.UDPAddr{IP: g.outer, Port: 9}) // else the host answers
	must(t, err)
	defer in.Close()
	var want count
	for _, size := range []int{0, 1, 100, 1000, 1472} {
		f := g.frame(protoUDP, size)
		_, err := g.file.Write(f)
		must(t, err)
		want.TxBytes += uint64(len(f))
		want.TxPackets++
	}
	conn, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: g.addr, Port: 9})
	must(t, err)
	defer conn.Close()
	for _, size := range []int{0, 1, 100, 1472} {
		_, err := conn.Write(make([]byte, size))
		must(t, err)
		want.RxBytes += uint64(size + 42)
		want.RxPackets++
	}
	must(t, g.drain(4))
	if whole, wire := traffic(t, m); whole != want || wire != want {
		t.Errorf("meter %+v, %+v, want %+v", whole, wire, want)
	}
	if got := g.interfaceCounters(t); got != want {
		t.Errorf("interface %+v, want %+v", got, want)
	}
	// The counters outlive the tap.
	reading := func() hypervisor.Usage {
		u, err := m.Read(t.Context(), "net")
		must(t, err)
		return u
	}
	before := reading()
	if before.RxBytes != want.RxBytes || before.TxBytes != want.TxBytes {
		t.Errorf("read %+v, want %+v", before, want)
	}
	must(t, g.file.Close())
	if after := reading(); after.RxBytes != before.RxBytes || after.TxBytes != before.TxBytes {
		t.Errorf("without the tap %+v, want %+v", after, before)
	}
}

// What leaves segmentation to a later stage counts as its segments.
func TestCountsSegments(t *testing.T) {
	newGroup(t, unique())
	inNetwork(t)
	g := newGuest(t, "xt1", true)
	m := trackTap(t, "xt1")

	// Host to guest: one write, ten datagrams of 1,000 bytes and one of 10.
	conn, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: g.addr, Port: 9})
	must(t, err)
	defer conn.Close()
	raw, err := conn.SyscallConn()
	must(t, err)
	must(t, errors.Join(raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, 1000)
	}), err))
	_, err = conn.Write(make([]byte, 10010))
	must(t, err)
	must(t, g.drain(11))
	want := count{RxBytes: 10010 + 11*42, RxPackets: 11}
	if _, got := traffic(t, m); got != want {
		t.Errorf("received: meter %+v, want %+v", got, want)
	}
	if got := g.interfaceCounters(t); got != want {
		t.Errorf("received: interface %+v, want %+v", got, want)
	}

	// Guest to host: a TCP segment of 10,000 bytes to be cut at 1,448.
	frame := append(make([]byte, 10), g.frame(protoTCP, 10000)...)
	frame[0], frame[1] = 1, 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4
	binary.NativeEndian.PutUint16(frame[2:], 54)
	binary.NativeEndian.PutUint16(frame[4:], 1448)
	binary.NativeEndian.PutUint16(frame[6:], 34)
	binary.NativeEndian.PutUint16(frame[8:], 16)
	_, err = g.file.Write(frame)
	must(t, err)
	whole, wire := traffic(t, m)
	if wire.TxBytes != 10000+7*54 || wire.TxPackets != 7 {
		t.Errorf("sent over a wire: %+v", wire)
	}
	if whole.TxBytes != 10054 || whole.TxPackets != 1 {
		t.Errorf("sent: %+v", whole)
	}
	// The reading is what the interface counts as well, whichever way.
	u, err := m.Read(t.Context(), "net")
	must(t, err)
	if got := g.interfaceCounters(t); u.RxBytes != got.RxBytes || u.TxBytes != got.TxBytes {
		t.Errorf("meter %+v, interface %+v", u, got)
	}
}

// What a rate limit drops is not received.
func TestDropsAreNotReceived(t *testing.T) {
	newGroup(t, unique())
	inNetwork(t)
	g := newGuest(t, "xt2", false)
	err := netlink.QdiscReplace(&netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: g.link.Attrs().Index, Parent: netlink.HANDLE_ROOT, Handle: netlink.MakeHandle(1, 0)},
		Rate:       1000, Limit: 3000, Buffer: netlink.Xmittime(1000, 3000),
	})
	if errors.Is(err, unix.ENOENT) {
		err = fmt.Errorf("%w: no tbf", hypervisor.ErrNotSupported)
	}
	testenv.Require(t, "bpf", err)
	m := trackTap(t, "xt2")
	conn, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: g.addr, Port: 9})
	must(t, err)
	defer conn.Close()
	for range 50 {
		_, _ = conn.Write(make([]byte, 1000)) // ENOBUFS when dropped
	}
	must(t, g.drain(2))
	whole, _ := traffic(t, m)
	u, err := m.Read(t.Context(), "net")
	must(t, err)
	if got := g.interfaceCounters(t); u.RxBytes > got.RxBytes || got.RxBytes >= whole.RxBytes {
		t.Errorf("read %d bytes, interface %d, offered %d", u.RxBytes, got.RxBytes, whole.RxBytes)
	}
}

// TestCountsStream sends a TCP stream over a veth whose device leaves nothing
// to offload, so that its own counters are those of the wire.
func TestCountsStream(t *testing.T) {
	grp := newGroup(t, unique())
	inNetwork(t)
	const total = 32 << 20
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "xv0"}, PeerName: "xv1"}))
	far := make(chan error, 1)
	ready, moved := make(chan int), make(chan struct{})
	go func() { far <- sink(ready, moved) }()
	tid := <-ready
	g := &guest{}
	var err error
	g.link, err = netlink.LinkByName("xv0")
	must(t, err)
	peer, err := netlink.LinkByName("xv1")
	must(t, err)
	must(t, netlink.LinkSetNsPid(peer, tid))
	must(t, netlink.AddrAdd(g.link, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 98, 0, 1), Mask: net.CIDRMask(24, 32)}}))
	must(t, noOffload("xv0"))
	m := newMeter(t, unique())
	defer destroy(t, m)
	must(t, m.Track(context.Background(), hypervisor.Instance{ID: "net", Cgroup: grp.name, Tap: "xv0"}))
	must(t, netlink.LinkSetUp(g.link))
	close(moved)
	<-ready
	conn, err := net.DialTimeout("tcp4", "10.98.0.2:9", 5*time.Second)
	must(t, err)
	start := time.Now()
	_, err = io.CopyN(conn, zeros{}, total)
	must(t, err)
	must(t, conn.(*net.TCPConn).CloseWrite())
	_, err = conn.Read(make([]byte, 1)) // the far end closes when it has all
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	conn.Close()
	must(t, <-far)
	_, got := traffic(t, m)
	kernel := g.interfaceCounters(t)
	for range 100 { // until no packet came in between
		_, again := traffic(t, m)
		if again == got {
			break
		}
		got, kernel = again, g.interfaceCounters(t)
	}
	t.Logf("%d bytes of payload in %v: meter %+v, interface %+v", total, time.Since(start), got, kernel)
	// What the device dropped has passed the meter.
	l, err := netlink.LinkByIndex(g.link.Attrs().Index)
	must(t, err)
	dropped := l.Attrs().Statistics.TxDropped
	if got.RxPackets != kernel.RxPackets+dropped || got.RxBytes < kernel.RxBytes || got.RxBytes > kernel.RxBytes+1514*dropped {
		t.Errorf("received: meter %+v, interface %+v and %d dropped", got, kernel, dropped)
	}
	if got.TxPackets < kernel.TxPackets || got.TxBytes < kernel.TxBytes {
		t.Errorf("sent: meter %+v, interface %+v", got, kernel)
	}
	if got.RxBytes < total {
		t.Errorf("meter counted %d bytes, sent %d", got.RxBytes, total)
	}
}

// sink is the far end of TestCountsStream, in a namespace of its own.
func sink(ready chan<- int, moved <-chan struct{}) error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	ready <- unix.Gettid()
	<-moved
	l, err := netlink.LinkByName("xv1")
	if err != nil {
		return err
	}
	err = errors.Join(
		netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 98, 0, 2), Mask: net.CIDRMask(24, 32)}}),
		netlink.LinkSetUp(l))
	if err != nil {
		return err
	}
	in, err := net.Listen("tcp4", "10.98.0.2:9")
	if err != nil {
		return err
	}
	defer in.Close()
	ready <- 0
	conn, err := in.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = io.Copy(io.Discard, conn)
	return err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// noOffload makes the kernel cut packets before the device sees them.
func noOffload(name string) error {
	const setTSO = 0x1f // ETHTOOL_STSO
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	v := &[2]uint32{setTSO, 0} // command, data: off
	var request struct {
		name [16]byte
		data *[2]uint32
		_    [16]byte
	}
	copy(request.name[:], name)
	request.data = v
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}
