package storage

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/routing"
	"golang.org/x/sync/errgroup"

	"github.com/xenoserver/xeno/store"
)

// A provider announces roots: at once when they are new, all of them every
// provideInterval, and again after provideRetry what could not be announced.
type provider struct {
	routing routing.ContentRouting
	log     *slog.Logger
	wake    chan struct{} // capacity 1

	mu      sync.Mutex // guards the following
	pending map[store.Ref]bool
}

func newProvider(r routing.ContentRouting, log *slog.Logger) *provider {
	return &provider{routing: r, log: log, wake: make(chan struct{}, 1), pending: make(map[store.Ref]bool)}
}

// announce has refs announced soon.
func (p *provider) announce(refs ...store.Ref) {
	p.mu.Lock()
	for _, r := range refs {
		p.pending[r] = true
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run announces until ctx ends. roots lists what is here.
func (p *provider) run(ctx context.Context, roots func() []store.Ref) {
	all := time.NewTicker(provideInterval)
	defer all.Stop()
	retry := time.NewTicker(provideRetry)
	defer retry.Stop()
	p.announce(roots()...)
	for {
		select {
		case <-ctx.Done():
			return
		case <-all.C:
			p.announce(roots()...)
		case <-retry.C:
			p.drain(ctx)
		case <-p.wake:
			p.drain(ctx)
		}
	}
}

// drain announces what is pending; what fails stays so.
func (p *provider) drain(ctx context.Context) {
	p.mu.Lock()
	refs := slices.Collect(maps.Keys(p.pending))
	clear(p.pending)
	p.mu.Unlock()
	var group errgroup.Group
	group.SetLimit(provideAtOnce)
	for _, ref := range refs {
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, provideTimeout)
			defer cancel()
			if err := p.routing.Provide(ctx, ref.CID(), true); err != nil {
				p.mu.Lock()
				p.pending[ref] = true
				p.mu.Unlock()
				if !errors.Is(err, context.Canceled) {
					p.log.LogAttrs(ctx, slog.LevelDebug, "could not announce content", slog.String("ref", ref.String()), slog.Any("error", err))
				}
			}
			return nil
		})
	}
	_ = group.Wait() // no function returns an error
}
