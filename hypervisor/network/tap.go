package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/process"
)

const (
	tunDevice  = "/dev/net/tun"
	namePrefix = "xeno"
	maxName    = unix.IFNAMSIZ - 1
)

// openTap makes a persistent tap that did not exist, and opens it.
func openTap(name string, user uint32) (*os.File, error) {
	f, err := attach(name, unix.IFF_TUN_EXCL)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("network: tap %s: %w", name, hypervisor.ErrExists)
	}
	if err != nil {
		return nil, err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("network: tap %s: %w", name, err)
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		inner = errors.Join(
			unix.IoctlSetInt(int(fd), unix.TUNSETOWNER, int(user)),
			unix.IoctlSetInt(int(fd), unix.TUNSETPERSIST, 1),
		)
	})
	if err = errors.Join(err, inner); err != nil {
		f.Close()
		return nil, fmt.Errorf("network: tap %s: %w", name, err)
	}
	return f, nil
}

// Open opens an existing tap, for a hypervisor that is started again.
func Open(name string) (*os.File, error) { return attach(name, 0) }

func attach(name string, flags uint16) (*os.File, error) {
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("network: open %s: %w", tunDevice, err)
	}
	r, err := unix.NewIfreq(name)
	if err == nil {
		r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | flags)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("network: tap %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// setSysctls makes the host ignore what a hostile neighbour may say.
func setSysctls(name string, egress bool) error {
	forwarding := "0"
	if egress {
		forwarding = "1"
		if err := setSysctl("net/ipv4/ip_forward", "1"); err != nil {
			return err
		}
	}
	v4, v6 := "net/ipv4/conf/"+name, "net/ipv6/conf/"+name
	for _, s := range []struct{ key, value string }{
		{v4 + "/rp_filter", "1"},
		{v4 + "/accept_redirects", "0"},
		{v4 + "/send_redirects", "0"},
		{v4 + "/accept_source_route", "0"},
		{v4 + "/arp_ignore", "1"},
		{v4 + "/arp_announce", "2"},
		{v4 + "/forwarding", forwarding},
		{v6 + "/disable_ipv6", "1"},
	} {
		err := setSysctl(s.key, s.value)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // a kernel without IPv6
			return err
		}
	}
	return nil
}

func setSysctl(key, value string) error {
	name := filepath.Join("/proc/sys", key)
	if old, err := os.ReadFile(name); err == nil && string(old) == value+"\n" {
		return nil
	}
	if err := os.WriteFile(name, []byte(value), 0o644); err != nil {
		return fmt.Errorf("network: set %s: %w", key, err)
	}
	return nil
}

// shape limits what the guest receives. What it sends is limited by a rule at
// its tap's ingress, where there is no queue to shape.
func shape(link netlink.Link, rate uint64) error {
	if rate == 0 {
		return nil
	}
	rate = max(rate, minRate)
	burst := burstOf(rate)
	err := netlink.QdiscReplace(&netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_ROOT, Handle: netlink.MakeHandle(1, 0),
		},
		Rate:   rate,
		Limit:  burst + uint32(min(rate*uint64(maxQueueing/time.Millisecond)/1000, maxQueueBytes)),
		Buffer: netlink.Xmittime(rate, burst),
	})
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("network: limit %s: no tbf (modprobe sch_tbf): %w", link.Attrs().Name, hypervisor.ErrNotSupported)
	}
	if err != nil {
		return fmt.Errorf("network: limit %s: %w", link.Attrs().Name, err)
	}
	return nil
}

func burstOf(rate uint64) uint32 {
	return uint32(min(max(rate*uint64(burstTime/time.Millisecond)/1000, minBurst), maxBurst))
}

// lock takes the lock that all daemons of the machine share.
func lock(ctx context.Context, name string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	f, err := process.Lock(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	return func() { f.Close() }, nil
}
