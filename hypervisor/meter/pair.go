package meter

import (
	"context"

	"github.com/xenoserver/xeno/hypervisor"
)

// Pair reads the meter and a second source as of one instant. The scheduler
// books a running thread's time a tick (some milliseconds) at a time, for both;
// a booking that falls between two readings sets them apart by as much. So the
// meter is read before and after the second source, until both agree that
// nothing was booked in between, at most maxPairs times. Where that never
// happens, it returns the two neighbouring readings that differ least.
func Pair(ctx context.Context, m hypervisor.Meter, id string, second func(context.Context) (hypervisor.Usage, error)) (metered, other hypervisor.Usage, err error) {
	best := hypervisor.Usage{}
	found := false
	consider := func(a, b hypervisor.Usage) {
		if !found || (a.CPU-b.CPU).Abs() < (best.CPU-other.CPU).Abs() {
			best, other, found = a, b, true
		}
	}
	before, err := m.Read(ctx, id)
	if err != nil {
		return hypervisor.Usage{}, hypervisor.Usage{}, err
	}
	for range maxPairs {
		b, err := second(ctx)
		if err != nil {
			return hypervisor.Usage{}, hypervisor.Usage{}, err
		}
		after, err := m.Read(ctx, id)
		if err != nil {
			return hypervisor.Usage{}, hypervisor.Usage{}, err
		}
		if before.CPU == after.CPU {
			return after, b, nil
		}
		consider(before, b)
		consider(after, b)
		before = after
	}
	return best, other, nil
}
