// Package hypervisortest is the conformance suite that holds for every driver
// of environments.
package hypervisortest

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/internal/testenv"
)

// Conform checks a driver against the contract of hypervisor.Driver.
//
// newDriver returns a driver on the state directory dir, which exists and is
// empty at first; it is called again for the same directory, to play a daemon
// that was restarted. makeSpec returns a spec for an environment that writes
// to its console or standard output and then goes on until it is stopped,
// using some CPU time on the way; it must not depend on earlier calls.
func Conform(t *testing.T, newDriver func(dir string) hypervisor.Driver, makeSpec func(id string) hypervisor.Spec) {
	tests := []struct {
		name string
		run  func(*suite)
	}{
		{"life", (*suite).life},
		{"bad spec", (*suite).badSpec},
		{"unknown", (*suite).unknown},
		{"usage and logs", (*suite).usageAndLogs},
		{"restart", (*suite).restart},
		{"remove running", (*suite).removeRunning},
		{"killed", (*suite).killed},
		{"cancelled start", (*suite).cancelledStart},
		{"race", (*suite).race},
		{"many", (*suite).many},
		{"pause", (*suite).pause},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := &suite{T: t, dir: dir, newDriver: newDriver, spec: makeSpec, driver: newDriver(dir)}
			t.Cleanup(s.clean)
			tt.run(s)
		})
	}
}

// life goes through start, a second start, stop, remove and start again.
func (s *suite) life() {
	spec := s.spec("life")
	began := time.Now()
	in := s.start("life")
	if in.ID != "life" || in.Kind != spec.Kind || in.Driver != s.driver.Name() || in.Driver == "" {
		s.Errorf("started %+v", in)
	}
	if in.State != hypervisor.StateRunning && in.State != hypervisor.StateStarting {
		s.Errorf("state %s after start", in.State)
	}
	if in.PID <= 1 || !alive(in.PID) {
		s.Errorf("process %d does not run", in.PID)
	}
	if in.Started.Before(began.Add(-time.Second)) || in.Started.After(time.Now().Add(time.Second)) {
		s.Errorf("started at %v, it is %v", in.Started, began)
	}
	listed := s.mustFind(s.driver, "life")
	listed.State = in.State
	if diff := cmp.Diff(in, listed, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		s.Errorf("list differs from start (-started +listed):\n%s", diff)
	}
	_, err := s.driver.Start(s.Context(), spec)
	s.is(err, hypervisor.ErrExists)
	if !alive(in.PID) {
		s.Error("a second start ended the first")
	}
	running := s.usage(s.driver, "life")
	for range 2 {
		s.ok(s.driver.Stop(s.Context(), "life", grace))
	}
	if alive(in.PID) {
		s.Errorf("process %d runs after stop", in.PID)
	}
	ended := s.mustFind(s.driver, "life")
	if ended.State != hypervisor.StateExited || ended.PID != 0 || !ended.Started.Equal(in.Started) {
		s.Errorf("after stop: %+v", ended)
	}
	last := s.usage(s.driver, "life")
	s.notLess(running, last)
	if again := s.usage(s.driver, "life"); again != last {
		s.Errorf("usage of the dead grew from %+v to %+v", last, again)
	}
	_, _, err = s.driver.Logs(s.Context(), "life", 100)
	s.ok(err)
	_, err = s.driver.Start(s.Context(), spec)
	s.is(err, hypervisor.ErrExists)
	s.ok(s.driver.Remove(s.Context(), "life"))
	s.noTrace("life")
	s.is(s.driver.Remove(s.Context(), "life"), hypervisor.ErrNotFound)
	s.start("life")
}

func (s *suite) badSpec() {
	tests := map[string]func(*hypervisor.Spec){
		"no ID":             func(p *hypervisor.Spec) { p.ID = "" },
		"path as ID":        func(p *hypervisor.Spec) { p.ID = "../escape" },
		"no CPU":            func(p *hypervisor.Spec) { p.CPUs = 0 },
		"no memory":         func(p *hypervisor.Spec) { p.MemoryBytes = 0 },
		"unknown kind":      func(p *hypervisor.Spec) { p.Kind = "unknown" },
		"relative paths":    func(p *hypervisor.Spec) { p.Module, p.Kernel = "rel", "rel" },
		"missing files":     func(p *hypervisor.Spec) { missing(p, "/no/such/file") },
		"directory as file": func(p *hypervisor.Spec) { missing(p, s.TempDir()) },
	}
	for name, edit := range tests {
		spec := s.spec("bad")
		edit(&spec)
		in, err := s.driver.Start(s.Context(), spec)
		if !errors.Is(err, hypervisor.ErrBadSpec) {
			s.Errorf("%s: got %+v, %v, want %v", name, in, err, hypervisor.ErrBadSpec)
		}
		if list, err := s.driver.List(s.Context()); err != nil || len(list) != 0 {
			s.Errorf("%s: left %v, %v", name, list, err)
		}
		s.noTrace("bad")
	}
}

func (s *suite) unknown() {
	for _, id := range []string{"unknown", "", "../x", strings.Repeat("a", 1000)} {
		s.is(s.driver.Stop(s.Context(), id, 0), hypervisor.ErrNotFound)
		s.is(s.driver.Remove(s.Context(), id), hypervisor.ErrNotFound)
		_, err := s.driver.Usage(s.Context(), id)
		s.is(err, hypervisor.ErrNotFound)
		_, _, err = s.driver.Logs(s.Context(), id, 1)
		s.is(err, hypervisor.ErrNotFound)
		if p, ok := s.driver.(hypervisor.Pauser); ok {
			s.is(p.Pause(s.Context(), id), hypervisor.ErrNotFound)
			s.is(p.Resume(s.Context(), id), hypervisor.ErrNotFound)
		}
	}
	if list, err := s.driver.List(s.Context()); err != nil || len(list) != 0 {
		s.Errorf("empty directory: %v, %v", list, err)
	}
}

func (s *suite) usageAndLogs() {
	s.start("uselog")
	u := s.usage(s.driver, "uselog")
	if u.Source == "" {
		s.Error("usage has no source")
	}
	s.until("output", func() bool {
		now := s.usage(s.driver, "uselog")
		s.notLess(u, now)
		u = now
		out, errs, err := s.driver.Logs(s.Context(), "uselog", 1<<20)
		s.ok(err)
		return len(out)+len(errs) > 2
	})
	s.until("CPU time", func() bool { return s.usage(s.driver, "uselog").CPU > 0 })
	if now := s.usage(s.driver, "uselog"); now.Run <= 0 || now.Run > time.Hour {
		s.Errorf("run time %v", now.Run)
	}
	for _, limit := range []int{0, 1, 2} {
		out, errs, err := s.driver.Logs(s.Context(), "uselog", limit)
		if err != nil || len(out) > limit || len(errs) > limit {
			s.Errorf("limit %d: got %d and %d bytes, %v", limit, len(out), len(errs), err)
		}
	}
}

// restart hands an instance from one driver to the next.
func (s *suite) restart() {
	first := s.driver
	in := s.start("restart")
	u := s.usage(first, "restart")
	second := s.newDriver(s.dir)
	found := s.mustFind(second, "restart")
	if found.PID != in.PID || !found.Started.Equal(in.Started) || found.State == hypervisor.StateExited || found.Cgroup != in.Cgroup || found.Tap != in.Tap {
		s.Errorf("found %+v again, started %+v", found, in)
	}
	now := s.usage(second, "restart")
	s.notLess(u, now)
	_, err := second.Start(s.Context(), s.spec("restart"))
	s.is(err, hypervisor.ErrExists)
	s.ok(second.Stop(s.Context(), "restart", grace))
	if alive(in.PID) {
		s.Errorf("process %d runs after stop", in.PID)
	}
	third := s.newDriver(s.dir)
	for _, d := range []hypervisor.Driver{first, third} {
		if in := s.mustFind(d, "restart"); in.State != hypervisor.StateExited {
			s.Errorf("after stop by another driver: %+v", in)
		}
		s.notLess(now, s.usage(d, "restart"))
	}
	s.ok(third.Remove(s.Context(), "restart"))
	if _, ok := s.find(first, "restart"); ok {
		s.Error("listed after remove by another driver")
	}
	s.gone(in)
}

func (s *suite) removeRunning() {
	in := s.start("remove")
	s.ok(s.driver.Remove(s.Context(), "remove"))
	s.gone(in)
	_, err := s.driver.Usage(s.Context(), "remove")
	s.is(err, hypervisor.ErrNotFound)
}

// killed ends the environment's process from outside, as the kernel does when
// memory runs out.
func (s *suite) killed() {
	in := s.start("killed")
	u := s.usage(s.driver, "killed")
	s.ok(unix.Kill(in.PID, unix.SIGKILL))
	s.until("exit noticed", func() bool {
		return s.mustFind(s.driver, "killed").State == hypervisor.StateExited
	})
	s.notLess(u, s.usage(s.driver, "killed"))
	s.ok(s.driver.Stop(s.Context(), "killed", 0))
}

func (s *suite) cancelledStart() {
	s.start("probe") // skips where not supported
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	if in, err := s.driver.Start(ctx, s.spec("cancel")); err == nil {
		s.Errorf("started %+v though cancelled", in)
	}
	if in, ok := s.find(s.driver, "cancel"); ok {
		s.Errorf("left %+v", in)
	}
	s.noTrace("cancel")
}

// race starts one ID many times at once.
func (s *suite) race() {
	const n = 4
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { _, errs[i] = s.driver.Start(s.Context(), s.spec("race")) })
	}
	wg.Wait()
	started := 0
	for _, err := range errs {
		if errors.Is(err, hypervisor.ErrNotSupported) {
			testenv.Require(s, s.driver.Name(), err)
		}
		if err == nil {
			started++
		} else {
			s.is(err, hypervisor.ErrExists)
		}
	}
	if started != 1 {
		s.Errorf("%d of %d starts succeeded", started, n)
	}
	s.mustFind(s.driver, "race")
}

// many uses several instances at once.
func (s *suite) many() {
	s.start("m-first") // skips where not supported
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			id := "m-" + strconv.Itoa(i)
			if _, err := s.driver.Start(s.Context(), s.spec(id)); err != nil {
				s.Error(err)
				return
			}
			_, err := s.driver.List(s.Context())
			s.ok(err)
			_, err = s.driver.Usage(s.Context(), id)
			s.ok(err)
			_, _, err = s.driver.Logs(s.Context(), id, 10)
			s.ok(err)
			s.ok(s.driver.Stop(s.Context(), id, 0))
			s.ok(s.driver.Remove(s.Context(), id))
		})
	}
	wg.Wait()
	list, err := s.driver.List(s.Context())
	if err != nil || len(list) != 1 || list[0].ID != "m-first" || list[0].State == hypervisor.StateExited {
		s.Errorf("left %v, %v", list, err)
	}
}

func (s *suite) pause() {
	p, ok := s.driver.(hypervisor.Pauser)
	if !ok {
		return
	}
	s.start("pause")
	s.until("CPU time", func() bool { return s.usage(s.driver, "pause").CPU > 0 })
	for range 2 { // twice is no error
		s.ok(p.Pause(s.Context(), "pause"))
	}
	for _, d := range []hypervisor.Driver{s.driver, s.newDriver(s.dir)} {
		if in := s.mustFind(d, "pause"); in.State != hypervisor.StatePaused {
			s.Errorf("state %s after pause", in.State)
		}
	}
	before := s.usage(s.driver, "pause")
	paused := time.Now()
	s.until("some time paused", func() bool { return time.Since(paused) > 10*interval })
	after := s.usage(s.driver, "pause")
	s.notLess(before, after)
	if after.Run-before.Run > interval {
		s.Errorf("ran %v while paused", after.Run-before.Run)
	}
	for range 2 {
		s.ok(p.Resume(s.Context(), "pause"))
	}
	if in := s.mustFind(s.driver, "pause"); in.State != hypervisor.StateRunning && in.State != hypervisor.StateStarting {
		s.Errorf("state %s after resume", in.State)
	}
	resumed := s.usage(s.driver, "pause")
	s.notLess(after, resumed)
	s.until("run time grows again", func() bool { return s.usage(s.driver, "pause").Run > resumed.Run })
	s.ok(p.Pause(s.Context(), "pause"))
	s.ok(s.driver.Stop(s.Context(), "pause", grace))
	if in := s.mustFind(s.driver, "pause"); in.State != hypervisor.StateExited {
		s.Errorf("state %s after stop of a paused one", in.State)
	}
}
