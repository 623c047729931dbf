package kad

import (
	"context"
	"errors"
	"fmt"
	"time"

	kb "github.com/libp2p/go-libp2p-kbucket"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/wire"
)

// overlayProtocol finds the contacts nearest to a position, and pings.
const overlayProtocol = "/xeno/overlay/1"

// Closest returns the n participants nearest to key that are alive and
// admitted, nearest first: each one answered within this lookup (or is this
// node, which counts if it serves the DHT). There are fewer when the network
// has fewer. n is at most dht.MaxLookupWant. Over warm connections it takes one
// round trip or two; it fails only if nobody at all answers.
func (o *Overlay) Closest(ctx context.Context, key dht.Key, n int) ([]dht.Contact, error) {
	if n < 1 || n > dht.MaxLookupWant {
		return nil, fmt.Errorf("kad: closest: %d contacts, expected 1 to %d", n, dht.MaxLookupWant)
	}
	ctx, leave, err := o.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	nearest, err := o.lookup(ctx, query{target: key.Position(), want: n, self: o.cfg.Server})
	if err != nil {
		return nil, fmt.Errorf("kad: closest to %s: %w", key, err)
	}
	if len(nearest) == 0 {
		return nil, fmt.Errorf("kad: closest to %s: nobody answers, is the node connected? %w", key, ErrUnreachable)
	}
	return nearest, nil
}

// Find returns the addresses of a participant, which it asked the peer itself
// for if it was not connected. The error wraps ErrNotFound if nobody knows it
// or it is not alive.
func (o *Overlay) Find(ctx context.Context, id dht.PeerID) (dht.Contact, error) {
	ctx, leave, err := o.begin(ctx)
	if err != nil {
		return dht.Contact{}, err
	}
	defer leave()
	if id == o.id {
		return o.Contact(), nil
	}
	if !o.gate.admitted(id, time.Now()) {
		nearest, err := o.lookup(ctx, query{target: id.Position(), want: findWidth, find: id})
		if err != nil {
			return dht.Contact{}, fmt.Errorf("kad: find %s: %w", id, err)
		}
		if len(nearest) == 0 || nearest[0].ID != id {
			return dht.Contact{}, fmt.Errorf("kad: find %s: %w", id, ErrNotFound)
		}
	}
	return o.contactOf(id), nil
}

// lookupResult is what became of one query.
type lookupResult struct {
	from     dht.PeerID
	contacts []dht.Contact
	err      error
}

// A query is what a lookup is to find.
type query struct {
	target dht.Position
	want   int
	self   bool          // this node may be a result
	find   dht.PeerID    // enough once this one answered; nobody if zero
	seeds  []dht.Contact // to ask beside the routing table
}

// lookup runs a dht.Lookup to its end, or until the one to find answered.
func (o *Overlay) lookup(ctx context.Context, q query) ([]dht.Contact, error) {
	cfg := dht.LookupConfig{
		Target: q.target, Want: q.want, SlowAfter: lookupSlow, Timeout: lookupTimeout,
		Seeds: append(o.nearestKnown(q.target, dht.K, o.id), q.seeds...),
	}
	o.counts.lookups.Add(1)
	if q.self {
		cfg.Self = o.Contact()
	}
	machine := dht.NewLookup(cfg)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan lookupResult)
	asking := 0
	defer func() {
		cancel()
		for ; asking > 0; asking-- {
			<-results
		}
	}()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var in dht.LookupInput = dht.LookupStart{}
	for {
		for _, effect := range machine.Step(time.Now(), in) {
			switch effect := effect.(type) {
			case dht.LookupQuery:
				asking++
				go func() {
					contacts, err := o.ask(ctx, effect.To, q.target)
					results <- lookupResult{effect.To.ID, contacts, err}
				}()
			case dht.LookupDone:
				return o.withAddrs(effect.Nearest), nil
			}
		}
		if due, ok := machine.Deadline(); ok {
			timer.Reset(time.Until(due))
		}
		select {
		case r := <-results:
			asking--
			if r.err != nil {
				in = dht.LookupFailure{From: r.from}
				break
			}
			if r.from == q.find {
				return []dht.Contact{o.contactOf(r.from)}, nil
			}
			in = dht.LookupAnswer{From: r.from, Contacts: r.contacts}
		case <-timer.C:
			in = dht.LookupTick{}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// withAddrs replaces the addresses that others claimed by those that the
// peers gave themselves.
func (o *Overlay) withAddrs(contacts []dht.Contact) []dht.Contact {
	for i, c := range contacts {
		if fresh := o.contactOf(c.ID); len(fresh.Addrs) > 0 {
			contacts[i] = fresh
		}
	}
	return contacts
}

// ask sends one closest request. It is repeated once when the connection
// turned out to be dead, as after a restart of the peer: asking changes
// nothing there.
func (o *Overlay) ask(ctx context.Context, to dht.Contact, target dht.Position) ([]dht.Contact, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	contacts, err := o.askOnce(ctx, to, target[:])
	if err != nil && ctx.Err() == nil && o.base.Network().Connectedness(toPeer(to.ID)) != network.Connected &&
		!errors.Is(err, ErrUnreachable) {
		return o.askOnce(ctx, to, target[:])
	}
	return contacts, err
}

// askOnce sends a closest request, or a ping if target is nil, and takes in
// round trip time and coordinate.
func (o *Overlay) askOnce(ctx context.Context, to dht.Contact, target []byte) ([]dht.Contact, error) {
	request, err := proto.Marshal(&wire.OverlayRequest{
		Target: target, Count: dht.K, Coordinate: coordinateToWire(o.latency.own()),
	})
	if err != nil {
		return nil, err
	}
	s, err := o.open(ctx, to, overlayProtocol)
	if err != nil {
		return nil, err
	}
	sent := time.Now()
	answer, err := o.roundTrip(ctx, s, request, maxOverlayMessage)
	if err != nil {
		return nil, o.explain(ctx, to.ID, err)
	}
	rtt := time.Since(sent)
	contacts, at, hasAt, err := decodeOverlayReply(answer)
	if err != nil {
		return nil, err
	}
	if hasAt {
		o.latency.observed(to.ID, at, rtt)
	}
	return contacts, nil
}

// serveOverlay answers closest requests and pings.
func (o *Overlay) serveOverlay(_ context.Context, from dht.PeerID, b []byte) ([]byte, error) {
	request, err := decodeOverlayRequest(b)
	if err != nil {
		return nil, err
	}
	reply := &wire.OverlayReply{Coordinate: coordinateToWire(o.latency.own())}
	if len(request.GetTarget()) > 0 {
		target := dht.Position(request.GetTarget())
		n := min(int(request.GetCount()), dht.K)
		reply.Contacts = o.nearestWire(target, n, from)
	}
	return proto.Marshal(reply)
}

// nearestPeers returns the members of the routing table nearest to target,
// without one, preceded by a connected peer whose position it is.
func (o *Overlay) nearestPeers(target dht.Position, n int, without dht.PeerID) []dht.PeerID {
	peers := o.dht.RoutingTable().NearestPeers(kb.ID(target[:]), n+1)
	var nearest []dht.PeerID
	if id, ok := o.gate.at(target); ok && id != without {
		nearest = append(nearest, id)
	}
	now := time.Now()
	for _, p := range peers {
		id, err := fromPeer(p)
		if err != nil || id == without || len(nearest) == n || (len(nearest) > 0 && nearest[0] == id) {
			continue
		}
		if o.gate.admitted(id, now) {
			nearest = append(nearest, id)
		}
	}
	return nearest
}

func (o *Overlay) nearestKnown(target dht.Position, n int, without dht.PeerID) []dht.Contact {
	ids := o.nearestPeers(target, n, without)
	contacts := make([]dht.Contact, len(ids))
	for i, id := range ids {
		contacts[i] = o.contactOf(id)
	}
	return contacts
}

func (o *Overlay) nearestWire(target dht.Position, n int, without dht.PeerID) []*wire.OverlayContact {
	ids := o.nearestPeers(target, n, without)
	contacts := make([]*wire.OverlayContact, len(ids))
	for i, id := range ids {
		contacts[i] = contactToWire(id, o.base.Peerstore().Addrs(toPeer(id)))
	}
	return contacts
}

// contactOf returns what the peerstore knows of a peer's addresses.
func (o *Overlay) contactOf(id dht.PeerID) dht.Contact {
	if id == o.id {
		return o.Contact()
	}
	return toContact(id, o.base.Peerstore().Addrs(toPeer(id)))
}

// addAddrs remembers for a while where a peer is said to be.
func (o *Overlay) addAddrs(info peer.AddrInfo) {
	if len(info.Addrs) > 0 {
		o.base.Peerstore().AddAddrs(info.ID, info.Addrs, hintTTL)
	}
}
