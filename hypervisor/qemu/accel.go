package qemu

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/vmm"
)

// accelAuto is what Config.Accel may say beside vmm.KVM and vmm.TCG.
const accelAuto = "auto"

// Accelerator returns kvm or tcg, and why. The first call for a guest's kernel
// may take some seconds; later ones read its verdict. Nodes call it when they
// start, for Start does so otherwise.
func (d *Driver) Accelerator(ctx context.Context, spec hypervisor.Spec) (accel, why string, err error) {
	if d.config.Accel != accelAuto {
		return d.config.Accel, "configured", nil
	}
	device, err := os.OpenFile(vmm.KVMDevice, os.O_RDWR, 0)
	if err != nil {
		return vmm.TCG, fmt.Sprintf("no KVM: %v", err), nil
	}
	device.Close()
	binary, err := d.binary()
	if err != nil {
		return "", "", err
	}
	v, err := d.TryKVM(ctx, binary, spec.Kernel, func(ctx context.Context) *exec.Cmd {
		a := arguments{
			spec:  hypervisor.Spec{ID: "check", CPUs: 1, MemoryBytes: vmm.CheckMemory},
			accel: vmm.KVM, kernel: spec.Kernel, initrd: spec.Initrd, check: true,
		}
		return exec.CommandContext(ctx, binary, a.list()...)
	})
	if err != nil {
		return "", "", err
	}
	if v.Works {
		return vmm.KVM, v.Why, nil
	}
	return vmm.TCG, v.Why, nil
}
