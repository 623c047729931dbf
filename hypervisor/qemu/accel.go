package qemu

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/image/boot"
)

// What Config.Accel may say.
const (
	accelAuto = "auto"
	accelKVM  = "kvm"
	accelTCG  = "tcg"
)

const (
	kvmDevice = "/dev/kvm"
	checkFlag = boot.CheckFlag
)

// A verdict is whether guests run under KVM here. That /dev/kvm opens says
// little: within a virtual machine a kernel may hang under it.
type verdict struct {
	KVM bool      `json:"kvm"`
	Why string    `json:"why"`
	At  time.Time `json:"at"`
}

// Accelerator returns kvm or tcg, and why. The first call for a guest's kernel
// may take checkTimeout; later ones read its verdict. Nodes call it when they
// start, for Start does so otherwise.
func (d *Driver) Accelerator(ctx context.Context, spec hypervisor.Spec) (accel, why string, err error) {
	if d.config.Accel != accelAuto {
		return d.config.Accel, "configured", nil
	}
	if f, kvmErr := os.OpenFile(kvmDevice, os.O_RDWR, 0); kvmErr == nil {
		f.Close()
	} else {
		return accelTCG, fmt.Sprintf("no KVM: %v", kvmErr), nil
	}
	v, err := d.verdict(ctx, spec)
	if err != nil {
		return "", "", err
	}
	if v.KVM {
		return accelKVM, v.Why, nil
	}
	return accelTCG, v.Why, nil
}

func (d *Driver) accelerator(ctx context.Context, spec hypervisor.Spec) (string, error) {
	accel, why, err := d.Accelerator(ctx, spec)
	if err != nil {
		return "", err
	}
	d.config.Logger.DebugContext(ctx, "accelerator chosen", slog.String("accel", accel), slog.String("why", why))
	return accel, nil
}

// verdict reads the cached verdict, or finds out. Only one daemon of a machine
// does so at a time.
func (d *Driver) verdict(ctx context.Context, spec hypervisor.Spec) (verdict, error) {
	key, err := d.identity(spec)
	if err != nil {
		return verdict{}, err
	}
	name := filepath.Join(d.config.CacheDir, "kvm-"+key)
	if v, ok := readVerdict(name+".json", time.Now()); ok {
		return v, nil
	}
	if err := os.MkdirAll(name+".lock", 0o755); err != nil {
		return verdict{}, fmt.Errorf("qemu: %w", err)
	}
	unlock, err := lockInstance(ctx, name+".lock")
	if err != nil {
		return verdict{}, err
	}
	defer unlock()
	if v, ok := readVerdict(name+".json", time.Now()); ok {
		return v, nil
	}
	v, err := d.tryKVM(ctx, spec)
	if err != nil {
		return verdict{}, err
	}
	d.config.Logger.InfoContext(ctx, "kvm checked", slog.Bool("works", v.KVM), slog.String("why", v.Why))
	data, err := json.Marshal(v)
	if err != nil {
		return verdict{}, fmt.Errorf("qemu: verdict: %w", err)
	}
	if err := os.WriteFile(name+".new", data, 0o644); err != nil {
		return verdict{}, fmt.Errorf("qemu: verdict: %w", err)
	}
	if err := os.Rename(name+".new", name+".json"); err != nil {
		return verdict{}, fmt.Errorf("qemu: verdict: %w", err)
	}
	return v, nil
}

func readVerdict(name string, now time.Time) (verdict, bool) {
	data, err := os.ReadFile(name)
	if err != nil {
		return verdict{}, false
	}
	v, err := decodeVerdict(data)
	if err != nil || v.At.After(now) || !v.KVM && now.Sub(v.At) > verdictLife {
		return verdict{}, false
	}
	return v, true
}

func decodeVerdict(data []byte) (verdict, error) {
	var v verdict
	err := json.Unmarshal(data, &v)
	return v, err
}

// identity names all that a verdict depends on: the host's kernel, QEMU and
// the guest's kernel.
func (d *Driver) identity(spec hypervisor.Spec) (string, error) {
	h := sha256.New()
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return "", fmt.Errorf("qemu: uname: %w", err)
	}
	fmt.Fprintf(h, "%s\n%s\n", unix.ByteSliceToString(uts.Release[:]), unix.ByteSliceToString(uts.Version[:]))
	binary, err := exec.LookPath(d.config.Binary)
	if err != nil {
		return "", fmt.Errorf("qemu: %w: %w", hypervisor.ErrNotSupported, err)
	}
	info, err := os.Stat(binary)
	if err != nil {
		return "", fmt.Errorf("qemu: %w", err)
	}
	fmt.Fprintf(h, "%s %d %d\n", binary, info.Size(), info.ModTime().UnixNano())
	f, err := os.Open(spec.Kernel)
	if err != nil {
		return "", fmt.Errorf("qemu: kernel: %w", err)
	}
	defer f.Close()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("qemu: kernel: %w", err)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), nil
}

// tryKVM boots the image under KVM and looks whether its init speaks in time.
func (d *Driver) tryKVM(ctx context.Context, spec hypervisor.Spec) (verdict, error) {
	kernel, err := os.Open(spec.Kernel)
	if err != nil {
		return verdict{}, fmt.Errorf("qemu: kernel: %w", err)
	}
	defer kernel.Close()
	initrd, err := os.Open(spec.Initrd)
	if err != nil {
		return verdict{}, fmt.Errorf("qemu: initrd: %w", err)
	}
	defer initrd.Close()
	a := arguments{
		spec:  hypervisor.Spec{ID: "check", CPUs: 1, MemoryBytes: checkMemory},
		accel: accelKVM, kernel: 3, initrd: 4, check: true,
	}
	inner, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	began := time.Now()
	cmd := exec.CommandContext(inner, d.config.Binary, a.list()...)
	cmd.ExtraFiles = []*os.File{kernel, initrd}
	cmd.WaitDelay = time.Second
	// It must not outlive this daemon. The signal comes at the death of the
	// thread that started it, which therefore stays with this goroutine.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return verdict{}, fmt.Errorf("qemu: check KVM: %w", ctx.Err())
	case bytes.Contains(out.Bytes(), []byte(boot.CheckPassed)):
		return verdict{KVM: true, Why: fmt.Sprintf("a guest ran under KVM in %v", time.Since(began).Round(time.Millisecond)), At: time.Now()}, nil
	case inner.Err() != nil:
		return verdict{Why: fmt.Sprintf("a guest did not start under KVM within %v", checkTimeout), At: time.Now()}, nil
	}
	return verdict{Why: fmt.Sprintf("QEMU failed under KVM: %v: %s", err, lastLine(out.String())), At: time.Now()}, nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
