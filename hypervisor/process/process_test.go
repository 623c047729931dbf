package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childArg is the argv[0] of this test binary run as a child.
const childArg = "process-test-child"

func TestMain(m *testing.M) {
	MaybeRun()
	if os.Args[0] == childArg {
		os.Exit(child(os.Args[1], os.Args[2:]))
	}
	os.Exit(m.Run())
}

// child is what the tests start: small programs by name.
func child(name string, args []string) int {
	switch name {
	case "exit":
		code, _ := strconv.Atoi(args[0])
		return code
	case "echo":
		fmt.Println(strings.Join(args, " "))
		fmt.Fprintln(os.Stderr, strings.Join(os.Environ(), " "))
	case "sleep":
		fmt.Println("ready")
		sleep()
	case "stubborn":
		signal.Ignore(unix.SIGTERM)
		fmt.Println("ready")
		sleep()
	case "polite":
		c := make(chan os.Signal, 1)
		signal.Notify(c, unix.SIGTERM)
		fmt.Println("ready")
		<-c
		return 7
	case "flood":
		n, _ := strconv.Atoi(args[0])
		line := strings.Repeat("x", 99)
		for i := range n {
			fmt.Println(i, line)
		}
		fmt.Println("last")
	case "burn":
		var sum uint64
		for i := range uint64(300_000_000) {
			sum += i * i
		}
		fmt.Println(sum)
	case "family": // leaves a grandchild in a session of its own
		c := exec.Cmd{Path: selfExe, Args: []string{childArg, "stubborn"}, Stdout: os.Stdout, SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
		if err := c.Start(); err != nil {
			return 1
		}
		fmt.Println(c.Process.Pid)
	case "file":
		data := make([]byte, 100)
		n, err := os.NewFile(3, "three").Read(data)
		if err != nil {
			return 1
		}
		os.Stdout.Write(data[:n])
	case "daemon": // starts a process and is killed
		_, err := Start(context.Background(), Config{Dir: args[0], Name: childArg, Args: args[1:]})
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println("ready")
		sleep()
	case "reach": // tells which of the named files can be opened, or made
		for _, path := range args {
			f, err := os.OpenFile(path, os.O_RDONLY, 0)
			if errors.Is(err, os.ErrNotExist) {
				f, err = os.Create(path)
			}
			fmt.Println(filepath.Base(path), err == nil)
			f.Close()
		}
		_, err := net.Dial("tcp", "127.0.0.1:1")
		fmt.Println("net", errors.Is(err, unix.ECONNREFUSED))
		fmt.Println("end")
	case "stat":
		data, _ := os.ReadFile("/proc/self/status")
		os.Stdout.Write(data)
		data, _ = os.ReadFile("/proc/self/limits")
		os.Stdout.Write(data)
	}
	return 0
}

func sleep() {
	for {
		time.Sleep(time.Hour)
	}
}

func startChild(t *testing.T, args ...string) *Process {
	t.Helper()
	return startConfig(t, Config{Args: args})
}

func startConfig(t *testing.T, c Config) *Process {
	t.Helper()
	c.Dir, c.Name = filepath.Join(t.TempDir(), "p"), childArg
	p, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Remove(context.Background()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(c.Dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after Remove: %v", err)
		}
		if unix.Kill(p.record.Keeper.PID, 0) == nil {
			t.Errorf("keeper %d still there", p.record.Keeper.PID)
		}
	})
	return p
}

// output waits for output, which tells how far a child is.
func output(t *testing.T, p *Process, want string) string {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(pollInterval) {
		out, _, err := p.Logs(1 << 20)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(out), want) {
			return string(out)
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %q in output %q", want, out)
		}
	}
}

func wait(t *testing.T, p *Process) Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s, err := p.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if s.Running {
		t.Fatal("running after Wait")
	}
	return s
}

func TestExitCode(t *testing.T) {
	for _, code := range []int{0, 1, 42, 255} {
		p := startChild(t, "exit", strconv.Itoa(code))
		s := wait(t, p)
		if s.Code != code || s.Signal != 0 || s.Lost || s.Ended.IsZero() || s.CPU <= 0 || s.MaxBytes == 0 {
			t.Errorf("exit %d: %+v", code, s)
		}
		if err := p.Signal(unix.SIGTERM); !errors.Is(err, ErrExited) {
			t.Errorf("signal after exit: %v", err)
		}
	}
}

func TestStop(t *testing.T) {
	tests := []struct {
		child  string
		grace  time.Duration
		code   int
		signal syscall.Signal
	}{
		{"polite", 10 * time.Second, 7, 0},
		{"sleep", 0, -1, unix.SIGKILL},
		{"stubborn", 50 * time.Millisecond, -1, unix.SIGKILL},
	}
	for _, tt := range tests {
		p := startChild(t, tt.child)
		output(t, p, "ready")
		if s, err := p.Status(); err != nil || !s.Running || s.PID != p.PID() || s.CPU <= 0 {
			t.Errorf("%s: %+v %v", tt.child, s, err)
		}
		for range 2 {
			if err := p.Stop(t.Context(), tt.grace); err != nil {
				t.Error(err)
			}
		}
		s := wait(t, p)
		if s.Code != tt.code || s.Signal != tt.signal {
			t.Errorf("%s: %+v", tt.child, s)
		}
	}
}

func TestStopPaused(t *testing.T) {
	p := startChild(t, "polite")
	output(t, p, "ready")
	if err := p.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(t.Context(), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if s := wait(t, p); s.Code != 7 {
		t.Errorf("%+v", s)
	}
}

func TestGrandchildIsEnded(t *testing.T) {
	p := startChild(t, "family")
	wait(t, p)
	pid, err := strconv.Atoi(strings.Fields(output(t, p, "\n"))[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("grandchild %d: %v", pid, err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	const limit = 100_000
	p := startConfig(t, Config{Args: []string{"flood", "50000"}, LogBytes: limit})
	if s := wait(t, p); s.Code != 0 {
		t.Fatalf("%+v", s)
	}
	out, _, err := p.Logs(1 << 30)
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < limit/2 || len(out) > limit || !bytes.HasSuffix(out, []byte("\nlast\n")) {
		t.Errorf("%d bytes kept, ending %q", len(out), out[len(out)-20:])
	}
	out, _, err = p.Logs(5)
	if err != nil || string(out) != "last\n" {
		t.Errorf("tail: %q %v", out, err)
	}
}

func TestCPU(t *testing.T) {
	p := startChild(t, "burn")
	var last time.Duration
	for {
		s, err := p.Status()
		if err != nil {
			t.Fatal(err)
		}
		if s.CPU < last {
			t.Fatalf("CPU time went from %v back to %v", last, s.CPU)
		}
		last = s.CPU
		if !s.Running {
			break
		}
	}
	if last < 20*time.Millisecond {
		t.Errorf("burnt only %v", last)
	}
}

func TestTimeout(t *testing.T) {
	p := startConfig(t, Config{Args: []string{"stubborn"}, Timeout: 50 * time.Millisecond})
	if s := wait(t, p); !s.TimedOut || s.Code != -1 || s.Run < 50*time.Millisecond || s.Run > 10*time.Second {
		t.Errorf("%+v", s)
	}
}

func TestExistsAndNotFound(t *testing.T) {
	p := startChild(t, "sleep")
	_, err := Start(t.Context(), Config{Dir: p.dir, Name: childArg, Args: []string{"sleep"}})
	if !errors.Is(err, ErrExists) {
		t.Errorf("second start: %v", err)
	}
	if s, err := p.Status(); err != nil || !s.Running {
		t.Errorf("after second start: %+v %v", s, err)
	}
	if err := Remove(p.dir); err == nil {
		t.Error("removed a running process")
	}
	if _, err := Open(t.TempDir()); !errors.Is(err, ErrNotFound) {
		t.Errorf("empty directory: %v", err)
	}
}

// TestDaemonKilled starts a process from a program that is then killed with
// SIGKILL: the process runs on, is found again, and its exit is on record.
func TestDaemonKilled(t *testing.T) {
	for _, ended := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "p")
		cmd := exec.Cmd{Path: selfExe, Args: []string{childArg, "daemon", dir, "polite"}}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 100)
		n, _ := out.Read(line)
		if string(line[:n]) != "ready\n" {
			t.Fatalf("daemon: %q", line[:n])
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()

		p, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		output(t, p, "ready")
		if ended { // while nobody watches
			if err := p.Signal(unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
			wait(t, p)
			if p, err = Open(dir); err != nil {
				t.Fatal(err)
			}
		} else if err := p.Stop(t.Context(), 10*time.Second); err != nil {
			t.Fatal(err)
		}
		if s, err := p.Status(); err != nil || s.Running || s.Code != 7 || s.CPU <= 0 {
			t.Errorf("%+v %v", s, err)
		}
		if err := p.Remove(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestKeeperKilled(t *testing.T) {
	p := startChild(t, "sleep")
	fd, err := openIdent(p.record.Boot, p.record.Child)
	if err != nil {
		t.Fatal(err)
	}
	if err := signalIdent(p.record.Boot, p.record.Keeper, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if s := wait(t, p); !s.Lost || s.Code != -1 {
		t.Errorf("%+v", s)
	}
	if err := waitPidfd(t.Context(), fd); err != nil {
		t.Errorf("child outlives its keeper: %v", err)
	}
}

func TestWaitIsCancelled(t *testing.T) {
	p := startChild(t, "sleep")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestConcurrentUse(t *testing.T) {
	p := startChild(t, "polite")
	output(t, p, "ready")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			switch i % 4 {
			case 0:
				if err := p.Stop(t.Context(), 10*time.Second); err != nil {
					t.Error(err)
				}
			case 1:
				wait(t, p)
			case 2:
				if _, err := p.Status(); err != nil {
					t.Error(err)
				}
			case 3:
				if _, err := Open(p.dir); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
