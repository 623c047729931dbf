package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/wire"
)

// A Candidate is a server to propose to, with the most to spend there.
type Candidate struct {
	Server dht.PeerID
	Cap    ledger.Amount
	Rates  ledger.Rates // as advertised: an agreement with higher ones is declined
	Label  Label        // as advertised, kept with the session
}

// A BuyRequest says what to buy.
type BuyRequest struct {
	// Session names the session; a repetition joins the purchase under way or
	// returns the session.
	Session    ledger.ID
	Order      *ledger.Envelope
	Terms      ledger.Terms
	Duration   time.Duration
	Candidates []Candidate // best first
}

// A Stage is a step of a purchase.
type Stage string

// The stages.
const (
	StageProposing   Stage = "proposing"
	StageRefused     Stage = "refused"
	StageAgreed      Stage = "agreed"
	StageAuthorising Stage = "authorising"
	StageLaunching   Stage = "launching"
	StageRunning     Stage = "running"
	StageEnded       Stage = "ended"
)

// An Event reports a step of a purchase.
type Event struct {
	Stage   Stage
	Server  dht.PeerID
	Message string
}

// proposeAtOnce is how many candidates are asked in parallel; the cheapest
// that agrees is taken, the others are declined.
const proposeAtOnce = 3

// quoteTime bounds a round of proposals.
const quoteTime = 10 * time.Second

// ErrNoServer reports that no candidate agreed.
var ErrNoServer = errors.New("session: no server agreed")

// ErrNeverRan reports a session that was agreed and authorised, but whose
// environment did not come up; it is over.
var ErrNeverRan = errors.New("never ran")

// A purchase is a Buy under way, which repetitions join.
type purchase struct {
	done chan struct{}
	info Info
	err  error
}

// Buy buys a session: it proposes to the candidates, takes the cheapest that
// agrees, has XenoCorp authorise it, and returns once the environment was seen
// to run (or has ended). events may be nil; it is called in order from one
// goroutine. When ctx ends after the money was held, the session goes on: stop
// it by its ID.
func (b *Buyer) Buy(ctx context.Context, req BuyRequest, events func(Event)) (Info, error) {
	if events == nil {
		events = func(Event) {}
	}
	if req.Session.IsZero() || req.Order == nil || len(req.Candidates) == 0 {
		return Info{}, fmt.Errorf("%w: nothing to choose from", ErrNoServer)
	}
	b.mu.Lock()
	if s := b.sessions[req.Session]; s != nil {
		b.mu.Unlock()
		return b.Wait(ctx, req.Session, StateRunning)
	}
	if p := b.buying[req.Session]; p != nil {
		b.mu.Unlock()
		select {
		case <-p.done:
			return p.info, p.err
		case <-ctx.Done():
			return Info{}, ctx.Err()
		}
	}
	p := &purchase{done: make(chan struct{})}
	b.buying[req.Session] = p
	b.mu.Unlock()
	p.info, p.err = b.buy(ctx, req, events)
	close(p.done)
	b.mu.Lock()
	delete(b.buying, req.Session)
	b.mu.Unlock()
	return p.info, p.err
}

func (b *Buyer) buy(ctx context.Context, req BuyRequest, events func(Event)) (Info, error) {
	env, err := b.quote(ctx, req, events)
	if err != nil {
		return Info{}, err
	}
	s, err := b.sign(req, env)
	if err != nil {
		return Info{}, err
	}
	events(Event{Stage: StageAgreed, Server: s.server, Message: "both signed the agreement"})
	events(Event{Stage: StageAuthorising, Server: s.server, Message: fmt.Sprintf("XenoCorp holds %s", s.agreement.Cap)})
	if err := b.advance(ctx, s); err != nil {
		b.follow(s) // what was begun is brought to an end
		return s.info(), err
	}
	events(Event{Stage: StageLaunching, Server: s.server, Message: "the server starts the environment"})
	b.follow(s)
	in, err := b.Wait(ctx, s.id, StateRunning)
	switch {
	case err != nil:
		return in, fmt.Errorf("session %s goes on without you (xeno stop ends it): %w", s.id, err)
	case in.State == StateEnded && in.Started.IsZero():
		return in, fmt.Errorf("session %s %w (%s), and cost %s: %s", s.id, ErrNeverRan, in.Reason, in.Amount, in.Detail)
	case in.State == StateEnded:
		events(Event{Stage: StageEnded, Server: s.server, Message: in.Detail})
	default:
		events(Event{Stage: StageRunning, Server: s.server, Message: "seen to work from outside"})
	}
	return in, nil
}

// quote proposes to the candidates, some at a time, and returns the best
// agreement; the other servers are told at once.
func (b *Buyer) quote(ctx context.Context, req BuyRequest, events func(Event)) (*ledger.Envelope, error) {
	var refusals []error
	for group := range slices.Chunk(req.Candidates, proposeAtOnce) {
		offers := make([]offer, len(group))
		round, cancel := context.WithTimeout(ctx, quoteTime)
		var wg sync.WaitGroup
		for i, c := range group {
			events(Event{Stage: StageProposing, Server: c.Server, Message: fmt.Sprintf("%s, at most %s", req.Duration, c.Cap)})
			wg.Go(func() { offers[i] = b.proposeTo(round, req, c) })
		}
		wg.Wait()
		cancel()
		var agreed []offer
		for _, o := range offers {
			if o.err != nil {
				refusals = append(refusals, fmt.Errorf("%s: %w", o.server.Short(), o.err))
				events(Event{Stage: StageRefused, Server: o.server, Message: o.err.Error()})
				continue
			}
			agreed = append(agreed, o)
		}
		if len(agreed) == 0 {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			continue
		}
		slices.SortStableFunc(agreed, func(x, y offer) int { return cmp.Compare(x.cost, y.cost) })
		for _, o := range agreed[1:] {
			b.decline(o.server, req.Session)
		}
		return agreed[0].env, nil
	}
	return nil, fmt.Errorf("%w: %w", ErrNoServer, errors.Join(refusals...))
}

// An offer is a server's answer to a proposal.
type offer struct {
	server dht.PeerID
	env    *ledger.Envelope
	cost   ledger.Amount // of the whole duration with every CPU busy
	err    error
}

func (b *Buyer) proposeTo(ctx context.Context, req BuyRequest, c Candidate) offer {
	terms, err := ledger.Encode(req.Terms)
	if err != nil {
		return offer{server: c.Server, err: err}
	}
	resp, err := b.ask(ctx, c.Server, &wire.SessionRequest{Call: &wire.SessionRequest_Propose{Propose: &wire.SessionPropose{
		Id: req.Session[:], Order: req.Order.Marshal(), Terms: terms,
		Cap: int64(c.Cap), Seconds: int64(req.Duration / time.Second),
	}}})
	if err != nil {
		return offer{server: c.Server, err: err}
	}
	env, a, err := b.checkOffer(resp.GetAgreement(), req, c)
	if err != nil {
		b.decline(c.Server, req.Session)
		return offer{server: c.Server, err: fmt.Errorf("its agreement is not what was asked for: %w", err)}
	}
	return offer{server: c.Server, env: env, cost: a.Rates.WorstCost(&a.Terms, req.Duration)}
}

// checkOffer verifies that the server promises what was asked for, at no more
// than it advertised.
func (b *Buyer) checkOffer(sealed []byte, req BuyRequest, c Candidate) (*ledger.Envelope, *ledger.Agreement, error) {
	env, err := ledger.UnmarshalEnvelope(sealed)
	if err != nil {
		return nil, nil, err
	}
	var a ledger.Agreement
	if err := env.Open(ledger.KindAgreement, &a, c.Server); err != nil {
		return nil, nil, err
	}
	want := req.Terms
	want.HostKey = a.Terms.HostKey
	if want.CPUShare == 0 {
		want.CPUShare = want.CPUs * 1000
	}
	asked, err := ledger.Encode(want)
	if err != nil {
		return nil, nil, err
	}
	got, err := ledger.Encode(a.Terms)
	if err != nil {
		return nil, nil, err
	}
	now := b.cfg.Clock()
	r, m := a.Rates, c.Rates
	switch {
	case a.Network != b.cfg.Network || a.ID != req.Session || a.Client != b.id || a.Server != c.Server || a.Revision != 0:
		err = errors.New("it names other parties or another session")
	case a.Order != ledger.LinkTo(req.Order) || a.Cap != c.Cap:
		err = errors.New("it draws on another order, or with another cap")
	case !slices.Equal(asked, got):
		err = errors.New("its terms differ")
	case r.Session > m.Session || r.CPU > m.CPU || r.Memory > m.Memory || r.Disk > m.Disk || r.Network > m.Network:
		err = errors.New("its prices are above the advertised ones")
	case now.Add(req.Duration-clockSkew).Unix() > a.Expires || now.Add(req.Duration+clockSkew).Unix() < a.Expires:
		err = errors.New("it ends at another time; compare the clocks")
	}
	return env, &a, err
}

// decline tells a server that its offer is not taken. It is a courtesy: the
// hold lapses by itself.
func (b *Buyer) decline(server dht.PeerID, id ledger.ID) {
	b.wg.Go(func() {
		ctx, cancel := context.WithTimeout(b.ctx, quoteTime)
		defer cancel()
		_, err := b.ask(ctx, server, &wire.SessionRequest{Call: &wire.SessionRequest_Decline{Decline: &wire.SessionQuery{Id: id[:]}}})
		if err != nil {
			b.cfg.Logger.Debug("decline", slog.String("server", server.String()), slog.Any("err", err))
		}
	})
}

// sign countersigns the agreement and puts it on disk, before XenoCorp or the
// server see the signature.
func (b *Buyer) sign(req BuyRequest, env *ledger.Envelope) (*bought, error) {
	env.Countersign(b.cfg.Key)
	log, err := openReceiptLog(b.receipts, req.Session)
	if err != nil {
		return nil, err
	}
	s := &bought{id: req.Session, log: log, changed: make(chan struct{}), links: []ledger.Link{ledger.LinkTo(env)}}
	if err := env.Open(ledger.KindAgreement, &s.agreement, b.id); err != nil {
		return nil, err
	}
	s.server = s.agreement.Server
	s.rec = boughtRecord{State: StateAgreed, Revisions: [][]byte{env.Marshal()}, Created: b.cfg.Clock().UnixMilli()}
	for _, c := range req.Candidates {
		if c.Server == s.server {
			s.rec.Label = c.Label.clean()
		}
	}
	if err := b.records.save(s.id, s.rec); err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.sessions[s.id] = s
	b.mu.Unlock()
	return s, nil
}
