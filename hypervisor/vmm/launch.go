package vmm

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/cgroup"
	"github.com/xenoserver/xeno/hypervisor/network"
	"github.com/xenoserver/xeno/hypervisor/process"
)

// What a Launch's Accel may be.
const (
	KVM = "kvm"
	TCG = "tcg" // QEMU's emulation
)

// KVMDevice is the device of KVM.
const KVMDevice = "/dev/kvm"

const processName = "process"

// Validate checks what hypervisor.Spec.Validate leaves to the driver. Errors
// wrap ErrBadSpec.
func (d *Driver) Validate(s hypervisor.Spec) error {
	if err := s.Validate(); err != nil {
		return err
	}
	bad := func(format string, args ...any) error {
		return hypervisor.Explain(fmt.Sprintf(format, args...), d.errorf(format+": %w", append(args, hypervisor.ErrBadSpec)...))
	}
	switch {
	case s.Kind != hypervisor.KindLinux:
		return bad("kind %q, only %q", s.Kind, hypervisor.KindLinux)
	case s.MemoryBytes < d.program.MinMemory:
		return bad("MemoryBytes %d, at least %d", s.MemoryBytes, d.program.MinMemory)
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

// A Launch is what differs from one monitor to another when a guest is started.
type Launch struct {
	Spec         hypervisor.Spec // that Validate accepts
	Accel        string          // KVM or TCG
	Why          string          // it is that, for the log
	Binary       string          // absolute path of the monitor's executable
	Overhead     uint64          // bytes that it may need beside the guest's memory
	MaxFiles     uint64          // descriptors that it may have
	MaxFileBytes uint64          // the largest file that it may write
	// Args returns the monitor's arguments. It hands it the files it needs.
	Args func(*Machine) []string
	// Boot returns when the guest runs. Its context ends with the monitor.
	Boot func(context.Context, *Machine) error
}

// Launch starts a guest and returns when it runs. A failed start leaves nothing
// behind. Errors wrap ErrExists or ErrNotSupported.
func (d *Driver) Launch(ctx context.Context, l Launch) (hypervisor.Instance, error) {
	id := l.Spec.ID
	if l.Spec.NetworkRate != 0 && d.config.Network == nil {
		return hypervisor.Instance{}, d.errorf("%w: this driver was made without a network", hypervisor.ErrNotSupported)
	}
	if err := ctx.Err(); err != nil {
		return hypervisor.Instance{}, err
	}
	unlock, err := d.reserve(ctx, id)
	if err != nil {
		return hypervisor.Instance{}, err
	}
	defer unlock()
	s := start{Launch: l, driver: d, dir: d.dir(id), record: record{ID: id, Accel: l.Accel}}
	defer s.machine.close()
	p, err := s.run(ctx)
	if err != nil {
		// The caller may have gone; what it asked for must go as well.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
		defer cancel()
		return hypervisor.Instance{}, errors.Join(err, d.erase(clean, id))
	}
	d.config.Logger.InfoContext(ctx, "guest started", slog.String("id", id), slog.String("accel", l.Accel), slog.String("why", l.Why), slog.Int("pid", p.PID()))
	return d.instance(s.record, p)
}

// reserve makes an instance's directory and locks it. What a start left that
// was cut short is removed first.
func (d *Driver) reserve(ctx context.Context, id string) (unlock func(), err error) {
	dir := d.dir(id)
	for {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, d.errorf("%w", err)
		}
		unlock, err := d.lock(ctx, dir)
		if errors.Is(err, os.ErrNotExist) {
			continue // somebody took it for a leftover before it was locked
		}
		if err != nil {
			return nil, err
		}
		if started(dir) {
			unlock()
			return nil, d.errorf("%s: %w", id, hypervisor.ErrExists)
		}
		if process.OnlyLock(dir) {
			return unlock, nil
		}
		err = d.erase(ctx, id)
		unlock()
		if err != nil {
			return nil, err
		}
	}
}

// A start is one launch on its way.
type start struct {
	Launch
	driver  *Driver
	dir     string
	record  record
	user    int // that the monitor runs as; -1: the daemon's
	machine Machine
	tap     network.Tap
}

// run starts monitor and guest. It leaves it to the caller to tidy up after an
// error.
func (s *start) run(ctx context.Context) (*process.Process, error) {
	s.user = -1
	if os.Geteuid() == 0 {
		s.user = int(s.driver.config.FirstUser + userOffset(s.dir))
	}
	group, err := s.makeGroup()
	if err != nil {
		return nil, err
	}
	if err := s.makeTap(ctx); err != nil {
		return nil, err
	}
	if err := s.openFiles(); err != nil {
		return nil, s.driver.errorf("%w", err)
	}
	if err := s.record.write(s.dir); err != nil {
		return nil, s.driver.errorf("%w", err)
	}
	if err := s.track(ctx); err != nil {
		return nil, err
	}
	p, err := s.exec(ctx, group)
	if err != nil {
		return nil, s.driver.errorf("%w", err)
	}
	if err := s.boot(ctx, p); err != nil {
		return nil, err
	}
	s.record.Booted = true
	if err := s.record.write(s.dir); err != nil {
		return nil, s.driver.errorf("%w", err)
	}
	return p, nil
}

// userOffset spreads instances over user IDs.
func userOffset(dir string) uint32 {
	sum := sha256.Sum256([]byte(dir))
	return binary.BigEndian.Uint32(sum[:]) >> 8
}

func (s *start) makeGroup() (process.Cgroup, error) {
	tree := s.driver.config.Cgroups
	if tree == nil {
		return process.Cgroup{}, nil
	}
	g, err := tree.Create(s.Spec.ID, cgroup.Limits{
		CPUShare: s.Spec.CPUShare, MemoryBytes: s.Spec.MemoryBytes + s.Overhead, Pids: cgroup.DefaultPids + s.Spec.CPUs,
	})
	if err != nil {
		return process.Cgroup{}, err
	}
	s.record.Group = g.Path()
	return process.Cgroup{Unified: g.Unified(), Legacy: g.Legacy()}, nil
}

func (s *start) makeTap(ctx context.Context) (err error) {
	if s.Spec.NetworkRate == 0 {
		return nil
	}
	s.tap, s.machine.Tap, err = s.driver.config.Network.Create(ctx, network.Options{ID: s.Spec.ID, User: uint32(max(s.user, 0)), Rate: s.Spec.NetworkRate})
	if err != nil {
		return err
	}
	s.machine.MAC = s.tap.MAC.String()
	s.record.Tap, s.record.Guest = s.tap.Name, s.tap.Guest.Addr()
	return nil
}

func (s *start) track(ctx context.Context) error {
	m := s.driver.config.Meter
	if m == nil {
		return nil
	}
	in := hypervisor.Instance{
		ID: s.Spec.ID, Kind: s.Spec.Kind, Driver: s.driver.program.Name, State: hypervisor.StateStarting,
		Cgroup: s.record.Group, Tap: s.record.Tap, Guest: s.record.Guest,
	}
	if err := m.Track(ctx, in); err != nil {
		return s.driver.errorf("meter %s: %w", s.Spec.ID, err)
	}
	return nil
}

// exec starts the monitor.
func (s *start) exec(ctx context.Context, group process.Cgroup) (*process.Process, error) {
	var credential *process.Credential
	if s.user >= 0 {
		credential = &process.Credential{UID: uint32(s.user), GID: uint32(s.user)}
		var st unix.Stat_t
		if s.Accel == KVM && unix.Stat(KVMDevice, &st) == nil {
			credential.GID = st.Gid
		}
	}
	args := s.Args(&s.machine)
	return process.Start(ctx, process.Config{
		Dir:        filepath.Join(s.dir, processName),
		Path:       s.Binary,
		Args:       args,
		Files:      s.machine.inherited,
		LogBytes:   consoleBytes,
		Cgroup:     group,
		Credential: credential,
		Limits: []process.Limit{
			{Resource: unix.RLIMIT_CORE, Value: 0},
			{Resource: unix.RLIMIT_FSIZE, Value: s.MaxFileBytes},
			{Resource: unix.RLIMIT_NOFILE, Value: s.MaxFiles},
		},
		Keeper: s.driver.config.Keeper,
	})
}

// boot returns when the guest runs. If the monitor ended instead, the error
// holds what it said.
func (s *start) boot(ctx context.Context, p *process.Process) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if _, err := p.Wait(ctx); err == nil {
			cancel() // nobody will answer
		}
	}()
	err := s.Boot(ctx, &s.machine)
	cancel()
	<-ended
	if err == nil {
		return nil
	}
	if status, statusErr := p.Status(); statusErr == nil && !status.Running {
		_, said, _ := p.Logs(1 << 10)
		text := fmt.Sprintf("the virtual machine ended at once with code %d", status.Code)
		return hypervisor.Explain(text, s.driver.errorf("%s: %s", text, strings.TrimSpace(string(said))))
	}
	return s.driver.errorf("%w", err)
}
