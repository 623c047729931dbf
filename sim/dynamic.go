package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/report"
	"github.com/xenoserver/xeno/sim/trial"
	"github.com/xenoserver/xeno/sim/xeno"
)

const (
	// presence is how much longer nodes stay than they are away, in the mean.
	presence = 9
	// probes is how many new advertisements are looked for.
	probes = 20
	// settled is how long after a failure all should be found again.
	settled = 2 * time.Minute
)

// dynamic tells whether anything changes while questions are asked.
func (s *Scenario) dynamic() bool { return s.Churn.Model != ChurnNone || s.Market.Drift > 0 }

// passive is nodes that do nothing when they come and go.
type passive struct{ net *network.Network }

func (p passive) Join(id network.NodeID)          { p.net.Revive(id) }
func (p passive) Leave(id network.NodeID, _ bool) { p.net.Kill(id) }

// measureLive asks one algorithm everything while nodes come and go and
// servers change: XenoSearch with all of its machines, the others with the
// indexes that they began with.
func (r *repetition) measureLive(ctx context.Context, name string) error {
	r.pace.step(r.seed, "publish "+name, 0)
	r.past += r.world.Net.Events()
	var err error
	if r.world, err = r.scenario.world(r.seed); err != nil {
		return err
	}
	r.rivals = nil
	out := report.Algorithm{Name: name, Live: map[string]float64{}}
	rng := stream(r.seed, streamChurn)
	away := r.absent(rng)
	var algorithm trial.Algorithm
	var population xeno.Population = passive{r.world.Net}
	var live *xeno.Live
	if name == algorithmXeno {
		if live, err = r.populate(ctx, &out, away); err != nil {
			return err
		}
		algorithm, population = xeno.New(live, xeno.Options{Verify: r.scenario.Queries.Verify, Budget: r.scenario.Queries.Budget}), live
		live.Drift(r.scenario.Market.Drift, rng)
	} else if algorithm, err = r.rival(name, &out); err != nil {
		return err
	}
	r.churn(population, rng)
	out.Classes, err = r.askAll(ctx, algorithm, &out)
	if live != nil {
		if c := live.Stats().Changes; c.Idle > 0 {
			out.Live[report.Suppressed] = float64(c.Suppressed) / float64(c.Idle)
		}
	}
	r.run.Algorithms = append(r.run.Algorithms, out)
	return err
}

// sessions are those of the churn model weibull.
func (c *Churn) sessions() xeno.Sessions {
	s := xeno.Sessions{Shape: c.Shape, Scale: c.Scale}
	s.Away = s.Mean() / presence
	return s
}

// absent lets those nodes be away that are not there at the beginning, and
// returns some that nobody misses.
func (r *repetition) absent(rng *rand.Rand) (away []network.NodeID) {
	net, c := r.world.Net, &r.scenario.Churn
	switch c.Model {
	case ChurnWeibull:
		c.sessions().Absent(net, rng)
	case ChurnTrace:
		seen := make(map[network.NodeID]bool)
		for _, t := range c.Trace {
			if t.Up && !seen[t.Node] {
				net.Kill(t.Node)
			}
			seen[t.Node] = true
		}
		return nil
	default:
		for range min(probes, net.Len()/50) {
			net.Kill(r.client(rng.IntN))
		}
	}
	for i := range net.Len() {
		if id := network.NodeID(i); !net.Alive(id) && len(away) < probes { //nolint:gosec // below MaxNodes
			away = append(away, id)
		}
	}
	return away
}

// populate makes the live network, and measures it while nothing changes: what
// a renewal costs, and how long it takes until a new advertisement is found.
func (r *repetition) populate(ctx context.Context, out *report.Algorithm, away []network.NodeID) (*xeno.Live, error) {
	live, net := xeno.NewLive(*r.world, xeno.LiveConfig{AtRest: true, Leaf: r.scenario.Network.Leaf}), r.world.Net
	if err := live.Populate(ctx); err != nil {
		return nil, err
	}
	before, from := live.Stats(), net.Now()
	if err := net.Run(ctx, from+time.Minute); err != nil {
		return nil, err
	}
	out.Refresh = live.Stats().Refresh(before, len(live.Up()), time.Minute, net.Now()-from)
	out.Live[report.HolderMessages] = live.Stats().Holding(before, len(live.Up()), net.Now()-from)
	var took []float64
	for _, id := range away {
		d, found, err := live.Probe(ctx, id)
		if err != nil {
			return nil, err
		}
		if found {
			took = append(took, d.Seconds())
		}
	}
	if len(took) > 0 {
		slices.Sort(took)
		out.Live[report.SearchableP50] = took[len(took)/2]
		out.Live[report.SearchableP99] = took[len(took)*99/100]
	}
	return live, nil
}

// churn plans who comes and goes from now on.
func (r *repetition) churn(p xeno.Population, rng *rand.Rand) {
	net, c := r.world.Net, &r.scenario.Churn
	switch c.Model {
	case ChurnWeibull:
		until := time.Duration(0)
		if c.Duration > 0 {
			until = net.Now() + c.Duration
		}
		c.sessions().Churn(net, p, until, rng)
	case ChurnTrace:
		for _, t := range c.Trace {
			if c.Duration > 0 && t.At > c.Duration {
				break
			}
			net.After(t.At, func() {
				if t.Up {
					p.Join(t.Node)
				} else {
					p.Leave(t.Node, false)
				}
			})
		}
	case ChurnFailure, ChurnPartition:
		net.After(c.At, func() {
			failed := xeno.Fail(net, p, c.Fail, c.Model == ChurnPartition, rng)
			if c.Heal > 0 {
				net.After(c.Heal-c.At, func() { heal(net, p, failed) })
			}
		})
	}
}

// heal ends a failure or a partition.
func heal(net *network.Network, p xeno.Population, failed []network.NodeID) {
	net.Cut(nil)
	for _, id := range failed {
		if !net.Alive(id) {
			p.Join(id)
		}
	}
}

// askAll asks the questions of all classes in turn, so that all see the same
// times, and compares each answer with what is true when it is asked.
func (r *repetition) askAll(ctx context.Context, a trial.Algorithm, out *report.Algorithm) ([]report.Class, error) {
	net, rng := r.world.Net, stream(r.seed, streamClients)
	classes := make([]report.Class, len(r.scenario.Queries.Classes))
	for k, class := range r.scenario.Queries.Classes {
		classes[k].Name = class
	}
	pause := float64(r.scenario.Queries.Interval) / float64(len(classes))
	begin, returned, dead := net.Now(), 0, 0
	var kept recalls
	for i := range r.scenario.Queries.Count {
		for k := range classes {
			c := &classes[k]
			if err := net.Run(ctx, net.Now()+time.Duration(rng.ExpFloat64()*pause)); err != nil {
				return classes, err
			}
			task := trial.Task{Class: c.Name, Client: r.client(rng.IntN), Query: r.queries[c.Name][i], Count: c.Name == trial.Count}
			want, at := r.consultFrom(task.Query, task.Client), net.Now()-begin
			o, took, err := r.one(ctx, a, task)
			if err != nil {
				return classes, err
			}
			sample := report.Sample{
				At: at, Latency: took, Requests: o.Requests, Recall: 1, Estimated: o.Estimated, Low: o.Low, High: o.High, Bounded: o.Bounded,
				True: want.Matches, Complete: o.Complete,
			}
			if !task.Count {
				sample.Recall = recall(&want, &o)
				kept.add(&r.scenario.Churn, at, sample.Recall)
			}
			for _, s := range o.Servers {
				returned++
				if !net.Alive(s) {
					dead++
				}
			}
			c.Samples = append(c.Samples, sample)
			r.pace.step(r.seed, fmt.Sprintf("ask %s after %s", a.Name(), at.Round(time.Second)), 1)
		}
	}
	if returned > 0 {
		out.Live[report.DeadReturned] = float64(dead) / float64(returned)
	}
	kept.report(out.Live)
	return classes, nil
}

// recalls are means over the times before, right after and well after a
// failure.
type recalls struct {
	sum   [3]float64
	count [3]int
}

func (m *recalls) add(c *Churn, at time.Duration, recall float64) {
	when := -1
	switch {
	case c.Model != ChurnFailure && c.Model != ChurnPartition:
	case at < c.At:
		when = 0
	case at < c.At+settled/4:
		when = 1
	case at >= c.At+settled && (c.Heal == 0 || at < c.Heal):
		when = 2
	}
	if when >= 0 {
		m.sum[when] += recall
		m.count[when]++
	}
}

func (m *recalls) report(to map[string]float64) {
	for when, name := range []string{report.RecallBefore, report.RecallAfter, report.RecallSettled} {
		if m.count[when] > 0 {
			to[name] = m.sum[when] / float64(m.count[when])
		}
	}
}
