package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/wire"
)

// report seals an interim receipt, puts it before the client and claims it,
// with the client's signature or, if it does not answer, without. Nobody waits
// for that: the next receipt covers this one.
func (h *Host) report(s *hosted) error {
	readings, err := h.billable(h.ctx, s)
	if err != nil {
		return nil //nolint:nilerr // look logs it; the next interval tries again
	}
	r, err := h.sealReceipt(s, readings, "")
	if err != nil {
		return err
	}
	h.wg.Go(func() {
		ctx, cancel := context.WithTimeout(h.ctx, min(h.cfg.ReceiptInterval, countersignTime))
		r = h.countersign(ctx, s, r)
		cancel()
		ctx, cancel = context.WithTimeout(h.ctx, claimTime)
		defer cancel()
		if _, err := h.cfg.Claimer.Claim(ctx, r.env); err != nil && h.ctx.Err() == nil {
			h.cfg.Logger.Warn("claim", slog.String("session", s.id.String()), slog.Uint64("seq", r.receipt.Seq), slog.Any("err", err))
		}
	})
	return nil
}

// sealReceipt writes the next receipt of the chain to disk. why is empty for
// an interim receipt.
func (h *Host) sealReceipt(s *hosted, readings []ledger.Reading, why ledger.Reason) (sealedReceipt, error) {
	a, link := s.terms()
	usage := readings[0].Usage
	prev := s.log.newest()
	now := h.cfg.Clock().UnixMilli()
	s.mu.Lock()
	from := s.rec.Started
	s.mu.Unlock()
	if from == 0 {
		from = now
	}
	r := sealedReceipt{receipt: ledger.Receipt{
		Network: h.cfg.Network, Agreement: link, Server: h.id,
		Seq: prev.receipt.Seq + 1, From: from, To: max(now, from), Usage: usage, Readings: readings,
		Amount: min(a.Rates.Cost(&a.Terms, &usage), a.Cap), Final: why != "", Reason: why,
	}}
	if prev.env != nil {
		r.receipt.Prev = ledger.LinkTo(prev.env)
	}
	var err error
	if r.env, err = ledger.Seal(ledger.KindReceipt, r.receipt, h.cfg.Key); err != nil {
		return r, err
	}
	return r, s.log.append(r)
}

// seal writes the final receipt and what is kept of the environment.
func (h *Host) seal(s *hosted, readings []ledger.Reading, last endOf) error {
	if err := h.update(s, func(r *hostedRecord) {
		r.ExitCode, r.Stdout, r.Stderr = last.exitCode, last.stdout, last.stderr
	}); err != nil {
		return err
	}
	s.mu.Lock()
	why := s.rec.Reason
	s.mu.Unlock()
	_, err := h.sealReceipt(s, readings, why)
	return err
}

// countersign puts r before the client's node. What comes back signed is kept;
// without an answer, or with a dispute, r stays the server's word alone.
func (h *Host) countersign(ctx context.Context, s *hosted, r sealedReceipt) sealedReceipt {
	reply, err := h.askClient(ctx, s.client, r)
	if err != nil {
		h.cfg.Logger.Info("receipt not countersigned", slog.String("session", s.id.String()), slog.Any("err", err))
		return r
	}
	if reply.GetDispute() != "" {
		h.cfg.Logger.Warn("receipt disputed", slog.String("session", s.id.String()), slog.String("why", clip(reply.GetDispute())))
		return r
	}
	signed, err := openReceipt(reply.GetReceipt())
	if err != nil || signed.env.CID() != r.env.CID() || signed.env.Verify(ledger.KindReceipt, h.id, s.client) != nil {
		h.cfg.Logger.Warn("countersignature does not verify", slog.String("session", s.id.String()))
		return r
	}
	if err := s.log.append(signed); err != nil {
		h.cfg.Logger.Error("keep countersigned receipt", slog.String("session", s.id.String()), slog.Any("err", err))
	}
	return signed
}

func (h *Host) askClient(ctx context.Context, client dht.PeerID, r sealedReceipt) (*wire.SessionReceiptReply, error) {
	to, err := h.cfg.Overlay.Find(ctx, client)
	if err != nil {
		return nil, err
	}
	b, err := proto.Marshal(&wire.SessionReceipt{Receipt: r.env.Marshal()})
	if err != nil {
		return nil, err
	}
	b, err = h.cfg.Overlay.Request(ctx, to, ReceiptProtocol, b, maxRequest)
	if err != nil {
		return nil, err
	}
	reply := new(wire.SessionReceiptReply)
	if err := proto.Unmarshal(b, reply); err != nil {
		return nil, fmt.Errorf("session: receipt reply: %w", err)
	}
	return reply, nil
}

const (
	// countersignTime is how long a server waits for the client's signature
	// before it claims on its own.
	countersignTime = 5 * time.Second
	// claimTime bounds one request to XenoCorp.
	claimTime = 15 * time.Second
)

// settle claims the final receipt until XenoCorp has answered.
func (h *Host) settle(s *hosted) error {
	r := s.log.newest()
	if r.env == nil || !r.receipt.Final {
		return errors.New("session: settling without a final receipt")
	}
	if !r.env.SignedBy(s.client) {
		ctx, cancel := context.WithTimeout(h.ctx, countersignTime)
		r = h.countersign(ctx, s, r)
		cancel()
	}
	for pause := 200 * time.Millisecond; ; pause = min(2*pause, claimRetry) {
		env, err := h.claimOnce(r)
		switch {
		case err == nil && env != nil:
			return h.settled(s, env.Marshal(), "")
		case errors.Is(err, ErrClaimRefused):
			h.cfg.Logger.Error("claim refused", slog.String("session", s.id.String()), slog.Any("err", err))
			return h.settled(s, h.lastWord(s), "final receipt not paid: "+err.Error())
		}
		h.cfg.Logger.Info("claim not answered, trying again", slog.String("session", s.id.String()), slog.Any("err", err))
		select {
		case <-h.ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// lastWord returns the settlement of a session that XenoCorp closed before the
// final claim, which came too late: it paid what was claimed before. Nil: not
// known.
func (h *Host) lastWord(s *hosted) []byte {
	ctx, cancel := context.WithTimeout(h.ctx, claimTime)
	defer cancel()
	env, err := h.cfg.Claimer.Settlement(ctx, s.id)
	if err != nil || env == nil || env.Verify(ledger.KindSettlement, h.cfg.Corp) != nil {
		return nil
	}
	return env.Marshal()
}

func (h *Host) claimOnce(r sealedReceipt) (*ledger.Envelope, error) {
	ctx, cancel := context.WithTimeout(h.ctx, claimTime)
	defer cancel()
	env, err := h.cfg.Claimer.Claim(ctx, r.env)
	if err != nil || env == nil {
		return nil, err
	}
	if err := env.Verify(ledger.KindSettlement, h.cfg.Corp); err != nil {
		return nil, fmt.Errorf("session: settlement: %w", err)
	}
	return env, nil
}

func (h *Host) settled(s *hosted, settlement []byte, trouble string) error {
	return h.update(s, func(r *hostedRecord) {
		r.State, r.Settlement = StateEnded, settlement
		if trouble != "" {
			r.Detail = clip(r.Detail + "; " + trouble)
		}
	})
}
