package vmm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/process"
)

func TestMain(m *testing.M) {
	process.MaybeRun()
	os.Exit(m.Run())
}

// A world has monitors that do nothing but live.
type world struct {
	driver *Driver
	meter  tracker
	kernel string

	mu     sync.Mutex // guards the following
	paused bool       // the guest
	fail   error      // what Pause and Resume return, when they have done it
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{meter: tracker{}, kernel: filepath.Join(t.TempDir(), "kernel")}
	must(t, os.WriteFile(w.kernel, nil, 0o600))
	w.driver = w.newDriver(t, t.TempDir())
	t.Cleanup(func() {
		_, err := w.driver.Sweep(context.Background())
		list, listErr := w.driver.List(context.Background())
		must(t, errors.Join(err, listErr))
		for _, in := range list {
			must(t, w.driver.Remove(context.Background(), in.ID))
		}
	})
	return w
}

// newDriver is the daemon's, or the next one's on the same directory.
func (w *world) newDriver(t *testing.T, dir string) *Driver {
	t.Helper()
	d, err := New(Config{Dir: dir, Meter: w.meter}, Program{
		Name: "test", Title: "Test", MinMemory: 1 << 20, Socket: "socket",
		Monitor: func(string) Monitor { return w },
	})
	must(t, err)
	return d
}

func (w *world) start(t *testing.T, id string) (hypervisor.Instance, error) {
	t.Helper()
	spec := hypervisor.Spec{ID: id, Kind: hypervisor.KindLinux, CPUs: 1, MemoryBytes: 1 << 20, Kernel: w.kernel, Initrd: w.kernel}
	must(t, w.driver.Validate(spec))
	sleep, err := exec.LookPath("sleep")
	must(t, err)
	return w.driver.Launch(t.Context(), Launch{
		Spec: spec, Accel: TCG, Binary: sleep, MaxFiles: 100, MaxFileBytes: 1 << 20,
		Args: func(*Machine) []string { return []string{"1000"} },
		Boot: func(context.Context, *Machine) error { return nil },
	})
}

func (w *world) Running(context.Context) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.paused, nil
}

func (w *world) Pause(context.Context) error  { return w.set(true) }
func (w *world) Resume(context.Context) error { return w.set(false) }

func (w *world) set(paused bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paused = paused
	return w.fail
}

func (w *world) PowerButton(context.Context) error { return errors.New("no button") }
func (w *world) Quit(context.Context) error        { return errors.New("no end") }

// A tracker is a meter that counts nothing. Like the kernel's it refuses a
// second environment under an ID that it was not told to forget.
type tracker map[string]bool

func (m tracker) Source() string { return "tracker" }

func (m tracker) Track(_ context.Context, in hypervisor.Instance) error {
	if m[in.ID] {
		return fmt.Errorf("%s: %w", in.ID, hypervisor.ErrExists)
	}
	m[in.ID] = true
	return nil
}

func (m tracker) Read(context.Context, string) (hypervisor.Usage, error) {
	return hypervisor.Usage{}, nil
}

func (m tracker) Forget(_ context.Context, id string) error {
	delete(m, id)
	return nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// editRecord changes an instance's record as JSON, as another daemon may have
// left it.
func (w *world) editRecord(t *testing.T, id string, edit func(map[string]any)) {
	t.Helper()
	name := filepath.Join(w.driver.dir(id), recordName)
	data, err := os.ReadFile(name)
	must(t, err)
	var r map[string]any
	must(t, json.Unmarshal(data, &r))
	edit(r)
	data, err = json.Marshal(r)
	must(t, err)
	must(t, os.WriteFile(name, data, 0o600))
}

func (w *world) states(t *testing.T) map[string]hypervisor.State {
	t.Helper()
	list, err := w.driver.List(t.Context())
	must(t, err)
	states := make(map[string]hypervisor.State)
	for _, in := range list {
		states[in.ID] = in.State
	}
	return states
}

// A start that the daemon's death cut short is no instance, and can be swept or
// started over.
func TestCutShort(t *testing.T) {
	w := newWorld(t)
	first, err := w.start(t, "cut")
	must(t, err)
	half := func(r map[string]any) { r["booted"] = false }
	w.editRecord(t, "cut", half)
	if s := w.states(t); len(s) != 0 {
		t.Errorf("listed %v", s)
	}
	second, err := w.start(t, "cut")
	must(t, err)
	if second.PID == first.PID {
		t.Error("the first process was taken over")
	}
	w.editRecord(t, "cut", half)
	swept, err := w.driver.Sweep(t.Context())
	if err != nil || !slices.Equal(swept, []string{"cut"}) {
		t.Errorf("swept %v, %v", swept, err)
	}
	if entries, err := os.ReadDir(w.driver.config.Dir); err != nil || len(entries) != 0 || len(w.meter) != 0 {
		t.Errorf("left %v, metered %v, %v", entries, w.meter, err)
	}
}

// A daemon that was upgraded takes over what the one before it runs.
func TestUpgrade(t *testing.T) {
	w := newWorld(t)
	for _, id := range []string{"qemu", "half-qemu", "ch", "half-ch"} {
		_, err := w.start(t, id)
		must(t, err)
		w.editRecord(t, id, func(r map[string]any) {
			r["version"] = 1
			if strings.HasSuffix(id, "qemu") {
				delete(r, "booted")
			} else {
				delete(r, "accel")
				r["booted"] = id == "ch"
			}
		})
	}
	p, err := process.Open(filepath.Join(w.driver.dir("half-qemu"), processName))
	must(t, err)
	must(t, p.Remove(t.Context()))

	w.driver = w.newDriver(t, w.driver.config.Dir)
	want := map[string]hypervisor.State{"qemu": hypervisor.StateRunning, "ch": hypervisor.StateRunning}
	if got := w.states(t); !maps.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
	swept, err := w.driver.Sweep(t.Context())
	if err != nil || !slices.Equal(swept, []string{"half-ch", "half-qemu"}) {
		t.Errorf("swept %v, %v", swept, err)
	}
	for id := range want {
		must(t, w.driver.Pause(t.Context(), id))
		if r, err := readRecord(w.driver.dir(id)); err != nil || r.Version != recordVersion || !r.Booted {
			t.Errorf("%s: record %+v, %v", id, r, err)
		}
		if _, err := w.start(t, id); !errors.Is(err, hypervisor.ErrExists) {
			t.Errorf("%s: second start: %v", id, err)
		}
	}
	if got := w.states(t); got["qemu"] != hypervisor.StatePaused || got["ch"] != hypervisor.StatePaused {
		t.Errorf("after pause: %v", got)
	}
}

// What a record of the future tells of is nobody's to delete, and hides no other.
func TestUnreadableRecord(t *testing.T) {
	w := newWorld(t)
	in, err := w.start(t, "future")
	must(t, err)
	for _, id := range []string{"half", "sound"} {
		_, err = w.start(t, id)
		must(t, err)
	}
	w.editRecord(t, "half", func(r map[string]any) { r["booted"] = false })
	w.editRecord(t, "future", func(r map[string]any) { r["version"] = recordVersion + 1 })
	if _, err := w.start(t, "future"); !errors.Is(err, hypervisor.ErrExists) {
		t.Errorf("started: %v", err)
	}
	if swept, err := w.driver.Sweep(t.Context()); err != nil || !slices.Equal(swept, []string{"half"}) {
		t.Errorf("swept %v, %v", swept, err)
	}
	list, err := w.driver.List(t.Context())
	var damaged hypervisor.DamagedError
	if !errors.As(err, &damaged) || len(damaged) != 1 || !errors.Is(damaged["future"], errRecord) {
		t.Errorf("list: %v", err)
	}
	if len(list) != 1 || list[0].ID != "sound" {
		t.Errorf("list %v", list)
	}
	w.editRecord(t, "future", func(r map[string]any) { r["version"] = recordVersion })
	list, err = w.driver.List(t.Context())
	if err != nil || len(list) != 2 || list[0].PID != in.PID {
		t.Errorf("left %v, %v", list, err)
	}
}

// An answer that is lost leaves the record right, and what the monitor did not
// do is an error.
func TestPauseAnswerLost(t *testing.T) {
	w := newWorld(t)
	_, err := w.start(t, "pause")
	must(t, err)
	w.fail = errors.New("answer lost")
	must(t, w.driver.Pause(t.Context(), "pause"))
	if s := w.states(t)["pause"]; s != hypervisor.StatePaused {
		t.Errorf("after pause: %s", s)
	}
	must(t, w.driver.Resume(t.Context(), "pause"))
	if s := w.states(t)["pause"]; s != hypervisor.StateRunning {
		t.Errorf("after resume: %s", s)
	}
	stubborn := *w.driver
	stubborn.program.Monitor = func(string) Monitor { return refusing{w} }
	for range 2 {
		if err := stubborn.Pause(t.Context(), "pause"); err == nil || !strings.HasPrefix(err.Error(), "test: pause: ") {
			t.Errorf("refused: %v", err)
		}
		if s := w.states(t)["pause"]; s != hypervisor.StateRunning {
			t.Errorf("after a refused pause: %s", s)
		}
	}
	must(t, w.driver.Stop(t.Context(), "pause", time.Minute))
	if err := w.driver.Pause(t.Context(), "pause"); err == nil || !strings.Contains(err.Error(), "exited") {
		t.Errorf("pause of the dead: %v", err)
	}
}

type refusing struct{ Monitor }

func (refusing) Pause(context.Context) error { return errors.New("not now") }

// Readings that overlap save the most of each field, and not that of another
// instance under the same ID.
func TestSaveUsage(t *testing.T) {
	w := newWorld(t)
	_, err := w.start(t, "usage")
	must(t, err)
	f, err := w.driver.find("usage")
	must(t, err)
	_, err = w.driver.save(t.Context(), f, hypervisor.Usage{CPU: 2, RxBytes: 10}, false)
	must(t, err)
	got, err := w.driver.save(t.Context(), f, hypervisor.Usage{CPU: 3, RxBytes: 5, MaxBytes: 1}, false)
	want := hypervisor.Usage{CPU: 3, RxBytes: 10, MaxBytes: 1}
	if err != nil || got != want {
		t.Errorf("saved %+v, %v, want %+v", got, err, want)
	}
	must(t, w.driver.Stop(t.Context(), "usage", 0))
	last, err := w.driver.Usage(t.Context(), "usage")
	must(t, err)
	if last.RxBytes != 10 || last.Run == 0 {
		t.Errorf("last reading %+v", last)
	}
	got, err = w.driver.save(t.Context(), f, hypervisor.Usage{CPU: time.Hour}, false)
	if err != nil || got != last {
		t.Errorf("after the final reading %+v: %+v, %v", last, got, err)
	}
	must(t, w.driver.Remove(t.Context(), "usage"))
	_, err = w.start(t, "usage")
	must(t, err)
	_, err = w.driver.save(t.Context(), f, hypervisor.Usage{CPU: time.Hour}, true)
	must(t, err)
	if r, err := readRecord(w.driver.dir("usage")); err != nil || r.Final || r.Last.CPU != 0 {
		t.Errorf("the next one's record %+v, %v", r, err)
	}
}

// A monitor that fails says why, and leaves nothing.
func TestMonitorFails(t *testing.T) {
	w := newWorld(t)
	spec := hypervisor.Spec{ID: "fails", Kind: hypervisor.KindLinux, CPUs: 1, MemoryBytes: 1 << 20, Kernel: w.kernel, Initrd: w.kernel}
	shell, err := exec.LookPath("sh")
	must(t, err)
	_, err = w.driver.Launch(t.Context(), Launch{
		Spec: spec, Binary: shell, MaxFiles: 100, MaxFileBytes: 1 << 20,
		Args: func(*Machine) []string { return []string{"-c", "echo no memory >&2; exit 3"} },
		Boot: func(ctx context.Context, _ *Machine) error { <-ctx.Done(); return ctx.Err() },
	})
	if err == nil || err.Error() != "test: the virtual machine ended at once with code 3: no memory" {
		t.Errorf("got %v", err)
	}
	if text, _ := hypervisor.Explanation(err); text != "the virtual machine ended at once with code 3" {
		t.Errorf("the client reads %q", text)
	}
	if entries, err := os.ReadDir(w.driver.config.Dir); err != nil || len(entries) != 0 || len(w.meter) != 0 {
		t.Errorf("left %v, metered %v, %v", entries, w.meter, err)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"version":1,"id":"a","accel":"tcg","group":"xeno/a","tap":"xenoabc","guest":"10.213.0.2","last":{"Source":"proc"}}`))
	f.Add([]byte(`{"version":1,"id":"a","booted":false,"idle_ns":5}`))
	f.Add([]byte(`{"version":2,"id":"a","booted":true}`))
	f.Add([]byte(`{"version":3}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decodeRecord(data)
		if err != nil {
			if !errors.Is(err, errRecord) {
				t.Errorf("unwrapped %v", err)
			}
			return
		}
		if hypervisor.ValidateID(r.ID) != nil || r.Idle < 0 || r.Version > recordVersion {
			t.Errorf("accepted %+v", r)
		}
	})
}
