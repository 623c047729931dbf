package kad

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/xenoserver/xeno/dht"
)

// Bootstrap joins the overlay: it connects to the bootstrap peers, fills the
// routing table, and returns when lookups work. Handlers must be registered
// before. Without bootstrap peers it only waits for others. On an error, which
// tells for every bootstrap peer why it did not help, the overlay goes on
// trying in the background, as it does whenever it is alone.
func (o *Overlay) Bootstrap(ctx context.Context) error {
	ctx, leave, err := o.begin(ctx)
	if err != nil {
		return err
	}
	defer leave()
	o.joined.Store(true)
	if len(o.bootstrap) == 0 {
		return nil
	}
	if err := o.join(ctx); err != nil {
		return fmt.Errorf("kad: bootstrap: %w", err)
	}
	return nil
}

// join connects to the bootstrap peers and makes itself known to its
// neighbours by looking for its own position.
func (o *Overlay) join(ctx context.Context) error {
	if err := o.connectBootstrap(ctx); err != nil {
		return err
	}
	// The routing table may hold none of them yet.
	_, err := o.lookup(ctx, query{target: o.id.Position(), want: dht.K, seeds: o.bootstrap})
	if err != nil {
		return err
	}
	o.awaitRoutingTable(ctx)
	o.refreshTable()
	return nil
}

// connectBootstrap connects to all bootstrap peers at once; one is enough.
func (o *Overlay) connectBootstrap(ctx context.Context) error {
	errs := make([]error, len(o.bootstrap))
	var wg sync.WaitGroup
	for i, c := range o.bootstrap {
		if c.ID == o.id {
			continue
		}
		wg.Go(func() { errs[i] = o.connect(ctx, c) })
	}
	wg.Wait()
	for i, err := range errs {
		if err == nil && o.bootstrap[i].ID != o.id {
			return nil
		}
	}
	return errors.Join(errs...)
}

// awaitRoutingTable waits for the first member of the routing table: it
// enters only after identification and a check by kad-dht. If none does, as
// when the bootstrap peers are no members, the overlay works all the same.
func (o *Overlay) awaitRoutingTable(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, joinWait)
	defer cancel()
	select {
	case <-o.firstMember:
	case <-ctx.Done():
	}
}

// Connect dials a peer, if it is not connected, and waits for the hellos. The
// error wraps ErrUnreachable, ErrNotAdmitted (we do not admit it) or
// ErrRefused (it does not admit us), and says why.
func (o *Overlay) Connect(ctx context.Context, c dht.Contact) error {
	ctx, leave, err := o.begin(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return o.connect(ctx, c)
}

func (o *Overlay) connect(ctx context.Context, c dht.Contact) error {
	if c.ID == o.id {
		return nil
	}
	if b := o.backoff; b != nil {
		b.Clear(toPeer(c.ID)) // somebody wants it now
	}
	if err := o.reach(ctx, c); err != nil {
		return fmt.Errorf("connect to %s: %w", c, err)
	}
	if err := o.gate.consent(ctx, c.ID); err != nil {
		return fmt.Errorf("connect to %s: %w", c, err)
	}
	return nil
}

// reach returns once the peer is connected and admitted.
func (o *Overlay) reach(ctx context.Context, to dht.Contact) error {
	if o.gate.admitted(to.ID, time.Now()) {
		return nil
	}
	info, err := toAddrInfo(to)
	if err != nil {
		return err
	}
	if info.ID == o.base.ID() {
		return fmt.Errorf("%w: it is this node itself", ErrUnreachable)
	}
	o.addAddrs(info)
	for range 2 { // the first dial may return a connection that is just dying
		if err := o.dial(ctx, info.ID); err != nil {
			return fmt.Errorf("%w: %w", ErrUnreachable, ctxError(ctx, err))
		}
		if err = o.gate.wait(ctx, to.ID); !errors.Is(err, ErrUnreachable) {
			return err
		}
	}
	return err
}

func (o *Overlay) dial(ctx context.Context, p peer.ID) error {
	ctx, cancel := context.WithTimeout(network.WithAllowLimitedConn(ctx, "dial"), dialTimeout)
	defer cancel()
	_, err := o.base.Network().DialPeer(ctx, p)
	return err
}

// welcome tells kad-dht about a peer that was admitted: it looks at a peer
// once, after identification, which may have come before.
func (o *Overlay) welcome(id dht.PeerID) {
	_ = o.protocolsUpdated.Emit(event.EvtPeerProtocolsUpdated{Peer: toPeer(id), Added: o.dhtProtocols})
}

// evict takes a peer out of the routing table.
func (o *Overlay) evict(id dht.PeerID) {
	o.dht.RoutingTable().RemovePeer(toPeer(id))
}

// Readmit asks Gate.Admit again about every admitted peer, and closes the
// connections of those that it refuses now, as after a revocation.
func (o *Overlay) Readmit() {
	_, leave, err := o.begin(context.Background())
	if err != nil {
		return
	}
	defer leave()
	for _, m := range o.gate.members() {
		until, err := o.cfg.Gate.Admit(m.id, m.credential)
		now := time.Now()
		if err == nil && !now.Before(until) {
			err = errors.New("credential expired")
		}
		v := verdict{until: until, credential: m.credential, agent: m.agent}
		if err == nil {
			o.gate.settle(m.id, v, now)
			continue
		}
		v.refusal = fmt.Errorf("%w: %w", ErrNotAdmitted, err)
		o.gate.settle(m.id, v, now)
		o.log.Info("peer is not admitted any more", logPeer(m.id), logErr(err))
		o.drop(m.id)
	}
	o.purge()
	o.kick()
}

// drop evicts a peer and closes its connections.
func (o *Overlay) drop(id dht.PeerID) {
	o.evict(id)
	for _, c := range o.base.Network().ConnsToPeer(toPeer(id)) {
		_ = c.CloseWithError(network.ConnGated)
	}
}

// purge takes those out of the routing table who are not admitted.
func (o *Overlay) purge() {
	now := time.Now()
	for _, p := range o.dht.RoutingTable().ListPeers() {
		if id, err := fromPeer(p); err != nil || !o.gate.admitted(id, now) {
			o.dht.RoutingTable().RemovePeer(p)
		}
	}
}

// Reannounce says hello again to every connected peer, after the node got
// another credential, and returns when all have answered or timed out. After
// the first credential, Bootstrap should be called again.
func (o *Overlay) Reannounce() {
	ctx, leave, err := o.begin(o.ctx)
	if err != nil {
		return
	}
	defer leave()
	var wg sync.WaitGroup
	slots := make(chan struct{}, maxHellos)
	for _, id := range o.gate.connectedPeers() {
		conns := o.base.Network().ConnsToPeer(toPeer(id))
		if len(conns) == 0 {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			o.greet(ctx, id, conns[0])
			<-slots
		})
	}
	wg.Wait()
	signal(o.lost) // whoever was alone for want of a credential is not any more
}

// janitor ends admissions that expired and connections whose grace is over.
func (o *Overlay) janitor() {
	timer := time.NewTimer(o.gate.grace)
	defer timer.Stop()
	for {
		expired, overdue, next := o.gate.sweep(time.Now())
		for _, id := range expired {
			o.log.Info("credential of peer expired", logPeer(id))
			o.evict(id)
			o.spawn(func() { o.regreet(id) })
		}
		for _, id := range overdue {
			o.drop(id)
		}
		timer.Reset(time.Until(next))
		select {
		case <-timer.C:
		case <-o.kicked:
		case <-o.ctx.Done():
			return
		}
	}
}

// regreet asks a peer for a newer credential.
func (o *Overlay) regreet(id dht.PeerID) {
	if conns := o.base.Network().ConnsToPeer(toPeer(id)); len(conns) > 0 {
		o.greet(o.ctx, id, conns[0])
	}
}

// keeper keeps the routing table warm and the node from being alone.
func (o *Overlay) keeper() {
	pause := firstPause
	timer, refresh := time.NewTimer(jitter(warmInterval)), time.NewTimer(jitter(refreshInterval))
	defer timer.Stop()
	defer refresh.Stop()
	for {
		select {
		case <-timer.C:
		case <-refresh.C:
			o.refresh()
			refresh.Reset(jitter(refreshInterval))
			continue
		case <-o.lost:
		case <-o.ctx.Done():
			return
		}
		o.warm()
		next := warmInterval
		if o.lonely() {
			if err := o.join(o.ctx); err != nil {
				o.log.Debug("lonely, and no bootstrap peer helps", logErr(err))
				next, pause = pause, min(2*pause, lastPause)
			} else {
				pause = firstPause
			}
		}
		timer.Reset(jitter(next))
	}
}

// lonely tells whether the bootstrap peers should be dialled again: nobody
// else is there, or few are, who may be as lost as this node.
func (o *Overlay) lonely() bool {
	if !o.joined.Load() || len(o.bootstrap) == 0 {
		return false
	}
	if !o.gate.welcome() {
		return true
	}
	if o.dht.RoutingTable().Size() >= dht.K {
		return false
	}
	now := time.Now()
	for _, c := range o.bootstrap {
		if c.ID != o.id && !o.gate.admitted(c.ID, now) {
			return true
		}
	}
	return false
}

// refresh looks for new peers in every corner, among them the bootstrap peers
// if a partition took them away.
func (o *Overlay) refresh() {
	if o.joined.Load() && len(o.bootstrap) > 0 {
		o.spawn(func() { _ = o.connectBootstrap(o.ctx) })
	}
	o.refreshTable()
}

// warm compares the routing table with the connections: members that are not
// connected are dialled and removed if that fails. Admitted peers that kad-dht
// missed are shown to it once more; not again and again, since each time it
// would put them in the place of others.
func (o *Overlay) warm() {
	table := o.dht.RoutingTable()
	var wg sync.WaitGroup
	slots := make(chan struct{}, maxWarmDials)
	now := time.Now()
	for _, p := range table.ListPeers() {
		id, err := fromPeer(p)
		if err == nil && o.gate.admitted(id, now) {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			if err != nil || o.reach(o.ctx, o.contactOf(id)) != nil {
				table.RemovePeer(p)
			}
			<-slots
		})
	}
	wg.Wait()
	for _, m := range o.gate.members() {
		if p := toPeer(m.id); o.gate.reshow(m.id) && table.Find(p) == "" {
			o.welcome(m.id)
		}
	}
}

// pinger measures to one peer after the other.
func (o *Overlay) pinger() {
	timer := time.NewTimer(jitter(pingInterval))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-o.ctx.Done():
			return
		}
		if members := o.gate.members(); len(members) > 0 {
			id := members[rand.IntN(len(members))].id
			ctx, cancel := context.WithTimeout(o.ctx, lookupTimeout)
			if _, err := o.askOnce(ctx, dht.Contact{ID: id}, nil); err != nil {
				o.log.Debug("ping failed", logPeer(id), logErr(err))
			}
			cancel()
		}
		timer.Reset(jitter(pingInterval))
	}
}

// jitter spreads what all nodes do regularly: d ± 25 %.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2)
}
