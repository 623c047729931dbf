package cloudhypervisor

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"time"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/image/boot"
	"github.com/xenoserver/xeno/hypervisor/vmm"
)

// Available says why no guest can run here, if that can be told without one:
// the binary, its version, and KVM. Check tells the rest. Errors wrap
// hypervisor.ErrNotSupported.
func (d *Driver) Available(ctx context.Context) error {
	binary, err := d.binary()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(vmm.KVMDevice, os.O_RDWR, 0)
	if err != nil && !d.config.Trust {
		return fmt.Errorf("cloudhypervisor: %w: no KVM: %w", hypervisor.ErrNotSupported, err)
	}
	if err == nil {
		f.Close()
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "--version")
	cmd.Env = []string{}
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout = limitWriter{&out, maxVersionBytes}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("cloudhypervisor: %w: %s --version: %w", hypervisor.ErrNotSupported, binary, err)
	}
	if err := checkVersion(out.String()); err != nil {
		return fmt.Errorf("cloudhypervisor: %w", err)
	}
	return nil
}

// A limitWriter drops what comes after its first bytes.
type limitWriter struct {
	buf *bytes.Buffer
	max int
}

func (w limitWriter) Write(p []byte) (int, error) {
	w.buf.Write(p[:min(len(p), max(0, w.max-w.buf.Len()))])
	return len(p), nil
}

var versionForm = regexp.MustCompile(`^(?:cloud-hypervisor v|v)?([0-9]{1,6})\.`)

// checkVersion accepts "53.0.0" and "cloud-hypervisor v53.0-12-gabcdef", if the
// number is high enough. Errors wrap ErrNotSupported.
func checkVersion(s string) error {
	m := versionForm.FindStringSubmatch(s)
	if m == nil {
		return fmt.Errorf("%w: version %.40q is none that is known", hypervisor.ErrNotSupported, s)
	}
	if n, err := strconv.Atoi(m[1]); err != nil || n < minVersion {
		return fmt.Errorf("%w: version %s, want %d or newer", hypervisor.ErrNotSupported, m[1], minVersion)
	}
	return nil
}

// Check says why this guest's kernel cannot run here, if it cannot. The first
// call for a kernel may take some seconds; later ones read its verdict. Nodes
// call it when they start, for Start does so otherwise. Errors wrap
// hypervisor.ErrNotSupported, or are the context's.
func (d *Driver) Check(ctx context.Context, spec hypervisor.Spec) error {
	if err := d.Available(ctx); err != nil {
		return err
	}
	if d.config.Trust {
		return nil
	}
	binary, err := d.binary()
	if err != nil {
		return err
	}
	v, err := d.TryKVM(ctx, binary, spec.Kernel, func(ctx context.Context) *exec.Cmd {
		return exec.CommandContext(ctx, binary, "--seccomp", "true",
			"--cpus", "boot=1", "--memory", fmt.Sprintf("size=%dM", vmm.CheckMemory>>20),
			"--kernel", spec.Kernel, "--initramfs", spec.Initrd, "--cmdline", commandLine+" "+boot.CheckFlag,
			"--serial", "tty", "--console", "off")
	})
	if err != nil {
		return err
	}
	if !v.Works {
		return fmt.Errorf("cloudhypervisor: %w: %s", hypervisor.ErrNotSupported, v.Why)
	}
	return nil
}
