package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/market"
	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/report"
	"github.com/xenoserver/xeno/sim/rival"
	"github.com/xenoserver/xeno/sim/trial"
	"github.com/xenoserver/xeno/sim/xeno"
)

// Run carries out a scenario, every seed in turn, and returns what came of it.
// progress is called now and then; it may be nil. When ctx ends, the report of
// what there is comes back marked as partial, beside the error of ctx.
func Run(ctx context.Context, s *Scenario, progress func(Progress)) (*report.Report, error) {
	out := &report.Report{Scenario: s.Name, Description: s.Description}
	p := &pace{scenario: s, tell: progress, total: len(s.Seeds) * s.steps()}
	for _, seed := range s.Seeds {
		r := &repetition{scenario: s, seed: seed, pace: p, run: report.Run{Seed: seed}}
		err := r.carryOut(ctx)
		if len(r.run.Algorithms) > 0 {
			out.Runs = append(out.Runs, r.run)
		}
		if err != nil {
			if ctxErr := ctx.Err(); ctxErr != nil && errors.Is(err, ctxErr) {
				out.Partial, out.Why = true, "it was interrupted"
			}
			return out, err
		}
	}
	return out, nil
}

// steps is how many queries and other units of progress a repetition has.
func (s *Scenario) steps() int {
	asked := s.Queries.Count * len(s.Queries.Classes) * len(s.Algorithms)
	if !s.dynamic() && s.Queries.Warm && slices.Contains(s.Algorithms, algorithmXeno) {
		asked += s.Queries.Count * len(s.Queries.Classes)
	}
	return asked + unitLookups
}

// pace reports progress.
type pace struct {
	scenario    *Scenario
	tell        func(Progress)
	done, total int
}

func (p *pace) step(seed uint64, stage string, n int) {
	p.done += n
	if p.tell != nil {
		p.tell(Progress{Seed: seed, Stage: stage, Done: p.done, Total: p.total, Elapsed: p.scenario.now()})
	}
}

// now is the time on the scenario's clock.
func (s *Scenario) now() time.Duration {
	if s.Clock == nil {
		return 0
	}
	return s.Clock()
}

const (
	// unitLookups is how many plain lookups the unit of latency is the median of:
	// ten are beyond their 99th percentile.
	unitLookups = 1000
	// algorithmXeno is the name of our own.
	algorithmXeno = "xeno"
)

// A repetition is the scenario with one seed.
type repetition struct {
	scenario *Scenario
	seed     uint64
	pace     *pace
	world    *trial.World
	queries  map[string][]search.Query
	wanted   map[string][]market.Wanted
	rivals   *rival.Index
	index    *xeno.Index // of xeno at rest, once it is asked
	past     uint64      // events of worlds before this one
	watch    *watch      // nil: nobody follows a query
	run      report.Run
}

func (r *repetition) carryOut(ctx context.Context) error {
	r.pace.step(r.seed, "build", 0)
	var err error
	if r.world, err = r.scenario.world(r.seed); err != nil {
		return err
	}
	r.run.Engine.Nodes = r.scenario.Network.Nodes
	if err := r.draw(ctx); err != nil {
		return err
	}
	if err := r.measureUnit(ctx); err != nil {
		return err
	}
	begin, events := r.scenario.now(), r.world.Net.Events()
	for _, name := range r.scenario.Algorithms {
		measure := r.measure
		if r.scenario.dynamic() {
			measure = r.measureLive
		}
		if err := measure(ctx, name); err != nil {
			return err
		}
	}
	e := &r.run.Engine
	e.Events = r.past + r.world.Net.Events()
	e.BytesPerNode = float64(r.world.Net.Bytes()) / float64(e.Nodes)
	if took := r.scenario.now() - begin; took > 0 {
		e.Speed = float64(e.Events-events) / took.Seconds()
	}
	return nil
}

// draw makes the queries and what their answers must be.
func (r *repetition) draw(ctx context.Context) error {
	requests, err := r.scenario.requests()
	if err != nil {
		return err
	}
	r.queries, r.wanted = make(map[string][]search.Query), make(map[string][]market.Wanted)
	q := r.scenario.Queries
	rng := stream(r.seed, streamQueries)
	for _, class := range q.Classes {
		r.pace.step(r.seed, "draw "+class, 0)
		asking := market.Asking{Zipf: zeroable(q.Zipf), Distinct: q.Pool, Requests: requests}
		queries, err := r.world.Market.Queries(ctx, class, q.Count, asking, rng)
		if err != nil {
			return fmt.Errorf("sim: draw %s queries: %w", class, err)
		}
		for i := range queries {
			if queries[i].Limit > 0 {
				queries[i].Limit = q.Limit
			}
		}
		r.queries[class] = queries
		for _, query := range queries {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.wanted[class] = append(r.wanted[class], r.consult(query))
		}
	}
	return nil
}

// consult asks the oracle.
func (r *repetition) consult(q search.Query) market.Wanted { return r.consultFrom(q, 0) }

// consultFrom asks it for those that a node can reach.
func (r *repetition) consultFrom(q search.Query, from network.NodeID) market.Wanted {
	return r.world.Market.Want(q, func(i int) bool {
		id := network.NodeID(i) //nolint:gosec // below MaxNodes
		return r.world.Net.Answers(id) && r.world.Net.Together(from, id)
	})
}

// recall is the part of what is wanted that an answer has.
func recall(want *market.Wanted, o *trial.Outcome) float64 {
	if len(want.Best) == 0 {
		return 1
	}
	return float64(want.Hits(o.Indices())) / float64(len(want.Best))
}

// measureUnit finds the unit of latency, the median of plain lookups, and their
// 99th percentile, which the slowest queries are compared with.
func (r *repetition) measureUnit(ctx context.Context) error {
	rng := stream(r.seed, streamUnit)
	net := r.world.Net
	var took []time.Duration
	for range unitLookups {
		key, from := rng.Uint64(), r.client(rng.IntN)
		holders := net.Closest(nil, key, dht.K)
		begin, over := net.Now(), false
		net.Find(from, key, network.PlainAlpha, func(id network.NodeID) bool { return slices.Contains(holders, id) }, func(_ network.NodeID, ok bool, _ int) {
			over = true
			if ok {
				took = append(took, net.Now()-begin)
			}
		})
		if err := net.RunWhile(ctx, func() bool { return !over }); err != nil {
			return err
		}
	}
	r.pace.step(r.seed, "plain lookups", unitLookups)
	if len(took) == 0 {
		return errors.New("sim: no plain lookup succeeded: lower network.unreachable or network.loss")
	}
	slices.Sort(took)
	r.run.Unit, r.run.UnitP99 = took[len(took)/2], took[(99*len(took)+99)/100-1] // nearest rank
	return nil
}

// client draws a node that is up.
func (r *repetition) client(intN func(int) int) network.NodeID {
	for {
		if id := network.NodeID(intN(r.world.Net.Len())); r.world.Net.Answers(id) { //nolint:gosec // below MaxNodes
			return id
		}
	}
}

// measure asks one algorithm everything.
func (r *repetition) measure(ctx context.Context, name string) error {
	r.pace.step(r.seed, "publish "+name, 0)
	out := report.Algorithm{Name: name}
	temperatures := []bool{false}
	if name == algorithmXeno && r.scenario.Queries.Warm {
		temperatures = append(temperatures, true)
	}
	for _, warm := range temperatures {
		var algorithm trial.Algorithm
		var err error
		if name == algorithmXeno {
			if r.index == nil {
				if r.index, err = xeno.NewIndex(ctx, *r.world, r.scenario.Network.Leaf); err != nil {
					return err
				}
			}
			algorithm = xeno.New(r.index, xeno.Options{Warm: warm, Verify: r.scenario.Queries.Verify, Budget: r.scenario.Queries.Budget})
			out.Refresh = r.index.Refresh(refreshSample)
		} else if algorithm, err = r.rival(name, &out); err != nil {
			return err
		}
		for _, class := range r.scenario.Queries.Classes {
			c, err := r.ask(ctx, algorithm, class, warm)
			out.Classes = append(out.Classes, c)
			if err != nil {
				r.run.Algorithms = append(r.run.Algorithms, out)
				return err
			}
		}
	}
	r.run.Algorithms = append(r.run.Algorithms, out)
	return nil
}

// refreshSample is how many servers' renewals are counted.
const refreshSample = 1000

// rival returns one of the rivals, which share their sorted columns.
func (r *repetition) rival(name string, out *report.Algorithm) (trial.Algorithm, error) {
	if r.rivals == nil {
		r.rivals = rival.NewIndex(*r.world)
	}
	a, err := r.rivals.New(name, *r.world)
	if p, ok := a.(rival.Publisher); ok && err == nil {
		out.Refresh = p.RefreshMessages()
	}
	return a, err
}

// warmClients is how many clients share the queries of warm ones.
const warmClients = 10

// ask asks an algorithm all queries of a class, one after the other. A warm
// client has asked one of them before. Who takes more events than the scenario
// allows is asked the first queries alone.
func (r *repetition) ask(ctx context.Context, a trial.Algorithm, class string, warm bool) (report.Class, error) {
	out := report.Class{Name: class, Warm: warm}
	net, rng := r.world.Net, stream(r.seed, streamClients)
	stage := "ask " + a.Name() + " " + class
	var clients []network.NodeID
	queries := r.queries[class]
	if warm {
		stage += " warm"
		for range min(warmClients, len(queries)) {
			clients = append(clients, r.client(rng.IntN))
		}
	}
	if x, ok := a.(*xeno.Xeno); ok {
		if err := r.heat(ctx, x, class, clients); err != nil {
			return out, err
		}
	}
	for i, client := range clients {
		if _, _, err := r.one(ctx, a, trial.Task{Class: class, Client: client, Query: queries[len(queries)-1-i], Count: class == trial.Count}); err != nil {
			return out, err
		}
	}
	net.ResetLoads()
	begin, events := net.Now(), net.Events()
	for i, q := range queries {
		if spent := net.Events() - events; i > 0 && r.scenario.Queries.Events > 0 && spent >= uint64(r.scenario.Queries.Events) { //nolint:gosec // not negative
			r.pace.step(r.seed, stage, len(queries)-i)
			break
		}
		client := r.client(rng.IntN)
		if warm {
			client = clients[i%len(clients)]
		} else if err := net.Run(ctx, net.Now()+time.Duration(rng.ExpFloat64()*float64(r.scenario.Queries.Interval))); err != nil {
			return out, err
		}
		at := net.Now() - begin
		o, took, err := r.one(ctx, a, trial.Task{Class: class, Client: client, Query: q, Count: class == trial.Count})
		if err != nil {
			return out, err
		}
		want := &r.wanted[class][i]
		sample := report.Sample{
			At: at, Latency: took, Requests: o.Requests, Recall: 1, Estimated: o.Estimated, Low: o.Low, High: o.High, Bounded: o.Bounded,
			True: want.Matches, Complete: o.Complete,
		}
		if class != trial.Count {
			sample.Recall = recall(want, &o)
		}
		out.Samples = append(out.Samples, sample)
		r.pace.step(r.seed, stage, 1)
	}
	out.Load = report.LoadOf(net.Loads(), len(out.Samples))
	return out, nil
}

// taskTimeout bounds one query in virtual time; an algorithm that takes longer
// is broken.
const taskTimeout = time.Hour

// one carries out one task to its end.
func (r *repetition) one(ctx context.Context, a trial.Algorithm, t trial.Task) (out trial.Outcome, took time.Duration, err error) {
	if r.watch.due(t) {
		if err := r.follow(ctx, a, t, r.watch.Followed); err != nil {
			return out, 0, err
		}
		return out, 0, errFollowed
	}
	net := r.world.Net
	begin, over := net.Now(), false
	a.Start(t, nil, func(o trial.Outcome) { out, took, over = o, net.Now()-begin, true })
	err = net.RunWhile(ctx, func() bool { return !over && net.Now()-begin < taskTimeout })
	if err == nil && !over {
		err = fmt.Errorf("sim: %s does not end a %s query", a.Name(), t.Class)
	}
	return out, took, err
}
