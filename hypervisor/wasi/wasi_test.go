package wasi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/cgroup"
	"github.com/xenoserver/xeno/hypervisor/hypervisortest"
	"github.com/xenoserver/xeno/hypervisor/wasi/demo"
	asm "github.com/xenoserver/xeno/hypervisor/wasi/internal/assembler"
	"github.com/xenoserver/xeno/internal/testenv"
)

func TestMain(m *testing.M) {
	MaybeRun()
	maybeDaemon()
	os.Exit(m.Run())
}

// groups are real control groups where this user may make them, else none.
func groups(t *testing.T) *cgroup.Tree {
	t.Helper()
	tree, err := cgroup.Open(cgroup.Config{Parent: fmt.Sprintf("xeno-wasi-test-%d", os.Getpid())})
	if errors.Is(err, hypervisor.ErrNotSupported) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if names, err := tree.List(); err != nil || len(names) > 0 {
			t.Errorf("control groups left: %v, %v", names, err)
		}
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	})
	return tree
}

func newDriver(t *testing.T, tree *cgroup.Tree) *Driver {
	t.Helper()
	d, err := New(Config{Dir: t.TempDir(), Groups: tree})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		list, err := d.List(context.Background())
		if err != nil {
			t.Error(err)
		}
		for _, in := range list {
			if err := d.Remove(context.Background(), in.ID); err != nil {
				t.Error(err)
			}
		}
		if left, err := os.ReadDir(d.cfg.Dir); err != nil || len(left) > 0 {
			t.Errorf("left %v, %v", left, err)
		}
	})
	return d
}

func spec(module, id string) hypervisor.Spec {
	return hypervisor.Spec{ID: id, Kind: hypervisor.KindWASI, CPUs: 1, MemoryBytes: 16 << 20, DiskBytes: 1 << 20, Module: module}
}

// finish runs an instance to its end.
func finish(t *testing.T, d *Driver, s hypervisor.Spec) (in hypervisor.Instance, stdout, stderr string) {
	t.Helper()
	if _, err := d.Start(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := d.open(s.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	in, err = d.instance(s.ID)
	if err != nil {
		t.Fatal(err)
	}
	out, errs, err := d.Logs(ctx, s.ID, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return in, string(out), string(errs)
}

func TestConform(t *testing.T) {
	module := write1(t, spins)
	makeSpec := func(id string) hypervisor.Spec { return spec(module, id) }
	for name, tree := range map[string]*cgroup.Tree{"with groups": groups(t), "without groups": nil} {
		if name == "with groups" && tree == nil {
			continue // not permitted: the other one is all there is
		}
		t.Run(name, func(t *testing.T) {
			hypervisortest.Conform(t, func(dir string) hypervisor.Driver {
				d, err := New(Config{Dir: dir, Groups: tree})
				if err != nil {
					t.Fatal(err)
				}
				return d
			}, makeSpec)
		})
	}
}

func TestEnds(t *testing.T) {
	tests := []struct {
		name   string
		module []byte
		edit   func(*hypervisor.Spec)
		code   int
		err    string // part of Instance.Err
		stdout string // part of standard output
		stderr string
	}{
		{"success", exits(0), nil, 0, "", "", ""},
		{"code", exits(42), nil, 42, "", "", ""},
		{"large code", exits(300), nil, 300, "", "", ""},
		{"trap", traps, nil, -1, "trap: unreachable", "", "wasm stack trace"},
		{"recursion", recurses, nil, -1, "o", "", ""}, // "trap: stack overflow", or "out of memory" before that
		{"time limit", spins, func(s *hypervisor.Spec) { s.Timeout = 500 * time.Millisecond }, -1, "time limit of 500ms reached", "spinning\n", ""},
		{"memory", grows, nil, 3, "", "full\n", ""},
		{"output", floods, nil, -1, "output limit: more than", "flood flood", ""},
		{"stdin", echoes, func(s *hypervisor.Spec) { s.Stdin = []byte(strings.Repeat("hello ", 2000) + "end") }, 0, "", "hello end", ""},
		{"no stdin", echoes, nil, 0, "", "", ""},
		{"demo", demo.Module(), func(s *hypervisor.Spec) { s.Args = []string{"100000"} }, 0, "", "9592 primes below 100000\n", ""},
		{"demo usage", demo.Module(), nil, 2, "", "", "usage: primes N"},
		{"large args", demo.Module(), func(s *hypervisor.Spec) { s.Args = []string{strings.Repeat("a", 200<<10)} }, 2, "", "", "usage: primes N"},
	}
	d := newDriver(t, groups(t))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := spec(write1(t, tt.module), strings.ReplaceAll(tt.name, " ", "-"))
			if tt.edit != nil {
				tt.edit(&s)
			}
			in, out, errs := finish(t, d, s)
			if in.State != hypervisor.StateExited || in.ExitCode != tt.code || !strings.Contains(in.Err, tt.err) || (tt.err == "") != (in.Err == "") {
				t.Errorf("got %+v, want code %d, error %q", in, tt.code, tt.err)
			}
			if !strings.Contains(out, tt.stdout) || !strings.Contains(errs, tt.stderr) {
				t.Errorf("wrote %.200q and %.200q", out, errs)
			}
		})
	}
}

func TestBadModules(t *testing.T) {
	noStart := &asm.Module{}
	noStart.Export("run", noStart.Func(nil, nil, nil))
	alien := &asm.Module{}
	alien.Import("env", "abort", nil)
	alien.Export("_start", alien.Func(nil, nil, nil))
	unknown := &asm.Module{}
	unknown.Import("wasi_snapshot_preview1", "sock_connect", nil)
	unknown.Export("_start", unknown.Func(nil, nil, nil))
	large := &asm.Module{}
	large.Memory(1000)
	large.Export("_start", large.Func(nil, nil, nil))
	tests := []struct {
		name   string
		module []byte
		want   string
	}{
		{"empty", nil, "is not a WebAssembly module"},
		{"text", []byte("#!/bin/sh\necho\n"), "is not a WebAssembly module"},
		{"header only", []byte("\x00asm\x01\x00\x00\x00"), "exports no _start"},
		{"component", []byte("\x00asm\x0d\x00\x01\x00"), "is a WebAssembly component"},
		{"version", []byte("\x00asm\x02\x00\x00\x00"), "has WebAssembly version"},
		{"truncated", spins[:len(spins)-5], "bad module"},
		{"garbage", append([]byte("\x00asm\x01\x00\x00\x00"), "garbage"...), "bad module"},
		{"no start", noStart.Bytes(), "exports no _start"},
		{"alien import", alien.Bytes(), "imports env.abort"},
		{"unknown import", unknown.Bytes(), "imports wasi_snapshot_preview1.sock_connect"},
		{"large memory", large.Bytes(), "memory"},
	}
	d := newDriver(t, groups(t))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := d.Start(t.Context(), spec(write1(t, tt.module), "bad"))
			if !errors.Is(err, hypervisor.ErrBadSpec) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if text, ok := hypervisor.Explanation(err); !ok || !strings.Contains(text, tt.want) || strings.Contains(text, "/") {
				t.Errorf("the client reads %q (%t), want %q and no path", text, ok, tt.want)
			}
			if list, err := d.List(t.Context()); err != nil || len(list) > 0 {
				t.Errorf("left %v, %v", list, err)
			}
		})
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Start(t.Context(), spec(fifo, "bad")); !errors.Is(err, hypervisor.ErrBadSpec) {
		t.Errorf("fifo: %v", err)
	}
}

// TestReach runs a program that tries to get out.
func TestReach(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	d := newDriver(t, groups(t))
	s := spec(compileGuest(t), "reach")
	s.MemoryBytes = 64 << 20
	s.Args, s.Env = []string{secret, "b c"}, []string{"NAME=value", "EMPTY="}
	in, out, errs := finish(t, d, s)
	if in.ExitCode != 0 || in.Err != "" {
		t.Errorf("%+v: %s", in, errs)
	}
	// The entry of the file itself takes its share of the mebibyte.
	want := fmt.Sprintf("args %s b c\nenv NAME=value EMPTY=\nfiles hello world 1 a\nwrote %d\nend\n", secret, 1<<20-entryBytes)
	if out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	if !strings.Contains(errs, "private directory is full") {
		t.Errorf("standard error: %q", errs)
	}
	if left, err := os.ReadDir(filepath.Dir(secret)); err != nil || len(left) != 1 {
		t.Errorf("beside the secret: %v, %v", left, err)
	}
}

// TestUser checks whom a module runs as.
func TestUser(t *testing.T) {
	d := newDriver(t, nil)
	in, err := d.Start(t.Context(), spec(write1(t, spins), "user"))
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", in.PID))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"NoNewPrivs:\t1\n"}
	if testenv.Root() == nil {
		want = append(want, "Uid:\t65534\t65534\t65534\t65534\n", "CapEff:\t0000000000000000\n")
	}
	for _, w := range want {
		if !strings.Contains(string(status), w) {
			t.Errorf("no %q in %s", w, status)
		}
	}
}

// TestShare checks the CPU limit, and that usage by the control group and by
// the process's clock agree.
func TestShare(t *testing.T) {
	tree := groups(t)
	if tree == nil {
		testenv.Require(t, "root", fmt.Errorf("control groups: %w", hypervisor.ErrNotSupported))
	}
	d := newDriver(t, tree)
	s := spec(write1(t, spins), "share")
	s.CPUShare, s.Timeout = 200, 1500*time.Millisecond
	finish(t, d, s)
	u, err := d.Usage(t.Context(), "share")
	if err != nil || u.Source != "cgroup" {
		t.Fatalf("%+v, %v", u, err)
	}
	if share := 1000 * u.CPU / u.Run; share < 50 || share > 260 {
		t.Errorf("got %d ms/s, limit 200", share)
	}
	p, err := d.open("share")
	if err != nil {
		t.Fatal(err)
	}
	clock, err := p.Status()
	if err != nil {
		t.Fatal(err)
	}
	if diff := (u.CPU - clock.CPU).Abs(); diff > u.CPU/1000+time.Millisecond {
		t.Errorf("group counted %v, clock %v", u.CPU, clock.CPU)
	}
}

// TestInterrupted checks what a daemon that was killed in Start leaves.
func TestInterrupted(t *testing.T) {
	d := newDriver(t, groups(t))
	if err := os.Mkdir(d.dir("broken"), 0o700); err != nil {
		t.Fatal(err)
	}
	list, err := d.List(t.Context())
	if err != nil || len(list) != 1 || list[0].State != hypervisor.StateExited || list[0].Err == "" {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := d.Usage(t.Context(), "broken"); err != nil {
		t.Error(err)
	}
	if err := d.Stop(t.Context(), "broken", 0); err != nil {
		t.Error(err)
	}
	if err := d.Remove(t.Context(), "broken"); err != nil {
		t.Error(err)
	}
}

// TestDamaged: what cannot be read is told, and hides no other.
func TestDamaged(t *testing.T) {
	d := newDriver(t, groups(t))
	module := write1(t, spins)
	for _, id := range []string{"damaged", "sound"} {
		if _, err := d.Start(t.Context(), spec(module, id)); err != nil {
			t.Fatal(err)
		}
	}
	name := d.path("damaged", "job.json")
	before, err := os.ReadFile(name)
	if err == nil {
		err = os.WriteFile(name, []byte("{"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	list, err := d.List(t.Context())
	var damaged hypervisor.DamagedError
	if !errors.As(err, &damaged) || len(damaged) != 1 || !errors.Is(damaged["damaged"], errState) {
		t.Errorf("list: %v", err)
	}
	if len(list) != 1 || list[0].ID != "sound" {
		t.Errorf("list %v", list)
	}
	if err := os.WriteFile(name, before, 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := d.List(t.Context()); err != nil || len(list) != 2 {
		t.Errorf("list %v, %v", list, err)
	}
}

func FuzzState(f *testing.F) {
	f.Add([]byte(`{"version":1,"id":"a","args":["x"],"memory_bytes":1}`))
	f.Add([]byte(`{"version":1,"paused_for_ns":1,"paused_at_ns":2,"stopped":true}`))
	f.Add([]byte(`{"version":1,"run_ns":1,"cpu_ns":2,"max_bytes":3}`))
	f.Add([]byte(`{"version":1,"code":3,"err":"trap\n\u001b[2J"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, into := range []checked{&job{}, &control{}, &mark{}, &result{}} {
			if err := decode(data, into); err != nil {
				continue
			}
			switch v := into.(type) {
			case *job:
				if hypervisor.ValidateID(v.ID) != nil {
					t.Fatalf("accepted %+v", v)
				}
			case *result:
				if len(v.Err) > 2*maxReportBytes || strings.ContainsAny(v.Err, "\n\x1b") {
					t.Fatalf("accepted %q", v.Err)
				}
			}
		}
	})
}
