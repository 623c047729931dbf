package qemu

import (
	"fmt"
	"strconv"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/image/boot"
	"github.com/xenoserver/xeno/hypervisor/vmm"
)

// arguments are what QEMU's command line is made of. Numbers are descriptors
// that QEMU inherits; 0: none.
type arguments struct {
	spec    hypervisor.Spec
	accel   string
	mac     string
	tap     int
	monitor int
	kernel  string // path
	initrd  string // path
	disk    int
	tscKHz  uint64 // for an emulated guest; 0: not known
	check   bool   // the probe of an accelerator
}

// list returns QEMU's arguments: a microvm with a console on standard output
// and no device that is not named here.
func (a arguments) list() []string {
	args := []string{
		"-name", "xeno-" + a.spec.ID + ",debug-threads=on",
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-machine", "microvm,dump-guest-core=off",
		"-accel", accelOption(a.accel),
		"-cpu", "max",
		"-smp", strconv.Itoa(a.spec.CPUs),
		"-m", strconv.FormatUint(a.spec.MemoryBytes>>20, 10) + "M",
		"-kernel", a.kernel,
		"-initrd", a.initrd,
		"-append", a.commandLine(),
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-object", "rng-builtin,id=rng0", "-device", "virtio-rng-device,rng=rng0",
	}
	if a.monitor != 0 {
		args = append(args,
			"-chardev", fmt.Sprintf("socket,id=monitor,fd=%d,server=on,wait=off", a.monitor),
			"-mon", "chardev=monitor,mode=control")
	}
	if a.tap != 0 {
		args = append(args,
			"-netdev", fmt.Sprintf("tap,id=net0,fd=%d", a.tap),
			"-device", "virtio-net-device,netdev=net0,mac="+a.mac)
	}
	if a.disk != 0 {
		args = append(args,
			"-add-fd", fmt.Sprintf("fd=%d,set=1", a.disk),
			"-blockdev", "driver=raw,node-name=disk0,discard=unmap,file.driver=file,file.filename=/dev/fdset/1,file.locking=off",
			"-device", "virtio-blk-device,drive=disk0")
	}
	return args
}

// commandLine is the kernel's: quiet, because an emulated serial line is slow.
func (a arguments) commandLine() string {
	line := "console=ttyS0 quiet loglevel=4 panic=-1 pci=off rdinit=/init"
	if a.tscKHz != 0 {
		line += fmt.Sprintf(" tsc_early_khz=%d tsc=reliable", a.tscKHz)
	}
	if a.accel == vmm.TCG {
		line += " mitigations=off" // translated code does not speculate across guests
	}
	if a.check {
		line += " " + boot.CheckFlag
	}
	return line
}

func accelOption(accel string) string {
	if accel == vmm.TCG {
		return fmt.Sprintf("tcg,thread=multi,tb-size=%d", codeCache>>20)
	}
	return accel
}
