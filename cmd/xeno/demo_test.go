package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xenoserver/xeno/cmd/xeno/internal/demo"
)

// demoTimeout bounds a demo; the promise is 60 s on an idle machine.
const demoTimeout = 90 * time.Second

// startDemo runs xeno demo in a process of its own, with a directory of its
// own for temporary files.
func startDemo(t *testing.T, stdout io.Writer, args ...string) (cmd *exec.Cmd, progress *watch, tmp string) {
	t.Helper()
	tmp = t.TempDir()
	progress = &watch{t: t, line: make(chan string, 1000)}
	cmd = exec.CommandContext(t.Context(), os.Args[0], append([]string{"demo", "--env", "wasi"}, args...)...)
	cmd.Env = append(os.Environ(), asXeno+"=1", "TMPDIR="+tmp)
	cmd.Stdout, cmd.Stderr = stdout, progress
	if stdout == nil {
		cmd.Stdout = progress
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, progress, tmp
}

// A watch passes on the lines of a demo's progress.
type watch struct {
	t    *testing.T
	rest []byte
	line chan string
}

func (w *watch) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		// A stage is named before it begins, its line ends after it.
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 {
			break
		}
		w.line <- string(w.rest[:i])
		w.rest = w.rest[i+1:]
	}
	return len(p), nil
}

// await waits until the demo shows text.
func (w *watch) await(text string) {
	w.t.Helper()
	late := time.After(demoTimeout)
	for {
		select {
		case line := <-w.line:
			if strings.Contains(line, text) {
				return
			}
		case <-late:
			w.t.Fatalf("%q is not shown", text)
		}
	}
}

// empty waits until nothing is left in the directory for temporary files,
// which the daemons delete as the last thing they do.
func empty(t *testing.T, tmp string) {
	t.Helper()
	late := time.After(demoTimeout)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		left, err := filepath.Glob(filepath.Join(tmp, "xeno-demo-*"))
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("left behind: %v", left)
		}
	}
}

// TestDemo runs the whole platform: nine daemons, a paid bill, nothing left.
func TestDemo(t *testing.T) {
	var out bytes.Buffer
	cmd, progress, tmp := startDemo(t, &out, "--json")
	err := cmd.Wait()
	if err != nil {
		close(progress.line)
		for line := range progress.line {
			t.Log(line)
		}
		t.Fatal(err)
	}
	empty(t, tmp)
	var raw map[string]json.RawMessage
	var r demo.Result
	if err := errors.Join(json.Unmarshal(out.Bytes(), &raw), json.Unmarshal(out.Bytes(), &r)); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"steps", "server", "environment", "output", "receipts", "usage", "accounts", "sum"} {
		if raw[key] == nil {
			t.Errorf("no %s in the result", key)
		}
	}
	if string(raw["sum"]) != "0" || r.Usage.Amount <= 0 || r.Environment.Why == "" || !strings.Contains(r.Output, "primes below") {
		t.Errorf("result %s", out.String())
	}
	if n := len(r.Receipts); n == 0 || !r.Receipts[n-1].Final || r.Receipts[n-1].Amount != r.Usage.Amount {
		t.Errorf("receipts %+v, paid %s", r.Receipts, r.Usage.Amount)
	}
	for _, s := range r.Steps {
		t.Logf("%-22s %6.3f s", s.Name, s.Seconds)
	}
}

// TestDemoInterrupted interrupts the demo in the middle of a session.
func TestDemoInterrupted(t *testing.T) {
	cmd, progress, tmp := startDemo(t, nil, "--servers", "2", "--participants", "1")
	progress.await("open a session")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	progress.await("daemons ended")
	err := cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != exitInterrupted {
		t.Errorf("ended with %v", err)
	}
	empty(t, tmp)
}

// TestDemoKilled kills the demo, which cannot do anything about it: the
// daemons notice, end by themselves and delete their files.
func TestDemoKilled(t *testing.T) {
	cmd, progress, tmp := startDemo(t, nil, "--servers", "2", "--participants", "1")
	progress.await("open a session")
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	empty(t, tmp)
}

// TestDemoRefuses asks for a number of daemons that makes no network.
func TestDemoRefuses(t *testing.T) {
	for _, args := range [][]string{{"--servers", "0"}, {"--participants", "0"}, {"--servers", "1000"}, {"--env", "vms"}} {
		cmd, _, tmp := startDemo(t, nil, args...)
		err := cmd.Wait()
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != exitUsage {
			t.Errorf("%v: %v", args, err)
		}
		empty(t, tmp)
	}
}
