package vmm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/process"
)

// An instance as found on disk, with its process.
type found struct {
	dir     string
	record  record
	process *process.Process
}

// find reads an instance. Errors wrap ErrNotFound.
func (d *Driver) find(id string) (found, error) {
	missing := d.errorf("%.60q: %w", id, hypervisor.ErrNotFound)
	if hypervisor.ValidateID(id) != nil {
		return found{}, missing
	}
	f := found{dir: d.dir(id)}
	var err error
	f.record, err = readRecord(f.dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && !f.record.Booted {
		return found{}, missing
	}
	if err != nil {
		return found{}, d.errorf("%w", err)
	}
	f.process, err = process.Open(filepath.Join(f.dir, processName))
	if errors.Is(err, process.ErrNotFound) {
		return found{}, missing
	}
	if err != nil {
		return found{}, d.errorf("%w", err)
	}
	return f, nil
}

// hold finds an instance and locks it.
func (d *Driver) hold(ctx context.Context, id string) (f found, unlock func(), err error) {
	if f, err = d.find(id); err != nil {
		return f, nil, err
	}
	unlock, err = d.lock(ctx, f.dir)
	if errors.Is(err, os.ErrNotExist) {
		return f, nil, d.errorf("%s: %w", id, hypervisor.ErrNotFound)
	}
	if err != nil {
		return f, nil, err
	}
	if f, err = d.find(id); err != nil { // it may have changed
		unlock()
		return f, nil, err
	}
	return f, unlock, nil
}

// lock waits for the lock of an instance. Errors wrap os.ErrNotExist when there
// is no such instance, or no more.
func (d *Driver) lock(ctx context.Context, dir string) (unlock func(), err error) {
	unlock, err = process.LockDir(ctx, dir)
	if err != nil {
		return nil, d.errorf("%w", err)
	}
	return unlock, nil
}

// started tells whether a start in dir came to its end. What cannot be read is
// taken for one: it is not ours to delete.
func started(dir string) bool {
	r, err := readRecord(dir)
	if err != nil {
		return errors.Is(err, errRecord)
	}
	_, err = process.Open(filepath.Join(dir, processName))
	return r.Booted && !errors.Is(err, process.ErrNotFound)
}

// instance describes an instance as the interface has it.
func (d *Driver) instance(r record, p *process.Process) (hypervisor.Instance, error) {
	s, err := p.Status()
	if err != nil {
		return hypervisor.Instance{}, d.errorf("%w", err)
	}
	in := hypervisor.Instance{
		ID: r.ID, Kind: hypervisor.KindLinux, Driver: d.program.Name, State: hypervisor.StateRunning,
		PID: s.PID, Started: s.Started, Cgroup: r.Group, Tap: r.Tap, Guest: r.Guest,
	}
	switch {
	case !s.Running:
		in.State, in.PID, in.ExitCode = hypervisor.StateExited, 0, s.Code
		in.Err = d.reason(s)
	case !r.Paused.IsZero():
		in.State = hypervisor.StatePaused
	}
	return in, nil
}

// reason says why a guest ended that nobody asked to.
func (d *Driver) reason(s process.Status) string {
	switch {
	case s.Lost:
		return "its keeper was killed or the machine restarted"
	case s.Signal != 0:
		return fmt.Sprintf("%s was ended by signal %d (%v)", d.program.Title, int(s.Signal), s.Signal)
	case s.Code != 0:
		return fmt.Sprintf("%s ended with code %d", d.program.Title, s.Code)
	}
	return ""
}

// List implements hypervisor.Driver.
func (d *Driver) List(ctx context.Context) ([]hypervisor.Instance, error) {
	entries, err := os.ReadDir(d.config.Dir)
	if err != nil {
		return nil, d.errorf("%w", err)
	}
	var list []hypervisor.Instance
	damaged := make(hypervisor.DamagedError)
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f, err := d.find(e.Name())
		if errors.Is(err, hypervisor.ErrNotFound) {
			continue // on its way, or Sweep's business
		}
		var in hypervisor.Instance
		if err == nil {
			in, err = d.instance(f.record, f.process)
		}
		switch {
		case errors.Is(err, os.ErrNotExist): // removed meanwhile
		case err != nil:
			damaged[e.Name()] = err
		default:
			list = append(list, in)
		}
	}
	return list, damaged.OrNil()
}

// Stop implements hypervisor.Driver: the power button; after grace the monitor
// is told to quit, and killed if it does not.
func (d *Driver) Stop(ctx context.Context, id string, grace time.Duration) error {
	f, err := d.find(id)
	if err != nil {
		return err
	}
	if grace > 0 && f.record.Paused.IsZero() && d.end(ctx, f, grace) {
		return nil
	}
	if err := f.process.Stop(ctx, 0); err != nil {
		return d.errorf("stop %s: %w", id, err)
	}
	return nil
}

// end asks guest and monitor to end and tells whether they did.
func (d *Driver) end(ctx context.Context, f found, grace time.Duration) bool {
	if s, err := f.process.Status(); err != nil || !s.Running {
		return err == nil
	}
	m := d.monitor(f.record.ID)
	if powerDown(ctx, m, f.process, grace) {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, quitTimeout)
	defer cancel()
	if m.Quit(ctx) != nil {
		return false
	}
	_, err := f.process.Wait(ctx)
	return err == nil
}

// powerDown presses the guest's power button, again and again, for a guest that
// is still booting does not feel it, and tells whether it went.
func powerDown(ctx context.Context, m Monitor, p *process.Process, grace time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if m.PowerButton(ctx) != nil {
		return false
	}
	for ctx.Err() == nil {
		pause, stop := context.WithTimeout(ctx, pressInterval)
		_, err := p.Wait(pause)
		stop()
		if err == nil {
			return true
		}
		_ = m.PowerButton(ctx) // refused by one that is ending already
	}
	return false
}

// Remove implements hypervisor.Driver.
func (d *Driver) Remove(ctx context.Context, id string) error {
	_, unlock, err := d.hold(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	return d.erase(ctx, id)
}

// erase removes all traces of an instance, killing what runs. The caller holds
// its lock.
func (d *Driver) erase(ctx context.Context, id string) error {
	var errs error
	if p, err := process.Open(filepath.Join(d.dir(id), processName)); err == nil {
		errs = p.Stop(ctx, 0)
	}
	if d.config.Meter != nil {
		errs = errors.Join(errs, d.config.Meter.Forget(ctx, id))
	}
	if d.config.Cgroups != nil {
		g, err := d.config.Cgroups.Group(id)
		if err == nil {
			err = g.Remove(ctx)
		}
		errs = errors.Join(errs, err)
	}
	if d.config.Network != nil {
		errs = errors.Join(errs, d.config.Network.Remove(ctx, id))
	}
	if errs == nil { // else the directory stays, for another try
		errs = os.RemoveAll(d.dir(id))
	}
	if errs != nil {
		return d.errorf("remove %s: %w", id, errs)
	}
	return nil
}

// Logs implements hypervisor.Driver: the guest's console, and what the monitor
// itself had to say.
func (d *Driver) Logs(_ context.Context, id string, limit int) (stdout, stderr []byte, err error) {
	f, err := d.find(id)
	if err != nil {
		return nil, nil, err
	}
	return f.process.Logs(limit)
}
