package vmm

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/xenoserver/xeno/hypervisor"
)

// Sweep makes up for a daemon's sudden death: it removes what starts left that
// were cut short, and taps that belong to no instance, and writes down which
// guests are paused. Daemons call it when they start. It returns the IDs of what
// it removed. What cannot be read is logged and left.
func (d *Driver) Sweep(ctx context.Context) ([]string, error) {
	removed, err := d.sweepTaps(ctx)
	if err != nil {
		return removed, err
	}
	entries, err := os.ReadDir(d.config.Dir)
	if err != nil {
		return removed, d.errorf("%w", err)
	}
	for _, e := range entries {
		if hypervisor.ValidateID(e.Name()) != nil {
			continue
		}
		half, err := d.sweep(ctx, e.Name())
		if ctx.Err() != nil {
			return removed, ctx.Err()
		}
		if err != nil { // the others go on, and it may be somebody's work
			d.config.Logger.ErrorContext(ctx, "environment left as it is; repair its record or stop it by hand",
				slog.String("directory", d.dir(e.Name())), slog.Any("err", err))
		}
		if half {
			removed = append(removed, e.Name())
		}
	}
	return removed, nil
}

// sweepTaps removes the taps that have no directory: a start makes that first,
// and it goes last.
func (d *Driver) sweepTaps(ctx context.Context) (removed []string, err error) {
	if d.config.Network == nil {
		return nil, nil
	}
	taps, err := d.config.Network.List()
	if err != nil {
		return nil, err
	}
	for _, tap := range taps {
		if _, err := os.Stat(d.dir(tap.ID)); !errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err := d.config.Network.Remove(ctx, tap.ID); err != nil {
			return removed, err
		}
		removed = append(removed, tap.ID)
	}
	return removed, nil
}

// sweep removes an instance that was half started, or settles one that was not.
func (d *Driver) sweep(ctx context.Context, id string) (removed bool, err error) {
	unlock, err := d.lock(ctx, d.dir(id))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer unlock()
	if started(d.dir(id)) {
		return false, d.settle(ctx, id)
	}
	err = d.erase(ctx, id)
	return err == nil, err
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
	if err != nil {
		return d.errorf("%w", err)
	}
	if !s.Running {
		return nil
	}
	running, err := d.monitor(id).Running(ctx)
	if err != nil {
		d.config.Logger.WarnContext(ctx, "monitor does not say whether its guest is paused", slog.String("id", id), slog.Any("err", err))
		return nil
	}
	return d.note(&f, !running)
}
