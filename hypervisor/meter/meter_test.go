package meter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/internal/testenv"
)

const helperVar = "XENO_METER_TEST_HELPER"

var names atomic.Int64

func TestMain(m *testing.M) {
	if what := os.Getenv(helperVar); what != "" {
		helper(what)
		return
	}
	os.Exit(m.Run())
}

// helper is the load that runs in a control group.
func helper(what string) {
	kind, arg, _ := strings.Cut(what, " ")
	n, _ := strconv.Atoi(arg)
	switch kind {
	case "spin": // one thread, n milliseconds of CPU time
		runtime.LockOSThread()
		spin(time.Duration(n) * time.Millisecond)
	case "threads": // n threads that wake each other all the time
		var group sync.WaitGroup
		var fds [2]int
		for range n {
			if err := syscall.Pipe(fds[:]); err != nil {
				panic(err)
			}
			r, w := fds[0], fds[1]
			group.Go(func() { pingPong(r, w, 4000) })
		}
		group.Wait()
	case "forks": // n short-lived processes
		for range n {
			cmd := exec.Command("/bin/true")
			if err := cmd.Run(); err != nil {
				panic(err)
			}
		}
	case "mixed": // n bursts of work and sleep
		for i := range n {
			spin(time.Duration(i%5) * time.Millisecond)
			time.Sleep(time.Duration(i%3) * time.Millisecond)
		}
	case "idle":
	case "until": // n threads that spin until standard input ends
		for range n {
			go func() {
				runtime.LockOSThread()
				for {
					spin(time.Second)
				}
			}()
		}
		os.Stdin.Read(make([]byte, 1))
	case "meter": // an environment is tracked by a daemon that is killed
		dying(arg)
	}
}

func pingPong(r, w, n int) {
	done := make(chan struct{})
	buf := []byte{0}
	go func() {
		runtime.LockOSThread()
		in := make([]byte, 1)
		for range n {
			syscall.Read(r, in)
		}
		close(done)
	}()
	runtime.LockOSThread()
	for range n {
		syscall.Write(w, buf)
	}
	<-done
}

// spin uses that much CPU time of the calling thread.
func spin(d time.Duration) {
	var start, now unix.Timespec
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &start)
	for {
		sum := 0
		for i := range 20000 {
			sum += i
		}
		runtime.KeepAlive(sum)
		unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now)
		if time.Duration(now.Nano()-start.Nano()) >= d {
			return
		}
	}
}

// A group is a control group in every tree of the machine that counts CPU.
type group struct {
	name    string
	unified string
	cpuacct string // empty: v2 counts
}

func newGroup(t testing.TB, name string) *group {
	t.Helper()
	testenv.Require(t, "bpf", Available())
	root, err := cgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	g := &group{name: name, unified: filepath.Join(root, name)}
	if _, err := os.Stat("/sys/fs/cgroup/cpuacct/cpuacct.usage"); err == nil {
		g.cpuacct = filepath.Join("/sys/fs/cgroup/cpuacct", name)
	}
	for _, dir := range g.dirs() {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, dir := range g.dirs() {
			filepath.WalkDir(dir, func(path string, _ os.DirEntry, _ error) error {
				data, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
				for pid := range strings.FieldsSeq(string(data)) {
					n, _ := strconv.Atoi(pid)
					syscall.Kill(n, syscall.SIGKILL)
				}
				return nil
			})
			removeTree(t, dir)
		}
	})
	return g
}

// removeTree removes a control group and those below it once their last
// processes are gone.
func removeTree(t testing.TB, dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			removeTree(t, filepath.Join(dir, e.Name()))
		}
	}
	for end := time.Now().Add(5 * time.Second); ; runtime.Gosched() {
		err := syscall.Rmdir(dir)
		if err == nil || errors.Is(err, syscall.ENOENT) {
			return
		}
		if time.Now().After(end) {
			t.Errorf("remove %s: %v", dir, err)
			return
		}
	}
}

func (g *group) dirs() []string {
	if g.cpuacct == "" {
		return []string{g.unified}
	}
	return []string{g.unified, g.cpuacct}
}

// kernel is the second reading.
func (g *group) kernel(t testing.TB) time.Duration {
	t.Helper()
	if g.cpuacct != "" {
		data, err := os.ReadFile(filepath.Join(g.cpuacct, "cpuacct.usage"))
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return time.Duration(n)
	}
	return g.stat(t)
}

// stat is cpu.stat of the v2 tree, which is there also beside v1.
func (g *group) stat(t testing.TB) time.Duration {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(g.unified, "cpu.stat"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "usage_usec "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return time.Duration(n) * time.Microsecond
		}
	}
	t.Fatal("no usage_usec in cpu.stat")
	return 0
}

// start runs the helper born in the group, or in one below it.
func (g *group) start(t testing.TB, what string, below ...string) *exec.Cmd {
	t.Helper()
	at := filepath.Join(append([]string{g.unified}, below...)...)
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(at)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperVar+"="+what)
	cmd.Stderr = os.Stderr
	if strings.HasPrefix(what, "until") {
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { in.Close() })
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Pdeathsig: syscall.SIGKILL}
	if g.cpuacct == "" {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	// v1 has no birth in a group: the calling thread, alone, goes there.
	runtime.LockOSThread() // for good: the thread ends with its goroutine
	tid := strconv.Itoa(unix.Gettid())
	book()
	if err := os.WriteFile(filepath.Join(g.cpuacct, "tasks"), []byte(tid), 0); err != nil {
		t.Fatal(err)
	}
	err = cmd.Start()
	book()
	if err := os.WriteFile("/sys/fs/cgroup/cpuacct/tasks", []byte(tid), 0); err != nil {
		t.Error(err)
	}
	runtime.UnlockOSThread()
	if err != nil {
		t.Fatal(err)
	}
	return cmd
}

// book makes the scheduler account the calling thread's running slice.
func book() {
	var now unix.Timespec
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now)
}

func newMeter(t testing.TB, namespace string) *Meter {
	t.Helper()
	testenv.Require(t, "bpf", Available())
	m, err := New(Config{Namespace: namespace})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// unique returns a name that no other test and no other test process uses.
func unique() string {
	return fmt.Sprintf("xeno-test-%d-%d", os.Getpid(), names.Add(1))
}

// destroy forgets all and closes, and checks that nothing is left.
func destroy(t testing.TB, m *Meter) {
	t.Helper()
	if err := m.Sweep(context.Background(), nil); err != nil {
		t.Error(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(m.pins.base); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v, want it gone", m.pins.base, err)
	}
}

func agree(t testing.TB, what string, meter, kernel time.Duration) {
	t.Helper()
	diff := meter - kernel
	t.Logf("%s: meter %v, kernel %v, difference %v (%.4f %%)", what, meter, kernel, diff, 100*float64(diff)/float64(max(kernel, 1)))
	if diff.Abs() > kernel/1000+time.Millisecond {
		t.Errorf("%s: difference %v, want at most 0.1 %% + 1 ms", what, diff)
	}
}

// pair reads the meter and cpu.stat as of one instant.
func (g *group) pair(t testing.TB, m *Meter, id string) (metered, kernel time.Duration) {
	t.Helper()
	a, b, err := Pair(context.Background(), m, id, func(context.Context) (hypervisor.Usage, error) {
		return hypervisor.Usage{Source: "cgroup", CPU: g.stat(t)}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return a.CPU, b.CPU
}

func TestAgreesWithKernel(t *testing.T) {
	ctx := context.Background()
	m := newMeter(t, unique())
	defer destroy(t, m)
	for _, tt := range []struct {
		name  string
		loads []string
		below []string
	}{
		{"spin", []string{"spin 1000"}, nil},
		{"oversubscribed", []string{"spin 300", "spin 300", "spin 300", "spin 300"}, nil},
		{"switching", []string{"threads 8"}, nil},
		{"forks", []string{"forks 60"}, nil},
		{"mixed", []string{"mixed 150", "mixed 150"}, nil},
		{"idle", []string{"idle"}, nil},
		{"nested", []string{"spin 200", "threads 4"}, []string{"a", "b", "c"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGroup(t, unique())
			in := hypervisor.Instance{ID: tt.name, Cgroup: g.name}
			must(t, m.Track(ctx, in))
			var cmds []*exec.Cmd
			for _, load := range tt.loads {
				cmds = append(cmds, g.start(t, load, tt.below...))
			}
			for _, cmd := range cmds {
				must(t, cmd.Wait())
			}
			metered, kernel := g.pair(t, m, tt.name)
			agree(t, "cpu.stat", metered, kernel)
			if g.cpuacct != "" {
				// v1 alone also counts the thread that forks, some 0.3 ms each.
				forked := time.Duration(len(cmds)-1) * time.Millisecond
				agree(t, "cpuacct", metered, max(metered, g.kernel(t)-forked))
			}
			if metered == 0 {
				t.Error("nothing was counted")
			}
		})
	}
}

func TestReadsRunningSlices(t *testing.T) {
	ctx := context.Background()
	m := newMeter(t, unique())
	defer destroy(t, m)
	g := newGroup(t, unique())
	must(t, m.Track(ctx, hypervisor.Instance{ID: "run", Cgroup: g.name}))
	cmd := g.start(t, "until 2")
	var last, worst time.Duration
	const readings = 300
	outside, naive, ran := 0, 0, 0
	for range readings {
		single, err := m.Read(ctx, "run")
		must(t, err)
		if (single.CPU - g.stat(t)).Abs() > single.CPU/1000+time.Millisecond {
			naive++
		}
		metered, kernel := g.pair(t, m, "run")
		if metered < last {
			t.Fatalf("reading fell from %v to %v", last, metered)
		}
		last = metered
		diff := (metered - kernel).Abs()
		worst = max(worst, diff)
		if diff > kernel/1000+time.Millisecond {
			outside++
		}
		d, err := m.Detail(ctx, "run")
		must(t, err)
		ran += min(d.Running, 1)
		spin(2 * time.Millisecond)
	}
	t.Logf("CPU %v; worst difference of a pair %v; %d of %d pairs and %d of as many single readings beyond 0.1 %% + 1 ms; %d readings caught it running",
		last, worst, outside, readings, naive, ran)
	if outside > 0 {
		t.Errorf("%d pairs beyond the tolerance", outside)
	}
	if last == 0 || ran == 0 {
		t.Error("nothing was counted while it ran")
	}
	must(t, cmd.Process.Kill())
	cmd.Wait()
	metered, kernel := g.pair(t, m, "run")
	agree(t, "at the end", metered, kernel)
}

// A single thread that has a CPU for itself is never switched away: all it used
// is its running slice.
func TestReadsEndlessSlice(t *testing.T) {
	ctx := context.Background()
	m := newMeter(t, unique())
	defer destroy(t, m)
	g := newGroup(t, unique())
	must(t, m.Track(ctx, hypervisor.Instance{ID: "long", Cgroup: g.name}))
	cmd := g.start(t, "until 1")
	defer cmd.Wait()
	defer cmd.Process.Kill()
	for end := time.Now().Add(20 * time.Second); ; spin(time.Millisecond) {
		u, err := m.Read(ctx, "long")
		must(t, err)
		if u.CPU > 50*time.Millisecond {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%v counted while it runs, kernel %v", u.CPU, g.stat(t))
		}
	}
}
