package cloudhypervisor

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
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/image/boot"
)

// Available says why no guest can run here, if that can be told without one:
// the binary, its version, and KVM. Check tells the rest. Errors wrap
// hypervisor.ErrNotSupported.
func (d *Driver) Available(ctx context.Context) error {
	binary, err := d.binary()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(kvmDevice, os.O_RDWR, 0)
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
	return checkVersion(out.String())
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
		return fmt.Errorf("cloudhypervisor: %w: version %.40q is none that is known", hypervisor.ErrNotSupported, s)
	}
	if n, err := strconv.Atoi(m[1]); err != nil || n < minVersion {
		return fmt.Errorf("cloudhypervisor: %w: version %s, want %d or newer", hypervisor.ErrNotSupported, m[1], minVersion)
	}
	return nil
}

// A verdict is whether a guest's kernel runs here. That /dev/kvm opens says
// little: within a virtual machine a kernel may hang under it.
type verdict struct {
	Works bool      `json:"works"`
	Why   string    `json:"why"`
	At    time.Time `json:"at"`
}

// Check says why this guest's kernel cannot run here, if it cannot. The first
// call for a kernel may take checkTimeout; later ones read its verdict. Nodes
// call it when they start, for Start does so otherwise. Errors wrap
// hypervisor.ErrNotSupported, or are the context's.
func (d *Driver) Check(ctx context.Context, spec hypervisor.Spec) error {
	if err := d.Available(ctx); err != nil {
		return err
	}
	if d.config.Trust {
		return nil
	}
	v, err := d.verdict(ctx, spec)
	if err != nil {
		return err
	}
	if !v.Works {
		return fmt.Errorf("cloudhypervisor: %w: %s", hypervisor.ErrNotSupported, v.Why)
	}
	return nil
}

// verdict reads the cached verdict, or finds out. Only one daemon of a machine
// does so at a time.
func (d *Driver) verdict(ctx context.Context, spec hypervisor.Spec) (verdict, error) {
	key, err := d.identity(spec)
	if err != nil {
		return verdict{}, err
	}
	name := filepath.Join(d.config.CacheDir, "cloudhypervisor-"+key)
	if v, ok := readVerdict(name+".json", time.Now()); ok {
		return v, nil
	}
	if err := os.MkdirAll(name+".lock", 0o755); err != nil {
		return verdict{}, fmt.Errorf("cloudhypervisor: %w", err)
	}
	unlock, err := lockInstance(ctx, name+".lock")
	if err != nil {
		return verdict{}, err
	}
	defer unlock()
	if v, ok := readVerdict(name+".json", time.Now()); ok {
		return v, nil
	}
	v, err := d.try(ctx, spec)
	if err != nil {
		return verdict{}, err
	}
	d.config.Logger.InfoContext(ctx, "kvm checked", slog.Bool("works", v.Works), slog.String("why", v.Why))
	data, err := json.Marshal(v)
	if err != nil {
		return verdict{}, fmt.Errorf("cloudhypervisor: verdict: %w", err)
	}
	if err := os.WriteFile(name+".new", data, 0o644); err != nil {
		return verdict{}, fmt.Errorf("cloudhypervisor: verdict: %w", err)
	}
	if err := os.Rename(name+".new", name+".json"); err != nil {
		return verdict{}, fmt.Errorf("cloudhypervisor: verdict: %w", err)
	}
	return v, nil
}

func readVerdict(name string, now time.Time) (verdict, bool) {
	data, err := os.ReadFile(name)
	if err != nil {
		return verdict{}, false
	}
	var v verdict
	if json.Unmarshal(data, &v) != nil || v.At.After(now) || !v.Works && now.Sub(v.At) > verdictLife {
		return verdict{}, false
	}
	return v, true
}

// identity names all that a verdict depends on: this start of the machine, the
// monitor and the guest's kernel.
func (d *Driver) identity(spec hypervisor.Spec) (string, error) {
	h := sha256.New()
	bootID, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("cloudhypervisor: %w", err)
	}
	binary, err := d.binary()
	if err != nil {
		return "", err
	}
	info, err := os.Stat(binary)
	if err != nil {
		return "", fmt.Errorf("cloudhypervisor: %w", err)
	}
	fmt.Fprintf(h, "%s%s %d %d\n", bootID, binary, info.Size(), info.ModTime().UnixNano())
	f, err := os.Open(spec.Kernel)
	if err != nil {
		return "", fmt.Errorf("cloudhypervisor: kernel: %w", err)
	}
	defer f.Close()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("cloudhypervisor: kernel: %w", err)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), nil
}

// try boots the image and looks whether its init speaks in time.
func (d *Driver) try(ctx context.Context, spec hypervisor.Spec) (verdict, error) {
	binary, err := d.binary()
	if err != nil {
		return verdict{}, err
	}
	inner, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	began := time.Now()
	cmd := exec.CommandContext(inner, binary, "--seccomp", "true",
		"--cpus", "boot=1", "--memory", fmt.Sprintf("size=%dM", checkMemory>>20),
		"--kernel", spec.Kernel, "--initramfs", spec.Initrd, "--cmdline", commandLine+" "+boot.CheckFlag,
		"--serial", "tty", "--console", "off")
	cmd.Env = []string{}
	cmd.WaitDelay = time.Second
	// It must not outlive this daemon. The signal comes at the death of the
	// thread that started it, which therefore stays with this goroutine.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL, Setsid: true}
	w := &console{passed: cancel}
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return verdict{}, fmt.Errorf("cloudhypervisor: check KVM: %w", ctx.Err())
	case w.has(boot.CheckPassed):
		return verdict{Works: true, Why: fmt.Sprintf("a guest ran under KVM in %v", time.Since(began).Round(time.Millisecond)), At: time.Now()}, nil
	case inner.Err() != nil:
		return verdict{Why: fmt.Sprintf("a guest did not start under KVM within %v", checkTimeout), At: time.Now()}, nil
	}
	return verdict{Why: fmt.Sprintf("the monitor failed: %v: %s", err, lastLine(w.buf.String())), At: time.Now()}, nil
}

// A console keeps what a check guest says, and calls passed when it said that
// it runs. Only one goroutine writes: the command's output and errors are one.
type console struct {
	buf    bytes.Buffer
	passed func()
}

func (c *console) Write(p []byte) (int, error) {
	c.buf.Write(p[:min(len(p), max(0, consoleBytes-c.buf.Len()))])
	if c.has(boot.CheckPassed) {
		c.passed()
	}
	return len(p), nil
}

func (c *console) has(text string) bool { return bytes.Contains(c.buf.Bytes(), []byte(text)) }

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
