package vmm

import (
	"context"
	"errors"
	"time"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/network"
)

// Usage implements hypervisor.Driver: CPU time and memory of the control group,
// or without one of the monitor's process, and the tap's counters.
func (d *Driver) Usage(ctx context.Context, id string) (hypervisor.Usage, error) {
	// It reads without the lock, which a call that waits for the monitor may
	// hold. The time is taken first: a pause that comes in between counts.
	now := time.Now()
	f, err := d.find(id)
	if err != nil || f.record.Final {
		return f.record.Last, err
	}
	s, err := f.process.Status()
	if err != nil {
		return hypervisor.Usage{}, d.errorf("%w", err)
	}
	u := hypervisor.Usage{Source: "proc", CPU: s.CPU, MaxBytes: s.MaxBytes}
	if f.record.Group != "" && d.config.Cgroups != nil {
		if err := d.groupUsage(id, &u); err != nil {
			return hypervisor.Usage{}, err
		}
	}
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
	if s.Running && time.Since(f.record.Saved) < saveInterval {
		return atLeast(f.record.Last, u), nil
	}
	return d.save(ctx, f, u, !s.Running)
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

// save writes down a reading of the instance that was found before: no field
// gets less than another reading left there meanwhile.
func (d *Driver) save(ctx context.Context, before found, u hypervisor.Usage, final bool) (hypervisor.Usage, error) {
	f, unlock, err := d.hold(ctx, before.record.ID)
	if err != nil {
		return hypervisor.Usage{}, err
	}
	defer unlock()
	switch {
	case !f.process.Started().Equal(before.process.Started()): // another one under the same ID
		return atLeast(before.record.Last, u), nil
	case f.record.Final:
		return f.record.Last, nil
	}
	u = atLeast(f.record.Last, u)
	f.record.Last, f.record.Saved, f.record.Final = u, time.Now(), final
	if err := f.record.write(f.dir); err != nil {
		return hypervisor.Usage{}, d.errorf("%w", err)
	}
	return u, nil
}

// atLeast raises a reading to an earlier one: every field only grows.
func atLeast(last, u hypervisor.Usage) hypervisor.Usage {
	u.Run, u.CPU = max(u.Run, last.Run), max(u.CPU, last.CPU)
	u.RxBytes, u.TxBytes = max(u.RxBytes, last.RxBytes), max(u.TxBytes, last.TxBytes)
	u.MaxBytes = max(u.MaxBytes, last.MaxBytes)
	return u
}
