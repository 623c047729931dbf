// Package cloudhypervisor runs Linux guests under Cloud Hypervisor, by its
// REST API on a Unix socket. It needs KVM, and Cloud Hypervisor 52 or newer.
// Package vmm does what is the same for other monitors; it describes the state
// directory.
//
// The monitor runs under its seccomp filters and, where the kernel has Landlock,
// able to reach no file but the guest's own; as root it runs as a user that owns
// nothing.
package cloudhypervisor

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/vmm"
)

// Name is the driver's name.
const Name = "cloudhypervisor"

// commandLine is the kernel's. Power off and reset go by ACPI; a guest that
// panicked is started again after a while, as its owner would.
const commandLine = "console=ttyS0 quiet loglevel=4 panic=10 rdinit=/init"

// A Config says where and how guests run. Only Dir is needed.
type Config struct {
	vmm.Config
	// Binary is Cloud Hypervisor. Empty: cloud-hypervisor from PATH.
	Binary string
	// Trust takes it for granted that guests run under KVM here. Otherwise
	// Start boots each new kernel once, for a moment, and believes what it
	// sees: a machine that is virtual itself may offer a KVM that hangs.
	Trust bool
}

// A Driver runs guests under Cloud Hypervisor.
type Driver struct {
	*vmm.Driver
	config Config // fixed
}

var (
	_ hypervisor.Driver = (*Driver)(nil)
	_ hypervisor.Pauser = (*Driver)(nil)
)

// New returns a driver on a state directory, new or left by an earlier one. It
// starts nothing.
func New(config Config) (*Driver, error) {
	if config.Binary == "" {
		config.Binary = "cloud-hypervisor"
	}
	common, err := vmm.New(config.Config, vmm.Program{
		Name: Name, Title: "Cloud Hypervisor", MinMemory: minMemory, Socket: "api",
		Monitor: func(socket string) vmm.Monitor { return client{socket} },
	})
	if err != nil {
		return nil, err
	}
	return &Driver{Driver: common, config: config}, nil
}

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

// Start implements hypervisor.Driver. It returns when the guest has booted, as
// far as the monitor sees it.
func (d *Driver) Start(ctx context.Context, spec hypervisor.Spec) (hypervisor.Instance, error) {
	if err := d.Validate(spec); err != nil {
		return hypervisor.Instance{}, err
	}
	if err := d.Check(ctx, spec); err != nil {
		return hypervisor.Instance{}, err
	}
	binary, err := d.binary()
	if err != nil {
		return hypervisor.Instance{}, err
	}
	var vm vmConfig
	return d.Launch(ctx, vmm.Launch{
		Spec: spec, Accel: vmm.KVM, Why: "there is no other", Binary: binary,
		Overhead: overhead, MaxFiles: maxFiles, MaxFileBytes: max(spec.DiskBytes, spec.MemoryBytes),
		Args: func(m *vmm.Machine) []string {
			args := []string{"--api-socket", fmt.Sprintf("fd=%d", m.Inherit(m.Socket)), "--seccomp", "true"}
			vm = describe(m)
			return args
		},
		Boot: func(ctx context.Context, m *vmm.Machine) error { return client{m.SocketPath}.start(ctx, vm, m) },
	})
}

// describe hands the monitor a machine's files and describes the machine.
func describe(m *vmm.Machine) vmConfig {
	vm := vmConfig{
		CPUs:   cpusConfig{Boot: m.Spec.CPUs, Max: m.Spec.CPUs},
		Memory: memoryConfig{Size: m.Spec.MemoryBytes},
		Payload: payloadConfig{
			Kernel: vmm.Inherited(m.Inherit(m.Kernel)), Initramfs: vmm.Inherited(m.Inherit(m.Initrd)), Cmdline: commandLine,
		},
		RNG:      rngConfig{Source: "/dev/urandom"},
		Serial:   consoleConfig{Mode: consoleTTY},
		Console:  consoleConfig{Mode: consoleOff},
		Landlock: haveLandlock(),
	}
	if m.Disk != nil {
		vm.Disks = []diskConfig{{ID: "disk0", Path: vmm.Inherited(m.Inherit(m.Disk)), ImageType: imageRaw}}
	}
	return vm
}

// haveLandlock tells whether the kernel has the version of Landlock (3, of
// Linux 6.2) that Cloud Hypervisor insists on.
func haveLandlock() bool {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	return errno == 0 && version >= 3
}

// start makes the monitor run a machine.
func (c client) start(ctx context.Context, vm vmConfig, m *vmm.Machine) error {
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
	if m.Tap != nil {
		if err := c.addNet(ctx, netConfig{ID: "net0", MAC: m.MAC}, m.Tap); err != nil {
			return err
		}
	}
	return c.boot(ctx)
}
