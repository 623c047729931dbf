package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/ledger"
)

// attendInterval is how often a running environment is looked at: an end is
// noticed within it, and the cap is overrun by at most what fits into it.
const attendInterval = 250 * time.Millisecond

// carry starts the one goroutine that takes a confirmed session to its end.
// It is idempotent.
func (h *Host) carry(s *hosted) {
	h.mu.Lock()
	closing := h.ctx.Err() != nil
	h.mu.Unlock()
	s.mu.Lock()
	idle := !s.carried && s.rec.State != StateProposed && s.rec.State != StateEnded && !closing
	s.carried = s.carried || idle
	s.mu.Unlock()
	if !idle {
		return
	}
	h.wg.Go(func() {
		for h.ctx.Err() == nil {
			if err := h.step(s); err != nil && h.ctx.Err() == nil {
				h.cfg.Logger.Error("carry session", slog.String("session", s.id.String()), slog.String("state", string(s.state())), slog.Any("err", err))
				select { // the disk may be full: keep the environment in sight and try again
				case <-h.ctx.Done():
				case <-time.After(time.Second):
				}
			}
			if s.state() == StateEnded {
				return
			}
		}
	})
}

// step does what the session's state asks for, and returns after a change.
func (h *Host) step(s *hosted) error {
	switch s.state() {
	case StateStarting:
		return h.start(s)
	case StateRunning:
		return h.attend(s)
	case StateEnding:
		return h.end(s)
	case StateSettling:
		return h.settle(s)
	default:
		return nil
	}
}

func (h *Host) driver(s *hosted) hypervisor.Driver {
	a, _ := s.terms()
	return h.cfg.Drivers[hypervisor.Kind(a.Terms.Environment)]
}

// ending moves the session to StateEnding for a reason.
func (h *Host) ending(s *hosted, why ledger.Reason, detail string) error {
	h.cfg.Logger.Info("session ends", slog.String("session", s.id.String()), slog.String("reason", string(why)), slog.String("detail", detail))
	return h.update(s, func(r *hostedRecord) {
		r.State, r.Reason, r.Detail = StateEnding, why, clip(detail)
	})
}

func clip(s string) string {
	const most = 1000
	return s[:min(len(s), most)]
}

// start fetches the image, launches the environment and waits until it was
// seen to work. A start that was interrupted by a crash is taken up.
func (h *Host) start(s *hosted) error {
	a, _ := s.terms()
	left := time.Unix(a.Expires, 0).Sub(h.cfg.Clock()) // what starts later is not paid for
	ctx, cancel := context.WithTimeout(h.ctx, min(h.cfg.StartTimeout, left))
	defer cancel()
	stopped := make(chan struct{})
	defer close(stopped)
	go func() { // a stop request ends the start
		select {
		case <-s.stop:
			cancel()
		case <-stopped:
		}
	}()
	in, err := h.launch(ctx, s, &a)
	if err == nil {
		err = h.probe(ctx, in)
	}
	if h.ctx.Err() != nil {
		return nil // the next start of the daemon goes on
	}
	select {
	case <-s.stop:
		return h.ending(s, s.reason(), "stopped before it ran")
	default:
	}
	if err != nil {
		return h.fail(s, "start", err)
	}
	base, err := h.measure(ctx, s)
	if err != nil {
		return h.fail(s, "meter", err)
	}
	started := h.cfg.Clock()
	if a.Terms.Environment == string(hypervisor.KindWASI) { // works from its first instruction
		started, base = in.Started, zeroed(base)
	}
	h.cfg.Logger.Info("session runs", slog.String("session", s.id.String()), slog.String("client", s.client.String()))
	return h.update(s, func(r *hostedRecord) {
		r.State, r.Started, r.Base = StateRunning, started.UnixMilli(), base
	})
}

func (s *hosted) reason() ledger.Reason {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// launch starts the environment, or finds the one that was started before. Of
// a start that was cut short before anything ran it begins anew.
func (h *Host) launch(ctx context.Context, s *hosted, a *ledger.Agreement) (hypervisor.Instance, error) {
	in, err := h.instance(ctx, s)
	switch {
	case err == nil && (in.State != hypervisor.StateExited || !in.Started.IsZero()):
		return in, nil
	case err == nil:
		err = h.driver(s).Remove(ctx, s.id.String())
	case errors.Is(err, hypervisor.ErrNotFound):
		err = nil
	}
	if err != nil {
		return in, err
	}
	path, err := h.cfg.Images.Fetch(ctx, hypervisor.Kind(a.Terms.Environment), a.Terms.Image.Cid)
	if err != nil {
		err = fmt.Errorf("fetch image %s: %w", a.Terms.Image, err)
		return hypervisor.Instance{}, hypervisor.Explain(fmt.Sprintf("fetch image %s: %s", a.Terms.Image, tell(err)), err)
	}
	s.mu.Lock()
	hostKey := s.rec.HostKey
	s.mu.Unlock()
	return h.driver(s).Start(ctx, specOf(s.id, &a.Terms, path, hostKey))
}

// specOf translates terms into what a driver starts.
func specOf(id ledger.ID, t *ledger.Terms, image string, hostKey []byte) hypervisor.Spec {
	spec := hypervisor.Spec{
		ID: id.String(), Kind: hypervisor.Kind(t.Environment),
		CPUs: int(t.CPUs), CPUShare: int(t.CPUShare), MemoryBytes: t.MemoryBytes, DiskBytes: t.DiskBytes,
		Args: t.Args, Env: t.Env, Stdin: t.Stdin, NetworkRate: t.NetworkRate,
	}
	if spec.Kind == hypervisor.KindWASI {
		spec.Module = image
		return spec
	}
	spec.Kernel, spec.Initrd = filepath.Join(image, "vmlinuz"), filepath.Join(image, "initrd")
	spec.HostKey, spec.SSHKeys = hostKey, t.SSHKeys
	return spec
}

// instance returns the session's environment as its driver sees it.
func (h *Host) instance(ctx context.Context, s *hosted) (hypervisor.Instance, error) {
	list, err := h.driver(s).List(ctx)
	for _, in := range list {
		if in.ID == s.id.String() {
			return in, nil
		}
	}
	if damaged, ok := errors.AsType[hypervisor.DamagedError](err); ok {
		err = damaged[s.id.String()] // another session's is not its business
	}
	return hypervisor.Instance{}, cmp.Or(err, hypervisor.ErrNotFound)
}

// probe asks the environment until it answers from outside.
func (h *Host) probe(ctx context.Context, in hypervisor.Instance) error {
	tick := time.NewTicker(attendInterval / 2)
	defer tick.Stop()
	for {
		err := h.cfg.Probe(ctx, in)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			const text = "it did not answer from outside"
			return hypervisor.Explain(text, fmt.Errorf("%s: %w", text, err))
		case <-tick.C:
		}
	}
}

// attend watches a running session until something ends it, and seals
// receipts meanwhile.
func (h *Host) attend(s *hosted) error {
	tick := time.NewTicker(attendInterval)
	defer tick.Stop()
	next := h.cfg.Clock().Add(h.cfg.ReceiptInterval)
	for {
		why, detail, err := h.look(s)
		if err != nil {
			h.cfg.Logger.Warn("read environment", slog.String("session", s.id.String()), slog.Any("err", err))
		}
		if why != "" {
			return h.ending(s, why, detail)
		}
		if now := h.cfg.Clock(); !now.Before(next) {
			next = now.Add(h.cfg.ReceiptInterval)
			if err := h.report(s); err != nil {
				return err
			}
		}
		select {
		case <-h.ctx.Done():
			return nil
		case <-s.stop:
		case <-tick.C:
		}
	}
}

// look returns why the session must end, or nothing.
func (h *Host) look(s *hosted) (ledger.Reason, string, error) {
	a, _ := s.terms()
	in, err := h.instance(h.ctx, s)
	switch {
	case errors.Is(err, hypervisor.ErrNotFound):
		return ledger.ReasonFailed, "the environment is gone", nil
	case err == nil && in.State == hypervisor.StateExited:
		return exitReason(in)
	}
	select {
	case <-s.stop:
		return s.reason(), "", nil
	default:
	}
	if h.cfg.Clock().Unix() >= a.Expires {
		return ledger.ReasonExpired, "", nil
	}
	if err != nil {
		return "", "", err
	}
	readings, err := h.billable(h.ctx, s)
	if err != nil {
		return "", "", err
	}
	s.mu.Lock()
	s.readings = readings
	s.mu.Unlock()
	if a.Rates.Cost(&a.Terms, &readings[0].Usage) >= a.Cap {
		return ledger.ReasonExhausted, "the cap is reached", nil
	}
	return "", "", nil
}

func exitReason(in hypervisor.Instance) (ledger.Reason, string, error) {
	if in.Err != "" {
		return ledger.ReasonFailed, in.Err, nil
	}
	return ledger.ReasonDone, fmt.Sprintf("exit status %d", in.ExitCode), nil
}

// end stops the environment, seals the final receipt and removes what is
// left. Each part is found done when it is repeated after a crash.
func (h *Host) end(s *hosted) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.ctx), 4*stopGrace)
	defer cancel()
	d := h.driver(s)
	if d == nil {
		return h.seal(s, nothingUsed, endOf{})
	}
	if err := d.Stop(ctx, s.id.String(), stopGrace); err != nil && !errors.Is(err, hypervisor.ErrNotFound) {
		return fmt.Errorf("stop: %w", err)
	}
	if !s.log.newest().receipt.Final {
		if err := h.finish(ctx, s); err != nil {
			return err
		}
	}
	if err := d.Remove(ctx, s.id.String()); err != nil && !errors.Is(err, hypervisor.ErrNotFound) {
		return fmt.Errorf("remove: %w", err)
	}
	if h.cfg.Meter != nil {
		if err := h.cfg.Meter.Forget(ctx, s.id.String()); err != nil && !errors.Is(err, hypervisor.ErrNotFound) {
			h.cfg.Logger.Warn("forget meter", slog.String("session", s.id.String()), slog.Any("err", err))
		}
	}
	err := h.update(s, func(r *hostedRecord) {
		r.State, r.Ended = StateSettling, h.cfg.Clock().UnixMilli()
		r.HostKey = nil
	})
	h.cfg.Changed()
	return err
}

// endOf is what is known of an environment once it has ended.
type endOf struct {
	exitCode       int
	stdout, stderr []byte
}

// maxKeptLogs bounds the output kept, of each stream, after the end.
const maxKeptLogs = 128 << 10

// finish takes the last reading, output and exit code of a stopped
// environment and seals the final receipt.
func (h *Host) finish(ctx context.Context, s *hosted) error {
	var last endOf
	readings := nothingUsed
	if newest := s.log.newest(); newest.env != nil {
		readings = newest.receipt.Readings
	}
	if s.ran() {
		now, err := h.billable(ctx, s)
		if err == nil {
			readings = now
		} else { // bill what was measured before
			h.cfg.Logger.Warn("final reading", slog.String("session", s.id.String()), slog.Any("err", err))
		}
	}
	var err error
	if in, err := h.instance(ctx, s); err == nil {
		last.exitCode = in.ExitCode
	}
	last.stdout, last.stderr, err = h.driver(s).Logs(ctx, s.id.String(), maxKeptLogs)
	if err != nil && !errors.Is(err, hypervisor.ErrNotFound) {
		h.cfg.Logger.Warn("keep output", slog.String("session", s.id.String()), slog.Any("err", err))
	}
	return h.seal(s, readings, last)
}

// ran tells whether the session ever ran.
func (s *hosted) ran() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec.Started != 0
}

// nothingUsed is the reading of a session that never ran.
var nothingUsed = []ledger.Reading{{Source: "none"}}
