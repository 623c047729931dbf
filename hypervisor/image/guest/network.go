package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/hypervisor/image/boot"
)

const device = "eth0"

// configure names the machine and brings up its network.
func configure(cfg boot.Config) error {
	if err := unix.Sethostname([]byte(cfg.Hostname)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	hosts := "127.0.0.1 localhost\n"
	if cfg.Address.IsValid() {
		hosts += fmt.Sprintf("%s %s\n", cfg.Address.Addr(), cfg.Hostname)
	}
	files := map[string]string{
		"/etc/hostname":    cfg.Hostname + "\n",
		"/etc/hosts":       hosts,
		"/etc/resolv.conf": resolvConf(cfg.DNS),
	}
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return fmt.Errorf("configure: %w", err)
		}
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("configure network: %w", err)
	}
	defer unix.Close(fd)
	if err := setAddress(fd, "lo", netip.MustParsePrefix("127.0.0.1/8"), 0); err != nil {
		return err
	}
	if !cfg.Address.IsValid() {
		return nil
	}
	if err := awaitPath("/sys/class/net/" + device); err != nil {
		return err
	}
	// The host lets no IPv6 through; without it no time goes into asking.
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+device+"/disable_ipv6", []byte("1"), 0o644)
	if err := setAddress(fd, device, cfg.Address, cfg.MTU); err != nil {
		return err
	}
	if !cfg.Gateway.IsValid() {
		return nil
	}
	return addDefaultRoute(fd, cfg.Gateway)
}

func resolvConf(servers []netip.Addr) string {
	var b strings.Builder
	for _, a := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", a)
	}
	return b.String()
}

// awaitPath waits until a driver has found a device.
func awaitPath(path string) error {
	const step, steps = 5 * time.Millisecond, 1000
	for range steps {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		time.Sleep(step)
	}
	return fmt.Errorf("no %s appeared", path)
}

// setAddress gives an interface its address and MTU and brings it up.
func setAddress(fd int, name string, p netip.Prefix, mtu int) error {
	ask := func(op uint, fill func(*unix.Ifreq) error) error {
		r, err := unix.NewIfreq(name)
		if err == nil {
			err = fill(r)
		}
		if err == nil {
			err = unix.IoctlIfreq(fd, op, r)
		}
		if err != nil {
			return fmt.Errorf("configure %s: %w", name, err)
		}
		return nil
	}
	if mtu != 0 {
		if err := ask(unix.SIOCSIFMTU, func(r *unix.Ifreq) error { r.SetUint32(uint32(mtu)); return nil }); err != nil {
			return err
		}
	}
	if err := ask(unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(p.Addr().AsSlice()) }); err != nil {
		return err
	}
	mask := net.CIDRMask(p.Bits(), p.Addr().BitLen())
	if err := ask(unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr(mask) }); err != nil {
		return err
	}
	return ask(unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error {
		r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		return nil
	})
}

// rtentry is struct rtentry of linux/route.h on 64-bit machines.
type rtentry struct {
	_       uint64
	dst     unix.RawSockaddrInet4
	gateway unix.RawSockaddrInet4
	mask    unix.RawSockaddrInet4
	flags   uint16
	_       [2]uint16
	_       [2]uint64
	metric  int16
	_       [3]uint16
	dev     uintptr
	mtu     uint64
	window  uint64
	irtt    uint16
	_       [3]uint16
}

func addDefaultRoute(fd int, gateway netip.Addr) error {
	any4 := unix.RawSockaddrInet4{Family: unix.AF_INET}
	r := rtentry{dst: any4, mask: any4, gateway: any4, flags: unix.RTF_UP | unix.RTF_GATEWAY}
	r.gateway.Addr = gateway.As4()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCADDRT, uintptr(unsafe.Pointer(&r))); errno != 0 {
		return fmt.Errorf("add the default route by %v: %w", gateway, errno)
	}
	return nil
}
