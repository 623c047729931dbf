package qemu

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/cgroup"
	"github.com/xenoserver/xeno/hypervisor/hypervisortest"
	"github.com/xenoserver/xeno/hypervisor/image"
	"github.com/xenoserver/xeno/hypervisor/image/boot"
	"github.com/xenoserver/xeno/hypervisor/network"
	"github.com/xenoserver/xeno/hypervisor/process"
	"github.com/xenoserver/xeno/hypervisor/vmm"
	"github.com/xenoserver/xeno/internal/testenv"
)

func TestMain(m *testing.M) {
	process.MaybeRun()
	if os.Args[0] == daemonArg {
		fmt.Fprintln(os.Stderr, daemon(os.Args[1], os.Args[2]))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// A world is what the guests of one test need.
type world struct {
	image  string
	owner  string
	groups *cgroup.Tree
}

// newWorld builds an image and skips where guests cannot run.
func newWorld(t *testing.T) *world {
	t.Helper()
	testenv.Require(t, "root", network.Available())
	w := &world{image: t.TempDir(), owner: fmt.Sprintf("test-%d-%d", os.Getpid(), time.Now().UnixNano()%1e9)}
	_, err := image.Build(t.Context(), image.Options{Out: w.image})
	testenv.Require(t, "qemu", err)
	w.groups, err = cgroup.Open(cgroup.Config{Parent: w.owner})
	testenv.Require(t, "root", err)
	t.Cleanup(func() {
		if err := w.groups.Close(); err != nil {
			t.Error(err)
		}
	})
	testenv.Require(t, "qemu", w.driver(t, t.TempDir()).Available(t.Context()))
	return w
}

func (w *world) driver(t *testing.T, dir string, edit ...func(*Config)) *Driver {
	t.Helper()
	d, err := newDriver(dir, w.owner, w.groups, edit...)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func newDriver(dir, owner string, groups *cgroup.Tree, edit ...func(*Config)) (*Driver, error) {
	nets, err := network.New(network.Config{Owner: owner})
	if err != nil {
		return nil, err
	}
	c := Config{Config: vmm.Config{Dir: dir, Network: nets, Cgroups: groups}, Accel: vmm.TCG}
	for _, f := range edit {
		f(&c)
	}
	return New(c)
}

func newKey(t *testing.T) (ssh.Signer, []byte) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer, pem.EncodeToMemory(block)
}

// A guest is a started guest with the keys of its two ends.
type guest struct {
	hypervisor.Instance
	host, client ssh.Signer
}

func (w *world) spec(t *testing.T, id string) (hypervisor.Spec, guest) {
	t.Helper()
	host, pemKey := newKey(t)
	client, _ := newKey(t)
	return hypervisor.Spec{
		ID: id, Kind: hypervisor.KindLinux, CPUs: 1, MemoryBytes: 128 << 20,
		Kernel: filepath.Join(w.image, image.KernelName), Initrd: filepath.Join(w.image, image.InitrdName),
		HostKey: pemKey, SSHKeys: []string{string(ssh.MarshalAuthorizedKey(client.PublicKey()))[:80]},
		NetworkRate: 10 << 20,
	}, guest{host: host, client: client}
}

// boot starts a guest and waits until it answers.
func (w *world) boot(t *testing.T, d *Driver, id string, edit func(*hypervisor.Spec)) guest {
	t.Helper()
	spec, g := w.spec(t, id)
	if edit != nil {
		edit(&spec)
	}
	in, err := d.Start(t.Context(), spec)
	testenv.Require(t, "qemu", err)
	t.Cleanup(func() {
		if err := d.Remove(context.Background(), id); err != nil && !errors.Is(err, hypervisor.ErrNotFound) {
			t.Error(err)
		}
	})
	g.Instance = in
	g.await(t, d)
	return g
}

const bootTimeout = 2 * time.Minute

func (g guest) await(t *testing.T, d *Driver) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootTimeout)
	defer cancel()
	for {
		try, stop := context.WithTimeout(ctx, time.Second)
		_, err := network.Probe(try, netip.AddrPortFrom(g.Guest, boot.SSHPort))
		stop()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			console, said, _ := d.Logs(context.Background(), g.ID, 4<<10)
			t.Fatalf("%s does not answer: %v\nconsole: %s\nqemu: %s", g.ID, err, console, said)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (g guest) dial(client, host ssh.Signer) (*ssh.Client, error) {
	return ssh.Dial("tcp", netip.AddrPortFrom(g.Guest, boot.SSHPort).String(), &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(client)},
		HostKeyCallback: ssh.FixedHostKey(host.PublicKey()), Timeout: 30 * time.Second,
	})
}

func (g guest) login(t *testing.T) *ssh.Client {
	t.Helper()
	c, err := g.dial(g.client, g.host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// run runs a command in the guest.
func run(t *testing.T, c *ssh.Client, command string) (string, error) {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.CombinedOutput(command)
	return string(out), err
}

func TestConform(t *testing.T) {
	w := newWorld(t)
	hypervisortest.Conform(t,
		func(dir string) hypervisor.Driver { return w.driver(t, dir) },
		func(id string) hypervisor.Spec { s, _ := w.spec(t, id); return s })
	nets, err := network.New(network.Config{Owner: w.owner})
	if err != nil {
		t.Fatal(err)
	}
	if taps, err := nets.List(); err != nil || len(taps) != 0 {
		t.Errorf("taps left: %v, %v", taps, err)
	}
	if names, err := w.groups.List(); err != nil || len(names) != 0 {
		t.Errorf("control groups left: %v, %v", names, err)
	}
}

// TestReadopt starts a guest from a daemon that is then killed with SIGKILL.
func TestReadopt(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	spec, g := w.spec(t, "adopt")
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{daemonArg, dir, w.owner}
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	err = json.NewDecoder(out).Decode(&g.Instance)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err != nil {
		t.Fatal(err)
	}

	d := w.driver(t, dir)
	t.Cleanup(func() {
		if err := d.Remove(context.Background(), "adopt"); err != nil {
			t.Error(err)
		}
	})
	if removed, err := d.Sweep(t.Context()); err != nil || len(removed) != 0 {
		t.Errorf("sweep: %v, %v", removed, err)
	}
	list, err := d.List(t.Context())
	if err != nil || len(list) != 1 || list[0].PID != g.PID || list[0].Tap != g.Tap || list[0].State != hypervisor.StateRunning {
		t.Fatalf("list %+v, %v; started %+v", list, err, g.Instance)
	}
	g.await(t, d)
	if out, err := run(t, g.login(t), "echo alive"); err != nil || out != "alive\n" {
		t.Errorf("%q, %v", out, err)
	}
	if err := unix.Kill(g.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for list[0].State != hypervisor.StateExited && time.Now().Before(deadline) {
		if list, err = d.List(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if list[0].State != hypervisor.StateExited || !strings.Contains(list[0].Err, "signal 9") {
		t.Errorf("after kill: %+v", list[0])
	}
	if u, err := d.Usage(t.Context(), "adopt"); err != nil || u.TxBytes == 0 || u.Run == 0 {
		t.Errorf("usage of the dead: %+v, %v", u, err)
	}
}

// daemonArg makes the test program a daemon that starts the guest on its
// standard input, says so and waits to be killed.
const daemonArg = "qemu-test-daemon"

func daemon(dir, owner string) error {
	var spec hypervisor.Spec
	if err := json.NewDecoder(os.Stdin).Decode(&spec); err != nil {
		return err
	}
	groups, err := cgroup.Open(cgroup.Config{Parent: owner})
	if err != nil {
		return err
	}
	d, err := newDriver(dir, owner, groups)
	if err != nil {
		return err
	}
	in, err := d.Start(context.Background(), spec)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(in); err != nil {
		return err
	}
	select {}
}

func TestSweep(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	d := w.driver(t, dir)
	nets, err := network.New(network.Config{Owner: w.owner})
	if err != nil {
		t.Fatal(err)
	}
	// A start that was cut short, and a tap whose directory is gone.
	for _, id := range []string{"half", "orphan"} {
		_, f, err := nets.Create(t.Context(), network.Options{ID: id})
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	if err := os.MkdirAll(filepath.Join(dir, "half"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := w.groups.Create("half", cgroup.Limits{}); err != nil {
		t.Fatal(err)
	}
	if list, err := d.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("list: %v, %v", list, err)
	}
	removed, err := d.Sweep(t.Context())
	if err != nil || len(removed) != 2 {
		t.Errorf("sweep: %v, %v", removed, err)
	}
	if taps, err := nets.List(); err != nil || len(taps) != 0 {
		t.Errorf("taps left: %v, %v", taps, err)
	}
	if names, err := w.groups.List(); err != nil || len(names) != 0 {
		t.Errorf("control groups left: %v, %v", names, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "half")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory left: %v", err)
	}
}

// TestPauseCutShort plays a daemon that dies between a pause or resume and its
// record, which the monitor then knows better than.
func TestPauseCutShort(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	d := w.driver(t, dir)
	spec, _ := w.spec(t, "pause")
	_, err := d.Start(t.Context(), spec)
	testenv.Require(t, "qemu", err)
	t.Cleanup(func() {
		if err := d.Remove(context.Background(), "pause"); err != nil {
			t.Error(err)
		}
	})
	monitor := client{filepath.Join(dir, "pause", "qmp")}
	for _, tt := range []struct {
		before  func(context.Context, string) error
		command string // behind the driver's back
		after   func(context.Context, string) error
		want    hypervisor.State
	}{
		{d.Pause, "cont", d.Pause, hypervisor.StatePaused},
		{d.Resume, "stop", d.Resume, hypervisor.StateRunning},
		{d.Pause, "cont", sweep(w.driver(t, dir)), hypervisor.StateRunning},
		{d.Resume, "stop", sweep(w.driver(t, dir)), hypervisor.StatePaused},
	} {
		if err := tt.before(t.Context(), "pause"); err != nil {
			t.Fatal(err)
		}
		if err := monitor.execute(t.Context(), tt.command, nil); err != nil {
			t.Fatal(err)
		}
		if err := tt.after(t.Context(), "pause"); err != nil {
			t.Fatal(err)
		}
		running, err := monitor.Running(t.Context())
		list, listErr := d.List(t.Context())
		if err != nil || listErr != nil || list[0].State != tt.want || running != (tt.want == hypervisor.StateRunning) {
			t.Errorf("after %s: guest runs: %v, %v, listed %+v, %v, want %s", tt.command, running, err, list, listErr, tt.want)
		}
	}
}

func sweep(d *Driver) func(context.Context, string) error {
	return func(ctx context.Context, _ string) error {
		removed, err := d.Sweep(ctx)
		if err == nil && len(removed) > 0 {
			err = fmt.Errorf("removed %v", removed)
		}
		return err
	}
}

// TestFailedStart breaks starts in several places and looks for what is left.
func TestFailedStart(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	script := filepath.Join(t.TempDir(), "qemu")
	// The guest's user has to get there.
	if err := os.Chmod(filepath.Dir(filepath.Dir(script)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho it does not work >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	m := cgroup.NewMeter(w.groups)
	d := w.driver(t, dir, func(c *Config) { c.Binary, c.Meter = script, m })
	spec, _ := w.spec(t, "fail")
	_, err := d.Start(t.Context(), spec)
	if err == nil || !strings.Contains(err.Error(), "it does not work") {
		t.Errorf("got %v", err)
	}
	if u, err := m.Read(t.Context(), "fail"); !errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("still metered: %+v, %v", u, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left %v, %v", entries, err)
	}
	nets, err := network.New(network.Config{Owner: w.owner})
	if err != nil {
		t.Fatal(err)
	}
	if taps, err := nets.List(); err != nil || len(taps) != 0 {
		t.Errorf("taps left: %v, %v", taps, err)
	}
	if names, err := w.groups.List(); err != nil || len(names) != 0 {
		t.Errorf("control groups left: %v, %v", names, err)
	}
	d.config.Binary = "no-such-qemu"
	if _, err := d.Start(t.Context(), spec); !errors.Is(err, hypervisor.ErrNotSupported) || !strings.Contains(err.Error(), "apt install") {
		t.Errorf("without QEMU: %v", err)
	}
}

// TestSeveral runs guests side by side that must not see each other.
func TestSeveral(t *testing.T) {
	w := newWorld(t)
	d := w.driver(t, t.TempDir())
	guests := make([]guest, 3)
	began := time.Now()
	t.Run("boot", func(t *testing.T) {
		for i := range guests {
			spec, g := w.spec(t, fmt.Sprint("several-", i))
			var err error
			if g.Instance, err = d.Start(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			guests[i] = g
		}
	})
	t.Cleanup(func() {
		for _, g := range guests {
			if err := d.Remove(context.Background(), g.ID); err != nil {
				t.Error(err)
			}
		}
	})
	for _, g := range guests {
		g.await(t, d)
	}
	t.Logf("%d guests answer after %v", len(guests), time.Since(began).Round(time.Millisecond))
	for i, g := range guests {
		c := g.login(t)
		next := guests[(i+1)%len(guests)]
		if _, err := g.dial(next.client, g.host); err == nil {
			t.Errorf("%s lets the client of %s in", g.ID, next.ID)
		}
		if out, err := run(t, c, fmt.Sprintf("hostname; nc -w 1 %v 22 </dev/null", next.Guest)); err == nil || !strings.HasPrefix(out, "xeno-"+g.ID+"\n") {
			t.Errorf("%s reaches %s: %q, %v", g.ID, next.ID, out, err)
		}
	}
}

// TestReadingsAgree compares the driver's reading with the control group's
// after the end: they must not differ by more than 0.1 % and 1 ms.
func TestReadingsAgree(t *testing.T) {
	w := newWorld(t)
	m := cgroup.NewMeter(w.groups)
	d := w.driver(t, t.TempDir(), func(c *Config) { c.Meter = m })
	g := w.boot(t, d, "metered", nil)
	if err := d.Stop(t.Context(), g.ID, time.Minute); err != nil {
		t.Fatal(err)
	}
	got, err := d.Usage(t.Context(), g.ID)
	if err != nil {
		t.Fatal(err)
	}
	want, err := m.Read(t.Context(), g.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := (got.CPU - want.CPU).Abs(); diff > want.CPU/1000+time.Millisecond {
		t.Errorf("CPU %v, control group %v", got.CPU, want.CPU)
	}
	if got.RxBytes != want.RxBytes || got.TxBytes != want.TxBytes || got.TxBytes == 0 {
		t.Errorf("bytes %d in, %d out; control group's meter %d, %d", got.RxBytes, got.TxBytes, want.RxBytes, want.TxBytes)
	}
	t.Logf("driver %+v, control group %+v", got, want)
}

// TestStopWhileBooting presses the button of a guest that cannot feel it yet.
func TestStopWhileBooting(t *testing.T) {
	w := newWorld(t)
	d := w.driver(t, t.TempDir())
	spec, _ := w.spec(t, "early")
	if _, err := d.Start(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Remove(context.Background(), "early"); err != nil {
			t.Error(err)
		}
	})
	if err := d.Stop(t.Context(), "early", bootTimeout); err != nil {
		t.Fatal(err)
	}
	console, _, err := d.Logs(t.Context(), "early", 1<<20)
	if err != nil || !strings.Contains(string(console), "power off: button") {
		t.Errorf("console %q, %v", console, err)
	}
}
