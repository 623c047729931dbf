package session

import (
	"context"
	"errors"
	"log/slog"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/ledger"
)

// tell returns what the client may read of an error on this machine: a text
// that was written for it, or a word about the kind of trouble. The rest is for
// the log alone.
func tell(err error) string {
	if text, ok := hypervisor.Explanation(err); ok {
		return text
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "it took too long; try again or another server"
	case errors.Is(err, hypervisor.ErrNotSupported):
		return "the server lacks what it takes; try another"
	case errors.Is(err, hypervisor.ErrBadSpec):
		return "the server cannot run what was asked for"
	default:
		return "a fault of the server, whose log has more; try again or another server"
	}
}

// fail ends a session that cannot be carried on: all of err goes to the log,
// the client reads what it may.
func (h *Host) fail(s *hosted, step string, err error) error {
	h.cfg.Logger.Warn("session fails", slog.String("session", s.id.String()), slog.String("step", step), slog.Any("err", err))
	return h.ending(s, ledger.ReasonFailed, step+": "+tell(err))
}
