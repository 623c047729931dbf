package xeno

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/trial"
)

// LiveConfig configures a Live network. The zero value is production.
type LiveConfig struct {
	// Leaf is how many ads a leaf cell holds; 0 means production's.
	Leaf int
	// Renew is how often leases are renewed; 0 means 60 s.
	Renew time.Duration
	// AtRest begins with the cells of an Index, so that only the publishers
	// have to find them; otherwise Populate begins with nothing, and lasts
	// until the cells are old enough to be trusted.
	AtRest bool
}

// youngRounds is how old cells must be to be trusted, as a multiple of Renew.
const youngRounds = 7

// A Live network is nodes with production's machines: each holds cells,
// publishes its ad, and looks up holders, by messages in virtual time. It
// takes about 200 KB a server.
type Live struct {
	world  trial.World
	net    *network.Network
	schema *search.Schema
	cfg    LiveConfig
	rng    *rand.Rand
	nodes  []*liveNode // nil: down
	stats  LiveStats
}

// LiveStats count what the nodes did since the start. What a node tells itself
// does not count.
type LiveStats struct {
	Published uint64 // messages of publishers
	Withdrawn uint64
	Pushed    uint64 // summaries told to parents
	Mirrored  uint64 // updates of mirrors
	Fed       uint64 // updates of those who gather the ads of cells
	HandedOff uint64 // inventories and copies that holders asked each other for
	Lookups   uint64
	LookedUp  uint64 // messages of lookups
	Joined    uint64
	Left      uint64
	Changes
}

// NewLive returns a network in which nobody is up yet.
func NewLive(world trial.World, cfg LiveConfig) *Live {
	cfg.Renew = cmp.Or(cfg.Renew, time.Minute)
	return &Live{
		world: world, net: world.Net, schema: world.Market.Schema(), cfg: cfg, rng: world.Rand,
		nodes: make([]*liveNode, world.Net.Len()),
	}
}

// Populate lets every node that answers join, their publishers one by one over
// one Renew, and waits until all is settled. It returns the context's error.
func (l *Live) Populate(ctx context.Context) error {
	for i := range l.net.Len() {
		id := network.NodeID(i) //nolint:gosec // below MaxNodes
		if !l.net.Answers(id) {
			continue
		}
		n := l.begin(id)
		l.net.After(time.Duration(l.rng.Int64N(int64(l.cfg.Renew))), n.offer)
	}
	settling := (youngRounds + 1) * l.cfg.Renew
	if l.cfg.AtRest {
		settling = l.cfg.Renew
		if err := l.restore(ctx); err != nil {
			return err
		}
	}
	return l.net.Run(ctx, l.net.Now()+l.cfg.Renew+settling)
}

// restore gives every node the cells that it holds at rest.
func (l *Live) restore(ctx context.Context) error {
	index, err := NewIndex(ctx, l.world, l.cfg.Leaf)
	if err != nil {
		return err
	}
	until := l.net.Clock().Add(5 * l.cfg.Renew / 2) // every publisher has told its holders by then
	index.each(func(c *cell) {
		in := index.copyOf(c, until, func(n network.NodeID) *search.Signed {
			if l.nodes[n] == nil {
				return nil
			}
			return l.nodes[n].ad
		})
		for _, at := range index.holders(c) {
			if n := l.nodes[at]; n != nil && ctx.Err() == nil {
				n.step(search.Restore{Copy: in})
			}
		}
	})
	return ctx.Err()
}

// Join begins a session of a node: it holds nothing, and publishes its ad. A
// node that cannot be reached only comes up; it has no part in the search.
func (l *Live) Join(id network.NodeID) {
	l.net.Revive(id)
	if l.nodes[id] == nil && l.net.Answers(id) {
		l.begin(id).offer()
	}
}

// begin makes a session of a node without a publisher's work.
func (l *Live) begin(id network.NodeID) *liveNode {
	l.stats.Joined++
	n := &liveNode{
		live: l, id: id, begun: l.net.Now(), located: make(map[search.CellID]*location), ad: l.world.Market.Ad(int(id)),
		holder: search.NewHolder(l.schema, search.HolderConfig{
			Self: l.net.PeerID(id), LeafAds: l.cfg.Leaf, Lease: search.LeaseRounds * l.cfg.Renew, PushEvery: l.cfg.Renew,
		}),
		pub: search.NewPublisher(l.schema, search.PublisherConfig{Renew: l.cfg.Renew, Relocate: 5 * l.cfg.Renew}),
	}
	l.nodes[id] = n
	n.tick = func() {
		if !n.gone {
			n.step(search.HolderTick{})
			l.net.After(search.TickEvery, n.tick)
		}
	}
	l.net.After(time.Duration(l.rng.Int64N(int64(search.TickEvery))), n.tick)
	l.net.After(search.ReconcileAfter(0), n.reconcile)
	return n
}

// Leave ends the session of a node without a word, or after two seconds in
// which it takes its ad back.
func (l *Live) Leave(id network.NodeID, graceful bool) {
	n := l.nodes[id]
	if n == nil {
		l.net.Kill(id)
		return
	}
	l.stats.Left++
	if graceful && !n.leaving {
		n.leaving = true
		n.publish(search.Stop{})
		l.net.After(search.WithdrawTimeout, func() { n.end() })
		return
	}
	n.end()
}

// Stats returns the counts.
func (l *Live) Stats() LiveStats { return l.stats }

// Up returns the nodes with a session, ascending.
func (l *Live) Up() (up []network.NodeID) {
	for i, n := range l.nodes {
		if n != nil {
			up = append(up, network.NodeID(i)) //nolint:gosec // below MaxNodes
		}
	}
	return up
}

// InPlace returns how many publishers say that their ads are where they
// belong, of how many.
func (l *Live) InPlace() (settled, all int) {
	for _, n := range l.nodes {
		if n == nil {
			continue
		}
		all++
		if n.pub.InPlace(l.net.Clock()) {
			settled++
		}
	}
	return settled, all
}

func (l *Live) place() (*network.Network, *search.Schema) { return l.net, l.schema }

// locate answers at once from what the node remembers.
func (l *Live) locate(from network.NodeID, cell search.CellID, done func(holders []network.NodeID, requests int)) {
	if n := l.nodes[from]; n != nil {
		n.locate(cell, done)
		return
	}
	l.net.Lookup(from, cell.Key().Position(), search.Replicas, done)
}

func (l *Live) recall(at network.NodeID, cells []search.CellID) []search.Glimpse {
	if n := l.nodes[at]; n != nil {
		return n.recall(cells)
	}
	return nil
}

func (l *Live) answer(at network.NodeID, q search.CellQuery) search.CellReply {
	n := l.nodes[at]
	if n == nil {
		return search.CellReply{}
	}
	reply, _ := n.step(search.AskCell{Query: q}).(search.CellReply)
	return reply
}

func (l *Live) current(server network.NodeID) *search.Signed {
	if n := l.nodes[server]; n != nil && !n.leaving {
		return n.ad
	}
	return nil
}

func (l *Live) silent(at, peer network.NodeID) {
	if n := l.nodes[at]; n != nil {
		n.forget(peer)
	}
}

// A liveNode is one session of a node.
type liveNode struct {
	live    *Live
	id      network.NodeID
	begun   time.Duration
	gone    bool // the session is over
	leaving bool
	tick    func()

	holder  *search.Holder
	pushes  []search.SendPush // that wait
	pushing int

	updates    []search.SendMirror // that wait
	updating   int
	directory  search.Directory
	handoffs   []search.HolderEffect // that wait
	handingOff bool
	compared   int

	pub     *search.Publisher
	ad      *search.Signed
	offered bool          // the publisher has it
	due     time.Duration // when a tick of the publisher is planned, 0: none
	calls   int           // of the publisher, under way
	waiting []func()      // calls beyond that

	located map[search.CellID]*location
}

// end lets the node die.
func (n *liveNode) end() {
	if n.gone {
		return
	}
	n.gone = true
	n.live.net.Kill(n.id)
	n.live.nodes[n.id] = nil
}

// request carries a message to a session of another node.
func (n *liveNode) request(to network.NodeID, deliver func(at *liveNode), done func(ok bool)) {
	l, met := n.live, false
	l.net.Request(n.id, to, func() {
		if at := l.nodes[to]; at != nil {
			met = true
			deliver(at)
		}
	}, func(ok bool) {
		if n.gone {
			return
		}
		if !ok {
			n.forget(to)
		}
		done(ok && met)
	})
}

// step steps the holder, sends what it wants to, and returns its answer.
func (n *liveNode) step(in search.HolderInput) (answer search.HolderEffect) {
	for _, e := range n.holder.Step(n.live.net.Clock(), in) {
		switch e := e.(type) {
		case search.SendPush:
			if len(n.pushes) < search.MaxPushes { // else repeated with the next summary
				n.pushes = append(n.pushes, e)
			}
		case search.SendMirror:
			n.mirror(e)
		case search.Recruit:
			n.recruit(e)
		case search.SendReconcile, search.SendFetch, search.SendGather:
			if len(n.handoffs) < search.MaxHandoffs { // else repeated with the next inventory
				n.handoffs = append(n.handoffs, e)
			}
		case search.Placing, search.PushReply, search.CellReply, search.MirrorReply, search.Inventory, search.Handed, search.GatherReply:
			answer = e
		}
	}
	n.push()
	n.handOff()
	return answer
}

// push begins as many pushes as may be under way.
func (n *liveNode) push() {
	for n.pushing < search.PushWorkers && len(n.pushes) > 0 {
		p := &pushing{n: n, push: n.pushes[0]}
		n.pushes = slices.Delete(n.pushes, 0, 1)
		n.pushing++
		p.begin()
	}
}

// pushing tells one summary to the holders of the parent, one after the other,
// and if one does not answer once more to those who take its place.
type pushing struct {
	n      *liveNode
	push   search.SendPush
	told   []network.NodeID
	rounds int
}

func (p *pushing) begin() {
	p.rounds++
	p.n.locate(p.push.Parent, func(holders []network.NodeID, _ int) {
		if !p.n.gone {
			p.next(holders, len(holders) > 0)
		}
	})
}

// next tells the first of the holders that are left; all tells whether those
// before it answered.
func (p *pushing) next(holders []network.NodeID, all bool) {
	for len(holders) > 0 && slices.Contains(p.told, holders[0]) {
		holders = holders[1:]
	}
	if len(holders) == 0 {
		if !all && p.rounds < search.PushRounds {
			p.begin()
			return
		}
		p.n.pushing--
		p.n.push()
		return
	}
	n, to := p.n, holders[0]
	if to != n.id {
		n.live.stats.Pushed++
	}
	var reply search.PushReply
	answered := false
	n.request(to, func(at *liveNode) {
		reply, answered = at.step(search.Push{
			From: n.contact(), Child: p.push.Child, Summary: p.push.Summary, Epoch: p.push.Epoch, Mirrors: p.push.Mirrors,
			Below: p.push.Below,
		}).(search.PushReply)
	}, func(ok bool) {
		if ok && answered {
			p.told = append(p.told, to)
			n.step(search.Pushed{Child: p.push.Child, Level: reply.Level})
		}
		p.next(holders[1:], all && ok && answered)
	})
}
