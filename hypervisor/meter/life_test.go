package meter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/hypervisor"
)

// dying is the helper that plays a daemon: it tracks, says so, and waits to be
// killed.
func dying(arg string) {
	namespace, group, _ := strings.Cut(arg, ",")
	m, err := New(Config{Namespace: namespace})
	if err == nil {
		err = m.Track(context.Background(), hypervisor.Instance{ID: "env", Cgroup: group})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("tracked")
	os.Stdin.Read(make([]byte, 1))
}

// A daemon is killed, the environment runs on and ends, a new daemon reads all
// that it used.
func TestSurvivesKill(t *testing.T) {
	ctx := context.Background()
	g := newGroup(t, unique())
	namespace := unique()
	daemon := exec.Command("/proc/self/exe")
	daemon.Env = append(os.Environ(), helperVar+"=meter "+namespace+","+g.name)
	daemon.Stderr = os.Stderr
	in, err := daemon.StdinPipe()
	must(t, err)
	defer in.Close()
	out, err := daemon.StdoutPipe()
	must(t, err)
	must(t, daemon.Start())
	if _, err := io.ReadFull(out, make([]byte, len("tracked"))); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Namespace: namespace}); err == nil {
		t.Error("two meters in one namespace")
	}
	env := g.start(t, "mixed 60")
	must(t, daemon.Process.Kill())
	daemon.Wait()
	must(t, env.Wait())

	m := newMeter(t, namespace)
	ids, err := m.Tracked()
	must(t, err)
	if len(ids) != 1 || ids[0] != "env" {
		t.Errorf("tracked %v after the restart", ids)
	}
	metered, kernel := g.pair(t, m, "env")
	agree(t, "over a restart", metered, kernel)
	// Closed in order while tracking, everything stays as well.
	must(t, m.Close())
	must(t, m.Close())
	must(t, g.start(t, "spin 50").Wait())
	m = newMeter(t, namespace)
	metered, kernel = g.pair(t, m, "env")
	agree(t, "over a second one", metered, kernel)
	must(t, m.Forget(ctx, "env"))
	if _, err := m.Read(ctx, "env"); !errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("read of the forgotten: %v", err)
	}
	destroy(t, m)
}

func TestNamespacesAreApart(t *testing.T) {
	ctx := context.Background()
	a, b := newMeter(t, unique()), newMeter(t, unique())
	g := newGroup(t, unique())
	for _, m := range []*Meter{a, b} {
		must(t, m.Track(ctx, hypervisor.Instance{ID: "same", Cgroup: g.name}))
	}
	must(t, g.start(t, "spin 30").Wait())
	must(t, a.Forget(ctx, "same"))
	destroy(t, a)
	must(t, g.start(t, "spin 30").Wait())
	metered, kernel := g.pair(t, b, "same")
	agree(t, "the other namespace", metered, kernel)
	destroy(t, b)
}

func TestTrackErrors(t *testing.T) {
	ctx := context.Background()
	m := newMeter(t, unique())
	defer destroy(t, m)
	g, other := newGroup(t, unique()), newGroup(t, unique())
	env := hypervisor.Instance{ID: "env", Cgroup: g.name}
	must(t, m.Track(ctx, env))
	must(t, m.Track(ctx, env))
	for _, tt := range []struct {
		name string
		in   hypervisor.Instance
		want error
	}{
		{"no ID", hypervisor.Instance{Cgroup: g.name}, hypervisor.ErrBadSpec},
		{"path as ID", hypervisor.Instance{ID: "../x", Cgroup: g.name}, hypervisor.ErrBadSpec},
		{"long ID", hypervisor.Instance{ID: strings.Repeat("a", 41), Cgroup: g.name}, hypervisor.ErrBadSpec},
		{"no group", hypervisor.Instance{ID: "a"}, hypervisor.ErrNotSupported},
		{"missing group", hypervisor.Instance{ID: "a", Cgroup: "no/such/group"}, hypervisor.ErrNotFound},
		{"the root", hypervisor.Instance{ID: "a", Cgroup: "."}, hypervisor.ErrBadSpec},
		{"outside", hypervisor.Instance{ID: "a", Cgroup: "../.."}, hypervisor.ErrBadSpec},
		{"other group", hypervisor.Instance{ID: "env", Cgroup: other.name}, hypervisor.ErrExists},
		{"shared group", hypervisor.Instance{ID: "a", Cgroup: g.name}, hypervisor.ErrExists},
		{"missing tap", hypervisor.Instance{ID: "a", Cgroup: other.name, Tap: "xnone"}, hypervisor.ErrNotFound},
	} {
		if err := m.Track(ctx, tt.in); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	if ids, err := m.Tracked(); err != nil || len(ids) != 1 {
		t.Errorf("tracked %v, %v", ids, err)
	}
	for _, id := range []string{"", "none", "../x", strings.Repeat("a", 41)} {
		if _, err := m.Read(ctx, id); !errors.Is(err, hypervisor.ErrNotFound) {
			t.Errorf("read %q: %v", id, err)
		}
		must(t, m.Forget(ctx, id))
	}
}

func TestSweep(t *testing.T) {
	ctx := context.Background()
	m := newMeter(t, unique())
	defer destroy(t, m)
	for i := range 5 {
		g := newGroup(t, unique())
		must(t, m.Track(ctx, hypervisor.Instance{ID: "env" + strconv.Itoa(i), Cgroup: g.name}))
	}
	must(t, os.Mkdir(m.pins.tapDir("stray"), 0o700))
	must(t, m.Sweep(ctx, []string{"env1", "env3", "unknown"}))
	ids, err := m.Tracked()
	must(t, err)
	if got := strings.Join(ids, " "); got != "env1 env3" {
		t.Errorf("kept %s", got)
	}
	if _, err := os.Stat(m.pins.tapDir("stray")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stray pins: %v", err)
	}
}

func TestRemove(t *testing.T) {
	namespace := unique()
	m := newMeter(t, namespace)
	g := newGroup(t, unique())
	must(t, m.Track(context.Background(), hypervisor.Instance{ID: "env", Cgroup: g.name}))
	if err := Remove("", namespace); err == nil {
		t.Error("removed under an open meter")
	}
	must(t, m.Close())
	must(t, Remove("", namespace))
	must(t, Remove("", namespace))
	if _, err := os.Stat(m.pins.base); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", m.pins.base, err)
	}
}

// TestMounts checks that a file system of our own is mounted where there is
// none, and goes with the last namespace.
func TestMounts(t *testing.T) {
	newGroup(t, unique())
	at := t.TempDir()
	cfg := Config{Namespace: "a", Pins: filepath.Join(at, "xeno")}
	a, err := New(cfg)
	must(t, err)
	cfg.Namespace = "b"
	b, err := New(cfg)
	must(t, err)
	if got := mountedFrom(at); got != mountSource {
		t.Errorf("mounted from %q", got)
	}
	destroy(t, a)
	if mounted, err := isBPFPath(at); err != nil || !mounted {
		t.Errorf("unmounted under another namespace: %v", err)
	}
	destroy(t, b)
	if mounted, err := isBPFPath(at); err != nil || mounted {
		t.Errorf("still mounted: %v", err)
	}
}

// In a container the tree seems to begin lower than it does.
func TestLevelInsideContainer(t *testing.T) {
	g := newGroup(t, unique())
	below := filepath.Join(g.unified, "pod", "env")
	must(t, os.MkdirAll(below, 0o755))
	var st unix.Stat_t
	must(t, unix.Stat(below, &st))
	level, err := findLevel(st.Ino)
	must(t, err)
	if level != 3 {
		t.Errorf("level %d, want 3", level)
	}
	if _, err := findLevel(1 << 60); err == nil {
		t.Error("found a group that does not exist")
	}
}

func FuzzParseMounts(f *testing.F) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(data))
	f.Add("1 2 0:3 / /a\\040b rw - cgroup2 none rw\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, m := range parseMounts(text) {
			if m.kind == "" || strings.ContainsAny(m.kind, " \t\n") {
				t.Errorf("kind %q", m.kind)
			}
		}
	})
}

// BenchmarkSwitch measures what the program costs at a context switch, as the
// kernel counts it (kernel.bpf_stats_enabled), for threads of an environment, of
// a group beside it and of a group above all environments. The figure includes
// the kernel's two clock readings; an empty program shows how much that is.
func BenchmarkSwitch(b *testing.B) {
	ctx := context.Background()
	for _, kind := range []string{"empty", "environment", "nested", "sibling", "stranger"} {
		b.Run(kind, func(b *testing.B) {
			m := newMeter(b, unique())
			defer destroy(b, m)
			g, sibling := newGroup(b, unique()), newGroup(b, unique())
			must(b, m.Track(ctx, hypervisor.Instance{ID: "bench", Cgroup: g.name}))
			program := m.objects.CountSwitch
			if kind == "empty" {
				program = emptyProgram(b)
			}
			stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
			must(b, err)
			defer stats.Close()
			before, err := program.Stats()
			must(b, err)
			for b.Loop() {
				var cmd *exec.Cmd
				switch kind {
				case "environment":
					cmd = g.start(b, "threads 2")
				case "nested":
					cmd = g.start(b, "threads 2", "a", "b")
				case "sibling":
					cmd = sibling.start(b, "threads 2")
				default:
					cmd = exec.Command("/proc/self/exe")
					cmd.Env = append(os.Environ(), helperVar+"=threads 2")
					cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
					must(b, cmd.Start())
				}
				must(b, cmd.Wait())
			}
			after, err := program.Stats()
			must(b, err)
			switches := after.RunCount - before.RunCount
			b.ReportMetric(float64(after.Runtime-before.Runtime)/float64(switches), "ns/switch")
			b.ReportMetric(float64(switches)/b.Elapsed().Seconds(), "switches/s")
		})
	}
}

func emptyProgram(b *testing.B) *ebpf.Program {
	b.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "sched_switch", License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	must(b, err)
	l, err := link.AttachTracing(link.TracingOptions{Program: p})
	must(b, err)
	b.Cleanup(func() { must(b, errors.Join(l.Close(), p.Close())) })
	return p
}

// BenchmarkRead measures a reading.
func BenchmarkRead(b *testing.B) {
	ctx := context.Background()
	m := newMeter(b, unique())
	defer destroy(b, m)
	g := newGroup(b, unique())
	must(b, m.Track(ctx, hypervisor.Instance{ID: "bench", Cgroup: g.name}))
	for b.Loop() {
		if _, err := m.Read(ctx, "bench"); err != nil {
			b.Fatal(err)
		}
	}
}
