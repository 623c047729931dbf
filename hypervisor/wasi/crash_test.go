package wasi

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/cgroup"
)

// daemonArg is the argv[0] of this test binary as a daemon that is killed.
const daemonArg = "wasi-test-daemon"

// maybeDaemon starts, pauses, stops and removes instances until it is killed.
func maybeDaemon() {
	if os.Args[0] != daemonArg {
		return
	}
	dir, module, parent := os.Args[1], os.Args[2], os.Args[3]
	cfg := Config{Dir: dir}
	if tree, err := cgroup.Open(cgroup.Config{Parent: parent}); err == nil {
		cfg.Groups = tree
	}
	d, err := New(cfg)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	ctx := context.Background()
	for i := 0; ; i++ {
		id := "crash-" + strconv.Itoa(os.Getpid()) + "-" + strconv.Itoa(i)
		if _, err := d.Start(ctx, spec(module, id)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		_ = d.Pause(ctx, id)
		_, _ = d.Usage(ctx, id)
		_ = d.Resume(ctx, id)
		if i%3 > 0 {
			_ = d.Stop(ctx, id, 0)
		}
		if i%3 > 1 {
			_ = d.Remove(ctx, id)
		}
	}
}

// TestDaemonKilled kills a daemon at random moments. The next one knows every
// instance, ends those that run, and removes everything: no process, control
// group or file stays.
func TestDaemonKilled(t *testing.T) {
	dir, module := t.TempDir(), write1(t, spins)
	tree := groups(t)
	parent := fmt.Sprintf("xeno-wasi-test-%d", os.Getpid())
	rng := rand.New(rand.NewPCG(1, 2))
	seen := 0
	for range 12 {
		cmd := exec.Cmd{Path: "/proc/self/exe", Args: []string{daemonArg, dir, module, parent}, Stderr: os.Stderr}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 100)
		if n, _ := out.Read(line); string(line[:n]) != "ready\n" {
			t.Fatalf("daemon: %s", line[:n])
		}
		// The moment is what the test varies.
		time.Sleep(time.Duration(rng.IntN(150)) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()

		d, err := New(Config{Dir: dir, Groups: tree})
		if err != nil {
			t.Fatal(err)
		}
		list, err := d.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		seen += len(list)
		for _, in := range list {
			if in.State != hypervisor.StateExited && in.PID <= 1 {
				t.Errorf("%+v", in)
			}
			if err := d.Remove(t.Context(), in.ID); err != nil {
				t.Error(err)
			}
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left %v, %v", left, err)
		}
		noProcess(t, dir)
	}
	if seen == 0 {
		t.Error("no daemon was killed with an instance at hand")
	}
}

// noProcess checks that no keeper of dir runs, nor a child of one.
func noProcess(t *testing.T, dir string) {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, _ := os.ReadFile(name)
		words := strings.Split(string(data), "\x00")
		if len(words) < 2 || words[0] != childArg && words[0] != "xeno-keeper" {
			continue
		}
		if strings.HasPrefix(words[1], dir) || strings.HasPrefix(words[1], "crash-") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			t.Errorf("left process %d: %q", pid, words)
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}
