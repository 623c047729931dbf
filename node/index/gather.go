package index

import (
	"context"
	"log/slog"
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/wire"
)

// sendGather asks a holder of a cell below to tell of its ads.
func (s *Service) sendGather(e search.SendGather) {
	ctx, cancel := context.WithTimeout(s.ctx, askTimeout)
	defer cancel()
	reply := new(wire.SearchGatherReply)
	err := s.call(ctx, e.To, &wire.SearchRequest{Kind: &wire.SearchRequest_Gather{Gather: &wire.SearchGather{
		Cell: cellToWire(e.Cell), Addrs: s.overlay.Contact().Addrs,
	}}}, reply)
	if err != nil {
		s.log.Debug("gather ads", slog.String("of", e.Cell.String()), slog.Any("err", err))
	}
	s.step(search.Gathering{From: e.To.ID, Cell: e.Cell, Accepted: err == nil && reply.GetAccepted()})
}

// serveGather takes in that somebody who may hold the table above a cell wants
// to be told of its ads.
func (s *Service) serveGather(from dht.PeerID, w *wire.SearchGather) (proto.Message, error) {
	cell, err := cellFromWire(s.schema, w.GetCell())
	if err != nil {
		return nil, err
	}
	addrs, err := addrsFromWire(w.GetAddrs())
	if err != nil {
		return nil, err
	}
	above, ok := cell.Above()
	if !ok || !search.MayHold(from, above, s.overlay.Neighbours(math.MaxInt)) {
		return new(wire.SearchGatherReply), nil
	}
	reply, _ := s.step(search.Gather{From: dht.Contact{ID: from, Addrs: addrs}, Cell: cell}).(search.GatherReply)
	return &wire.SearchGatherReply{Accepted: reply.Accepted}, nil
}
