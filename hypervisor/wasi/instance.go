package wasi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/process"
)

// List implements hypervisor.Driver.
func (d *Driver) List(ctx context.Context) ([]hypervisor.Instance, error) {
	entries, err := os.ReadDir(d.cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("wasi: %w", err)
	}
	var list []hypervisor.Instance
	damaged := make(hypervisor.DamagedError)
	for _, e := range entries {
		if !e.IsDir() || hypervisor.ValidateID(e.Name()) != nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("wasi: %w", err)
		}
		in, err := d.instance(e.Name())
		switch {
		case errors.Is(err, os.ErrNotExist): // being removed
		case err != nil:
			damaged[e.Name()] = err
		default:
			list = append(list, in)
		}
	}
	return list, damaged.OrNil()
}

// instance describes one instance from what is on disk and in the kernel.
func (d *Driver) instance(id string) (hypervisor.Instance, error) {
	in := hypervisor.Instance{ID: id, Kind: hypervisor.KindWASI, Driver: driverName}
	if d.isStarting(id) {
		in.State = hypervisor.StateStarting
		return in, nil
	}
	p, err := process.Open(d.processDir(id))
	if errors.Is(err, process.ErrNotFound) {
		// The daemon was killed in the middle of Start.
		in.State, in.ExitCode, in.Err = hypervisor.StateExited, -1, "its start was interrupted"
		return in, nil
	}
	if err != nil {
		return in, err
	}
	s, err := p.Status()
	if err != nil {
		return in, err
	}
	var j job
	if err := read(d.path(id, "job.json"), &j); err != nil {
		return in, err
	}
	var c control
	if err := read(d.path(id, "control.json"), &c); err != nil {
		return in, err
	}
	in.Started, in.Cgroup = s.Started, j.Cgroup
	switch {
	case !s.Running:
		in.State = hypervisor.StateExited
		in.ExitCode, in.Err = d.outcome(id, j, c, s)
	case c.PausedAt > 0:
		in.State, in.PID = hypervisor.StatePaused, s.PID
	default:
		in.State, in.PID = hypervisor.StateRunning, s.PID
	}
	return in, nil
}

// outcome tells how an instance ended.
func (d *Driver) outcome(id string, j job, c control, s process.Status) (code int, why string) {
	switch {
	case c.Stopped:
		return -1, ""
	case s.TimedOut:
		return -1, fmt.Sprintf("time limit of %v reached", j.Timeout)
	case s.Lost:
		return -1, "its keeper was killed, or the machine restarted"
	case s.Signal == unix.SIGKILL && d.outOfMemory(id):
		return -1, fmt.Sprintf("out of memory: more than %d bytes and the runtime's own", j.MemoryBytes)
	case s.Signal != 0:
		return -1, "ended by signal " + s.Signal.String()
	}
	var r result
	if err := read(d.path(id, "result.json"), &r); err != nil {
		return -1, fmt.Sprintf("its process failed with code %d; see its standard error", s.Code)
	}
	if r.Err != "" {
		return -1, r.Err
	}
	return int(r.Code), ""
}

func (d *Driver) outOfMemory(id string) bool {
	g := d.group(id)
	if g == nil {
		return false
	}
	killed, err := g.OutOfMemory()
	return err == nil && killed
}

// open finds an instance and its process; p is nil when its start was
// interrupted.
func (d *Driver) open(id string) (p *process.Process, err error) {
	if err := d.find(id); err != nil {
		return nil, err
	}
	p, err = process.Open(d.processDir(id))
	if errors.Is(err, process.ErrNotFound) {
		return nil, nil
	}
	return p, err
}

// Stop implements hypervisor.Driver.
func (d *Driver) Stop(ctx context.Context, id string, grace time.Duration) error {
	defer d.take(id)()
	p, err := d.open(id)
	if err != nil || p == nil {
		return err
	}
	s, err := p.Status()
	if err != nil || !s.Running {
		return err
	}
	if err := d.resume(ctx, id, p, s, true); err != nil {
		return err
	}
	return p.Stop(ctx, grace)
}

// Remove implements hypervisor.Driver.
func (d *Driver) Remove(ctx context.Context, id string) error {
	defer d.take(id)()
	if err := d.find(id); err != nil {
		return err
	}
	return d.forget(ctx, id)
}

// Pause implements hypervisor.Pauser. Pausing what is paused is no error.
func (d *Driver) Pause(ctx context.Context, id string) error {
	defer d.take(id)()
	p, s, c, err := d.running(id)
	if err != nil || c.PausedAt > 0 {
		return err
	}
	// Written first: killed in between, the daemon bills too little.
	c.PausedAt = s.Run
	if err := write(d.path(id, "control.json"), c); err != nil {
		return err
	}
	if g := d.group(id); g != nil {
		return g.Freeze(ctx, true)
	}
	return p.Signal(unix.SIGSTOP)
}

// Resume implements hypervisor.Pauser. Resuming what runs is no error.
func (d *Driver) Resume(ctx context.Context, id string) error {
	defer d.take(id)()
	p, s, _, err := d.running(id)
	if err != nil {
		return err
	}
	return d.resume(ctx, id, p, s, false)
}

func (d *Driver) running(id string) (p *process.Process, s process.Status, c control, err error) {
	if p, err = d.open(id); err != nil {
		return nil, s, c, err
	}
	if p != nil {
		if s, err = p.Status(); err != nil {
			return nil, s, c, err
		}
	}
	if !s.Running {
		return nil, s, c, fmt.Errorf("wasi: %s has exited", id)
	}
	return p, s, c, read(d.path(id, "control.json"), &c)
}

// resume lets a paused instance go on, and notes that it is to be stopped.
func (d *Driver) resume(ctx context.Context, id string, p *process.Process, s process.Status, stop bool) error {
	var c control
	if err := read(d.path(id, "control.json"), &c); err != nil {
		return err
	}
	next := c
	next.Stopped = c.Stopped || stop
	if c.PausedAt > 0 {
		if g := d.group(id); g != nil {
			if err := g.Freeze(ctx, false); err != nil {
				return err
			}
		} else if err := p.Signal(unix.SIGCONT); err != nil && !errors.Is(err, process.ErrExited) {
			return err
		}
		next.PausedFor += s.Run - c.PausedAt
		next.PausedAt = 0
	}
	if next == c {
		return nil
	}
	return write(d.path(id, "control.json"), next)
}

// Usage implements hypervisor.Driver: the control group's counters where there
// is one, else the process's own clock.
func (d *Driver) Usage(_ context.Context, id string) (hypervisor.Usage, error) {
	u, err := d.usage(id)
	if errors.Is(err, os.ErrNotExist) {
		return hypervisor.Usage{}, fmt.Errorf("wasi: %s: %w", id, hypervisor.ErrNotFound) // being removed
	}
	return u, err
}

func (d *Driver) usage(id string) (hypervisor.Usage, error) {
	u := hypervisor.Usage{Source: "rusage"}
	p, err := d.open(id)
	if err != nil {
		return hypervisor.Usage{}, err
	}
	if p == nil || d.isStarting(id) {
		return u, nil
	}
	s, err := p.Status()
	if err != nil {
		return hypervisor.Usage{}, err
	}
	var c control
	if err := read(d.path(id, "control.json"), &c); err != nil {
		return hypervisor.Usage{}, err
	}
	run := s.Run
	if c.PausedAt > 0 {
		run = min(run, c.PausedAt)
	}
	u.Run, u.CPU, u.MaxBytes = max(run-c.PausedFor, 0), s.CPU, s.MaxBytes
	if g := d.group(id); g != nil {
		count, err := g.Usage()
		if err != nil && !errors.Is(err, hypervisor.ErrNotFound) {
			return hypervisor.Usage{}, err
		}
		if err == nil {
			u.Source, u.CPU, u.MaxBytes = "cgroup", count.CPU, count.PeakBytes
		}
	}
	return d.raise(id, u)
}

// raise makes a usage at least what was read before: a killed keeper takes its
// record of what the process consumed with it.
func (d *Driver) raise(id string, u hypervisor.Usage) (hypervisor.Usage, error) {
	d.usageMu.Lock()
	defer d.usageMu.Unlock()
	path := d.path(id, "usage.json")
	old := mark{Version: stateVersion}
	if err := read(path, &old); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, errState) {
		return hypervisor.Usage{}, err
	}
	u.Run, u.CPU, u.MaxBytes = max(u.Run, old.Run), max(u.CPU, old.CPU), max(u.MaxBytes, old.MaxBytes)
	now := mark{Version: stateVersion, Run: u.Run, CPU: u.CPU, MaxBytes: u.MaxBytes}
	if now == old {
		return u, nil
	}
	return u, write(path, now)
}

// Logs implements hypervisor.Driver.
func (d *Driver) Logs(_ context.Context, id string, limit int) (stdout, stderr []byte, err error) {
	if err := d.find(id); err != nil {
		return nil, nil, err
	}
	return process.ReadLogs(d.processDir(id), limit)
}
