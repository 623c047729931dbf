package vmm

import (
	"context"
	"errors"
	"time"
)

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
		return d.errorf("%w", err)
	}
	if !s.Running {
		return d.errorf("%s has exited", id)
	}
	m := d.monitor(id)
	change := m.Resume
	if paused {
		change = m.Pause
		// Written first: killed in between, the daemon bills too little.
		if err := d.note(&f, true); err != nil {
			return err
		}
	}
	refused := change(ctx)
	if refused != nil {
		refused = d.errorf("%s: %w", id, refused)
		// It may be so already, or the answer is all that was lost.
		running, err := m.Running(context.WithoutCancel(ctx))
		if err != nil {
			return refused
		}
		if running == !paused {
			refused = nil
		}
		paused = !running
	}
	return errors.Join(refused, d.note(&f, paused))
}

// note writes down whether a guest is paused. The caller holds its lock.
func (d *Driver) note(f *found, paused bool) error {
	if !f.record.setPaused(paused, time.Now()) {
		return nil
	}
	if err := f.record.write(f.dir); err != nil {
		return d.errorf("%w", err)
	}
	return nil
}
