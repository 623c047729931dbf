package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/meter"
	"github.com/xenoserver/xeno/ledger"
)

// measure reads the meters as of one instant: first the independent one, where
// there is one, then the driver's counters.
func (h *Host) measure(ctx context.Context, s *hosted) ([]ledger.Reading, error) {
	own := func(ctx context.Context) (hypervisor.Usage, error) { return h.driver(s).Usage(ctx, s.id.String()) }
	if h.cfg.Meter != nil {
		first, second, err := meter.Pair(ctx, h.cfg.Meter, s.id.String(), own)
		switch {
		case err == nil:
			first.Run, first.Source = second.Run, h.cfg.Meter.Source()
			return []ledger.Reading{reading(first), reading(second)}, nil
		case !errors.Is(err, hypervisor.ErrNotFound) && !errors.Is(err, hypervisor.ErrNotSupported):
			return nil, fmt.Errorf("session: read meter: %w", err)
		}
	}
	u, err := own(ctx)
	if err != nil {
		return nil, fmt.Errorf("session: read usage: %w", err)
	}
	return []ledger.Reading{reading(u)}, nil
}

func reading(u hypervisor.Usage) ledger.Reading {
	return ledger.Reading{Source: u.Source, Usage: ledger.Usage{
		RunNanos: nanos(u.Run), CPUNanos: nanos(u.CPU), RxBytes: u.RxBytes, TxBytes: u.TxBytes,
	}}
}

func nanos(d time.Duration) uint64 { return uint64(max(d, 0)) }

// zeroed returns readings of the same sources that say nothing was used.
func zeroed(rs []ledger.Reading) []ledger.Reading {
	out := make([]ledger.Reading, len(rs))
	for i, r := range rs {
		out[i].Source = r.Source
	}
	return out
}

// billable returns the readings of what the session consumed since it began
// to run; the first is what is billed. Two meters that disagree leave the
// smaller one standing alone. The billed one never says less than an earlier
// receipt, and never more than the agreed capacity allows in the time it ran.
func (h *Host) billable(ctx context.Context, s *hosted) ([]ledger.Reading, error) {
	now, err := h.measure(ctx, s)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	base, started, terms := s.rec.Base, s.rec.Started, s.agreement.Terms
	s.mu.Unlock()
	readings := since(now, base)
	elapsed := h.cfg.Clock().Sub(time.UnixMilli(started))
	most := terms.MaxUsage(elapsed + allowance)
	before := s.log.newest().receipt.Usage
	for i, r := range readings {
		bounded := larger(smaller(r.Usage, most), before)
		if bounded != r.Usage {
			h.cfg.Logger.Debug("reading bounded", slog.String("session", s.id.String()), slog.String("source", r.Source))
			readings[i].Usage = bounded
		}
	}
	if len(readings) > 1 {
		if err := readings[0].Agrees(&readings[1]); err != nil {
			h.cfg.Logger.Warn("meters disagree, the smaller is billed", slog.String("session", s.id.String()), slog.Any("err", err))
			if readings[1].Usage.CPUNanos < readings[0].Usage.CPUNanos {
				readings = readings[1:]
			}
			readings = readings[:1]
		}
	}
	return readings, nil
}

// allowance is added to the time since the start before it bounds a reading:
// quota periods and clocks are not exact. XenoCorp allows a second.
const allowance = 500 * time.Millisecond

// since subtracts what each source said at the start; a source that is new
// counts from zero.
func since(now, base []ledger.Reading) []ledger.Reading {
	out := make([]ledger.Reading, len(now))
	for i, r := range now {
		out[i] = r
		for _, b := range base {
			if b.Source == r.Source {
				out[i].Usage = ledger.Usage{
					RunNanos: less(r.Usage.RunNanos, b.Usage.RunNanos), CPUNanos: less(r.Usage.CPUNanos, b.Usage.CPUNanos),
					RxBytes: less(r.Usage.RxBytes, b.Usage.RxBytes), TxBytes: less(r.Usage.TxBytes, b.Usage.TxBytes),
				}
			}
		}
	}
	return out
}

func less(a, b uint64) uint64 { return a - min(a, b) }

func smaller(a, b ledger.Usage) ledger.Usage {
	return ledger.Usage{
		RunNanos: min(a.RunNanos, b.RunNanos), CPUNanos: min(a.CPUNanos, b.CPUNanos),
		RxBytes: min(a.RxBytes, b.RxBytes), TxBytes: min(a.TxBytes, b.TxBytes),
	}
}

func larger(a, b ledger.Usage) ledger.Usage {
	return ledger.Usage{
		RunNanos: max(a.RunNanos, b.RunNanos), CPUNanos: max(a.CPUNanos, b.CPUNanos),
		RxBytes: max(a.RxBytes, b.RxBytes), TxBytes: max(a.TxBytes, b.TxBytes),
	}
}
