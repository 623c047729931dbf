package search

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// A world is a network in memory under virtual time: participants with
// holders, publishers and seekers, messages with latency, loss and death.
type world struct {
	t        testing.TB
	rng      *rand.Rand
	schema   *Schema
	now      time.Time
	loss     float64
	peers    []*peer
	byID     map[dht.PeerID]*peer
	pubs     []*Publisher
	queue    events
	seq      int
	steps    int
	leaf     int                 // LeafAds of the holders
	apart    bool                // holders do not compare their cells
	wide     int                 // GatherAds of the holders
	standing int                 // StandingAds of the holders
	liars    map[dht.PeerID]bool // name wrong holders when they are consulted
	told     map[CellID]Mirrors  // what guides say of mirrors
	// twist, if there is one, changes what a participant answers.
	twist func(p *peer, q CellQuery, reply *CellReply)
	// bend, if there is one, changes what a participant tells of a copy.
	bend func(p *peer, u *MirrorUpdate)
	// lean, if there is one, says what a participant tells of the cells below a
	// table.
	lean func(p *peer, push SendPush) []Child

	publishes, lookups, updates, feeds, reconciles, fetches, gathers int
}

type peer struct {
	id     dht.PeerID
	holder *Holder
	dead   bool
}

type event struct {
	at  time.Time
	seq int
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	if c := e[i].at.Compare(e[j].at); c != 0 {
		return c < 0
	}
	return e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any     { x := (*e)[len(*e)-1]; *e = (*e)[:len(*e)-1]; return x }

func newWorld(t testing.TB, seed uint64, peers, leaf int) *world {
	w := &world{
		t: t, leaf: leaf, rng: rand.New(rand.NewPCG(seed, 1)), schema: DefaultSchema(),
		now: time.Unix(1_800_000_000, 0), byID: make(map[dht.PeerID]*peer),
	}
	for range peers {
		w.join()
	}
	return w
}

func (w *world) join() {
	id := randomID(w.rng)
	p := &peer{id: id, holder: NewHolder(w.schema, HolderConfig{Self: id, MaxPerPublisher: 1 << 20, LeafAds: w.leaf, GatherAds: w.wide, StandingAds: w.standing})}
	w.peers = append(w.peers, p)
	w.byID[p.id] = p
	var tick func()
	tick = func() {
		if p.dead {
			return
		}
		w.holder(p, HolderTick{}, nil)
		w.after(time.Second, tick)
	}
	w.after(time.Duration(w.rng.IntN(1000))*time.Millisecond, tick)
	turn := 0
	var look func()
	look = func() {
		if !p.dead && !w.apart {
			w.holder(p, Neighbourhood{Self: p.id, Near: w.near(p)}, nil)
			turn++
			w.after(ReconcileAfter(turn), look)
		}
	}
	w.after(ReconcileAfter(0), look)
}

// near returns the live participants nearest to one.
func (w *world) near(p *peer) (near []dht.Contact) {
	at := p.id.Position()
	for _, q := range w.peers {
		if !q.dead && q != p {
			near = append(near, dht.Contact{ID: q.id})
		}
	}
	slices.SortFunc(near, func(a, b dht.Contact) int { return at.Compare(a.ID.Position(), b.ID.Position()) })
	return near[:min(len(near), ReconcileNear)]
}

func randomID(rng *rand.Rand) (id dht.PeerID) {
	for i := range id {
		id[i] = byte(rng.Uint32())
	}
	return id
}

func (w *world) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.queue, event{w.now.Add(d), w.seq, do})
}

func (w *world) latency() time.Duration {
	return time.Duration(5+w.rng.IntN(60)) * time.Millisecond
}

// run lets d of virtual time pass.
func (w *world) run(d time.Duration) {
	until := w.now.Add(d)
	for len(w.queue) > 0 && !w.queue[0].at.After(until) {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.do()
	}
	w.now = until
}

// closest returns the live participants nearest to a cell.
func (w *world) closest(cell CellID) []dht.Contact {
	at := cell.Key().Position()
	var live []*peer
	for _, p := range w.peers {
		if !p.dead {
			live = append(live, p)
		}
	}
	slices.SortFunc(live, func(a, b *peer) int { return at.Compare(a.id.Position(), b.id.Position()) })
	var out []dht.Contact
	for _, p := range live[:min(len(live), Replicas)] {
		out = append(out, dht.Contact{ID: p.id})
	}
	return out
}

// request carries a message there and back; deliver runs at the receiver, and
// done at the sender: with false after a time-out if either way was lost.
func (w *world) request(to dht.PeerID, deliver func(p *peer), done func(ok bool)) {
	p := w.byID[to]
	lost, lostBack := w.rng.Float64() < w.loss, w.rng.Float64() < w.loss
	if p == nil || p.dead || lost {
		w.after(2*time.Second, func() { done(false) })
		return
	}
	w.after(w.latency(), func() {
		if p.dead {
			w.after(2*time.Second, func() { done(false) })
			return
		}
		deliver(p)
		if lostBack {
			w.after(2*time.Second, func() { done(false) })
			return
		}
		w.after(w.latency(), func() { done(true) })
	})
}

// holder steps a holder and carries out what it wants; reply gets the answer.
func (w *world) holder(p *peer, in HolderInput, reply func(HolderEffect)) {
	for _, e := range p.holder.Step(w.now, in) {
		switch e := e.(type) {
		case Recruit:
			w.recruit(p, e)
		case SendMirror:
			w.sendMirror(p, e)
		case SendPush:
			w.push(p, e)
		case SendReconcile:
			w.reconciles++
			w.between(p, e.To, Reconcile{From: p.id}, func(r HolderEffect) HolderInput {
				return Reconciled{From: e.To, Inventory: r.(Inventory)}
			})
		case SendGather:
			w.gathers++
			w.between(p, e.To, Gather{From: dht.Contact{ID: p.id}, Cell: e.Cell}, func(r HolderEffect) HolderInput {
				return Gathering{From: e.To.ID, Cell: e.Cell, Accepted: r.(GatherReply).Accepted}
			})
		case SendFetch:
			w.fetches++
			w.between(p, e.To, Fetch{Cell: e.Cell, Have: e.Have}, func(r HolderEffect) HolderInput {
				return Fetched{From: e.To, Cell: e.Cell, Handed: r.(Handed)}
			})
		default:
			reply(e)
		}
	}
	if w.steps++; w.steps%97 == 0 {
		if err := p.holder.check(); err != nil {
			w.t.Fatal(err)
		}
	}
}

// push carries a summary to the holders of the parent.
func (w *world) push(p *peer, push SendPush) {
	if w.lean != nil {
		push.Below = w.lean(p, push)
	}
	for _, to := range w.closest(push.Parent) {
		in := Push{From: dht.Contact{ID: p.id}, Child: push.Child, Summary: push.Summary, Epoch: push.Epoch, Mirrors: push.Mirrors, Below: push.Below}
		w.between(p, to, in,
			func(r HolderEffect) HolderInput { return Pushed{Child: push.Child, Level: r.(PushReply).Level} })
	}
}

// between carries an input to another holder, and its answer back as an input.
func (w *world) between(p *peer, to dht.Contact, in HolderInput, back func(HolderEffect) HolderInput) {
	var answer HolderInput
	w.request(to.ID, func(q *peer) {
		w.holder(q, in, func(e HolderEffect) { answer = back(e) })
	}, func(ok bool) {
		if ok && !p.dead && answer != nil {
			w.holder(p, answer, nil)
		}
	})
}

// publish starts a publisher of ad on a participant.
func (w *world) publish(ad *Signed) *Publisher {
	pub := NewPublisher(w.schema, PublisherConfig{})
	w.pubs = append(w.pubs, pub)
	w.publisher(pub, Offer{ad})
	var tick func()
	tick = func() {
		if pub.Done(w.now) {
			return
		}
		w.publisher(pub, PublisherTick{})
		w.after(time.Second, tick)
	}
	w.after(time.Second, tick)
	return pub
}

func (w *world) publisher(pub *Publisher, in PublisherInput) {
	for _, e := range pub.Step(w.now, in) {
		switch e := e.(type) {
		case Locate:
			w.lookups++
			w.after(w.latency(), func() { w.publisher(pub, Located{e.Cell, w.closest(e.Cell)}) })
		case SendPublish:
			w.publishes++
			var placing Placing
			w.request(e.To.ID, func(p *peer) {
				w.holder(p, Publish{From: e.Ad.Ad.Server, Ad: e.Ad, Places: e.Places}, func(r HolderEffect) { placing = r.(Placing) })
			}, func(ok bool) {
				if !ok {
					placing = nil
				}
				w.publisher(pub, Published{To: e.To.ID, Places: e.Places, Cells: e.Cells, Placing: placing})
			})
		case SendWithdraw:
			w.request(e.To.ID, func(p *peer) {
				w.holder(p, Withdraw{From: e.Server, Server: e.Server, Seq: e.Seq, Cells: e.Cells}, nil)
			}, func(bool) { w.publisher(pub, Withdrawn{e.To.ID}) })
		}
	}
}

// guide returns who holds a cell, as a participant says who may lie.
func (w *world) guide(id dht.PeerID, cell CellID) []dht.Contact {
	if w.liars[id] {
		return []dht.Contact{{ID: w.peers[0].id}, {ID: w.peers[1].id}, {ID: w.peers[2].id}, {ID: randomID(w.rng)}}
	}
	return w.closest(cell)
}

// search runs a query to its end.
func (w *world) search(q Query, cfg SeekerConfig) Answer {
	w.t.Helper()
	return w.finish(q, cfg).Answer
}

// finish runs a query to its end, and returns also what it saw.
func (w *world) finish(q Query, cfg SeekerConfig) Finish {
	w.t.Helper()
	s, err := NewSeeker(w.schema, q, cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.drive(s)
}

// count estimates how many ads match.
func (w *world) count(where Predicate, cfg CounterConfig) Answer {
	w.t.Helper()
	c, err := NewCounter(w.schema, where, cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.drive(c).Answer
}

// A machine is a Seeker or a Counter.
type machine interface {
	Step(now time.Time, in SeekerInput) []SeekerEffect
}

// drive carries out what a machine wants until it has the answer.
func (w *world) drive(s machine) Finish {
	w.t.Helper()
	var answer *Finish
	hits := make(map[dht.PeerID]int)
	var step func(in SeekerInput)
	step = func(in SeekerInput) {
		for _, e := range s.Step(w.now, in) {
			switch e := e.(type) {
			case Consult:
				in := Guided{From: e.To.ID}
				for _, c := range e.Cells {
					in.Glimpses = append(in.Glimpses, Glimpse{Cell: c, Holders: w.guide(e.To.ID, c), Mirrors: w.told[c]})
				}
				w.after(w.latency(), func() { step(in) })
			case Locate:
				w.after(w.latency(), func() { step(Located{e.Cell, w.closest(e.Cell)}) })
			case Ask:
				var reply *CellReply
				w.request(e.To.ID, func(p *peer) {
					w.holder(p, AskCell{e.Query}, func(r HolderEffect) {
						c := r.(CellReply)
						if reply = &c; w.twist != nil {
							w.twist(p, e.Query, reply)
						}
					})
				}, func(ok bool) {
					if ok {
						step(Answered{Cell: e.Query.Cell, From: e.To.ID, Reply: reply})
					} else {
						step(Failed{Cell: e.Query.Cell, From: e.To.ID})
					}
				})
			case Verify:
				w.after(w.latency(), func() { step(Verified{e.Server.ID, w.current(e.Server.ID)}) })
			case Wake:
				w.after(max(0, e.At.Sub(w.now)), func() { step(SeekerTick{}) })
			case Hit:
				hits[e.Signed.Ad.Server]++
			case Finish:
				answer = &e
			}
		}
	}
	step(Start{})
	for i := 0; answer == nil; i++ {
		if i > 600 {
			w.t.Fatal("the query does not end")
		}
		w.run(100 * time.Millisecond)
	}
	if seeker, ok := s.(*Seeker); ok {
		w.checkHits(seeker, answer.Answer, hits)
	}
	return *answer
}

// checkHits compares what a query told of on the way with its answer.
func (w *world) checkHits(s *Seeker, a Answer, hits map[dht.PeerID]int) {
	w.t.Helper()
	if s.query.Limit > 0 {
		if len(hits) > 0 {
			w.t.Errorf("%d hits of a query with a limit", len(hits))
		}
		return
	}
	for _, r := range a.Results {
		if n := hits[r.Signed.Ad.Server]; n != 1 {
			w.t.Errorf("%s was told of %d times", r.Signed.Ad.Server, n)
		}
	}
	if s.cfg.Verify && len(hits) != len(a.Results) {
		w.t.Errorf("%d hits, %d results", len(hits), len(a.Results))
	}
}

// current returns the ad that a server's publisher has now.
func (w *world) current(server dht.PeerID) *Signed {
	for _, p := range w.pubs {
		if p.ad != nil && p.ad.Ad.Server == server && !p.stopped {
			return p.ad
		}
	}
	return nil
}

// stir has the first few servers replaced by new ones, and those after them
// change.
func (w *world) stir(replaced, changing int) {
	for i, p := range w.pubs[:replaced+changing] {
		if i < replaced {
			w.publisher(p, Stop{})
		} else {
			w.publisher(p, Offer{changed(w.rng, p.ad, w.now)})
		}
	}
	for range replaced {
		w.publish(randomAd(w.rng, w.now))
	}
}

// ads returns the current ads.
func (w *world) ads() (out []*Signed) {
	for _, p := range w.pubs {
		if p.ad != nil && !p.stopped {
			out = append(out, p.ad)
		}
	}
	return out
}

// kill lets n random participants die.
func (w *world) kill(n int) {
	for n > 0 {
		if p := w.peers[w.rng.IntN(len(w.peers))]; !p.dead {
			p.dead = true
			n--
		}
	}
}

// compare fails the test unless the answer to q is exact.
func (w *world) compare(q Query, got Answer) {
	w.t.Helper()
	all := w.schema.Select(Query{Where: q.Where, OrderBy: q.OrderBy, Desc: q.Desc, Origin: q.Origin}, w.ads())
	if err := w.sameResults(q, got.Results, all); err != nil {
		w.t.Fatalf("%v\nquery: %v order by %q desc %v limit %d\ntree %s, %d requests, complete %v (%s)",
			err, q.Where, q.OrderBy, q.Desc, q.Limit, got.Tree, got.Requests, got.Complete, got.Incomplete)
	}
	if !got.Complete {
		w.t.Fatalf("exact but not complete: %s\nquery: %v", got.Incomplete, q.Where)
	}
}

// sameResults compares results with all that match, in order: within a step of
// latency any will do.
func (w *world) sameResults(q Query, got []Result, all []*Signed) error {
	want := len(all)
	if q.Limit > 0 {
		want = min(want, q.Limit)
	}
	if len(got) != want {
		return fmt.Errorf("%d results, want %d", len(got), want)
	}
	place := make(map[dht.PeerID]int)
	for i, ad := range all {
		place[ad.Ad.Server] = i
	}
	for i, r := range got {
		at, ok := place[r.Signed.Ad.Server]
		if !ok || all[at].Ad.Seq != r.Signed.Ad.Seq {
			return fmt.Errorf("result %d is %s, which does not match", i, r.Signed.Ad.Server)
		}
		if ord := w.schema.order(&q); at != i && !ord.none() && (q.OrderBy != DimCoordinate || ord.standing(all[at]).rank != ord.standing(all[i]).rank) {
			return fmt.Errorf("result %d should be result %d", i, at)
		}
		delete(place, r.Signed.Ad.Server)
	}
	return nil
}
