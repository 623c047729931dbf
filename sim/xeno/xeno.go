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
	// Budget is after how many messages a query ends; 0 means production's.
	Budget int
}

// Cells are what queries read: those of an Index or of a Live network.
type Cells interface {
	// place returns the network that the cells are in, and their schema.
	place() (*network.Network, *search.Schema)
	// locate looks up the holders of a cell from a node, as the node does.
	locate(from network.NodeID, cell search.CellID, done func(holders []network.NodeID, requests int))
	// recall is what a node says when it is asked who holds cells.
	recall(at network.NodeID, cells []search.CellID) []search.Glimpse
	// answer is what a node says when it is asked for a cell.
	answer(at network.NodeID, q search.CellQuery) search.CellReply
	// current is what a server says when it is asked for its ad.
	current(server network.NodeID) *search.Signed
	// saw tells what a query of a node saw of inner cells.
	saw(client network.NodeID, seen []search.Glimpse)
	// silent tells that a node got no answer from a peer.
	silent(at, peer network.NodeID)
}

// Xeno answers tasks with production's Seeker.
type Xeno struct {
	cells  Cells
	net    *network.Network
	schema *search.Schema
	opts   Options
	memory map[network.NodeID]map[search.CellID]remembered
	sample map[network.NodeID]remembered
	asked  uint64 // queries
}

// A remembered is what a client saw of an inner cell.
type remembered struct {
	search.Glimpse
	search.Sample // or of all ads
	at            time.Duration
}

// New returns the algorithm over cells.
func New(cells Cells, opts Options) *Xeno {
	x := &Xeno{
		cells: cells, opts: opts,
		memory: make(map[network.NodeID]map[search.CellID]remembered), sample: make(map[network.NodeID]remembered),
	}
	x.net, x.schema = cells.place()
	return x
}

// known returns what a client remembers.
func (x *Xeno) known(client network.NodeID) (map[search.CellID]search.Glimpse, search.Sample) {
	if !x.opts.Warm {
		return nil, search.Sample{}
	}
	now, out := x.net.Now(), make(map[search.CellID]search.Glimpse)
	for id, r := range x.memory[client] {
		if now-r.at < search.GlimpseTTL {
			out[id] = r.Glimpse
		}
	}
	sample := x.sample[client]
	if now-sample.at >= search.GlimpseTTL {
		sample.Sample = search.Sample{}
	}
	return out, sample.Sample
}

// Forget lets all clients forget what they saw.
func (x *Xeno) Forget() {
	clear(x.memory)
	clear(x.sample)
}

func (x *Xeno) remember(client network.NodeID, seen []search.Glimpse, sample search.Sample) {
	if !x.opts.Warm {
		return
	}
	now := x.net.Now()
	if len(sample.Ads) > 0 {
		x.sample[client] = remembered{Sample: sample, at: now}
	}
	if x.memory[client] == nil {
		x.memory[client] = make(map[search.CellID]remembered)
	}
	for _, g := range seen {
		x.memory[client][g.Cell] = remembered{Glimpse: g, at: now}
	}
}

// Name returns "xeno".
func (x *Xeno) Name() string { return "xeno" }

// A machine is a Seeker or a Counter.
type machine interface {
	Step(now time.Time, input search.SeekerInput) []search.SeekerEffect
}

// seeking carries out what one Seeker or Counter wants.
type seeking struct {
	x        *Xeno
	net      *network.Network
	task     trial.Task
	machine  machine
	begin    time.Duration
	requests int
	trace    func(trial.Hop)
	done     func(trial.Outcome)
}

// Start implements trial.Algorithm.
func (x *Xeno) Start(t trial.Task, trace func(trial.Hop), done func(trial.Outcome)) {
	s := &seeking{x: x, net: x.net, task: t, begin: x.net.Now(), trace: trace, done: done}
	x.asked++
	var err error
	if s.machine, err = s.make(); err != nil {
		panic("xeno: a query that the schema refuses: " + err.Error())
	}
	s.net.After(0, func() { s.step(search.Start{}) })
}

func (s *seeking) make() (machine, error) {
	known, sample := s.x.known(s.task.Client)
	if s.task.Count {
		return search.NewCounter(s.x.schema, s.task.Query.Where, search.CounterConfig{
			Seed: s.x.asked, Known: known, Sample: sample, Guides: s.guides(), Near: s.near,
		})
	}
	return search.NewSeeker(s.x.schema, s.task.Query, search.SeekerConfig{
		Seed: s.x.asked, Verify: s.x.opts.Verify, Budget: s.x.opts.Budget, Known: known, Sample: sample, Guides: s.guides(), Near: s.near,
	})
}

func (s *seeking) near(id dht.PeerID) time.Duration {
	to, ok := s.net.NodeOf(id)
	if !ok {
		return time.Second
	}
	return s.net.RTT(s.task.Client, to)
}

func (s *seeking) step(in search.SeekerInput) {
	for _, e := range s.machine.Step(s.net.Clock(), in) {
		switch e := e.(type) {
		case search.Consult:
			s.consult(e)
		case search.Locate:
			s.locate(e.Cell)
		case search.Ask:
			s.ask(e)
		case search.Verify:
			s.verify(e.Server.ID)
		case search.Wake:
			s.net.After(e.At.Sub(s.net.Clock()), func() { s.step(search.SeekerTick{}) })
		case search.Hit: // the answer has it, too
		case search.Finish:
			s.finish(e)
		}
	}
}

// guides are the nearest participants that the client is connected to.
func (s *seeking) guides() (contacts []dht.Contact) {
	for _, n := range s.net.Neighbours(s.task.Client, search.Guides) {
		s.net.Acquaint(s.task.Client, n)
		contacts = append(contacts, dht.Contact{ID: s.net.PeerID(n)})
	}
	return contacts
}

// consult asks a guide, which as a server publishes to every root.
func (s *seeking) consult(e search.Consult) {
	at := s.net.Now()
	to, _ := s.net.NodeOf(e.To.ID)
	s.requests++
	in := search.Guided{From: e.To.ID}
	s.net.Request(s.task.Client, to, func() { in.Glimpses = s.x.cells.recall(to, e.Cells) }, func(ok bool) {
		s.hop(at, to, "consult", ok)
		if !ok {
			in.Glimpses = nil
		}
		s.step(in)
	})
}

func (s *seeking) locate(cell search.CellID) {
	at := s.net.Now()
	s.x.cells.locate(s.task.Client, cell, func(nearest []network.NodeID, requests int) {
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
	s.net.Request(s.task.Client, to, func() { reply = s.x.cells.answer(to, e.Query) }, func(ok bool) {
		s.hop(at, to, "read "+e.Query.Cell.String(), ok)
		if !ok {
			s.x.cells.silent(s.task.Client, to)
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
	in := search.Verified{Server: server}
	s.net.Request(s.task.Client, to, func() { in.Signed = s.x.cells.current(to) }, func(ok bool) {
		s.hop(at, to, "verify", ok)
		if !ok {
			in.Signed = nil
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
	s.x.remember(s.task.Client, f.Seen, f.Sample)
	s.x.cells.saw(s.task.Client, f.Seen)
	out := trial.Outcome{
		Estimated: f.Answer.Matches.Count, Low: f.Answer.Matches.Low, High: f.Answer.Matches.High, Bounded: true,
		Requests: s.requests, Latency: s.net.Now() - s.begin, Complete: f.Answer.Complete,
	}
	for _, r := range f.Answer.Results {
		if id, ok := s.net.NodeOf(r.Signed.Ad.Server); ok {
			out.Servers = append(out.Servers, id)
		}
	}
	s.done(out)
}
