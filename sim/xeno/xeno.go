package xeno

import (
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/trial"
)

// Options say how queries are asked.
type Options struct {
	// Warm lets a client remember what it saw of inner cells, as a daemon does.
	Warm bool
	// Verify asks every server in the results for its current ad.
	Verify bool
}

// Xeno answers tasks with production's Seeker.
type Xeno struct {
	index *Index
	opts  Options
}

// New returns the algorithm over an index.
func New(index *Index, opts Options) *Xeno { return &Xeno{index: index, opts: opts} }

// Name returns "xeno".
func (x *Xeno) Name() string { return "xeno" }

// seeking carries out what one Seeker wants.
type seeking struct {
	x        *Xeno
	net      *network.Network
	task     trial.Task
	machine  *search.Seeker
	begin    time.Duration
	requests int
	trace    func(trial.Hop)
	done     func(trial.Outcome)
}

// Start implements trial.Algorithm.
func (x *Xeno) Start(t trial.Task, trace func(trial.Hop), done func(trial.Outcome)) {
	s := &seeking{x: x, net: x.index.world.Net, task: t, begin: x.index.world.Net.Now(), trace: trace, done: done}
	machine, err := search.NewSeeker(x.index.schema, t.Query, search.SeekerConfig{
		Verify: x.opts.Verify, Near: func(id dht.PeerID) time.Duration {
			to, ok := s.net.NodeOf(id)
			if !ok {
				return time.Second
			}
			return s.net.RTT(t.Client, to)
		},
	})
	if err != nil {
		panic("xeno: a query that the schema refuses: " + err.Error())
	}
	s.machine = machine
	s.net.After(0, func() { s.step(search.Start{}) })
}

func (s *seeking) step(in search.SeekerInput) {
	for _, e := range s.machine.Step(s.net.Clock(), in) {
		switch e := e.(type) {
		case search.Locate:
			s.locate(e.Cell)
		case search.Ask:
			s.ask(e)
		case search.Verify:
			s.verify(e.Server.ID)
		case search.Wake:
			s.net.After(e.At.Sub(s.net.Clock()), func() { s.step(search.SeekerTick{}) })
		case search.Finish:
			s.finish(e)
		}
	}
}

func (s *seeking) locate(cell search.CellID) {
	at := s.net.Now()
	s.net.Lookup(s.task.Client, cell.Key().Position(), search.Replicas, func(nearest []network.NodeID, requests int) {
		s.requests += requests
		in := search.Located{Cell: cell}
		for _, n := range nearest {
			in.Holders = append(in.Holders, dht.Contact{ID: s.net.PeerID(n)})
		}
		s.hop(at, s.task.Client, "find "+cell.String(), len(nearest) > 0)
		s.step(in)
	})
}

func (s *seeking) ask(e search.Ask) {
	at := s.net.Now()
	to, _ := s.net.NodeOf(e.To.ID)
	s.requests++
	var reply search.CellReply
	s.net.Request(s.task.Client, to, func() { reply = s.x.index.answer(to, e.Query) }, func(ok bool) {
		s.hop(at, to, "read "+e.Query.Cell.String(), ok)
		if !ok {
			s.step(search.Failed{Cell: e.Query.Cell, From: e.To.ID})
			return
		}
		s.step(search.Answered{Cell: e.Query.Cell, From: e.To.ID, Reply: &reply})
	})
}

func (s *seeking) verify(server dht.PeerID) {
	at := s.net.Now()
	to, _ := s.net.NodeOf(server)
	s.requests++
	s.net.Request(s.task.Client, to, func() {}, func(ok bool) {
		s.hop(at, to, "verify", ok)
		in := search.Verified{Server: server}
		if ok {
			in.Signed = s.x.index.world.Market.Ad(int(to))
		}
		s.step(in)
	})
}

func (s *seeking) hop(at time.Duration, to network.NodeID, what string, ok bool) {
	if s.trace != nil {
		s.trace(trial.Hop{At: at - s.begin, Took: s.net.Now() - at, From: s.task.Client, To: to, What: what, OK: ok})
	}
}

func (s *seeking) finish(f search.Finish) {
	out := trial.Outcome{
		Estimated: float64(f.Answer.Estimated), Requests: s.requests, Latency: s.net.Now() - s.begin, Complete: f.Answer.Complete,
	}
	for _, r := range f.Answer.Results {
		if id, ok := s.net.NodeOf(r.Signed.Ad.Server); ok {
			out.Servers = append(out.Servers, id)
		}
	}
	s.done(out)
}
