// Package vmm is what drivers of virtual machines have in common, whichever
// virtual machine monitor (VMM) runs the guests: packages qemu and
// cloudhypervisor add how theirs is started and spoken to.
//
// Each guest is a monitor process of its own, below a keeper (package process),
// so it outlives the daemon. As root the driver makes it run as a user of its
// own that owns nothing, in a control group with limits. Everything that it
// needs comes as an open descriptor: its socket, kernel, initrd, disk and tap.
//
// The state directory holds one directory per instance:
//
//	instance.json  what the driver knows (record)
//	lock           held while a call changes the instance
//	process/       the keeper's directory: who runs, how it ended, the console
//	qmp or api     the monitor's socket
//	initrd         session's configuration and the image's initrd, 0400
//	kernel         a copy, where the guest's user cannot read the original
//	disk           the guest's private disk, if it has one
//
// An instance is one that booted: a start that the daemon's death cut short is
// not listed, and goes with Sweep or the next start under its ID.
package vmm

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/cgroup"
	"github.com/xenoserver/xeno/hypervisor/network"
)

// A Config says where and how guests run. Only Dir is needed.
type Config struct {
	// Dir is the state directory; it is made. One daemon owns it.
	Dir string
	// CacheDir keeps for all daemons, until the machine restarts, whether
	// guests run under KVM. Empty: /run/xeno.
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

// A Program is a virtual machine monitor, as far as it matters once it runs.
type Program struct {
	Name      string // of the driver, as in hypervisor.Instance.Driver
	Title     string // in sentences
	MinMemory uint64 // bytes, the least that a guest can have
	Socket    string // name of the file it listens on
	// Monitor speaks to the one that listens on socket, a path of any length
	// (see Dial). It connects when a method is called.
	Monitor func(socket string) Monitor
}

// A Monitor speaks to one running monitor. Methods may be called at once, also
// when the process has ended, and return within seconds.
type Monitor interface {
	// Running tells whether the guest's CPUs run: they do not in a pause.
	Running(ctx context.Context) (bool, error)
	// Pause and Resume return when it is done. Where it was so already they
	// may return an error.
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
	// PowerButton presses the guest's, which may not feel it yet.
	PowerButton(ctx context.Context) error
	// Quit makes guest and monitor end in order, with what the guest wrote.
	Quit(ctx context.Context) error
}

// A Driver is a hypervisor.Driver but for Start, and a hypervisor.Pauser. It
// holds no state but its configuration: what it knows is in the state directory.
type Driver struct {
	config  Config  // fixed
	program Program // fixed
}

// New returns a driver on a state directory, new or left by an earlier one. It
// starts nothing.
func New(config Config, program Program) (*Driver, error) {
	d := &Driver{config: config, program: program}
	if !filepath.IsAbs(config.Dir) {
		return nil, d.errorf("Dir %q is not an absolute path", config.Dir)
	}
	if config.CacheDir == "" {
		d.config.CacheDir = "/run/xeno"
	}
	if config.FirstUser == 0 {
		d.config.FirstUser = 1_900_000_000
	}
	if config.Logger == nil {
		d.config.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(config.Dir, 0o700); err != nil {
		return nil, d.errorf("%w", err)
	}
	return d, nil
}

// Name implements hypervisor.Driver.
func (d *Driver) Name() string { return d.program.Name }

// dir is the directory of an instance.
func (d *Driver) dir(id string) string { return filepath.Join(d.config.Dir, id) }

// monitor speaks to the monitor of an instance.
func (d *Driver) monitor(id string) Monitor {
	return d.program.Monitor(filepath.Join(d.dir(id), d.program.Socket))
}

// errorf makes an error that begins with the driver's name.
func (d *Driver) errorf(format string, args ...any) error {
	return fmt.Errorf(d.program.Name+": "+format, args...)
}
