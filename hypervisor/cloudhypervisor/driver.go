// Package cloudhypervisor runs Linux guests under Cloud Hypervisor, by its
// REST API on a Unix socket. It needs KVM, and Cloud Hypervisor 52 or newer.
//
// Each guest is a monitor process of its own, below a keeper (package process),
// so it outlives the daemon. As root the driver makes it run as a user of its
// own that owns nothing, in a control group with limits; always it runs under
// its seccomp filters and, where the kernel has Landlock, able to reach no file
// but the guest's own. Everything that it needs comes as an open descriptor:
// the API's socket, kernel, initrd, disk and tap.
//
// The state directory holds one directory per instance:
//
//	instance.json  what the driver knows (record)
//	lock           held while a call changes the instance
//	process/       the keeper's directory: who runs, how it ended, the console
//	api            the monitor's socket
//	initrd         session's configuration and the image's initrd, 0400
//	kernel         a copy, where the guest's user cannot read the original
//	disk           the guest's private disk, if it has one
//
// An instance is one that booted: a start that the daemon's death cut short is
// not listed, and goes with Sweep or the next start under its ID.
package cloudhypervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/cgroup"
	"github.com/xenoserver/xeno/hypervisor/network"
	"github.com/xenoserver/xeno/hypervisor/process"
)

// Name is the driver's name.
const Name = "cloudhypervisor"

// A Config says where and how guests run. Only Dir is needed.
type Config struct {
	// Dir is the state directory; it is made. One daemon owns it.
	Dir string
	// Binary is Cloud Hypervisor. Empty: cloud-hypervisor from PATH.
	Binary string
	// Trust takes it for granted that guests run under KVM here. Otherwise
	// Start boots each new kernel once, for a moment, and believes what it
	// sees: a machine that is virtual itself may offer a KVM that hangs.
	Trust bool
	// CacheDir keeps that verdict for all daemons until the machine restarts.
	// Empty: /run/xeno.
	CacheDir string
	// Network makes the taps. Nil: guests with a network are not supported.
	Network *network.Manager
	// DNS are the name servers that guests are told.
	DNS []string
	// Cgroups is where control groups are made. Nil: none are, and neither
	// CPUShare nor a limit on the monitor's own memory holds.
	Cgroups *cgroup.Tree
	// Meter is told of each instance before its first instruction, and to
	// forget it when it is removed. Nil: none.
	Meter hypervisor.Meter
	// FirstUser is the first of 2^24 user IDs that belong to nobody; each
	// guest of a daemon that is root runs as one of them. 0: 1,900,000,000,
	// which systemd leaves unused.
	FirstUser uint32
	// Keeper is the executable that keeps processes, see process.Config.
	Keeper string
	// Logger gets what happens. Nil: nothing is logged.
	Logger *slog.Logger
}

func (c *Config) validate() error {
	if c.Dir == "" || !filepath.IsAbs(c.Dir) {
		return fmt.Errorf("cloudhypervisor: Dir %q is not an absolute path", c.Dir)
	}
	if c.Binary == "" {
		c.Binary = "cloud-hypervisor"
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

// A Driver runs guests under Cloud Hypervisor. It holds no state but its
// configuration: what it knows is in the state directory.
type Driver struct {
	config Config // fixed
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
		return nil, fmt.Errorf("cloudhypervisor: %w", err)
	}
	return &Driver{config: config}, nil
}

// Name implements hypervisor.Driver.
func (d *Driver) Name() string { return Name }

// Start implements hypervisor.Driver. It returns when the guest has booted, as
// far as the monitor sees it.
func (d *Driver) Start(ctx context.Context, spec hypervisor.Spec) (hypervisor.Instance, error) {
	if err := validate(spec); err != nil {
		return hypervisor.Instance{}, err
	}
	if err := d.Check(ctx, spec); err != nil {
		return hypervisor.Instance{}, err
	}
	if spec.NetworkRate != 0 && d.config.Network == nil {
		return hypervisor.Instance{}, fmt.Errorf("cloudhypervisor: %w: this driver was made without a network", hypervisor.ErrNotSupported)
	}
	if err := ctx.Err(); err != nil {
		return hypervisor.Instance{}, err
	}
	dir := filepath.Join(d.config.Dir, spec.ID)
	unlock, err := d.reserve(ctx, dir)
	if err != nil {
		return hypervisor.Instance{}, err
	}
	defer unlock()
	l := launch{driver: d, spec: spec, dir: dir, record: record{ID: spec.ID}}
	defer l.close()
	p, err := l.run(ctx)
	if err != nil {
		// The caller may have gone; what it asked for must go as well.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
		defer cancel()
		return hypervisor.Instance{}, errors.Join(err, d.erase(clean, spec.ID))
	}
	d.config.Logger.InfoContext(ctx, "guest started", slog.String("id", spec.ID), slog.Int("pid", p.PID()))
	return d.instance(l.record, p)
}

// reserve makes an instance's directory and locks it. What a start left that
// was cut short is removed first.
func (d *Driver) reserve(ctx context.Context, dir string) (unlock func(), err error) {
	for {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("cloudhypervisor: %w", err)
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
			return nil, fmt.Errorf("cloudhypervisor: %s: %w", filepath.Base(dir), hypervisor.ErrExists)
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

// started tells whether a start in dir came to its end. A record that cannot be
// read is taken for one: it is not ours to delete.
func started(dir string) bool {
	r, err := readRecord(dir)
	return err == nil && r.Booted || errors.Is(err, errRecord)
}

// lockInstance waits for the lock of an instance. Errors wrap os.ErrNotExist
// when there is no such instance, or no more.
func lockInstance(ctx context.Context, dir string) (unlock func(), err error) {
	unlock, err = process.LockDir(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("cloudhypervisor: %w", err)
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
	if d.config.Network != nil {
		errs = errors.Join(errs, d.config.Network.Remove(ctx, id))
	}
	if errs != nil {
		return errs // the directory stays, for another try
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("cloudhypervisor: %w", err)
	}
	return nil
}
