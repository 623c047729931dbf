package meter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
)

// Tracked returns the IDs of all environments that are counted, in order.
func (m *Meter) Tracked() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, fmt.Errorf("meter: list: %w", os.ErrClosed)
	}
	return m.trackedLocked()
}

func (m *Meter) trackedLocked() ([]string, error) {
	var ids []string
	var key [maxID]byte
	var rec record
	all := m.objects.Names.Iterate()
	for all.Next(&key, &rec) {
		ids = append(ids, idOf(key))
	}
	if err := all.Err(); err != nil {
		return nil, fmt.Errorf("meter: list: %w", err)
	}
	slices.Sort(ids)
	return ids, nil
}

// Sweep forgets every environment that is not among keep: those whose end no
// daemon saw. A daemon calls it after its start with what its drivers list.
func (m *Meter) Sweep(ctx context.Context, keep []string) error {
	tracked, err := m.Tracked()
	if err != nil {
		return err
	}
	var errs error
	for _, id := range tracked {
		if !slices.Contains(keep, id) {
			errs = errors.Join(errs, m.Forget(ctx, id))
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return errs
	}
	// Pins of taps whose record was never written, or is gone.
	if tracked, err = m.trackedLocked(); err != nil {
		return errors.Join(errs, err)
	}
	return errors.Join(errs, m.pins.sweepTaps(tracked))
}

// Close lets go of the kernel's objects. While environments are tracked they
// go on counting; otherwise everything is removed from the kernel and the BPF
// file system, and that too if this package mounted it and it is empty.
func (m *Meter) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	tracked, err := m.trackedLocked()
	m.closed = true
	err = errors.Join(err, m.link.Close(), m.objects.Close())
	if err == nil && len(tracked) == 0 {
		err = m.pins.remove()
	}
	return errors.Join(err, m.pins.close())
}
