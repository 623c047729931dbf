package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/wire"
)

const (
	// followWait is how long one status request waits at the server.
	followWait = 15 * time.Second
	// followRetry is the longest pause between requests to a server that
	// does not answer.
	followRetry = 15 * time.Second
	// releasePoll is the pause between questions to XenoCorp about a session
	// that its server refused: nothing but time moves it.
	releasePoll = time.Minute
	// askTime bounds any other request.
	askTime = 20 * time.Second
)

// advance takes an agreed session to the server's confirmation: authorise,
// confirm. Every step is on disk before the next and may be repeated.
func (b *Buyer) advance(ctx context.Context, s *bought) error {
	ctx, cancel := context.WithTimeout(ctx, 2*askTime)
	defer cancel()
	s.mu.Lock()
	rec := s.rec
	s.mu.Unlock()
	sealed := rec.Revisions[len(rec.Revisions)-1]
	if rec.State == StateAgreed {
		env, err := ledger.UnmarshalEnvelope(sealed)
		if err != nil {
			return err
		}
		auth, err := b.authorise(ctx, env)
		if err != nil {
			return err
		}
		rec.Authorization = auth.Marshal()
		if err := b.update(s, func(r *boughtRecord) { r.State, r.Authorization = StateAuthorised, rec.Authorization }); err != nil {
			return err
		}
	}
	resp, err := b.ask(ctx, s.server, &wire.SessionRequest{Call: &wire.SessionRequest_Confirm{
		Confirm: &wire.SessionConfirm{Agreement: sealed, Authorization: rec.Authorization},
	}})
	if err != nil {
		return fmt.Errorf("session: confirm: %w", err)
	}
	return b.take(s, resp.GetStatus())
}

func (b *Buyer) authorise(ctx context.Context, env *ledger.Envelope) (*ledger.Envelope, error) {
	auth, err := b.cfg.Payer.Authorise(ctx, env)
	if err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	var z ledger.Authorization
	if err := auth.Open(ledger.KindAuthorization, &z, b.cfg.Corp); err != nil {
		return nil, fmt.Errorf("session: authorization: %w", err)
	}
	if z.Agreement != ledger.LinkTo(env) {
		return nil, fmt.Errorf("session: authorization: %w: of another agreement", ledger.ErrMalformed)
	}
	return auth, nil
}

// take notes what the server says of the session. A server cannot take back
// that it ended.
func (b *Buyer) take(s *bought, st *wire.SessionStatus) error {
	state := State(st.GetState())
	switch state {
	case StateProposed, StateStarting, StateRunning, StateEnding, StateSettling, StateEnded:
	default:
		return fmt.Errorf("session: server reports unknown state %.20q; update this program", st.GetState())
	}
	return b.update(s, func(r *boughtRecord) {
		if r.State == StateEnded {
			return
		}
		r.State = state
		if state == StateEnded { // ended for us once we have seen the settlement
			r.State = StateSettling
		}
		r.Reason, r.Detail = ledger.Reason(clip(st.GetReason())), clip(st.GetDetail())
		r.Status = boughtStatus{
			Started: st.GetStartedMs(), Ended: st.GetEndedMs(), ExitCode: int(st.GetExitCode()),
			Usage: ledger.Usage{RunNanos: st.GetRunNs(), CPUNanos: st.GetCpuNs(), RxBytes: st.GetRxBytes(), TxBytes: st.GetTxBytes()},
		}
	})
}

// follow starts the one goroutine that stays with a session until it is
// settled. It is idempotent.
func (b *Buyer) follow(s *bought) {
	s.mu.Lock()
	idle := !s.followed && s.rec.State != StateEnded && b.ctx.Err() == nil
	s.followed = s.followed || idle
	s.mu.Unlock()
	if !idle {
		return
	}
	b.wg.Go(func() {
		pause := time.Duration(0)
		for b.ctx.Err() == nil {
			err := b.pursue(s)
			s.mu.Lock()
			over := s.rec.State == StateEnded
			s.mu.Unlock()
			if over {
				return
			}
			if err == nil {
				pause = 0
				continue
			}
			pause = min(max(2*pause, 200*time.Millisecond), followRetry)
			b.cfg.Logger.Info("follow session", slog.String("session", s.id.String()), slog.Any("err", err))
			select {
			case <-b.ctx.Done():
			case <-time.After(pause):
			}
		}
	})
}

// pursue makes the next step towards the end of a session.
func (b *Buyer) pursue(s *bought) error {
	s.mu.Lock()
	state, refused := s.rec.State, s.rec.Refused
	last := min(s.agreement.Issued+int64(HoldTime/time.Second), s.agreement.Expires) // to be authorised
	s.mu.Unlock()
	now := b.cfg.Clock()
	if now.After(s.released(b.cfg.ClaimGrace)) {
		if refused {
			return b.awaitRelease(s)
		}
		return b.conclude(s, "the server did not answer to the end; XenoCorp has released what it held")
	}
	switch state {
	case StateAgreed:
		if now.Unix() < last {
			return b.advance(b.ctx, s)
		}
		return b.abandon(s)
	case StateAuthorised:
		err := b.advance(b.ctx, s)
		var r *Refusal
		if errors.As(err, &r) && r.Code != CodeBusy && r.Code != CodeInternal {
			return b.refused(s, r)
		}
		return err
	case StateSettling:
		if refused {
			return b.awaitRelease(s)
		}
		return b.close(s)
	default:
		return b.poll(s, state)
	}
}

// released returns when XenoCorp gives back by itself what it holds for the
// session: as the authorization says, or grace after the agreement.
func (s *bought) released(grace time.Duration) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	var z ledger.Authorization
	env, err := ledger.UnmarshalEnvelope(s.rec.Authorization)
	if err == nil && env.Open(ledger.KindAuthorization, &z) == nil {
		return time.Unix(z.Expires, 0)
	}
	return time.Unix(s.agreement.Expires, 0).Add(grace)
}

// abandon gives up a session that was signed too long ago to be authorised
// now, unless XenoCorp knows it.
func (b *Buyer) abandon(s *bought) error {
	ctx, cancel := context.WithTimeout(b.ctx, askTime)
	defer cancel()
	env, err := b.cfg.Payer.Settlement(ctx, s.id)
	switch {
	case errors.Is(err, ledger.ErrUnknown):
		return b.update(s, func(r *boughtRecord) {
			r.State, r.Detail = StateEnded, "given up before any money was held"
		})
	case err != nil:
		return err
	case env != nil:
		return b.conclude(s, "this node was away until XenoCorp had released what it held")
	}
	// It is held: go on, so that the server settles it.
	return b.advance(ctx, s)
}

// poll asks the server for a state other than the known one.
func (b *Buyer) poll(s *bought, known State) error {
	ctx, cancel := context.WithTimeout(b.ctx, followWait+askTime)
	defer cancel()
	resp, err := b.ask(ctx, s.server, &wire.SessionRequest{Call: &wire.SessionRequest_Status{Status: &wire.SessionQuery{
		Id: s.id[:], WaitMillis: uint32(followWait / time.Millisecond), KnownState: string(known),
	}}})
	if err != nil {
		return err
	}
	if err := b.fetchReceipts(ctx, s); err != nil {
		b.cfg.Logger.Info("fetch receipts", slog.String("session", s.id.String()), slog.Any("err", err))
	}
	return b.take(s, resp.GetStatus())
}

// close ends a session whose server has sealed the final receipt: it waits for
// XenoCorp's settlement.
func (b *Buyer) close(s *bought) error {
	ctx, cancel := context.WithTimeout(b.ctx, askTime)
	defer cancel()
	if err := b.fetchReceipts(ctx, s); err != nil {
		b.cfg.Logger.Info("fetch receipts", slog.String("session", s.id.String()), slog.Any("err", err))
	}
	env, err := b.cfg.Payer.Settlement(ctx, s.id)
	if err != nil {
		return err
	}
	if env == nil {
		return errors.New("session: not settled yet")
	}
	if err := env.Verify(ledger.KindSettlement, b.cfg.Corp); err != nil {
		return fmt.Errorf("session: settlement: %w", err)
	}
	return b.update(s, func(r *boughtRecord) { r.State, r.Settlement = StateEnded, env.Marshal() })
}

// refused notes that the server did not take the confirmation. What XenoCorp
// holds comes back by itself, and the session ends with its settlement.
func (b *Buyer) refused(s *bought, why *Refusal) error {
	return b.update(s, func(r *boughtRecord) {
		r.State, r.Refused, r.Reason = StateSettling, true, ledger.ReasonFailed
		r.Detail = clip("the server did not take the confirmation: " + why.Error())
	})
}

// awaitRelease ends a refused session once XenoCorp has released what it
// holds.
func (b *Buyer) awaitRelease(s *bought) error {
	ctx, cancel := context.WithTimeout(b.ctx, askTime)
	env, err := b.cfg.Payer.Settlement(ctx, s.id)
	cancel()
	switch {
	case errors.Is(err, ledger.ErrUnknown): // forgotten: settled long ago
		return b.update(s, func(r *boughtRecord) { r.State = StateEnded })
	case err != nil:
		return err
	case env != nil:
		if err := env.Verify(ledger.KindSettlement, b.cfg.Corp); err != nil {
			return fmt.Errorf("session: settlement: %w", err)
		}
		return b.update(s, func(r *boughtRecord) { r.State, r.Settlement = StateEnded, env.Marshal() })
	}
	select {
	case <-b.ctx.Done():
	case <-time.After(releasePoll):
	}
	return nil
}

// conclude ends a session that cannot be followed further, with XenoCorp's
// settlement: there must be one by now if XenoCorp ever knew the session.
func (b *Buyer) conclude(s *bought, why string) error {
	ctx, cancel := context.WithTimeout(b.ctx, askTime)
	defer cancel()
	env, err := b.cfg.Payer.Settlement(ctx, s.id)
	switch {
	case err != nil && !errors.Is(err, ledger.ErrUnknown):
		return err
	case err == nil && env == nil:
		return errors.New("session: XenoCorp has not released what it holds yet; compare the clocks")
	}
	return b.update(s, func(r *boughtRecord) {
		r.State, r.Detail = StateEnded, clip(why)
		if env != nil && env.Verify(ledger.KindSettlement, b.cfg.Corp) == nil {
			r.Settlement = env.Marshal()
		}
	})
}

// Extend has the server seal the next revision of the agreement, signs it, has
// XenoCorp raise the hold, and confirms it. The session is unchanged if any of
// that fails before the confirmation.
func (b *Buyer) Extend(ctx context.Context, id ledger.ID, more time.Duration, limit ledger.Amount) (Info, error) {
	s, err := b.get(id)
	if err != nil {
		return Info{}, err
	}
	s.mu.Lock()
	a, state := s.agreement, s.rec.State
	prev := s.links[len(s.links)-1]
	s.mu.Unlock()
	if state != StateRunning && state != StateStarting {
		return s.info(), refuse(CodeState, "the session is %s and cannot be extended", state)
	}
	if limit == 0 {
		limit = a.Rates.WorstCost(&a.Terms, more)
	}
	want := a
	want.Revision, want.Prev = a.Revision+1, prev
	want.Cap, want.Expires = a.Cap+limit, a.Expires+int64(more/time.Second)
	resp, err := b.ask(ctx, s.server, &wire.SessionRequest{Call: &wire.SessionRequest_Extend{Extend: &wire.SessionExtend{
		Id: id[:], Revision: want.Revision, Cap: int64(want.Cap), Expires: want.Expires,
	}}})
	if err != nil {
		return s.info(), fmt.Errorf("session: extend: %w", err)
	}
	env, err := b.checkAmendment(resp.GetAgreement(), want)
	if err != nil {
		return s.info(), err
	}
	env.Countersign(b.cfg.Key)
	auth, err := b.authorise(ctx, env)
	if err != nil {
		return s.info(), err
	}
	err = b.update(s, func(r *boughtRecord) {
		r.Revisions = append(slices.Clip(r.Revisions), env.Marshal())
		r.Authorization = auth.Marshal()
	})
	if err != nil {
		return s.info(), err
	}
	s.mu.Lock()
	s.agreement, s.links = want, append(s.links, ledger.LinkTo(env))
	s.agreement.Issued = a.Issued
	s.mu.Unlock()
	return s.info(), b.advance(ctx, s)
}

// checkAmendment verifies that a sealed revision is the one asked for.
func (b *Buyer) checkAmendment(sealed []byte, want ledger.Agreement) (*ledger.Envelope, error) {
	env, err := ledger.UnmarshalEnvelope(sealed)
	if err != nil {
		return nil, fmt.Errorf("session: amendment: %w", err)
	}
	var got ledger.Agreement
	if err := env.Open(ledger.KindAgreement, &got, want.Server); err != nil {
		return nil, fmt.Errorf("session: amendment: %w", err)
	}
	want.Issued = got.Issued
	x, err := ledger.Encode(want)
	if err != nil {
		return nil, err
	}
	if string(x) != string(env.Payload) {
		return nil, errors.New("session: the server's amendment is not what was asked for")
	}
	return env, nil
}
