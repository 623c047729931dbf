package vmm

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

	"github.com/xenoserver/xeno/hypervisor/image/boot"
)

// A Verdict is whether guests run under KVM here. That /dev/kvm opens says
// little: within a virtual machine a kernel may hang under it.
type Verdict struct {
	Works bool      `json:"works"`
	Why   string    `json:"why"`
	At    time.Time `json:"at"`
}

// TryKVM reads the verdict on a guest's kernel, or finds out: then it may take
// checkTimeout. Only one daemon of a machine does so at a time. The command,
// whose context it makes, boots the guest's image under KVM with CheckMemory
// bytes and boot.CheckFlag on the kernel's command line, its console on
// standard output.
func (d *Driver) TryKVM(ctx context.Context, binary, kernel string, command func(context.Context) *exec.Cmd) (Verdict, error) {
	key, err := identity(binary, kernel)
	if err != nil {
		return Verdict{}, d.errorf("%w", err)
	}
	name := filepath.Join(d.config.CacheDir, d.program.Name+"-"+key)
	if v, ok := readVerdict(name+".json", time.Now()); ok {
		return v, nil
	}
	if err := os.MkdirAll(name+".lock", 0o755); err != nil {
		return Verdict{}, d.errorf("%w", err)
	}
	unlock, err := d.lock(ctx, name+".lock")
	if err != nil {
		return Verdict{}, err
	}
	defer unlock()
	if v, ok := readVerdict(name+".json", time.Now()); ok {
		return v, nil
	}
	v, err := tryKVM(ctx, command)
	if err != nil {
		return Verdict{}, d.errorf("%w", err)
	}
	d.config.Logger.InfoContext(ctx, "kvm checked", slog.Bool("works", v.Works), slog.String("why", v.Why))
	if err := v.write(name); err != nil {
		return Verdict{}, d.errorf("verdict: %w", err)
	}
	return v, nil
}

// write makes the verdict known to all daemons, whoever they run as.
func (v Verdict) write(name string) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.WriteFile(name+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(name+".new", name+".json")
}

func readVerdict(name string, now time.Time) (Verdict, bool) {
	data, err := os.ReadFile(name)
	if err != nil {
		return Verdict{}, false
	}
	var v Verdict
	if json.Unmarshal(data, &v) != nil || v.At.After(now) || !v.Works && now.Sub(v.At) > verdictLife {
		return Verdict{}, false
	}
	return v, true
}

// identity names all that a verdict depends on: this start of the machine, the
// monitor and the guest's kernel.
func identity(binary, kernel string) (string, error) {
	h := sha256.New()
	bootID, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	info, err := os.Stat(binary)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(h, "%s%s %d %d\n", bootID, binary, info.Size(), info.ModTime().UnixNano())
	f, err := os.Open(kernel)
	if err != nil {
		return "", fmt.Errorf("kernel: %w", err)
	}
	defer f.Close()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("kernel: %w", err)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), nil
}

// tryKVM boots a guest and looks whether its init speaks in time.
func tryKVM(ctx context.Context, command func(context.Context) *exec.Cmd) (Verdict, error) {
	inner, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	began := time.Now()
	cmd := command(inner)
	cmd.Env = []string{}
	cmd.WaitDelay = time.Second
	// It must not outlive this daemon. The signal comes at the death of the
	// thread that started it, which therefore stays with this goroutine.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL, Setsid: true}
	w := &console{passed: cancel}
	cmd.Stdout, cmd.Stderr = w, w
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return Verdict{}, fmt.Errorf("check KVM: %w", ctx.Err())
	case w.has(boot.CheckPassed):
		return Verdict{Works: true, Why: fmt.Sprintf("a guest ran under KVM in %v", time.Since(began).Round(time.Millisecond)), At: time.Now()}, nil
	case inner.Err() != nil:
		return Verdict{Why: fmt.Sprintf("a guest did not start under KVM within %v", checkTimeout), At: time.Now()}, nil
	}
	return Verdict{Why: fmt.Sprintf("the monitor failed: %v: %s", err, lastLine(w.buf.String())), At: time.Now()}, nil
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
