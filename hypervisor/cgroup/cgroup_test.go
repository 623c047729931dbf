package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/internal/testenv"
)

// put writes files below dir.
func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func get(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

var parentFiles = map[string]string{
	"cgroup.controllers":     "cpu io memory pids",
	"cgroup.subtree_control": "cpu memory pids",
	"cgroup.procs":           "",
}

var groupFiles = map[string]string{
	"cpu.max": "max 100000", "memory.max": "max", "memory.swap.max": "max", "memory.oom.group": "0", "pids.max": "max",
	"cpu.stat":       "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n",
	"memory.current": "4096\n", "memory.peak": "8192\n",
	"cgroup.events": "populated 0\nfrozen 1\n", "cgroup.kill": "", "cgroup.freeze": "0\n", "cgroup.procs": "",
}

var legacyFiles = map[string]string{
	"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "-1", "cpuacct.usage": "1500001\n",
	"memory.limit_in_bytes": "-1", "memory.memsw.limit_in_bytes": "-1",
	"memory.usage_in_bytes": "4096\n", "memory.max_usage_in_bytes": "8192\n", "pids.max": "max",
}

// fakeV2 is a unified tree made of plain files. The kernel fills a new group
// with control files; here a group is prepared when its limits are written.
func fakeV2(t *testing.T) *Tree {
	t.Helper()
	root := t.TempDir()
	put(t, root, parentFiles)
	put(t, filepath.Join(root, "xeno"), parentFiles)
	put(t, filepath.Join(root, "xeno/node"), parentFiles)
	tree, err := Open(Config{Root: root, Parent: "xeno/node"})
	if err != nil {
		t.Fatal(err)
	}
	tree.rmdir = os.RemoveAll
	return tree
}

func fakeHybrid(t *testing.T) *Tree {
	t.Helper()
	root := t.TempDir()
	put(t, filepath.Join(root, "unified"), parentFiles)
	put(t, filepath.Join(root, "cpu,cpuacct"), legacyFiles)
	put(t, filepath.Join(root, "memory"), legacyFiles)
	put(t, filepath.Join(root, "pids"), legacyFiles)
	for _, name := range []string{"cpu", "cpuacct"} {
		if err := os.Symlink("cpu,cpuacct", filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := Open(Config{Root: root, Parent: "xeno"})
	if err != nil {
		t.Fatal(err)
	}
	tree.rmdir = os.RemoveAll
	return tree
}

// prepare makes a group as Create does, with its control files.
func prepare(t *testing.T, tree *Tree, name string, files map[string]string) *Group {
	t.Helper()
	g, err := tree.Group(name)
	if err != nil {
		t.Fatal(err)
	}
	put(t, g.Unified(), groupFiles)
	for _, dir := range g.Legacy() {
		put(t, dir, files)
	}
	return g
}

func TestFakeUnified(t *testing.T) {
	tree := fakeV2(t)
	g := prepare(t, tree, "a1", nil)
	if err := g.limit(Limits{CPUShare: 1500, MemoryBytes: 1 << 20, Pids: 9}); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for name := range groupFiles {
		got[name] = get(t, filepath.Join(g.Unified(), name))
	}
	want := map[string]string{"cpu.max": "150000 100000", "memory.max": "1048576", "memory.swap.max": "0", "memory.oom.group": "1", "pids.max": "9"}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s: got %q, want %q", name, got[name], value)
		}
	}
	u, err := g.Usage()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Usage{CPU: 1500 * time.Microsecond, MemoryBytes: 4096, PeakBytes: 8192}, u); diff != "" {
		t.Error(diff)
	}
	if err := g.Freeze(t.Context(), true); err != nil {
		t.Error(err)
	}
	if frozen, err := g.Frozen(); err != nil || !frozen {
		t.Errorf("frozen %t, %v", frozen, err)
	}
	checkLeftover(t, tree, g)
}

func TestFakeHybrid(t *testing.T) {
	tree := fakeHybrid(t)
	g := prepare(t, tree, "a1", legacyFiles)
	if n := len(g.Legacy()); n != 3 {
		t.Errorf("%d v1 directories: %v", n, g.Legacy())
	}
	if err := g.limit(Limits{CPUShare: 5, MemoryBytes: 1 << 20, Pids: 9}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		g.file("cpu", "cpu.cfs_period_us"):                "1000000",
		g.file("cpu", "cpu.cfs_quota_us"):                 "5000",
		g.file("memory", "memory.limit_in_bytes"):         "1048576",
		g.file("memory", "memory.memsw.limit_in_bytes"):   "1048576",
		g.file("pids", "pids.max"):                        "9",
		filepath.Join(g.Unified(), "cgroup.procs"):        "",
		filepath.Join(g.Legacy()[2], "cpu.cfs_period_us"): "1000000",
	} {
		if got := get(t, path); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	u, err := g.Usage()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Usage{CPU: 1500001, MemoryBytes: 4096, PeakBytes: 8192}, u); diff != "" {
		t.Error(diff)
	}
	checkLeftover(t, tree, g)
}

// checkLeftover finds a group again, removes it, and asks for it afterwards.
func checkLeftover(t *testing.T, tree *Tree, g *Group) {
	t.Helper()
	if _, err := tree.Create(filepath.Base(g.Path()), Limits{}); !errors.Is(err, hypervisor.ErrExists) {
		t.Errorf("second create: %v", err)
	}
	names, err := tree.List()
	if diff := cmp.Diff([]string{filepath.Base(g.Path())}, names); diff != "" || err != nil {
		t.Errorf("leftover: %v\n%s", err, diff)
	}
	for range 2 {
		if err := g.Remove(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if names, err := tree.List(); err != nil || len(names) != 0 {
		t.Errorf("after remove: %v, %v", names, err)
	}
	if _, err := g.Usage(); !errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("usage of the removed: %v", err)
	}
}

func TestBadInput(t *testing.T) {
	root := t.TempDir()
	if _, err := Open(Config{Root: root}); !errors.Is(err, hypervisor.ErrNotSupported) {
		t.Errorf("no control groups: %v", err)
	}
	put(t, filepath.Join(root, "unified"), parentFiles)
	if _, err := Open(Config{Root: root}); !errors.Is(err, hypervisor.ErrNotSupported) {
		t.Errorf("no controllers: %v", err)
	}
	put(t, root, map[string]string{"cgroup.controllers": ""})
	if _, err := Open(Config{Root: root, Parent: "xeno"}); !errors.Is(err, hypervisor.ErrNotSupported) {
		t.Errorf("nothing delegated: %v", err)
	}
	for _, parent := range []string{"/abs", "../up", ".", "a/../.."} {
		if _, err := Open(Config{Root: root, Parent: parent}); err == nil {
			t.Errorf("parent %q accepted", parent)
		}
	}
	tree := fakeV2(t)
	for _, name := range []string{"", "..", "a/b", "A"} {
		if _, err := tree.Create(name, Limits{}); !errors.Is(err, hypervisor.ErrBadSpec) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	// A plain directory has no control files: the limit fails, nothing stays.
	if _, err := tree.Create("a", Limits{Pids: 1}); err == nil {
		t.Error("limit without a controller")
	}
	if names, err := tree.List(); err != nil || len(names) != 0 {
		t.Errorf("left %v, %v", names, err)
	}
}

func TestMeter(t *testing.T) {
	tree := fakeV2(t)
	g := prepare(t, tree, "a1", nil)
	m := NewMeter(tree)
	m.net = t.TempDir()
	put(t, filepath.Join(m.net, "tap1/statistics"), map[string]string{"rx_bytes": "10\n", "tx_bytes": "20\n"})
	in := hypervisor.Instance{ID: "a1", Cgroup: g.Path(), Tap: "tap1"}
	for range 2 {
		if err := m.Track(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	want := hypervisor.Usage{Source: "cgroup", CPU: 1500 * time.Microsecond, RxBytes: 20, TxBytes: 10, MaxBytes: 8192}
	got, err := m.Read(t.Context(), "a1")
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	// What counted is gone, the count is not.
	if err := errors.Join(g.Remove(t.Context()), os.RemoveAll(filepath.Join(m.net, "tap1"))); err != nil {
		t.Fatal(err)
	}
	got, err = m.Read(t.Context(), "a1")
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	for range 2 {
		if err := m.Forget(t.Context(), "a1"); err != nil {
			t.Error(err)
		}
	}
	if _, err := m.Read(t.Context(), "a1"); !errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("after Forget: %v", err)
	}
	for _, bad := range []struct {
		in   hypervisor.Instance
		want error
	}{
		{hypervisor.Instance{ID: "x"}, hypervisor.ErrNotSupported},
		{hypervisor.Instance{ID: "x", Cgroup: "../.."}, hypervisor.ErrBadSpec},
		{hypervisor.Instance{ID: "x", Cgroup: "a", Tap: "../eth0"}, hypervisor.ErrBadSpec},
		{hypervisor.Instance{ID: "x", Cgroup: "xeno/none"}, hypervisor.ErrNotFound},
	} {
		if err := m.Track(t.Context(), bad.in); !errors.Is(err, bad.want) {
			t.Errorf("%+v: got %v, want %v", bad.in, err, bad.want)
		}
	}
}

// machine opens this machine's own tree.
func machine(t *testing.T) *Tree {
	t.Helper()
	tree, err := Open(Config{Parent: fmt.Sprintf("xeno-test-%d", os.Getpid())})
	testenv.Require(t, "root", err)
	t.Cleanup(func() {
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
		if exists(filepath.Join(tree.unified, tree.parent)) {
			t.Error("parent group left")
		}
	})
	return tree
}

// inside starts a shell in the group. The v1 hierarchies are joined by the
// shell itself.
func inside(t *testing.T, g *Group, script string) *exec.Cmd {
	t.Helper()
	dir, err := os.Open(g.Unified())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	join := ""
	for _, l := range g.Legacy() {
		join += "echo $$ > " + l + "/cgroup.procs && "
	}
	cmd := exec.Command("/bin/sh", "-c", join+script)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestRealLimitsAndUsage(t *testing.T) {
	tree := machine(t)
	g, err := tree.Create("burn", Limits{CPUShare: 200, MemoryBytes: 64 << 20, Pids: 20})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Remove(context.Background())
	began := time.Now()
	cmd := inside(t, g, "exec timeout -s KILL 1 sh -c 'while :; do :; done'")
	_ = cmd.Wait()
	wall := time.Since(began)
	u, err := g.Usage()
	if err != nil {
		t.Fatal(err)
	}
	share := float64(u.CPU) / float64(wall) * 1000
	if share < 20 || share > 300 {
		t.Errorf("limit 200 ms/s, consumed %.0f ms/s", share)
	}
	if u.PeakBytes == 0 {
		t.Error("no peak memory")
	}
	cmd = inside(t, g, "exec sh -c 'a=x; while :; do a=$a$a; done'")
	if err := cmd.Wait(); err == nil {
		t.Error("a memory bomb went off well")
	}
	if u, err = g.Usage(); err != nil || u.PeakBytes > 64<<20 {
		t.Errorf("limit %d, peak %d, %v", 64<<20, u.PeakBytes, err)
	}
}

func TestRealKillAndFreeze(t *testing.T) {
	tree := machine(t)
	g, err := tree.Create("kill", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Create("kill", Limits{}); !errors.Is(err, hypervisor.ErrExists) {
		t.Errorf("second create: %v", err)
	}
	cmd := inside(t, g, "(sleep 1000 & setsid sleep 1000 & sleep 1000)")
	if err := g.Freeze(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if frozen, err := g.Frozen(); err != nil || !frozen {
		t.Errorf("frozen %t, %v", frozen, err)
	}
	before, _ := g.Usage()
	names, err := tree.List()
	if err != nil || strings.Join(names, " ") != "kill" {
		t.Errorf("list %v, %v", names, err)
	}
	after, _ := g.Usage()
	if before.CPU != after.CPU {
		t.Errorf("consumed %v while frozen", after.CPU-before.CPU)
	}
	if err := g.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if names, err := tree.List(); err != nil || len(names) != 0 {
		t.Errorf("left %v, %v", names, err)
	}
}

// TestRealKillEach checks the way of kernels without cgroup.kill.
func TestRealKillEach(t *testing.T) {
	tree := machine(t)
	g, err := tree.Create("each", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Remove(context.Background())
	cmd := inside(t, g, "exec sleep 1000")
	done := make(chan error)
	go func() { done <- cmd.Wait() }()
	if err := g.killEach(); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil {
		t.Error("sleep ended well")
	}
}
