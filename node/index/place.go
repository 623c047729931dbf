package index

import (
	"context"
	"sync"
	"time"

	"github.com/xenoserver/xeno/search/placement"
)

const (
	// placeTimeout bounds a placement whose context has no deadline.
	placeTimeout = 60 * time.Second
	// placeSearches bounds the searches of one placement under way at once.
	placeSearches = 4
	// placeBudget bounds the messages of one of them: the holders of 2,000 ads.
	placeBudget = 1000
)

// A Placement is where machines go, and what it cost to find out.
type Placement struct {
	placement.Arrangement
	Requests int // messages to holders and servers
}

// Place finds machines. It ends with ctx at the latest, and then returns the
// best it has; a context without a deadline gets 60 s. A placement that is not
// possible is no error, see placement.Arrangement.Unmet. The error wraps
// search.ErrBadQuery or ErrClosed.
func (s *Service) Place(ctx context.Context, spec placement.Spec) (*Placement, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, placeTimeout)
		defer cancel()
	}
	machine, err := placement.New(s.schema, spec)
	if err != nil {
		return nil, err
	}
	run := &placing{
		service: s, inputs: make(chan placed), done: make(chan struct{}), places: make(chan struct{}, placeSearches),
	}
	defer run.wg.Wait()
	defer close(run.done)
	calls, cancel := context.WithCancel(ctx)
	defer cancel()
	return run.drive(calls, machine)
}

// placing carries out what one placement.Placer wants. The goroutine in drive owns
// the machine.
type placing struct {
	service *Service
	inputs  chan placed
	done    chan struct{}
	places  chan struct{} // one element for each search under way
	wg      sync.WaitGroup
}

// placed is an answer to an effect, and how many messages it took.
type placed struct {
	input    placement.Input
	requests int
}

// drive feeds the machine until it has the placement.
func (r *placing) drive(ctx context.Context, machine *placement.Placer) (*Placement, error) {
	// The searches leave a quarter of the time for what follows.
	end, _ := ctx.Deadline()
	searching, cancel := context.WithTimeout(ctx, time.Until(end)*3/4)
	defer cancel()
	out := new(Placement)
	over, always := ctx.Done(), make(chan struct{})
	close(always)
	var in placement.Input = placement.Start{}
	for {
		var think chan struct{}
		for _, e := range machine.Step(time.Now(), in) {
			switch e := e.(type) {
			case placement.Want:
				r.wg.Go(func() { r.search(searching, e) })
			case placement.Verify:
				out.Requests++
				r.wg.Go(func() {
					ad, _ := r.service.verify(ctx, e.Server) // an error and no ad are the same here
					r.post(placed{input: placement.Verified{Server: e.Server.ID, Signed: ad}})
				})
			case placement.Think:
				think = always
			case placement.Arranged:
				out.Arrangement = e.Arrangement
				return out, nil
			}
		}
		select {
		case p := <-r.inputs:
			in = p.input
			out.Requests += p.requests
		case <-think:
			in = placement.Proceed{}
		case <-over:
			in, over = placement.Expire{}, nil
		case <-r.service.ctx.Done():
			return nil, ErrClosed
		}
	}
}

func (r *placing) post(p placed) {
	select {
	case r.inputs <- p:
	case <-r.done:
	}
}

// search answers a Want. A search that fails found nothing.
func (r *placing) search(ctx context.Context, want placement.Want) {
	found := placement.Found{ID: want.ID}
	requests := 0
	select {
	case r.places <- struct{}{}:
		if answer, err := r.service.Search(ctx, want.Query, Options{Unverified: true, Budget: placeBudget}); err == nil {
			found.Complete, requests = answer.Complete, answer.Requests
			for _, result := range answer.Results {
				found.Ads = append(found.Ads, result.Signed)
			}
		}
		<-r.places
	case <-ctx.Done():
	}
	r.post(placed{input: found, requests: requests})
}
