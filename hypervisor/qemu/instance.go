package qemu

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

// find reads an instance. Errors wrap ErrNotFound.
func (d *Driver) find(id string) (found, error) {
	missing := fmt.Errorf("qemu: %.60q: %w", id, hypervisor.ErrNotFound)
	if hypervisor.ValidateID(id) != nil {
		return found{}, missing
	}
	f := found{dir: filepath.Join(d.config.Dir, id)}
	var err error
	f.record, err = readRecord(f.dir)
	if errors.Is(err, os.ErrNotExist) {
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
		return f, nil, fmt.Errorf("qemu: %s: %w", id, hypervisor.ErrNotFound)
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
		return hypervisor.Instance{}, fmt.Errorf("qemu: %w", err)
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
		return fmt.Sprintf("QEMU was ended by signal %d (%v)", int(s.Signal), s.Signal)
	case s.Code != 0:
		return fmt.Sprintf("QEMU ended with code %d", s.Code)
	}
	return ""
}

// List implements hypervisor.Driver.
func (d *Driver) List(ctx context.Context) ([]hypervisor.Instance, error) {
	entries, err := os.ReadDir(d.config.Dir)
	if err != nil {
		return nil, fmt.Errorf("qemu: %w", err)
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

// Stop implements hypervisor.Driver: the power button, then SIGKILL.
func (d *Driver) Stop(ctx context.Context, id string, grace time.Duration) error {
	f, err := d.find(id)
	if err != nil {
		return err
	}
	if grace > 0 && f.record.Paused.IsZero() && f.powerDown(ctx, grace) {
		return nil
	}
	if err := f.process.Stop(ctx, 0); err != nil {
		return fmt.Errorf("qemu: stop %s: %w", id, err)
	}
	return nil
}

// powerDown presses the guest's power button, again and again, for a guest that
// is still booting does not feel it, and tells whether it went.
func (f found) powerDown(ctx context.Context, grace time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	for ctx.Err() == nil {
		pressErr := f.command(ctx, "system_powerdown", nil)
		pause, stop := context.WithTimeout(ctx, pressInterval)
		_, err := f.process.Wait(pause)
		stop()
		if err == nil {
			return true
		}
		if pressErr != nil {
			return false
		}
	}
	return false
}

// command runs one command of the monitor and stores its result in out, if that
// is not nil.
func (f found) command(ctx context.Context, name string, out any) error {
	m, err := openMonitor(ctx, f.dir, commandTimeout)
	if err != nil {
		return err
	}
	defer m.close()
	if err := m.execute(name, out); err != nil {
		return fmt.Errorf("qemu: %w", err)
	}
	return nil
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
		return fmt.Errorf("qemu: %s has exited", id)
	}
	command := "cont"
	if paused {
		command = "stop"
		// First, so that a daemon that dies in between bills too little.
		if err := f.note(true); err != nil {
			return err
		}
	}
	refused := f.command(ctx, command, nil)
	if refused != nil {
		// The answer may be all that was lost.
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
	var s runState
	err := f.command(ctx, "query-status", &s)
	return !s.Running, err
}

// note writes down whether the guest is paused. The caller holds the lock.
func (f found) note(paused bool) error {
	if !f.record.setPaused(paused, time.Now()) {
		return nil
	}
	return f.record.write(f.dir)
}

// Usage implements hypervisor.Driver: CPU time and memory of the control group,
// or of the QEMU process where there is none,
// and the tap's counters.
func (d *Driver) Usage(ctx context.Context, id string) (hypervisor.Usage, error) {
	f, err := d.find(id)
	if err != nil {
		return hypervisor.Usage{}, err
	}
	last := f.record.Last
	if f.record.Final {
		return last, nil
	}
	s, err := f.process.Status()
	if err != nil {
		return hypervisor.Usage{}, fmt.Errorf("qemu: %w", err)
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
	if s.Running && time.Since(f.record.Saved) < saveInterval {
		return u, nil
	}
	return u, d.save(ctx, id, u, !s.Running)
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
	u.Source = "cgroup"
	if err == nil {
		u.CPU, u.MaxBytes = count.CPU, max(u.MaxBytes, count.PeakBytes)
	}
	return nil
}

// save writes down a reading.
func (d *Driver) save(ctx context.Context, id string, u hypervisor.Usage, final bool) error {
	f, unlock, err := d.hold(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	if f.record.Final {
		return nil
	}
	f.record.Last, f.record.Saved, f.record.Final = u, time.Now(), final
	return f.record.write(f.dir)
}

// Logs implements hypervisor.Driver: the guest's console, and what QEMU itself
// had to say.
func (d *Driver) Logs(_ context.Context, id string, limit int) (stdout, stderr []byte, err error) {
	f, err := d.find(id)
	if err != nil {
		return nil, nil, err
	}
	return f.process.Logs(limit)
}

// Sweep makes up for a daemon's sudden death: it removes what starts left that
// were cut short, and taps that belong to no instance, and writes down which
// guests are paused. Daemons call it when they start. It returns the IDs of what
// it removed.
func (d *Driver) Sweep(ctx context.Context) ([]string, error) {
	taps, err := d.config.Network.List()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(d.config.Dir)
	if err != nil {
		return nil, fmt.Errorf("qemu: %w", err)
	}
	ids := make(map[string]bool)
	for _, e := range entries {
		if hypervisor.ValidateID(e.Name()) == nil {
			ids[e.Name()] = true
		}
	}
	var removed []string
	for _, tap := range taps {
		if ids[tap.ID] {
			continue
		}
		// A start makes its directory before its tap: look again.
		if _, err := os.Stat(filepath.Join(d.config.Dir, tap.ID)); !errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err := d.config.Network.Remove(ctx, tap.ID); err != nil {
			return removed, err
		}
		removed = append(removed, tap.ID)
	}
	for id := range ids {
		dir := filepath.Join(d.config.Dir, id)
		unlock, err := lockInstance(ctx, dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return removed, err
		}
		if started(dir) {
			err = d.settle(ctx, id)
		} else if err = d.erase(ctx, id); err == nil {
			removed = append(removed, id)
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
