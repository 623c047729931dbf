package index

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/wire"
)

// serve answers one request of an admitted peer.
func (s *Service) serve(ctx context.Context, from dht.PeerID, request []byte) ([]byte, error) {
	reply, err := s.answer(ctx, from, request)
	if err != nil {
		s.count(func(st *Stats) { st.Refused++ })
		s.log.Debug("search request refused", slog.String("from", from.String()), slog.Any("err", err))
		return nil, err
	}
	return proto.Marshal(reply)
}

func (s *Service) answer(_ context.Context, from dht.PeerID, request []byte) (proto.Message, error) {
	req := new(wire.SearchRequest)
	if err := proto.Unmarshal(request, req); err != nil {
		return nil, errMessage
	}
	if req.GetSchema() != s.schema.Fingerprint() {
		return nil, ErrSchema
	}
	switch k := req.GetKind().(type) {
	case *wire.SearchRequest_Publish:
		return s.servePublish(from, k.Publish)
	case *wire.SearchRequest_Withdraw:
		return s.serveWithdraw(from, k.Withdraw)
	case *wire.SearchRequest_Push:
		return s.servePush(from, k.Push)
	case *wire.SearchRequest_Ask:
		q, err := askFromWire(s.schema, k.Ask)
		if err != nil {
			return nil, err
		}
		reply, _ := s.step(search.AskCell{Query: q}).(search.CellReply)
		return replyToWire(reply), nil
	case *wire.SearchRequest_Current:
		return s.serveCurrent(k.Current)
	case *wire.SearchRequest_Consult:
		return s.serveConsult(k.Consult)
	case *wire.SearchRequest_Mirror:
		return s.serveMirror(from, k.Mirror)
	case *wire.SearchRequest_Reconcile:
		inventory, _ := s.step(search.Reconcile{From: from}).(search.Inventory)
		return inventoryToWire(inventory), nil
	case *wire.SearchRequest_Fetch:
		return s.serveFetch(k.Fetch)
	case *wire.SearchRequest_Gather:
		return s.serveGather(from, k.Gather)
	default:
		return nil, fmt.Errorf("%w: unknown kind", errMessage)
	}
}

// step steps the holder, queues what it sends, and returns its answer.
func (s *Service) step(in search.HolderInput) (answer search.HolderEffect) {
	s.holderMu.Lock()
	effects := s.holder.Step(time.Now(), in)
	s.holderMu.Unlock()
	for _, e := range effects {
		switch e := e.(type) {
		case search.SendPush:
			select {
			case s.pushes <- e:
			default: // repeated with the next summary
			}
		case search.SendMirror:
			s.mirror(e)
		case search.Recruit:
			s.recruit(e)
		case search.SendReconcile, search.SendFetch, search.SendGather:
			select {
			case s.handoff <- e:
			default: // repeated with the next inventory
			}
		case search.Placing, search.PushReply, search.CellReply, search.MirrorReply, search.Inventory, search.Handed, search.GatherReply:
			answer = e
		}
	}
	return answer
}

func (s *Service) servePublish(from dht.PeerID, w *wire.SearchPublish) (proto.Message, error) {
	places, err := placementsFromWire(w.GetPlaces())
	if err != nil {
		return nil, err
	}
	ad, err := s.opened.open(w.GetAd())
	if err != nil {
		return nil, err
	}
	placing, _ := s.step(search.Publish{From: from, Ad: ad, Places: places}).(search.Placing)
	return placingToWire(placing), nil
}

func (s *Service) serveWithdraw(from dht.PeerID, w *wire.SearchWithdraw) (proto.Message, error) {
	if len(w.GetServer()) != len(dht.PeerID{}) || len(w.GetCells()) > maxListed {
		return nil, errMessage
	}
	in := search.Withdraw{From: from, Server: dht.PeerID(w.GetServer()), Seq: w.GetSeq()}
	for _, c := range w.GetCells() {
		cell, err := cellFromWire(s.schema, c)
		if err != nil {
			return nil, err
		}
		in.Cells = append(in.Cells, cell)
	}
	s.step(in)
	return new(wire.SearchPlacing), nil
}

func (s *Service) servePush(from dht.PeerID, w *wire.SearchPush) (proto.Message, error) {
	child, err := cellFromWire(s.schema, w.GetChild())
	if err != nil {
		return nil, err
	}
	summary, err := summaryFromWire(s.schema, w.GetSummary())
	if err != nil {
		return nil, err
	}
	addrs, err := addrsFromWire(w.GetAddrs())
	if err != nil {
		return nil, err
	}
	mirrors, err := contactsFromWire(w.GetMirrors())
	if err != nil {
		return nil, err
	}
	below, err := childrenFromWire(s.schema, w.GetBelow())
	if err != nil {
		return nil, err
	}
	reply, ok := s.step(search.Push{
		From: dht.Contact{ID: from, Addrs: addrs}, Child: child, Summary: summary, Epoch: w.GetEpoch(), Mirrors: mirrors, Below: below,
	}).(search.PushReply)
	if !ok {
		return nil, fmt.Errorf("%w: no parent for this cell", errMessage)
	}
	return &wire.SearchPushReply{Level: uint32(reply.Level)}, nil
}

func (s *Service) serveCurrent(w *wire.SearchCurrent) (proto.Message, error) {
	if len(w.GetServer()) != len(dht.PeerID{}) {
		return nil, errMessage
	}
	ad, err := s.current(dht.PeerID(w.GetServer()))
	if errors.Is(err, ErrNotFound) {
		return new(wire.SearchCurrentReply), nil
	}
	if err != nil {
		return nil, err
	}
	return &wire.SearchCurrentReply{Ad: ad.Envelope}, nil
}

// current returns the ad of a server that is published from here.
func (s *Service) current(server dht.PeerID) (*search.Signed, error) {
	if server == s.overlay.ID() {
		return s.ownAd(currentTTL)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.publishers[server]; p != nil {
		return p.ad, nil
	}
	return nil, ErrNotFound
}

// ownAd returns this participant's ad, at most as old as age.
func (s *Service) ownAd(age time.Duration) (*search.Signed, error) {
	if s.cfg.Ad == nil {
		return nil, ErrNotFound
	}
	now := time.Now()
	s.mu.Lock()
	ad, at := s.own, s.ownAt
	s.mu.Unlock()
	if ad != nil && now.Sub(at) < age {
		return ad, nil
	}
	ad, err := s.cfg.Ad()
	if err != nil || ad == nil {
		return nil, ErrNotFound
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.own == nil || s.own.Ad.Seq < ad.Ad.Seq {
		s.own, s.ownAt = ad, now
	}
	return s.own, nil
}

// keep lets time pass for the cells.
func (s *Service) keep() {
	tick := time.NewTicker(search.TickEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
			s.step(search.HolderTick{})
		}
	}
}

// push sends summaries up.
func (s *Service) push() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case p := <-s.pushes:
			s.sendPush(p)
		}
	}
}

// sendPush sends a summary to the holders of the parent, and if one of them
// does not answer once more to those who take its place.
func (s *Service) sendPush(p search.SendPush) {
	ctx, cancel := context.WithTimeout(s.ctx, publishTimeout)
	defer cancel()
	told := make(map[dht.PeerID]bool)
	for range search.PushRounds {
		holders, err := s.located.locate(ctx, p.Parent)
		if err != nil {
			s.log.Debug("locate parent cell", slog.String("cell", p.Parent.String()), slog.Any("err", err))
			return
		}
		all := true
		for _, h := range holders {
			told[h.ID] = told[h.ID] || s.pushTo(ctx, h, p)
			all = all && told[h.ID]
		}
		if all {
			return
		}
	}
}

// pushTo sends a summary to one holder of the parent, and tells whether it
// answered.
func (s *Service) pushTo(ctx context.Context, to dht.Contact, p search.SendPush) bool {
	reply := new(wire.SearchPushReply)
	err := s.call(ctx, to, &wire.SearchRequest{Kind: &wire.SearchRequest_Push{Push: &wire.SearchPush{
		Child: cellToWire(p.Child), Summary: summaryToWire(p.Summary), Epoch: p.Epoch, Addrs: s.overlay.Contact().Addrs,
		Mirrors: contactsToWire(p.Mirrors), Below: childrenToWire(p.Below),
	}}}, reply)
	if err != nil {
		return false
	}
	s.step(search.Pushed{Child: p.Child, Level: uint8(min(reply.GetLevel(), math.MaxUint8))})
	return true
}
