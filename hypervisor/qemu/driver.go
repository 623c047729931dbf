// Package qemu runs Linux guests under QEMU: the microvm machine, accelerated
// by KVM where that was seen to work and emulated elsewhere.
//
// Each guest is a QEMU process of its own, below a keeper (package process),
// so it outlives the daemon. It runs as a user of its own that owns nothing,
// in a control group with limits, under QEMU's seccomp filter, and may write
// no file but the guest's disk. Everything it needs comes as an open
// descriptor: the tap, the monitor's socket, kernel, initrd and disk.
//
// The state directory holds one directory per instance:
//
//	instance.json  what the driver knows (record)
//	lock           held while a call changes the instance
//	process/       the keeper's directory: who runs, how it ended, the console
//	qmp            the monitor's socket
//	initrd         session's configuration and the image's initrd, 0400
//	kernel         a copy, where the guest's user cannot read the original
//	disk           the guest's private disk, if it has one
package qemu

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/cgroup"
	"github.com/xenoserver/xeno/hypervisor/network"
	"github.com/xenoserver/xeno/hypervisor/process"
)

// Name is the driver's name.
const Name = "qemu"

// A Config says where and how guests run. Only Dir and Network are needed.
type Config struct {
	// Dir is the state directory; it is made. One daemon owns it.
	Dir string
	// Binary is QEMU. Empty: qemu-system-x86_64 from PATH.
	Binary string
	// Accel is how guests run: kvm, tcg, or auto, which tries a guest under
	// KVM once and believes what it sees. Empty: auto.
	Accel string
	// CacheDir keeps that verdict for all daemons until the machine restarts.
	// Empty: /run/xeno.
	CacheDir string
	// Network makes the taps.
	Network *network.Manager
	// DNS are the name servers that guests are told.
	DNS []string
	// Cgroups is where control groups are made. Nil: none are, and neither
	// CPUShare nor a limit on QEMU's own memory holds.
	Cgroups *cgroup.Tree
	// Meter is told of each instance before its first instruction, and to
	// forget it when it is removed. Nil: none.
	Meter hypervisor.Meter
	// FirstUser is the first of 2^24 user IDs that belong to nobody; each
	// guest runs as one of them. 0: 1,900,000,000, which systemd leaves
	// unused.
	FirstUser uint32
	// Keeper is the executable that keeps processes, see process.Config.
	Keeper string
	// Logger gets what happens. Nil: nothing is logged.
	Logger *slog.Logger
}

func (c *Config) validate() error {
	if c.Dir == "" || !filepath.IsAbs(c.Dir) {
		return fmt.Errorf("qemu: Dir %q is not an absolute path", c.Dir)
	}
	if c.Network == nil {
		return errors.New("qemu: no Network")
	}
	if c.Binary == "" {
		c.Binary = "qemu-system-x86_64"
	}
	if c.Accel == "" {
		c.Accel = accelAuto
	}
	if c.Accel != accelAuto && c.Accel != accelKVM && c.Accel != accelTCG {
		return fmt.Errorf("qemu: Accel %q is not auto, kvm or tcg", c.Accel)
	}
	if c.CacheDir == "" {
		c.CacheDir = "/run/xeno"
	}
	if c.FirstUser == 0 {
		c.FirstUser = 1_900_000_000
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// A Driver runs guests under QEMU. What it knows of them is in the state
// directory alone.
type Driver struct {
	config Config        // fixed
	tscKHz func() uint64 // measured once
}

var (
	_ hypervisor.Driver = (*Driver)(nil)
	_ hypervisor.Pauser = (*Driver)(nil)
)

// New returns a driver on a state directory, new or left by an earlier one. It
// starts nothing.
func New(config Config) (*Driver, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(config.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("qemu: %w", err)
	}
	return &Driver{config: config, tscKHz: sync.OnceValue(tscKHz)}, nil
}

// Name implements hypervisor.Driver.
func (d *Driver) Name() string { return Name }

// Available says why no guest can run here, if none can. Errors wrap
// hypervisor.ErrNotSupported.
func (d *Driver) Available(context.Context) error {
	if _, err := exec.LookPath(d.config.Binary); err != nil {
		return fmt.Errorf("qemu: no %s (apt install qemu-system-x86): %w: %w", d.config.Binary, hypervisor.ErrNotSupported, err)
	}
	return network.Available()
}

// Start implements hypervisor.Driver. It returns when QEMU's monitor answers.
func (d *Driver) Start(ctx context.Context, spec hypervisor.Spec) (hypervisor.Instance, error) {
	if err := validate(spec); err != nil {
		return hypervisor.Instance{}, err
	}
	if err := d.Available(ctx); err != nil {
		return hypervisor.Instance{}, err
	}
	if err := ctx.Err(); err != nil {
		return hypervisor.Instance{}, err
	}
	accel, err := d.accelerator(ctx, spec)
	if err != nil {
		return hypervisor.Instance{}, err
	}
	dir := filepath.Join(d.config.Dir, spec.ID)
	unlock, err := d.reserve(ctx, dir)
	if err != nil {
		return hypervisor.Instance{}, err
	}
	defer unlock()
	l := launch{driver: d, spec: spec, dir: dir, record: record{ID: spec.ID, Accel: accel}}
	defer l.close()
	p, err := l.run(ctx)
	if err != nil {
		// The caller may have gone; what it asked for must go as well.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
		defer cancel()
		return hypervisor.Instance{}, errors.Join(err, d.erase(clean, spec.ID))
	}
	d.config.Logger.InfoContext(ctx, "guest started", slog.String("id", spec.ID), slog.String("accel", accel), slog.Int("pid", p.PID()))
	return d.instance(l.record, p)
}

// reserve makes an instance's directory and locks it. What a start left that
// was cut short is removed first.
func (d *Driver) reserve(ctx context.Context, dir string) (unlock func(), err error) {
	for {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("qemu: %w", err)
		}
		unlock, err := lockInstance(ctx, dir)
		if errors.Is(err, os.ErrNotExist) {
			continue // somebody took it for a leftover before it was locked
		}
		if err != nil {
			return nil, err
		}
		if started(dir) {
			unlock()
			return nil, fmt.Errorf("qemu: %s: %w", filepath.Base(dir), hypervisor.ErrExists)
		}
		if process.OnlyLock(dir) {
			return unlock, nil
		}
		err = d.erase(ctx, filepath.Base(dir))
		unlock()
		if err != nil {
			return nil, err
		}
	}
}

// started tells whether a start in dir came to its end.
func started(dir string) bool {
	_, err := process.Open(filepath.Join(dir, processName))
	return err == nil
}

// lockInstance waits for the lock of an instance. Errors wrap os.ErrNotExist
// when there is no such instance, or no more.
func lockInstance(ctx context.Context, dir string) (unlock func(), err error) {
	unlock, err = process.LockDir(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("qemu: %w", err)
	}
	return unlock, nil
}

// erase removes all traces of an instance, killing what runs. The caller holds
// its lock.
func (d *Driver) erase(ctx context.Context, id string) error {
	dir := filepath.Join(d.config.Dir, id)
	var errs error
	if p, err := process.Open(filepath.Join(dir, processName)); err == nil {
		errs = p.Stop(ctx, 0)
	}
	if d.config.Meter != nil {
		errs = errors.Join(errs, d.config.Meter.Forget(ctx, id))
	}
	if d.config.Cgroups != nil {
		g, err := d.config.Cgroups.Group(id)
		if err == nil {
			err = g.Remove(ctx)
		}
		errs = errors.Join(errs, err)
	}
	errs = errors.Join(errs, d.config.Network.Remove(ctx, id))
	if errs != nil {
		return errs // the directory stays, for another try
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("qemu: %w", err)
	}
	return nil
}
