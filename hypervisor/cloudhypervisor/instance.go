package cloudhypervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/network"
	"github.com/xenoserver/xeno/hypervisor/process"
)

// An instance as found on disk, with its process.
type found struct {
	dir     string
	record  record
	process *process.Process
}

func (f found) client() client { return client{socket: filepath.Join(f.dir, socketName)} }

// find reads an instance. Errors wrap ErrNotFound.
func (d *Driver) find(id string) (found, error) {
	missing := fmt.Errorf("cloudhypervisor: %.60q: %w", id, hypervisor.ErrNotFound)
	if hypervisor.ValidateID(id) != nil {
		return found{}, missing
	}
	f := found{dir: filepath.Join(d.config.Dir, id)}
	var err error
	f.record, err = readRecord(f.dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && !f.record.Booted {
		return found{}, missing
	}
	if err != nil {
		return found{}, err
	}
	f.process, err = process.Open(filepath.Join(f.dir, processName))
	if errors.Is(err, process.ErrNotFound) {
		return found{}, missing
	}
	if err != nil {
		return found{}, err
	}
	return f, nil
}

// hold finds an instance and locks it.
func (d *Driver) hold(ctx context.Context, id string) (f found, unlock func(), err error) {
	if f, err = d.find(id); err != nil {
		return f, nil, err
	}
	unlock, err = lockInstance(ctx, f.dir)
	if errors.Is(err, os.ErrNotExist) {
		return f, nil, fmt.Errorf("cloudhypervisor: %s: %w", id, hypervisor.ErrNotFound)
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

// instance describes an instance as the interface has it.
func (d *Driver) instance(r record, p *process.Process) (hypervisor.Instance, error) {
	s, err := p.Status()
	if err != nil {
		return hypervisor.Instance{}, fmt.Errorf("cloudhypervisor: %w", err)
	}
	in := hypervisor.Instance{
		ID: r.ID, Kind: hypervisor.KindLinux, Driver: Name, State: hypervisor.StateRunning,
		PID: s.PID, Started: s.Started, Cgroup: r.Group, Tap: r.Tap, Guest: r.Guest,
	}
	switch {
	case !s.Running:
		in.State, in.PID, in.ExitCode = hypervisor.StateExited, 0, s.Code
		in.Err = reason(s)
	case !r.Paused.IsZero():
		in.State = hypervisor.StatePaused
	}
	return in, nil
}

// reason says why a guest ended that nobody asked to.
func reason(s process.Status) string {
	switch {
	case s.Lost:
		return "its keeper was killed or the machine restarted"
	case s.Signal != 0:
		return fmt.Sprintf("the monitor was ended by signal %d (%v)", int(s.Signal), s.Signal)
	case s.Code != 0:
		return fmt.Sprintf("the monitor ended with code %d", s.Code)
	}
	return ""
}

// List implements hypervisor.Driver.
func (d *Driver) List(ctx context.Context) ([]hypervisor.Instance, error) {
	entries, err := os.ReadDir(d.config.Dir)
	if err != nil {
		return nil, fmt.Errorf("cloudhypervisor: %w", err)
	}
	var list []hypervisor.Instance
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f, err := d.find(e.Name())
		if errors.Is(err, hypervisor.ErrNotFound) {
			continue // on its way, or Sweep's business
		}
		if err != nil {
			return nil, err
		}
		in, err := d.instance(f.record, f.process)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, in)
	}
	return list, nil
}

// Stop implements hypervisor.Driver: the power button; after grace the monitor
// is told to shut the guest down, and killed if it does not.
func (d *Driver) Stop(ctx context.Context, id string, grace time.Duration) error {
	f, unlock, err := d.hold(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	if grace > 0 && f.record.Paused.IsZero() && f.end(ctx, grace) {
		return nil
	}
	if err := f.process.Stop(ctx, 0); err != nil {
		return fmt.Errorf("cloudhypervisor: stop %s: %w", id, err)
	}
	return nil
}

// end asks guest and monitor to end and tells whether they did.
func (f found) end(ctx context.Context, grace time.Duration) bool {
	if s, err := f.process.Status(); err != nil || !s.Running {
		return err == nil
	}
	polite, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	c := f.client()
	if c.powerButton(polite) == nil {
		if _, err := f.process.Wait(polite); err == nil {
			return true
		}
	}
	last, cancel := context.WithTimeout(ctx, shutdownTimeout)
	defer cancel()
	// Each step writes back more of what the guest wrote; a step that fails
	// leaves it to the next.
	_ = c.shutdown(last)
	_ = c.delete(last)
	if c.shutdownVMM(last) != nil {
		return false
	}
	_, err := f.process.Wait(last)
	return err == nil
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

// Pause implements hypervisor.Pauser.
func (d *Driver) Pause(ctx context.Context, id string) error { return d.setPaused(ctx, id, true) }

// Resume implements hypervisor.Pauser.
func (d *Driver) Resume(ctx context.Context, id string) error { return d.setPaused(ctx, id, false) }

// setPaused pauses or resumes a guest whatever its record says: the monitor
// knows better, for a daemon may have died between a change and its record.
func (d *Driver) setPaused(ctx context.Context, id string, paused bool) error {
	f, unlock, err := d.hold(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := f.process.Status()
	if err != nil {
		return err
	}
	if !s.Running {
		return fmt.Errorf("cloudhypervisor: %s has exited", id)
	}
	change := f.client().resume
	if paused {
		change = f.client().pause
		// First, so that a daemon that dies in between bills too little.
		if err := f.note(true); err != nil {
			return err
		}
	}
	refused := change(ctx)
	if refused != nil {
		// It may be so already, or the answer was lost.
		is, err := f.paused(context.WithoutCancel(ctx))
		if err != nil {
			return refused
		}
		if is == paused {
			refused = nil
		}
		paused = is
	}
	return errors.Join(refused, f.note(paused))
}

// paused asks the monitor.
func (f found) paused(ctx context.Context) (bool, error) {
	i, err := f.client().info(ctx)
	return i.State != vmRunning, err
}

// note writes down whether the guest is paused. The caller holds the lock.
func (f found) note(paused bool) error {
	if !f.record.setPaused(paused, time.Now()) {
		return nil
	}
	return f.record.write(f.dir)
}

// Counters returns the devices' own counters of a running guest. They start
// anew when the guest reboots. Errors wrap ErrNotFound.
func (d *Driver) Counters(ctx context.Context, id string) (Counters, error) {
	f, err := d.find(id)
	if err != nil {
		return nil, err
	}
	return f.client().counters(ctx)
}

// Usage implements hypervisor.Driver: CPU time and memory of the control group,
// or without one of the monitor's process, and the tap's counters.
func (d *Driver) Usage(ctx context.Context, id string) (hypervisor.Usage, error) {
	f, unlock, err := d.hold(ctx, id)
	if err != nil {
		return hypervisor.Usage{}, err
	}
	defer unlock()
	last := f.record.Last
	if f.record.Final {
		return last, nil
	}
	s, err := f.process.Status()
	if err != nil {
		return hypervisor.Usage{}, fmt.Errorf("cloudhypervisor: %w", err)
	}
	u := hypervisor.Usage{Source: "proc", CPU: s.CPU, MaxBytes: s.MaxBytes}
	if f.record.Group != "" && d.config.Cgroups != nil {
		if err := d.groupUsage(id, &u); err != nil {
			return hypervisor.Usage{}, err
		}
	}
	now := time.Now()
	if !s.Running {
		now = s.Ended
	}
	if !s.Lost { // else nobody knows when it ended: the last reading stands
		u.Run = f.record.run(s.Started, now)
	}
	if f.record.Tap != "" {
		rx, tx, err := network.Counters(f.record.Tap)
		if err == nil {
			u.RxBytes, u.TxBytes = rx, tx
		} else if s.Running {
			return hypervisor.Usage{}, err
		}
	}
	u.Run, u.CPU = max(u.Run, last.Run), max(u.CPU, last.CPU)
	u.RxBytes, u.TxBytes = max(u.RxBytes, last.RxBytes), max(u.TxBytes, last.TxBytes)
	u.MaxBytes = max(u.MaxBytes, last.MaxBytes)
	if !s.Running || time.Since(f.record.Saved) > saveInterval {
		f.record.Last, f.record.Saved, f.record.Final = u, time.Now(), !s.Running
		if err := f.record.write(f.dir); err != nil {
			return hypervisor.Usage{}, err
		}
	}
	return u, nil
}

// groupUsage replaces what the process counted by what its control group did. A
// group that is gone leaves it to the last reading.
func (d *Driver) groupUsage(id string, u *hypervisor.Usage) error {
	g, err := d.config.Cgroups.Group(id)
	if err != nil {
		return err
	}
	count, err := g.Usage()
	if err != nil && !errors.Is(err, hypervisor.ErrNotFound) {
		return err
	}
	u.Source, u.CPU, u.MaxBytes = "cgroup", count.CPU, count.PeakBytes
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

// Sweep makes up for a daemon's sudden death: it removes what starts left that
// were cut short, and writes down which guests are paused. Daemons call it when
// they start. It returns the IDs of what it removed.
func (d *Driver) Sweep(ctx context.Context) ([]string, error) {
	entries, err := os.ReadDir(d.config.Dir)
	if err != nil {
		return nil, fmt.Errorf("cloudhypervisor: %w", err)
	}
	var removed []string
	for _, e := range entries {
		dir := filepath.Join(d.config.Dir, e.Name())
		if hypervisor.ValidateID(e.Name()) != nil {
			continue
		}
		unlock, err := lockInstance(ctx, dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return removed, err
		}
		if started(dir) {
			err = d.settle(ctx, e.Name())
		} else if err = d.erase(ctx, e.Name()); err == nil {
			removed = append(removed, e.Name())
		}
		unlock()
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// settle writes down whether a guest is paused, as its monitor has it. From when
// is not known: what it ran meanwhile against its record is not billed. The
// caller holds the lock.
func (d *Driver) settle(ctx context.Context, id string) error {
	f, err := d.find(id)
	if err != nil {
		return err
	}
	s, err := f.process.Status()
	if err != nil || !s.Running {
		return err
	}
	paused, err := f.paused(ctx)
	if err != nil {
		d.config.Logger.WarnContext(ctx, "monitor does not say whether its guest is paused", slog.String("id", id), slog.Any("err", err))
		return nil
	}
	return f.note(paused)
}
