package index

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/wire"
)

// reconcile tells the holder who is near, so that it compares its cells with
// theirs.
func (s *Service) reconcile() {
	for turn := 0; ; {
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(search.ReconcileAfter(turn)):
		}
		near := s.overlay.Near(search.ReconcileNear)
		if len(near) > 0 { // else not connected yet
			turn++
		}
		s.step(search.Neighbourhood{Self: s.overlay.ID(), Near: near})
	}
}

// handOff asks other holders what this one wants of them.
func (s *Service) handOff() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case e := <-s.handoff:
			if to, ok := e.(search.SendReconcile); ok {
				s.sendReconcile(to)
			} else if from, ok := e.(search.SendFetch); ok {
				s.sendFetch(from)
			} else if from, ok := e.(search.SendGather); ok {
				s.sendGather(from)
			}
		}
	}
}

func (s *Service) sendReconcile(e search.SendReconcile) {
	ctx, cancel := context.WithTimeout(s.ctx, askTimeout)
	defer cancel()
	reply := new(wire.SearchInventory)
	request := &wire.SearchRequest{Kind: &wire.SearchRequest_Reconcile{Reconcile: new(wire.SearchReconcile)}}
	if s.call(ctx, e.To, request, reply) != nil {
		return // it is another's turn next
	}
	inventory, err := inventoryFromWire(s.schema, reply)
	if err != nil {
		return
	}
	s.step(search.Reconciled{From: e.To, Inventory: inventory})
}

func (s *Service) sendFetch(e search.SendFetch) {
	ctx, cancel := context.WithTimeout(s.ctx, askTimeout)
	defer cancel()
	reply := new(wire.SearchHanded)
	request := &wire.SearchRequest{Kind: &wire.SearchRequest_Fetch{Fetch: &wire.SearchFetch{Cell: cellToWire(e.Cell), Have: e.Have}}}
	if s.call(ctx, e.To, request, reply) != nil {
		return
	}
	handed, err := s.handedFromWire(reply, time.Now())
	if err != nil {
		return
	}
	s.step(search.Fetched{From: e.To, Cell: e.Cell, Handed: handed})
}

func (s *Service) serveFetch(w *wire.SearchFetch) (proto.Message, error) {
	cell, err := cellFromWire(s.schema, w.GetCell())
	if err != nil {
		return nil, err
	}
	if len(w.GetHave()) > maxHave || !slices.IsSorted(w.GetHave()) {
		return nil, fmt.Errorf("%w: %d hashes, expected at most %d, ascending", errMessage, len(w.GetHave()), maxHave)
	}
	handed, _ := s.step(search.Fetch{Cell: cell, Have: w.GetHave()}).(search.Handed)
	return handedToWire(handed, time.Now()), nil
}

func inventoryToWire(inventory search.Inventory) *wire.SearchInventory {
	w := new(wire.SearchInventory)
	for _, h := range inventory {
		w.Held = append(w.Held, &wire.SearchHeld{Cell: cellToWire(h.Cell), Digest: h.Digest})
	}
	return w
}

func inventoryFromWire(s *search.Schema, w *wire.SearchInventory) (search.Inventory, error) {
	if len(w.GetHeld()) > maxListed {
		return nil, fmt.Errorf("%w: %d cells", errMessage, len(w.GetHeld()))
	}
	inventory := make(search.Inventory, len(w.GetHeld()))
	for i, h := range w.GetHeld() {
		cell, err := cellFromWire(s, h.GetCell())
		if err != nil {
			return nil, err
		}
		inventory[i] = search.Held{Cell: cell, Digest: h.GetDigest()}
	}
	return inventory, nil
}

func handedToWire(handed search.Handed, now time.Time) *wire.SearchHanded {
	w := &wire.SearchHanded{Inner: handed.Inner, More: handed.More}
	for _, l := range handed.Leases {
		w.Leases = append(w.Leases, &wire.SearchLease{Ad: l.Ad.Envelope, LeftMillis: uint64(max(0, l.Until.Sub(now)).Milliseconds())})
	}
	return w
}

// handedFromWire takes the leases whose ads are good: one that is not, or has
// expired meanwhile, spoils no other.
func (s *Service) handedFromWire(w *wire.SearchHanded, now time.Time) (search.Handed, error) {
	if len(w.GetLeases()) > maxHave {
		return search.Handed{}, fmt.Errorf("%w: %d leases", errMessage, len(w.GetLeases()))
	}
	handed := search.Handed{Inner: w.GetInner(), More: w.GetMore()}
	for _, l := range w.GetLeases() {
		ad, err := s.opened.open(l.GetAd())
		if err != nil {
			continue
		}
		left := time.Duration(min(l.GetLeftMillis(), uint64(search.MaxAdLife.Milliseconds()))) * time.Millisecond
		handed.Leases = append(handed.Leases, search.Lease{Ad: ad, Until: now.Add(left)})
	}
	return handed, nil
}
