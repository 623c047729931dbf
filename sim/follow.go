package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/search/cel"
	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/rival"
	"github.com/xenoserver/xeno/sim/trial"
	"github.com/xenoserver/xeno/sim/xeno"
)

// A Followed is one query, hop by hop.
type Followed struct {
	Algorithm, Class string
	Seed             uint64
	Number           int // of the query in its class, from 1
	Client           network.NodeID
	Query            search.Query
	Text             string        // of its condition, for people
	Unit             time.Duration // L
	Hops             []trial.Hop   // in the order of their beginning
	Outcome          trial.Outcome
	Took             time.Duration
	Matches          int     // in all, says the oracle
	Recall           float64 // against it
}

// Follow asks the n-th query of a class, from 1, as Run does with the first
// seed: the same world, question and client. At rest, what other queries left
// behind, such as the jitter of messages, is not the same; where things change
// all that is asked before is asked, too.
func Follow(ctx context.Context, s *Scenario, algorithm, class string, n int) (*Followed, error) {
	switch {
	case !slices.Contains(Algorithms(), algorithm):
		return nil, fmt.Errorf("%w: no algorithm is called %q%s", ErrBadScenario, algorithm, suggest(algorithm, Algorithms()))
	case !slices.Contains(s.Queries.Classes, class):
		return nil, fmt.Errorf("%w: the scenario does not ask class %q; it asks %q", ErrBadScenario, class, s.Queries.Classes)
	case n < 1 || n > s.Queries.Count:
		return nil, fmt.Errorf("%w: no query %d: the scenario asks 1 to %d of each class", ErrBadScenario, n, s.Queries.Count)
	}
	r := &repetition{scenario: s, seed: s.Seeds[0], pace: &pace{scenario: s}}
	var err error
	if r.world, err = s.world(r.seed); err != nil {
		return nil, err
	}
	if err := r.draw(ctx); err != nil {
		return nil, err
	}
	if err := r.measureUnit(ctx); err != nil {
		return nil, err
	}
	f := &Followed{Algorithm: algorithm, Class: class, Seed: r.seed, Number: n, Unit: r.run.Unit}
	if s.dynamic() {
		return f, r.followLive(ctx, f)
	}
	a, err := r.algorithm(ctx, algorithm)
	if err != nil {
		return nil, err
	}
	rng := stream(r.seed, streamClients)
	client := r.client(rng.IntN)
	for range n - 1 {
		rng.ExpFloat64()
		client = r.client(rng.IntN)
	}
	return f, r.follow(ctx, a, trial.Task{Class: class, Client: client, Query: r.queries[class][n-1], Count: class == trial.Count}, f)
}

// A watch waits for the n-th query of a class to follow it.
type watch struct {
	*Followed
	left int // queries of the class before it, and itself
}

// errFollowed ends a run whose query was followed.
var errFollowed = errors.New("sim: the query was followed")

// followLive runs a scenario in which things change up to the query, with all
// that is asked before it.
func (r *repetition) followLive(ctx context.Context, f *Followed) error {
	r.watch = &watch{f, f.Number}
	err := r.measureLive(ctx, f.Algorithm)
	if errors.Is(err, errFollowed) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("sim: %s is not asked query %d of %s", f.Algorithm, f.Number, f.Class)
	}
	return err
}

// due tells whether a task is the one that is waited for.
func (w *watch) due(t trial.Task) bool {
	if w == nil || t.Class != w.Class {
		return false
	}
	w.left--
	return w.left == 0
}

// algorithm makes one, with its index.
func (r *repetition) algorithm(ctx context.Context, name string) (trial.Algorithm, error) {
	if name != algorithmXeno {
		return rival.New(name, *r.world)
	}
	index, err := xeno.NewIndex(ctx, *r.world, r.scenario.Network.Leaf)
	if err != nil {
		return nil, err
	}
	return xeno.New(index, xeno.Options{Verify: r.scenario.Queries.Verify, Budget: r.scenario.Queries.Budget}), nil
}

// follow carries out a task and keeps its hops.
func (r *repetition) follow(ctx context.Context, a trial.Algorithm, t trial.Task, f *Followed) error {
	f.Client, f.Query = t.Client, t.Query
	f.Text = cel.Format(r.world.Market.Schema(), t.Query.Where, nil)
	net := r.world.Net
	want := r.consultFrom(t.Query, t.Client) // before the question, as things may change
	begin, over := net.Now(), false
	a.Start(t, func(h trial.Hop) { f.Hops = append(f.Hops, h) }, func(o trial.Outcome) {
		f.Outcome, f.Took, over = o, net.Now()-begin, true
	})
	if err := net.RunWhile(ctx, func() bool { return !over && net.Now()-begin < taskTimeout }); err != nil {
		return err
	}
	if !over {
		return fmt.Errorf("sim: %s does not end a %s query", a.Name(), t.Class)
	}
	slices.SortStableFunc(f.Hops, func(a, b trial.Hop) int { return int(a.At - b.At) })
	f.Matches, f.Recall = want.Matches, 1
	if f.Class != trial.Count {
		f.Recall = recall(&want, &f.Outcome)
	}
	return nil
}
