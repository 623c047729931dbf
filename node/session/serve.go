package session

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/wire"
)

// handle answers one request on Protocol. Refusals are answers, not errors.
func (h *Host) handle(ctx context.Context, from dht.PeerID, request []byte) ([]byte, error) {
	req := new(wire.SessionRequest)
	resp, err := (*wire.SessionResponse)(nil), proto.Unmarshal(request, req)
	if err != nil {
		err = refuse(CodeMalformed, "not a session request")
	} else {
		resp, err = h.dispatch(ctx, from, req)
	}
	if err != nil {
		r := asRefusal(err)
		if r.Code == CodeInternal {
			h.cfg.Logger.Error("session request", slog.String("peer", from.String()), slog.Any("err", err))
		}
		resp = &wire.SessionResponse{Refusal: r.wire()}
	}
	return proto.Marshal(resp)
}

func (h *Host) dispatch(ctx context.Context, from dht.PeerID, req *wire.SessionRequest) (*wire.SessionResponse, error) {
	switch call := req.GetCall().(type) {
	case *wire.SessionRequest_Propose:
		return h.propose(from, call.Propose)
	case *wire.SessionRequest_Confirm:
		return h.confirm(from, call.Confirm)
	case *wire.SessionRequest_Status:
		return h.query(from, call.Status, func(s *hosted) error { return s.await(ctx, call.Status) })
	case *wire.SessionRequest_Stop:
		return h.query(from, call.Stop, func(s *hosted) error {
			if s.state() == StateProposed {
				h.release(s)
				return nil
			}
			s.requestStop(ledger.ReasonStopped)
			return nil
		})
	case *wire.SessionRequest_Decline:
		return h.query(from, call.Decline, func(s *hosted) error { h.release(s); return nil })
	case *wire.SessionRequest_Extend:
		return h.extend(from, call.Extend)
	case *wire.SessionRequest_Logs:
		return h.logs(ctx, from, call.Logs)
	case *wire.SessionRequest_Receipts:
		return h.listReceipts(from, call.Receipts)
	default:
		return nil, refuse(CodeMalformed, "unknown session call; update this program or the server's")
	}
}

// query runs act on a session of from and answers with its status.
func (h *Host) query(from dht.PeerID, q *wire.SessionQuery, act func(*hosted) error) (*wire.SessionResponse, error) {
	id, err := wireID(q.GetId())
	if err != nil {
		return nil, err
	}
	s, err := h.get(id, from)
	if err != nil {
		return nil, err
	}
	if err := act(s); err != nil {
		return nil, err
	}
	return &wire.SessionResponse{Status: s.status()}, nil
}

// await returns when the state differs from the one the client knows, or when
// its time is over.
func (s *hosted) await(ctx context.Context, q *wire.SessionQuery) error {
	timer := time.NewTimer(min(time.Duration(q.GetWaitMillis())*time.Millisecond, maxWait))
	defer timer.Stop()
	for {
		changed := s.changes()
		if q.GetWaitMillis() == 0 || string(s.state()) != q.GetKnownState() {
			return nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// release gives up a proposal at once. A later confirmation finds it unknown.
func (h *Host) release(s *hosted) {
	h.mu.Lock()
	proposed := h.sessions[s.id] == s && s.state() == StateProposed
	if proposed {
		delete(h.sessions, s.id)
	}
	h.mu.Unlock()
	if !proposed {
		return
	}
	if err := errors.Join(h.records.remove(s.id), s.log.remove()); err != nil {
		h.cfg.Logger.Warn("release proposal", slog.String("session", s.id.String()), slog.Any("err", err))
	}
	h.cfg.Changed()
}

// confirm checks both documents and starts the session, or takes an amendment
// into force. What was confirmed before is answered with its status.
func (h *Host) confirm(from dht.PeerID, req *wire.SessionConfirm) (*wire.SessionResponse, error) {
	env, a, err := h.checkConfirmation(from, req)
	if err != nil {
		return nil, err
	}
	s, err := h.get(a.ID, from)
	if err != nil {
		if s, err = h.late(env, a, req); err != nil {
			return nil, err
		}
		return &wire.SessionResponse{Status: s.status()}, nil
	}
	if err := h.accept(s, env, a, req); err != nil {
		return nil, err
	}
	h.carry(s)
	h.cfg.Changed()
	return &wire.SessionResponse{Status: s.status()}, nil
}

// accept takes a verified confirmation into the session.
func (h *Host) accept(s *hosted, env *ledger.Envelope, a *ledger.Agreement, req *wire.SessionConfirm) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	link := ledger.LinkTo(env)
	switch {
	case s.link == link && s.rec.State != StateProposed:
		return nil // said before
	case s.link == link:
		lapsed := h.cfg.Clock().After(time.UnixMilli(s.rec.Proposed).Add(HoldTime))
		return h.updateLocked(s, func(r *hostedRecord) {
			r.Agreement, r.Authorization, r.State = req.GetAgreement(), req.GetAuthorization(), StateStarting
			if lapsed {
				r.State, r.Reason, r.Detail = StateEnding, ledger.ReasonFailed, "confirmed after the hold of the resources was over"
			}
		})
	case len(s.rec.Amendment) > 0 && amends(s.rec.Amendment, link):
		if s.rec.State != StateStarting && s.rec.State != StateRunning {
			return refuse(CodeState, "the session is %s", s.rec.State)
		}
		err := h.updateLocked(s, func(r *hostedRecord) {
			r.Agreement, r.Authorization, r.Amendment = req.GetAgreement(), req.GetAuthorization(), nil
		})
		if err == nil {
			s.agreement, s.link = *a, link
		}
		return err
	default:
		return refuse(CodeConflict, "not the agreement that this server offers for session %s", s.id)
	}
}

func amends(sealed []byte, link ledger.Link) bool {
	env, err := ledger.UnmarshalEnvelope(sealed)
	return err == nil && ledger.LinkTo(env) == link
}

// checkConfirmation verifies agreement and authorization, offline.
func (h *Host) checkConfirmation(from dht.PeerID, req *wire.SessionConfirm) (*ledger.Envelope, *ledger.Agreement, error) {
	env, err := ledger.UnmarshalEnvelope(req.GetAgreement())
	if err != nil {
		return nil, nil, refuse(CodeMalformed, "agreement: %v", err)
	}
	var a ledger.Agreement
	if err := env.Open(ledger.KindAgreement, &a, h.id, from); err != nil {
		return nil, nil, refuse(CodeUnauthorized, "agreement: %v", err)
	}
	auth, err := ledger.UnmarshalEnvelope(req.GetAuthorization())
	if err != nil {
		return nil, nil, refuse(CodeMalformed, "authorization: %v", err)
	}
	var z ledger.Authorization
	if err := auth.Open(ledger.KindAuthorization, &z, h.cfg.Corp); err != nil {
		return nil, nil, refuse(CodeUnauthorized, "authorization: %v", err)
	}
	switch now := h.cfg.Clock().Unix(); {
	case a.Client != from || a.Server != h.id || a.Network != h.cfg.Network:
		err = refuse(CodeUnauthorized, "the agreement is between others")
	case z.Network != h.cfg.Network || z.Agreement != ledger.LinkTo(env):
		err = refuse(CodeUnauthorized, "the authorization is for another agreement")
	case z.Hold < a.Cap:
		err = refuse(CodeUnauthorized, "XenoCorp holds %s, the agreement says %s", z.Hold, a.Cap)
	case now >= z.Expires:
		err = refuse(CodeExpired, "the authorization is over")
	}
	return env, &a, err
}

// late enters a confirmed agreement whose proposal is forgotten, only to
// settle it at nothing: the client's money is held for it and must go back.
func (h *Host) late(env *ledger.Envelope, a *ledger.Agreement, req *wire.SessionConfirm) (*hosted, error) {
	log, err := openReceiptLog(h.receipts, a.ID)
	if err != nil {
		return nil, err
	}
	s := &hosted{
		id: a.ID, client: a.Client, log: log, agreement: *a, link: ledger.LinkTo(env),
		changed: make(chan struct{}), stop: make(chan struct{}),
		rec: hostedRecord{
			State: StateEnding, Proposed: h.cfg.Clock().UnixMilli(), Agreement: req.GetAgreement(), Authorization: req.GetAuthorization(),
			Reason: ledger.ReasonFailed, Detail: "confirmed after the hold of the resources was over",
		},
	}
	h.mu.Lock()
	if h.sessions[a.ID] != nil || len(h.sessions) >= maxHosted {
		h.mu.Unlock()
		return nil, refuse(CodeBusy, "try again")
	}
	h.sessions[a.ID] = s
	h.mu.Unlock()
	if err := h.records.save(s.id, s.rec); err != nil {
		h.mu.Lock()
		delete(h.sessions, s.id)
		h.mu.Unlock()
		return nil, err
	}
	h.carry(s)
	return s, nil
}

// extend seals the next revision of the agreement, to be authorised and
// confirmed like the first.
func (h *Host) extend(from dht.PeerID, req *wire.SessionExtend) (*wire.SessionResponse, error) {
	id, err := wireID(req.GetId())
	if err != nil {
		return nil, err
	}
	s, err := h.get(id, from)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rec.State != StateStarting && s.rec.State != StateRunning {
		return nil, refuse(CodeState, "the session is %s and cannot be extended", s.rec.State)
	}
	if req.GetRevision() == s.agreement.Revision && s.agreement.Cap == ledger.Amount(req.GetCap()) && s.agreement.Expires == req.GetExpires() {
		return &wire.SessionResponse{Agreement: s.rec.Agreement}, nil
	}
	next := s.agreement
	next.Revision, next.Prev = s.agreement.Revision+1, s.link
	next.Cap, next.Expires = ledger.Amount(req.GetCap()), req.GetExpires()
	next.Issued = h.cfg.Clock().Unix()
	switch {
	case req.GetRevision() != next.Revision:
		return nil, refuse(CodeConflict, "revision %d asked for, %d comes next", req.GetRevision(), next.Revision)
	case next.Cap < s.agreement.Cap || next.Cap > ledger.MaxAmount || next.Expires < s.agreement.Expires:
		return nil, refuse(CodeTerms, "an extension lowers neither cap (%s) nor expiry", s.agreement.Cap)
	case next.Expires > h.cfg.Clock().Add(maxDuration).Unix():
		return nil, refuse(CodeTerms, "no further than %s ahead", maxDuration)
	}
	env, err := ledger.Seal(ledger.KindAgreement, next, h.cfg.Key)
	if err != nil {
		return nil, err
	}
	sealed := env.Marshal()
	if err := h.updateLocked(s, func(r *hostedRecord) { r.Amendment = sealed }); err != nil {
		return nil, err
	}
	return &wire.SessionResponse{Agreement: sealed}, nil
}

func (h *Host) logs(ctx context.Context, from dht.PeerID, q *wire.SessionLogsQuery) (*wire.SessionResponse, error) {
	id, err := wireID(q.GetId())
	if err != nil {
		return nil, err
	}
	s, err := h.get(id, from)
	if err != nil {
		return nil, err
	}
	limit := int(min(q.GetLimit(), maxLogs))
	s.mu.Lock()
	rec, kind := s.rec, hypervisor.Kind(s.agreement.Terms.Environment)
	s.mu.Unlock()
	if rec.State == StateSettling || rec.State == StateEnded {
		return &wire.SessionResponse{Stdout: newestBytes(rec.Stdout, limit), Stderr: newestBytes(rec.Stderr, limit)}, nil
	}
	if rec.State == StateProposed {
		return &wire.SessionResponse{}, nil
	}
	stdout, stderr, err := h.cfg.Drivers[kind].Logs(ctx, id.String(), limit)
	if err != nil && !errors.Is(err, hypervisor.ErrNotFound) {
		return nil, err
	}
	return &wire.SessionResponse{Stdout: stdout, Stderr: stderr}, nil
}

func newestBytes(b []byte, limit int) []byte {
	return bytes.Clone(b[len(b)-min(len(b), limit):])
}

func (h *Host) listReceipts(from dht.PeerID, q *wire.SessionReceiptsQuery) (*wire.SessionResponse, error) {
	id, err := wireID(q.GetId())
	if err != nil {
		return nil, err
	}
	s, err := h.get(id, from)
	if err != nil {
		return nil, err
	}
	page, err := s.log.page(q.GetAfter(), maxReceiptPage)
	if err != nil {
		return nil, err
	}
	resp := new(wire.SessionResponse)
	for _, env := range page {
		resp.Receipts = append(resp.Receipts, env.Marshal())
	}
	return resp, nil
}
