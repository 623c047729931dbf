package process

import (
	"bytes"
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
	"github.com/xenoserver/xeno/internal/testenv"
)

func TestEnvironmentIsCleared(t *testing.T) {
	t.Setenv("XENO_SECRET", "1")
	p := startConfig(t, Config{Args: []string{"echo", "a b", "c"}, Env: []string{"ONLY=this"}})
	wait(t, p)
	out, errs, err := p.Logs(1000)
	if err != nil || string(out) != "a b c\n" || string(errs) != "ONLY=this\n" {
		t.Errorf("got %q %q %v", out, errs, err)
	}
}

func TestFilesAndLimits(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fmt.Fprint(w, "hello")
	w.Close()
	p := startConfig(t, Config{Args: []string{"file"}, Files: []*os.File{r}})
	if s := wait(t, p); s.Code != 0 {
		t.Errorf("%+v", s)
	}
	output(t, p, "hello")

	p = startConfig(t, Config{Args: []string{"stat"}, Limits: []Limit{{unix.RLIMIT_CORE, 0}, {unix.RLIMIT_NOFILE, 99}}})
	wait(t, p)
	out := output(t, p, "Max open files")
	if !strings.Contains(out, "NoNewPrivs:\t1") {
		t.Error("may gain privileges")
	}
}

func TestConfinement(t *testing.T) {
	base := t.TempDir()
	read, write, hidden := filepath.Join(base, "read"), filepath.Join(base, "write"), filepath.Join(base, "hidden")
	for _, path := range []string{read, write, hidden} {
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, filepath.Base(path)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := Config{Args: []string{"reach", read + "/read", read + "/new-r", write + "/write", write + "/new-w", hidden + "/hidden", "/etc/passwd"}}
	p := startConfig(t, c)
	wait(t, p)
	free := "read true\nnew-r true\nwrite true\nnew-w true\nhidden true\npasswd true\nnet true\nend\n"
	if got := output(t, p, "end"); got != free {
		t.Errorf("unconfined: %q", got)
	}
	for _, path := range []string{read + "/new-r", write + "/new-w"} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	c.Confine = &Confinement{Read: []string{read, "/no/such/file"}, Write: []string{write}}
	p = startConfig(t, c)
	if s := wait(t, p); s.Code != 0 {
		t.Errorf("%+v", s)
	}
	got := output(t, p, "end")
	if got == free {
		testenv.Require(t, "landlock", fmt.Errorf("no Landlock: %w", hypervisor.ErrNotSupported))
	}
	if want := "read true\nnew-r false\nwrite true\nnew-w true\nhidden false\npasswd false\nnet false\nend\n"; got != want {
		t.Errorf("confined: got %q, want %q", got, want)
	}
}

// TestCgroup checks that the child is born in its group, and that it takes all
// of it along when it ends.
func TestCgroup(t *testing.T) {
	tree, err := cgroup.Open(cgroup.Config{Parent: fmt.Sprintf("xeno-process-test-%d", os.Getpid())})
	testenv.Require(t, "root", err)
	defer tree.Close()
	g, err := tree.Create("group", cgroup.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Remove(context.Background())
	p := startConfig(t, Config{Args: []string{"burn"}, Cgroup: Cgroup{Unified: g.Unified(), Legacy: g.Legacy()}})
	s := wait(t, p)
	u, err := g.Usage()
	if err != nil {
		t.Fatal(err)
	}
	// The group also counts the fork and the exec, not the keeper's life.
	if diff := u.CPU - s.CPU; diff < -time.Millisecond || diff > s.CPU/1000+time.Millisecond {
		t.Errorf("group counted %v, clock %v", u.CPU, s.CPU)
	}
	p = startConfig(t, Config{Args: []string{"family"}, Cgroup: Cgroup{Unified: g.Unified(), Legacy: g.Legacy()}})
	wait(t, p)
	for _, dir := range append(g.Legacy(), g.Unified()) {
		if data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs")); err != nil || len(data) > 0 {
			t.Errorf("%s still holds %q, %v", dir, data, err)
		}
	}
}

func TestCredential(t *testing.T) {
	if err := testenv.Root(); err != nil {
		testenv.Require(t, "root", err)
	}
	p := startConfig(t, Config{Args: []string{"stat"}, Credential: &Credential{UID: 65534, GID: 65533}})
	wait(t, p)
	out := output(t, p, "Max open files")
	for _, want := range []string{"Uid:\t65534\t65534\t65534\t65534\n", "Gid:\t65533\t65533\t65533\t65533\n", "Groups:\t \n", "CapEff:\t0000000000000000\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
}

func TestFailedStartLeavesNothing(t *testing.T) {
	base := t.TempDir()
	tests := []Config{
		{Path: "/no/such/file"},
		{Path: "/etc/passwd"},
		{Stdin: "/no/such/file"},
		{WorkDir: "/no/such/dir"},
		{Cgroup: Cgroup{Unified: "/no/such/group"}},
		{Cgroup: Cgroup{Legacy: []string{"/no/such/group"}}},
		{Limits: []Limit{{9999, 1}}},
		{Keeper: "/bin/true"},
		{Keeper: "/no/such/keeper"},
		{WorkDir: "relative"},
		{Args: []string{"a\x00b"}},
		{LogBytes: -1},
	}
	for _, c := range tests {
		c.Dir = filepath.Join(base, "p")
		if p, err := Start(t.Context(), c); err == nil {
			t.Errorf("%+v started: %v", c, p)
		}
		if left, _ := os.ReadDir(base); len(left) != 0 {
			t.Errorf("%+v left %v", c, left)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Start(ctx, Config{Dir: filepath.Join(base, "p"), Name: childArg, Args: []string{"sleep"}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if left, _ := os.ReadDir(base); len(left) != 0 {
		t.Errorf("cancelled start left %v", left)
	}
}

// TestForeign checks that a record that names a stranger's process hits nobody.
func TestForeign(t *testing.T) {
	p := startChild(t, "sleep")
	for name, change := range map[string]func(*record){
		"start time": func(r *record) { r.Keeper.Start++; r.Child.Start++ },
		"executable": func(r *record) { r.Keeper.Exe, r.Child.Exe = "1:1", "1:1" },
		"boot":       func(r *record) { r.Boot = "another" },
	} {
		q := &Process{dir: p.dir, record: p.record}
		change(&q.record)
		if err := q.Signal(unix.SIGKILL); !errors.Is(err, ErrExited) {
			t.Errorf("%s: %v", name, err)
		}
		if err := signalIdent(q.record.Boot, q.record.Keeper, unix.SIGKILL); !errors.Is(err, ErrExited) {
			t.Errorf("%s: %v", name, err)
		}
		if s, err := p.Status(); err != nil || !s.Running {
			t.Fatalf("%s: killed: %+v %v", name, s, err)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"version":1,"boot":"b","keeper":{"pid":20,"start":3},"child":{"pid":21,"start":4,"exe":"1:2"}}`))
	f.Add([]byte(`{"version":1,"code":-1,"signal":9,"cpu_ns":5,"max_bytes":6}`))
	f.Add([]byte(`{"version":1,"boot":"b","keeper":{"pid":-1},"child":{"pid":0}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := decodeRecord(data); err == nil {
			if r.Keeper.PID <= 1 || r.Child.PID <= 1 {
				t.Fatalf("accepted %+v", r)
			}
		} else if !errors.Is(err, errRecord) {
			t.Fatalf("unwrapped %v", err)
		}
		if e, err := decodeExit(data); err == nil && e.CPU < 0 {
			t.Fatalf("accepted %+v", e)
		}
		if _, err := parseStat(data); err == nil && !bytes.ContainsRune(data, ')') {
			t.Fatal("accepted a line without a name")
		}
	})
}
