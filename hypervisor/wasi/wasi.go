// Package wasi runs modules of WASI preview 1 under wazero, each in a process
// of its own: the embedded execution platform, which needs nothing installed
// and no privileges.
//
// The process is the program itself run again, so every program that uses the
// driver calls MaybeRun first thing in main. It is confined by Landlock, gains
// no privileges, runs as nobody where the daemon is the superuser, and has
// limits on memory, files and core dumps besides those of its control group. A
// module sees arguments, environment, standard streams, coarse clocks and one
// private directory as its root. It is ended from outside, by its keeper (see
// package process): checks for cancellation within the compiled code would make
// it 18 times slower.
//
// The driver's state directory holds a directory for each instance:
//
//	job.json      what to run
//	control.json  pauses, and whether a stop was asked for
//	usage.json    the most that was ever read, so that it never shrinks
//	result.json   exit code or failure, written by the child
//	stdin, root/  standard input and the private directory
//	process/      see package process
package wasi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/cgroup"
	"github.com/xenoserver/xeno/hypervisor/process"
)

// driverName is in Instance.Driver.
const driverName = "wasi"

// childArg is the argv[0] by which MaybeRun knows a child.
const childArg = "xeno-wasi"

// MaybeRun does not return in a process that a driver started, and does
// nothing in any other. It includes process.MaybeRun. It is called before
// anything else in main, and in TestMain.
func MaybeRun() {
	process.MaybeRun()
	if os.Args[0] == childArg {
		os.Exit(runChild())
	}
}

// A Config says how a driver works. Only Dir is needed.
type Config struct {
	// Dir is the state directory, which must exist and belongs to one driver.
	Dir string
	// Executable is a program that calls MaybeRun. Empty: the running one.
	// Programs that embed the platform and cannot call MaybeRun in their own
	// main name the path of xeno-node here.
	Executable string
	// Groups is where control groups are made. Nil: none; then CPUShare is
	// not enforced, and usage is read from the processes' own clocks.
	Groups *cgroup.Tree
	// Meter begins to count before a module starts, and is told to forget it
	// when it is removed. Nil: none.
	Meter hypervisor.Meter
	// Credential is whom modules run as. Nil: nobody if the daemon is the
	// superuser, else the daemon's user.
	Credential *process.Credential
	// LogBytes bounds what is kept of each output stream. 0: 1 MiB.
	LogBytes int64
}

// A Driver runs WASI modules. It implements hypervisor.Driver and Pauser.
type Driver struct {
	cfg Config

	mu       sync.Mutex       // guards the following
	busy     map[string]*turn // instances that a call is changing
	starting map[string]bool

	usageMu sync.Mutex // held while usage.json is changed, or its directory removed
}

var (
	_ hypervisor.Driver = (*Driver)(nil)
	_ hypervisor.Pauser = (*Driver)(nil)
)

// A turn lets one call at a time change an instance.
type turn struct {
	sync.Mutex
	users int
}

// New returns a driver. It goes on with what an earlier one left in cfg.Dir.
func New(cfg Config) (*Driver, error) {
	info, err := os.Stat(cfg.Dir)
	if err == nil && !info.IsDir() {
		err = errors.New("not a directory")
	}
	if err != nil {
		return nil, fmt.Errorf("wasi: state directory %s: %w", cfg.Dir, err)
	}
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, fmt.Errorf("wasi: %w", err)
	}
	if cfg.Credential == nil && os.Geteuid() == 0 {
		cfg.Credential = &process.Credential{UID: nobody, GID: nobody}
	}
	return &Driver{cfg: cfg, busy: make(map[string]*turn), starting: make(map[string]bool)}, nil
}

// Name implements hypervisor.Driver.
func (d *Driver) Name() string { return driverName }

// take waits until no other call changes the instance.
func (d *Driver) take(id string) (release func()) {
	d.mu.Lock()
	t := d.busy[id]
	if t == nil {
		t = &turn{}
		d.busy[id] = t
	}
	t.users++
	d.mu.Unlock()
	t.Lock()
	return func() {
		t.Unlock()
		d.mu.Lock()
		defer d.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(d.busy, id)
		}
	}
}

func (d *Driver) setStarting(id string, on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if on {
		d.starting[id] = true
	} else {
		delete(d.starting, id)
	}
}

func (d *Driver) isStarting(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.starting[id]
}

// dir is the directory of an instance.
func (d *Driver) dir(id string) string { return filepath.Join(d.cfg.Dir, id) }

// group is the control group of an instance, nil without control groups.
func (d *Driver) group(id string) *cgroup.Group {
	if d.cfg.Groups == nil {
		return nil
	}
	g, err := d.cfg.Groups.Group(id)
	if err != nil {
		return nil // an invalid ID, which has no instance either
	}
	return g
}

// find checks that an instance exists. Errors wrap ErrNotFound.
func (d *Driver) find(id string) error {
	if hypervisor.ValidateID(id) == nil {
		_, err := os.Lstat(d.dir(id))
		if err == nil {
			return nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("wasi: %w", err)
		}
	}
	return fmt.Errorf("wasi: %.64q: %w", id, hypervisor.ErrNotFound)
}

// forget undoes what a start made, in the order that leaves nothing unknown:
// the directory is the memory of it all, and goes last.
func (d *Driver) forget(ctx context.Context, id string) error {
	p, err := process.Open(d.processDir(id))
	switch {
	case err == nil:
		err = p.Remove(ctx)
	case errors.Is(err, process.ErrNotFound):
		err = process.Remove(d.processDir(id))
	}
	if err != nil {
		return fmt.Errorf("wasi: %w", err)
	}
	if g := d.group(id); g != nil {
		if err := g.Remove(ctx); err != nil {
			return fmt.Errorf("wasi: %w", err)
		}
	}
	if d.cfg.Meter != nil {
		if err := d.cfg.Meter.Forget(ctx, id); err != nil {
			return fmt.Errorf("wasi: %w", err)
		}
	}
	d.usageMu.Lock()
	defer d.usageMu.Unlock()
	if err := os.RemoveAll(d.dir(id)); err != nil {
		return fmt.Errorf("wasi: %w", err)
	}
	return nil
}

func (d *Driver) processDir(id string) string { return filepath.Join(d.dir(id), "process") }
