package xeno

import (
	"context"
	"slices"
	"time"

	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/trial"
)

const (
	// probeEvery is the pause between two questions for a new ad, and so the
	// resolution of Probe.
	probeEvery = 100 * time.Millisecond
	// probeFor is when Probe gives up.
	probeFor = 30 * time.Second
	// probePrice is what new ads are asked for by.
	probePrice = "price_hour"
)

// Probe lets a node join that never was there, and returns how long after that
// the first question for its very price began that found it, each from another
// node; false where none did. It returns the context's error.
func (l *Live) Probe(ctx context.Context, id network.NodeID) (took time.Duration, found bool, err error) {
	price := l.world.Market.Value(int(id), probePrice)
	up := l.Up()
	if price.IsZero() || len(up) == 0 {
		return 0, false, nil
	}
	x := New(l, Options{})
	query := search.Query{Where: search.Compare{Dim: probePrice, Op: search.OpEqual, Value: price}}
	l.Join(id)
	begin, pending := l.net.Now(), 0
	var asked func()
	asked = func() {
		at := l.net.Now() - begin
		if found || at > probeFor {
			return
		}
		pending++
		x.Start(trial.Task{Client: up[l.rng.IntN(len(up))], Query: query}, nil, func(o trial.Outcome) {
			pending--
			if slices.Contains(o.Servers, id) && (!found || at < took) {
				took, found = at, true
			}
		})
		l.net.After(probeEvery, asked)
	}
	asked()
	err = l.net.RunWhile(ctx, func() bool { return pending > 0 || !found && l.net.Now()-begin <= probeFor })
	return took, found, err
}
