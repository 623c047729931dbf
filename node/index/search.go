package index

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/wire"
)

// Options say how a query is answered. The zero value is what people want.
type Options struct {
	// Unverified returns ads as the holders have them, without asking the
	// servers: faster, and with servers that are gone for up to one lease.
	Unverified bool
	// Explain collects the servers that were seen and excluded.
	Explain bool
	// Replicas is how many holders of each cell are asked; 0 means 2.
	Replicas int
	// Budget bounds the messages; 0 means 2,000.
	Budget int
	// Found is called with each result of a query without a limit as soon as it
	// is certain, from one goroutine, before Search returns; the search waits
	// for it. May be nil.
	Found func(search.Result)
}

// CountOptions say how a count is made. The zero value is what people want.
type CountOptions struct {
	// Error is how far the bounds may lie from the number, as a part of it; 0
	// means a tenth.
	Error float64
	// Budget bounds the messages; 0 means 10, and 2,000 with an Error.
	Budget int
}

// Search answers a query. It ends with ctx at the latest, and then returns
// what it has, saying that it is not complete; a context without a deadline
// gets 30 s. The error wraps search.ErrBadQuery, ErrClosed or nothing that a
// caller can act on.
func (s *Service) Search(ctx context.Context, q search.Query, opts Options) (*search.Answer, error) {
	known, sample := s.known()
	machine, err := search.NewSeeker(s.schema, q, search.SeekerConfig{
		Replicas: opts.Replicas, Budget: opts.Budget, Young: 7 * s.cfg.Renew,
		Verify: !opts.Unverified, Explain: opts.Explain, Known: known, Sample: sample, Guides: s.overlay.Neighbours(search.Guides), Near: s.near,
		Seed: rand.Uint64(),
	})
	if err != nil {
		return nil, err
	}
	return s.carryOut(ctx, machine, opts.Found)
}

// Count estimates how many ads satisfy where, nil all of them, with bounds. It
// ends with ctx as Search does, and its errors are the same. The answer has no
// results.
func (s *Service) Count(ctx context.Context, where search.Predicate, opts CountOptions) (*search.Answer, error) {
	known, sample := s.known()
	machine, err := search.NewCounter(s.schema, where, search.CounterConfig{
		Error: opts.Error, Budget: opts.Budget, Known: known, Sample: sample, Guides: s.overlay.Neighbours(search.Guides), Near: s.near,
		Seed: rand.Uint64(),
	})
	if err != nil {
		return nil, err
	}
	return s.carryOut(ctx, machine, nil)
}

// A machine is a search.Seeker or a search.Counter.
type machine interface {
	Step(now time.Time, in search.SeekerInput) []search.SeekerEffect
}

// carryOut does what a machine wants until it has the answer.
func (s *Service) carryOut(ctx context.Context, m machine, found func(search.Result)) (*search.Answer, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, searchTimeout)
		defer cancel()
	}
	run := &seeking{service: s, found: found, inputs: make(chan search.SeekerInput, 64), done: make(chan struct{})}
	defer run.wg.Wait()
	defer close(run.done)
	calls, cancel := context.WithCancel(ctx)
	defer cancel()
	finish, err := run.drive(calls, m)
	if err != nil {
		return nil, err
	}
	s.remember(finish.Seen, finish.Sample)
	s.count(func(st *Stats) { st.Searches++ })
	return &finish.Answer, nil
}

// near estimates how far a participant is; one never measured is far.
func (s *Service) near(id dht.PeerID) time.Duration {
	if id == s.overlay.ID() {
		return 0
	}
	if rtt, ok := s.overlay.RTT(id); ok {
		return rtt
	}
	return time.Second
}

// seeking carries out what one machine wants. The goroutine in drive
// owns the machine.
type seeking struct {
	service *Service
	found   func(search.Result) // may be nil
	inputs  chan search.SeekerInput
	done    chan struct{}
	wg      sync.WaitGroup
}

// drive feeds the machine until it has the answer.
func (r *seeking) drive(ctx context.Context, m machine) (search.Finish, error) {
	wake := time.NewTimer(time.Hour)
	defer wake.Stop()
	over := ctx.Done()
	var in search.SeekerInput = search.Start{}
	for {
		now := time.Now()
		var due time.Time // of several wakes the first counts: it brings the others
		for _, e := range m.Step(now, in) {
			switch e := e.(type) {
			case search.Finish:
				return e, nil
			case search.Wake:
				if due.IsZero() || e.At.Before(due) {
					due = e.At
					wake.Reset(max(due.Sub(now), time.Millisecond))
				}
			case search.Hit:
				if r.found != nil {
					r.found(e.Result)
				}
			default:
				r.do(ctx, e)
			}
		}
		select {
		case in = <-r.inputs:
		case <-wake.C:
			in = search.SeekerTick{}
		case <-over:
			in, over = search.Expire{}, nil
		case <-r.service.ctx.Done():
			return search.Finish{}, ErrClosed
		}
	}
}

func (r *seeking) post(in search.SeekerInput) {
	select {
	case r.inputs <- in:
	case <-r.done:
	}
}

// do carries out one effect in the background.
func (r *seeking) do(ctx context.Context, effect search.SeekerEffect) {
	s := r.service
	r.wg.Go(func() {
		switch e := effect.(type) {
		case search.Consult:
			glimpses, _ := s.consult(ctx, e.To, e.Cells) // the holders are looked up then
			r.post(search.Guided{From: e.To.ID, Glimpses: glimpses})
		case search.Locate:
			holders, _ := s.located.locate(ctx, e.Cell) // nobody: the machine goes on without
			r.post(search.Located{Cell: e.Cell, Holders: holders})
		case search.Ask:
			reply, err := s.ask(ctx, e.To, e.Query)
			if err != nil {
				r.post(search.Failed{Cell: e.Query.Cell, From: e.To.ID})
				return
			}
			r.post(search.Answered{Cell: e.Query.Cell, From: e.To.ID, Reply: reply})
		case search.Verify:
			ad, _ := s.verify(ctx, e.Server) // an error and no ad are the same here
			r.post(search.Verified{Server: e.Server.ID, Signed: ad})
		case search.Wake, search.Hit, search.Finish:
		}
	})
}

// ask asks one holder for one cell.
func (s *Service) ask(ctx context.Context, to dht.Contact, q search.CellQuery) (*search.CellReply, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	w, err := askToWire(q)
	if err != nil {
		return nil, err
	}
	reply := new(wire.SearchReply)
	if err := s.call(ctx, to, &wire.SearchRequest{Kind: &wire.SearchRequest_Ask{Ask: w}}, reply); err != nil {
		return nil, err
	}
	return replyFromWire(s.schema, reply, s.opened.open)
}

// verify asks a server for its current ad; nil if it has none.
func (s *Service) verify(ctx context.Context, server dht.Contact) (*search.Signed, error) {
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	reply := new(wire.SearchCurrentReply)
	err := s.call(ctx, server, &wire.SearchRequest{Kind: &wire.SearchRequest_Current{Current: &wire.SearchCurrent{Server: server.ID[:]}}}, reply)
	if err != nil || len(reply.GetAd()) == 0 {
		return nil, err
	}
	ad, err := s.opened.open(reply.GetAd())
	if err != nil {
		return nil, err
	}
	if ad.Ad.Server != server.ID {
		return nil, fmt.Errorf("%w: the ad of another server", errMessage)
	}
	return ad, nil
}

// Lookup returns the current ad of a server from the information service
// (XIS). The error wraps ErrNotFound where no holder that answers has one.
func (s *Service) Lookup(ctx context.Context, server dht.PeerID) (*search.Signed, error) {
	cell := search.RecordOf(server)
	holders, err := s.located.locate(ctx, cell)
	if err != nil {
		return nil, fmt.Errorf("index: look up %s: %w", server, err)
	}
	replies := make([]*search.CellReply, len(holders))
	var wg sync.WaitGroup
	for i, h := range holders {
		wg.Go(func() { replies[i], _ = s.ask(ctx, h, search.CellQuery{Cell: cell}) }) // the others may have it
	}
	wg.Wait()
	var newest *search.Signed
	for _, r := range replies {
		if r == nil {
			continue
		}
		for _, ad := range r.Ads {
			if ad.Ad.Server == server && (newest == nil || newest.Ad.Seq < ad.Ad.Seq) {
				newest = ad
			}
		}
	}
	if newest == nil {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, server)
	}
	return newest, nil
}
