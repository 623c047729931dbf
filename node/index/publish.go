package index

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/wire"
)

// A publisher carries out what one search.Publisher wants. One goroutine owns
// the machine.
type publisher struct {
	service *Service
	machine *search.Publisher
	inputs  chan search.PublisherInput
	stop    chan struct{}
	stopped sync.Once
	done    chan struct{}

	ad      *search.Signed // guarded by Service.mu
	inPlace bool           // the machine says so of ad; guarded by Service.mu
}

// Advertise publishes the ad of a server from here, or replaces it by a newer
// one, until Withdraw or Close. The own ad, of Config.Ad, needs no call.
func (s *Service) Advertise(ad *search.Signed) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	p := s.publishers[ad.Ad.Server]
	if p == nil {
		p = &publisher{
			service: s, machine: search.NewPublisher(s.schema, search.PublisherConfig{Renew: s.cfg.Renew, Relocate: 5 * s.cfg.Renew}),
			inputs: make(chan search.PublisherInput, 64),
			stop:   make(chan struct{}), done: make(chan struct{}),
		}
		s.publishers[ad.Ad.Server] = p
		s.wg.Go(p.run)
	}
	if p.ad == nil || p.ad.Ad.Seq < ad.Ad.Seq {
		p.ad, p.inPlace = ad, false
		s.wg.Go(func() { p.post(search.Offer{Ad: ad}) })
	}
	return nil
}

// Withdraw ends the publication of a server's ad from here, and waits until
// the holders that answer have forgotten it, at most about two seconds.
func (s *Service) Withdraw(server dht.PeerID) {
	s.mu.Lock()
	p := s.publishers[server]
	delete(s.publishers, server)
	s.mu.Unlock()
	if p != nil {
		p.stopped.Do(func() { close(p.stop) })
		<-p.done
	}
}

func (s *Service) withdrawAll() {
	s.mu.Lock()
	all := s.publishers
	s.publishers = make(map[dht.PeerID]*publisher)
	s.mu.Unlock()
	for _, p := range all {
		p.stopped.Do(func() { close(p.stop) })
	}
	for _, p := range all {
		<-p.done
	}
}

// Changed tells that Config.Ad returns another ad by now; it is published at
// once.
func (s *Service) Changed() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// advertiseOwn publishes the own ad again and again.
func (s *Service) advertiseOwn() {
	// A little earlier than the machine would by itself, with the ad as of now.
	renew := time.NewTimer(0)
	defer renew.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.changed:
		case <-renew.C:
		}
		s.offerOwn()
		renew.Reset(s.cfg.Renew * 9 / 10)
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(changeInterval):
		}
	}
}

func (s *Service) offerOwn() {
	ad, err := s.ownAd(0)
	if errors.Is(err, ErrNotFound) {
		s.Withdraw(s.overlay.ID())
		return
	}
	if err != nil {
		s.log.Warn("make the advertisement", slog.Any("err", err))
		return
	}
	_ = s.Advertise(ad) // closed
}

// post hands an input to the machine's goroutine, unless that has ended.
func (p *publisher) post(in search.PublisherInput) {
	select {
	case p.inputs <- in:
	case <-p.done:
	}
}

// run owns the machine.
func (p *publisher) run() {
	defer close(p.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		var in search.PublisherInput = search.PublisherTick{}
		select {
		case in = <-p.inputs:
		case <-timer.C:
		case <-p.stop:
			p.withdraw()
			return
		case <-p.service.ctx.Done():
			return
		}
		now := time.Now()
		for _, e := range p.machine.Step(now, in) {
			p.do(e)
		}
		p.report(now)
		timer.Reset(max(p.machine.Wake().Sub(now), search.LeastWake))
	}
}

// report tells those who wait in InPlace what the machine says.
func (p *publisher) report(now time.Time) {
	s := p.service
	s.mu.Lock()
	defer s.mu.Unlock()
	inPlace := p.machine.InPlace(now) && p.machine.Ad() == p.ad
	if inPlace != p.inPlace {
		p.inPlace = inPlace
		close(s.placed)
		s.placed = make(chan struct{})
	}
}

// InPlace waits until every ad that is published from here is in its cells,
// and withdrawn from those it was in before. The error is the context's, or
// ErrClosed.
func (s *Service) InPlace(ctx context.Context) error {
	s.mu.Lock()
	waits := s.cfg.Ad != nil && s.publishers[s.overlay.ID()] == nil
	s.mu.Unlock()
	if waits {
		s.offerOwn()
	}
	for {
		s.mu.Lock()
		missing, changed := 0, s.placed
		for _, p := range s.publishers {
			if !p.inPlace {
				missing++
			}
		}
		s.mu.Unlock()
		if missing == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ctx.Done():
			return ErrClosed
		}
	}
}

// do carries out one effect, and posts its outcome.
func (p *publisher) do(effect search.PublisherEffect) {
	s := p.service
	switch e := effect.(type) {
	case search.Locate:
		s.wg.Go(func() { // its requests are shared with others, and bounded by the overlay
			ctx, cancel := context.WithTimeout(s.ctx, search.LocateTimeout)
			defer cancel()
			holders, err := s.located.locate(ctx, e.Cell)
			if err != nil {
				s.log.Debug("locate cell", slog.String("cell", e.Cell.String()), slog.Any("err", err))
			}
			p.post(search.Located{Cell: e.Cell, Holders: holders})
		})
	case search.SendPublish:
		s.count(func(st *Stats) { st.Published++ })
		p.spawn(func(ctx context.Context) {
			out := search.Published{To: e.To.ID, Places: e.Places, Cells: e.Cells}
			reply := new(wire.SearchPlacing)
			err := s.call(ctx, e.To, &wire.SearchRequest{Kind: &wire.SearchRequest_Publish{Publish: publishToWire(e.Ad, e.Places)}}, reply)
			if err == nil {
				out.Placing, err = placingFromWire(reply, len(e.Places))
			}
			if err != nil {
				s.log.Debug("publish", slog.String("to", e.To.ID.String()), slog.Any("err", err))
			}
			s.mu.Lock()
			s.directory.Learn(time.Now(), out)
			s.mu.Unlock()
			p.post(out)
		})
	case search.SendWithdraw:
		p.spawn(func(ctx context.Context) { p.sendWithdraw(ctx, e) })
	}
}

// spawn runs f when fewer than search.MaxCalls others are under way.
func (p *publisher) spawn(f func(ctx context.Context)) {
	s := p.service
	s.wg.Go(func() {
		select {
		case s.calls <- struct{}{}:
			defer func() { <-s.calls }()
		case <-s.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(s.ctx, publishTimeout)
		defer cancel()
		f(ctx)
	})
}

// sendWithdraw tells one holder to forget the ad, several times if need be.
func (p *publisher) sendWithdraw(ctx context.Context, e search.SendWithdraw) {
	defer p.post(search.Withdrawn{To: e.To.ID})
	w := &wire.SearchWithdraw{Server: e.Server[:], Seq: e.Seq}
	for _, c := range e.Cells {
		w.Cells = append(w.Cells, cellToWire(c))
	}
	for try := range search.WithdrawTries {
		err := p.service.call(ctx, e.To, &wire.SearchRequest{Kind: &wire.SearchRequest_Withdraw{Withdraw: w}}, new(wire.SearchPlacing))
		if err == nil {
			return
		}
		p.service.log.Debug("withdraw", slog.String("from", e.To.ID.String()), slog.Any("err", err))
		select {
		case <-ctx.Done():
			return
		case <-time.After(search.WithdrawPause << try):
		}
	}
}

// withdraw takes the ad back from all holders.
func (p *publisher) withdraw() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var in search.PublisherInput = search.Stop{}
	for {
		now := time.Now()
		for _, e := range p.machine.Step(now, in) {
			p.do(e)
		}
		if p.machine.Done(now) {
			return
		}
		timer.Reset(max(p.machine.Wake().Sub(now), search.LeastWake))
		select {
		case in = <-p.inputs:
		case <-timer.C:
			in = search.PublisherTick{}
		case <-p.service.ctx.Done():
			return
		}
	}
}
