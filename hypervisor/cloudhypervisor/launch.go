package cloudhypervisor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/cgroup"
	"github.com/xenoserver/xeno/hypervisor/image/boot"
	"github.com/xenoserver/xeno/hypervisor/network"
	"github.com/xenoserver/xeno/hypervisor/process"
)

const (
	processName = "process"
	socketName  = "api"
	kernelName  = "kernel"
	initrdName  = "initrd"
	diskName    = "disk"
	kvmDevice   = "/dev/kvm"
	sshPort     = 22

	// commandLine is the kernel's. Power off and reset go by ACPI; a guest
	// that panicked is started again after a while, as its owner would.
	commandLine = "console=ttyS0 quiet loglevel=4 panic=10 rdinit=/init"
)

// validate checks what hypervisor.Spec.Validate leaves to the driver. Errors
// wrap ErrBadSpec.
func validate(s hypervisor.Spec) error {
	if err := s.Validate(); err != nil {
		return err
	}
	bad := func(format string, args ...any) error {
		return hypervisor.Explain(fmt.Sprintf(format, args...), fmt.Errorf("cloudhypervisor: "+format+": %w", append(args, hypervisor.ErrBadSpec)...))
	}
	switch {
	case s.Kind != hypervisor.KindLinux:
		return bad("kind %q, only %q", s.Kind, hypervisor.KindLinux)
	case s.MemoryBytes < minMemory:
		return bad("MemoryBytes %d, at least %d", s.MemoryBytes, minMemory)
	case len(s.HostKey) > 0 && s.NetworkRate == 0:
		return bad("a HostKey without a network")
	}
	for _, name := range []string{s.Kernel, s.Initrd} {
		info, err := os.Stat(name)
		if err != nil || !info.Mode().IsRegular() {
			const text = "the image has no kernel and initrd (xeno image build makes one that has)"
			return hypervisor.Explain(text, bad("%s is not a file: %v", name, err))
		}
	}
	if len(s.HostKey) > 0 {
		if _, err := ssh.ParsePrivateKey(s.HostKey); err != nil {
			return bad("HostKey: %v", err)
		}
	}
	for i, line := range s.SSHKeys {
		if _, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line)); err != nil {
			return bad("SSHKeys: line %d: %v", i+1, err)
		}
	}
	return nil
}

// A launch is one start on its way.
type launch struct {
	driver  *Driver
	spec    hypervisor.Spec
	dir     string
	record  record
	user    int // that the monitor runs as; -1: ours
	tap     network.Tap
	tapFile *os.File   // ours, sent to the monitor
	files   []*os.File // ours, inherited by the monitor
}

func (l *launch) close() {
	if l.tapFile != nil {
		l.tapFile.Close()
	}
	for _, f := range l.files {
		f.Close()
	}
}

// inherit hands a file to the monitor and returns a path of it there. It leads
// to the file itself: no directory on the way to it has to be open to the
// guest's user.
func (l *launch) inherit(f *os.File) string {
	l.files = append(l.files, f)
	return fmt.Sprintf("/proc/self/fd/%d", 2+len(l.files))
}

// run starts monitor and guest. It leaves it to the caller to tidy up after an
// error.
func (l *launch) run(ctx context.Context) (*process.Process, error) {
	l.user = -1
	if os.Geteuid() == 0 {
		l.user = int(l.driver.config.FirstUser + userOffset(l.dir))
	}
	group, err := l.makeGroup()
	if err != nil {
		return nil, err
	}
	if err := l.makeTap(ctx); err != nil {
		return nil, err
	}
	socket, err := listen(filepath.Join(l.dir, socketName))
	if err != nil {
		return nil, err
	}
	l.inherit(socket)
	vm, err := l.machine()
	if err != nil {
		return nil, err
	}
	if err := l.record.write(l.dir); err != nil {
		return nil, err
	}
	if err := l.track(ctx); err != nil {
		return nil, err
	}
	p, err := l.exec(ctx, group)
	if err != nil {
		return nil, err
	}
	if err := l.bootVM(ctx, p, vm); err != nil {
		return nil, err
	}
	l.record.Booted = true
	return p, l.record.write(l.dir)
}

// userOffset spreads instances over user IDs.
func userOffset(dir string) uint32 {
	sum := sha256.Sum256([]byte(dir))
	return binary.BigEndian.Uint32(sum[:]) >> 8
}

func (l *launch) makeGroup() (process.Cgroup, error) {
	tree := l.driver.config.Cgroups
	if tree == nil {
		return process.Cgroup{}, nil
	}
	g, err := tree.Create(l.spec.ID, cgroup.Limits{
		CPUShare: l.spec.CPUShare, MemoryBytes: l.spec.MemoryBytes + overhead, Pids: cgroup.DefaultPids + l.spec.CPUs,
	})
	if err != nil {
		return process.Cgroup{}, err
	}
	l.record.Group = g.Path()
	return process.Cgroup{Unified: g.Unified(), Legacy: g.Legacy()}, nil
}

func (l *launch) makeTap(ctx context.Context) (err error) {
	if l.spec.NetworkRate == 0 {
		return nil
	}
	l.tap, l.tapFile, err = l.driver.config.Network.Create(ctx, network.Options{ID: l.spec.ID, User: uint32(max(l.user, 0)), Rate: l.spec.NetworkRate})
	if err != nil {
		return err
	}
	l.record.Tap, l.record.Guest = l.tap.Name, l.tap.Guest.Addr()
	return nil
}

func (l *launch) track(ctx context.Context) error {
	m := l.driver.config.Meter
	if m == nil {
		return nil
	}
	in := hypervisor.Instance{ID: l.spec.ID, Kind: l.spec.Kind, Driver: Name, State: hypervisor.StateStarting, Cgroup: l.record.Group, Tap: l.record.Tap, Guest: l.record.Guest}
	if err := m.Track(ctx, in); err != nil {
		return fmt.Errorf("cloudhypervisor: meter %s: %w", l.spec.ID, err)
	}
	return nil
}

// machine prepares what the guest reads and writes, and describes it.
func (l *launch) machine() (vmConfig, error) {
	vm := vmConfig{
		CPUs:     cpusConfig{Boot: l.spec.CPUs, Max: l.spec.CPUs},
		Memory:   memoryConfig{Size: l.spec.MemoryBytes},
		RNG:      rngConfig{Source: "/dev/urandom"},
		Serial:   consoleConfig{Mode: consoleTTY},
		Console:  consoleConfig{Mode: consoleOff},
		Landlock: haveLandlock(),
	}
	vm.Payload.Cmdline = commandLine
	kernel, err := l.openKernel()
	if err != nil {
		return vm, err
	}
	vm.Payload.Kernel = l.inherit(kernel)
	initrd, err := l.makeInitrd()
	if err != nil {
		return vm, err
	}
	vm.Payload.Initramfs = l.inherit(initrd)
	if l.spec.DiskBytes == 0 {
		return vm, nil
	}
	disk, err := os.OpenFile(filepath.Join(l.dir, diskName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return vm, fmt.Errorf("cloudhypervisor: disk: %w", err)
	}
	vm.Disks = []diskConfig{{ID: "disk0", Path: l.inherit(disk), ImageType: imageRaw}}
	if err := errors.Join(disk.Truncate(int64(l.spec.DiskBytes)), disk.Chown(l.user, -1)); err != nil {
		return vm, fmt.Errorf("cloudhypervisor: disk: %w", err)
	}
	return vm, nil
}

// haveLandlock tells whether the kernel has the version of Landlock (3, of
// Linux 6.2) that Cloud Hypervisor insists on.
func haveLandlock() bool {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	return errno == 0 && version >= 3
}

// openKernel opens the kernel so that the guest's user can open it again by its
// descriptor; a copy is made if need be.
func (l *launch) openKernel() (*os.File, error) {
	f, err := os.Open(l.spec.Kernel)
	if err != nil {
		return nil, fmt.Errorf("cloudhypervisor: kernel: %w", err)
	}
	info, err := f.Stat()
	if err == nil && (l.user < 0 || info.Mode().Perm()&0o004 != 0) {
		return f, nil
	}
	defer f.Close()
	if err != nil {
		return nil, fmt.Errorf("cloudhypervisor: kernel: %w", err)
	}
	return l.copyFile(kernelName, f)
}

// makeInitrd puts the session's archive in front of the image's initrd.
func (l *launch) makeInitrd() (*os.File, error) {
	f, err := os.Open(l.spec.Initrd)
	if err != nil {
		return nil, fmt.Errorf("cloudhypervisor: initrd: %w", err)
	}
	defer f.Close()
	archive, err := boot.Archive(l.guestConfig())
	if err != nil {
		return nil, fmt.Errorf("cloudhypervisor: %w: %w", hypervisor.ErrBadSpec, err)
	}
	return l.copyFile(initrdName, io.MultiReader(bytes.NewReader(archive), f))
}

func (l *launch) guestConfig() boot.Config {
	c := boot.Config{
		Hostname: "xeno-" + l.spec.ID, HostKey: string(l.spec.HostKey), Keys: l.spec.SSHKeys,
		Disk: l.spec.DiskBytes != 0,
	}
	if l.spec.NetworkRate != 0 {
		c.Address, c.Gateway, c.Port = l.tap.Guest, l.tap.Host.Addr(), sshPort
		for _, s := range l.driver.config.DNS {
			if a, err := netip.ParseAddr(s); err == nil {
				c.DNS = append(c.DNS, a)
			}
		}
	}
	return c
}

// copyFile writes a file in the instance's directory that the guest's user
// alone can read, and opens it for reading.
func (l *launch) copyFile(name string, from io.Reader) (*os.File, error) {
	path := filepath.Join(l.dir, name)
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return nil, fmt.Errorf("cloudhypervisor: %w", err)
	}
	_, err = io.Copy(w, from)
	if err = errors.Join(err, w.Chown(l.user, -1), w.Close()); err != nil {
		return nil, fmt.Errorf("cloudhypervisor: write %s: %w", name, err)
	}
	r, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cloudhypervisor: %w", err)
	}
	return r, nil
}

// exec starts the monitor. Its API listens on the first inherited descriptor.
func (l *launch) exec(ctx context.Context, group process.Cgroup) (*process.Process, error) {
	binary, err := l.driver.binary()
	if err != nil {
		return nil, err
	}
	var credential *process.Credential
	if l.user >= 0 {
		credential = &process.Credential{UID: uint32(l.user), GID: uint32(l.user)}
		var st unix.Stat_t
		if unix.Stat(kvmDevice, &st) == nil {
			credential.GID = st.Gid
		}
	}
	p, err := process.Start(ctx, process.Config{
		Dir:        filepath.Join(l.dir, processName),
		Path:       binary,
		Args:       []string{"--api-socket", "fd=3", "--seccomp", "true"},
		Files:      l.files,
		LogBytes:   consoleBytes,
		Cgroup:     group,
		Credential: credential,
		Limits: []process.Limit{
			{Resource: unix.RLIMIT_CORE, Value: 0},
			{Resource: unix.RLIMIT_FSIZE, Value: max(l.spec.DiskBytes, l.spec.MemoryBytes)},
			{Resource: unix.RLIMIT_NOFILE, Value: maxFiles},
		},
		Keeper: l.driver.config.Keeper,
	})
	if err != nil {
		return nil, fmt.Errorf("cloudhypervisor: %w", err)
	}
	return p, nil
}

// bootVM makes the monitor run the guest. If the monitor ended instead, the
// error holds what it said.
func (l *launch) bootVM(ctx context.Context, p *process.Process, vm vmConfig) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if _, err := p.Wait(ctx); err == nil {
			cancel() // nobody will answer
		}
	}()
	err := l.converse(ctx, vm)
	cancel()
	<-ended
	if err == nil {
		return nil
	}
	if s, statusErr := p.Status(); statusErr == nil && !s.Running {
		_, said, _ := p.Logs(1 << 10)
		text := fmt.Sprintf("the virtual machine ended at once with code %d", s.Code)
		return hypervisor.Explain(text, fmt.Errorf("cloudhypervisor: ended with code %d: %s: %w", s.Code, strings.TrimSpace(string(said)), err))
	}
	return err
}

func (l *launch) converse(ctx context.Context, vm vmConfig) error {
	c := client{socket: filepath.Join(l.dir, socketName)}
	ready, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	pong, err := c.ping(ready)
	if err != nil {
		return err
	}
	if err := checkVersion(pong.Version); err != nil {
		return err
	}
	if err := c.create(ctx, vm); err != nil {
		return err
	}
	if l.tapFile != nil {
		if err := c.addNet(ctx, netConfig{ID: "net0", MAC: l.tap.MAC.String()}, l.tapFile); err != nil {
			return err
		}
	}
	return c.boot(ctx)
}

// listen makes the monitor's socket, which it inherits: there is never a moment
// at which it does not exist yet.
func listen(path string) (*os.File, error) {
	dir, name := splitSocket(path)
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("cloudhypervisor: %w", err)
	}
	defer d.Close()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name)})
	if err != nil {
		return nil, fmt.Errorf("cloudhypervisor: %w", err)
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	f, err := l.File()
	if err != nil {
		return nil, fmt.Errorf("cloudhypervisor: %w", err)
	}
	return f, nil
}

func splitSocket(path string) (dir, name string) { return filepath.Dir(path), filepath.Base(path) }

// binary is the monitor's absolute path. Errors wrap ErrNotSupported.
func (d *Driver) binary() (string, error) {
	path, err := exec.LookPath(d.config.Binary)
	if err != nil {
		return "", fmt.Errorf("cloudhypervisor: no %s: install version %d or newer from https://www.cloudhypervisor.org: %w: %w", d.config.Binary, minVersion, hypervisor.ErrNotSupported, err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", fmt.Errorf("cloudhypervisor: %w", err)
	}
	return path, nil
}
