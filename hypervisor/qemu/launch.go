package qemu

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

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
	kernelName  = "kernel"
	initrdName  = "initrd"
	diskName    = "disk"
)

// validate checks what hypervisor.Spec.Validate leaves to the driver. Errors
// wrap ErrBadSpec.
func validate(s hypervisor.Spec) error {
	if err := s.Validate(); err != nil {
		return err
	}
	bad := func(format string, args ...any) error {
		return hypervisor.Explain(fmt.Sprintf(format, args...), fmt.Errorf("qemu: "+format+": %w", append(args, hypervisor.ErrBadSpec)...))
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
	driver *Driver
	spec   hypervisor.Spec
	dir    string
	record record
	user   uint32
	tap    network.Tap
	files  []*os.File // ours, inherited by QEMU
}

func (l *launch) close() {
	for _, f := range l.files {
		f.Close()
	}
}

// inherit hands a file to QEMU and returns the descriptor that it gets there.
func (l *launch) inherit(f *os.File) int {
	l.files = append(l.files, f)
	return 2 + len(l.files)
}

// run starts QEMU. It leaves it to the caller to tidy up after an error.
func (l *launch) run(ctx context.Context) (*process.Process, error) {
	l.user = l.driver.config.FirstUser + userOffset(l.dir)
	group, err := l.makeGroup()
	if err != nil {
		return nil, err
	}
	a := arguments{spec: l.spec, accel: l.record.Accel}
	if a.accel == accelTCG {
		a.tscKHz = l.driver.tscKHz()
	}
	if l.spec.NetworkRate != 0 {
		var tap *os.File
		l.tap, tap, err = l.driver.config.Network.Create(ctx, network.Options{ID: l.spec.ID, User: l.user, Rate: l.spec.NetworkRate})
		if err != nil {
			return nil, err
		}
		a.tap, a.mac = l.inherit(tap), l.tap.MAC.String()
		l.record.Tap, l.record.Guest = l.tap.Name, l.tap.Guest.Addr()
	}
	if err := l.openFiles(&a); err != nil {
		return nil, err
	}
	if err := l.record.write(l.dir); err != nil {
		return nil, err
	}
	if m := l.driver.config.Meter; m != nil {
		in := hypervisor.Instance{ID: l.spec.ID, Kind: l.spec.Kind, Driver: Name, State: hypervisor.StateStarting, Cgroup: l.record.Group, Tap: l.record.Tap, Guest: l.record.Guest}
		if err := m.Track(ctx, in); err != nil {
			return nil, fmt.Errorf("qemu: meter %s: %w", l.spec.ID, err)
		}
	}
	p, err := l.exec(ctx, a, group)
	if err != nil {
		return nil, err
	}
	return p, l.awaitMonitor(ctx, p)
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
	limit := l.spec.MemoryBytes + overhead
	if l.record.Accel == accelTCG {
		limit += codeCache
	}
	g, err := tree.Create(l.spec.ID, cgroup.Limits{
		CPUShare: l.spec.CPUShare, MemoryBytes: limit, Pids: cgroup.DefaultPids + l.spec.CPUs,
	})
	if err != nil {
		return process.Cgroup{}, err
	}
	l.record.Group = g.Path()
	return process.Cgroup{Unified: g.Unified(), Legacy: g.Legacy()}, nil
}

// openFiles prepares what QEMU reads and writes.
func (l *launch) openFiles(a *arguments) error {
	socket, err := listenMonitor(l.dir)
	if err != nil {
		return err
	}
	a.monitor = l.inherit(socket)
	kernel, err := l.openKernel()
	if err != nil {
		return err
	}
	a.kernel = l.inherit(kernel)
	initrd, err := l.makeInitrd()
	if err != nil {
		return err
	}
	a.initrd = l.inherit(initrd)
	if l.spec.DiskBytes == 0 {
		return nil
	}
	disk, err := os.OpenFile(filepath.Join(l.dir, diskName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("qemu: disk: %w", err)
	}
	a.disk = l.inherit(disk)
	if err := errors.Join(disk.Truncate(int64(l.spec.DiskBytes)), disk.Chown(int(l.user), -1)); err != nil {
		return fmt.Errorf("qemu: disk: %w", err)
	}
	return nil
}

// openKernel opens the kernel so that the guest's user can open it again by
// its descriptor; a copy is made if need be.
func (l *launch) openKernel() (*os.File, error) {
	f, err := os.Open(l.spec.Kernel)
	if err != nil {
		return nil, fmt.Errorf("qemu: kernel: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.Mode().Perm()&0o004 != 0 {
		return f, nil
	}
	defer f.Close()
	if err != nil {
		return nil, fmt.Errorf("qemu: kernel: %w", err)
	}
	return l.copyFile(kernelName, f)
}

// makeInitrd puts the session's archive in front of the image's initrd.
func (l *launch) makeInitrd() (*os.File, error) {
	f, err := os.Open(l.spec.Initrd)
	if err != nil {
		return nil, fmt.Errorf("qemu: initrd: %w", err)
	}
	defer f.Close()
	archive, err := boot.Archive(l.guestConfig())
	if err != nil {
		return nil, fmt.Errorf("qemu: %w: %w", hypervisor.ErrBadSpec, err)
	}
	return l.copyFile(initrdName, io.MultiReader(strings.NewReader(string(archive)), f))
}

func (l *launch) guestConfig() boot.Config {
	c := boot.Config{
		Hostname: "xeno-" + l.spec.ID, HostKey: string(l.spec.HostKey), Keys: l.spec.SSHKeys,
		Disk: l.spec.DiskBytes != 0,
	}
	if l.spec.NetworkRate != 0 {
		c.Address, c.Gateway, c.Port = l.tap.Guest, l.tap.Host.Addr(), boot.SSHPort
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
		return nil, fmt.Errorf("qemu: %w", err)
	}
	_, err = io.Copy(w, from)
	if err = errors.Join(err, w.Chown(int(l.user), -1), w.Close()); err != nil {
		return nil, fmt.Errorf("qemu: write %s: %w", name, err)
	}
	r, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("qemu: %w", err)
	}
	return r, nil
}

// exec starts the process.
func (l *launch) exec(ctx context.Context, a arguments, group process.Cgroup) (*process.Process, error) {
	binary, err := exec.LookPath(l.driver.config.Binary)
	if err != nil {
		return nil, fmt.Errorf("qemu: %w: %w", hypervisor.ErrNotSupported, err)
	}
	if binary, err = filepath.Abs(binary); err != nil {
		return nil, fmt.Errorf("qemu: %w", err)
	}
	credential := process.Credential{UID: l.user, GID: l.user}
	if l.record.Accel == accelKVM {
		var st unix.Stat_t
		if err := unix.Stat(kvmDevice, &st); err != nil {
			return nil, fmt.Errorf("qemu: %s: %w", kvmDevice, err)
		}
		credential.GID = st.Gid
	}
	p, err := process.Start(ctx, process.Config{
		Dir:        filepath.Join(l.dir, processName),
		Path:       binary,
		Args:       a.list(),
		Files:      l.files,
		LogBytes:   consoleBytes,
		Cgroup:     group,
		Credential: &credential,
		Limits: []process.Limit{
			{Resource: unix.RLIMIT_CORE, Value: 0},
			{Resource: unix.RLIMIT_FSIZE, Value: l.spec.DiskBytes},
			{Resource: unix.RLIMIT_NOFILE, Value: maxFiles},
		},
		Keeper: l.driver.config.Keeper,
	})
	if err != nil {
		return nil, fmt.Errorf("qemu: %w", err)
	}
	return p, nil
}

// awaitMonitor returns when QEMU runs the guest. If QEMU gave up instead, the
// error holds what it said.
func (l *launch) awaitMonitor(ctx context.Context, p *process.Process) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if _, err := p.Wait(ctx); err == nil {
			cancel() // nobody will answer
		}
	}()
	err := l.queryRunning(ctx)
	cancel()
	<-ended
	if err == nil {
		return nil
	}
	if s, statusErr := p.Status(); statusErr == nil && !s.Running {
		_, said, _ := p.Logs(1 << 10)
		text := fmt.Sprintf("the virtual machine ended at once with code %d", s.Code)
		return hypervisor.Explain(text, fmt.Errorf("qemu: %s: %s", text, strings.TrimSpace(string(said))))
	}
	return err
}

func (l *launch) queryRunning(ctx context.Context) error {
	m, err := openMonitor(ctx, l.dir, readyTimeout)
	if err != nil {
		return err
	}
	defer m.close()
	for {
		var status runState
		if err := m.execute("query-status", &status); err != nil {
			return fmt.Errorf("qemu: %w", err)
		}
		if status.Running {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("qemu: wait for the guest to run: %w", ctx.Err())
		case <-time.After(pollInterval):
		}
	}
}
