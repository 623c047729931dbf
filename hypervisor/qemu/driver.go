// Package qemu runs Linux guests under QEMU: the microvm machine, accelerated
// by KVM where that was seen to work and emulated elsewhere. Package vmm does
// what is the same for other monitors; it describes the state directory.
//
// QEMU runs under its seccomp filter, as a user that owns nothing, and may write
// no file but the guest's disk.
package qemu

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/network"
	"github.com/xenoserver/xeno/hypervisor/vmm"
)

// Name is the driver's name.
const Name = "qemu"

// A Config says where and how guests run. Only Dir and Network are needed.
type Config struct {
	vmm.Config
	// Binary is QEMU. Empty: qemu-system-x86_64 from PATH.
	Binary string
	// Accel is how guests run: kvm, tcg, or auto, which tries a guest under
	// KVM once and believes what it sees. Empty: auto.
	Accel string
}

func (c *Config) validate() error {
	if c.Network == nil {
		return errors.New("qemu: no Network")
	}
	if c.Binary == "" {
		c.Binary = "qemu-system-x86_64"
	}
	if c.Accel == "" {
		c.Accel = accelAuto
	}
	if c.Accel != accelAuto && c.Accel != vmm.KVM && c.Accel != vmm.TCG {
		return fmt.Errorf("qemu: Accel %q is not auto, kvm or tcg", c.Accel)
	}
	return nil
}

// A Driver runs guests under QEMU.
type Driver struct {
	*vmm.Driver
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
	common, err := vmm.New(config.Config, vmm.Program{
		Name: Name, Title: "QEMU", MinMemory: minMemory, Socket: "qmp",
		Monitor: func(socket string) vmm.Monitor { return client{socket} },
	})
	if err != nil {
		return nil, err
	}
	return &Driver{Driver: common, config: config, tscKHz: sync.OnceValue(tscKHz)}, nil
}

// Available says why no guest can run here, if none can. Errors wrap
// hypervisor.ErrNotSupported.
func (d *Driver) Available(context.Context) error {
	if _, err := d.binary(); err != nil {
		return err
	}
	return network.Available()
}

// binary is QEMU's absolute path. Errors wrap ErrNotSupported.
func (d *Driver) binary() (string, error) {
	path, err := exec.LookPath(d.config.Binary)
	if err != nil {
		return "", fmt.Errorf("qemu: no %s (apt install qemu-system-x86): %w: %w", d.config.Binary, hypervisor.ErrNotSupported, err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", fmt.Errorf("qemu: %w", err)
	}
	return path, nil
}

// Start implements hypervisor.Driver. It returns when QEMU runs the guest.
func (d *Driver) Start(ctx context.Context, spec hypervisor.Spec) (hypervisor.Instance, error) {
	if err := d.Validate(spec); err != nil {
		return hypervisor.Instance{}, err
	}
	if err := network.Available(); err != nil {
		return hypervisor.Instance{}, err
	}
	binary, err := d.binary()
	if err != nil {
		return hypervisor.Instance{}, err
	}
	if err := ctx.Err(); err != nil {
		return hypervisor.Instance{}, err
	}
	accel, why, err := d.Accelerator(ctx, spec)
	if err != nil {
		return hypervisor.Instance{}, err
	}
	return d.Launch(ctx, vmm.Launch{
		Spec: spec, Accel: accel, Why: why, Binary: binary,
		Overhead: memoryOverhead(accel), MaxFiles: maxFiles, MaxFileBytes: spec.DiskBytes,
		Args: func(m *vmm.Machine) []string { return d.arguments(accel, m).list() },
		Boot: func(ctx context.Context, m *vmm.Machine) error { return client{m.SocketPath}.awaitGuest(ctx) },
	})
}

// memoryOverhead is what QEMU itself may need beside the guest's memory.
func memoryOverhead(accel string) uint64 {
	if accel == vmm.TCG {
		return overhead + codeCache
	}
	return overhead
}

// arguments hands QEMU the files of a machine.
func (d *Driver) arguments(accel string, m *vmm.Machine) arguments {
	a := arguments{
		spec: m.Spec, accel: accel, mac: m.MAC,
		monitor: m.Inherit(m.Socket), disk: m.Inherit(m.Disk), tap: m.Inherit(m.Tap),
		kernel: vmm.Inherited(m.Inherit(m.Kernel)), initrd: vmm.Inherited(m.Inherit(m.Initrd)),
	}
	if accel == vmm.TCG {
		a.tscKHz = d.tscKHz()
	}
	return a
}
