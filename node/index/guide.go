package index

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/wire"
)

// A glimpse is what an earlier query saw of an inner cell.
type glimpse struct {
	search.Glimpse
	at time.Time
}

// known returns what recent queries saw of inner cells and of all ads.
func (s *Service) known() (map[search.CellID]search.Glimpse, search.Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(s.glimpses, func(_ search.CellID, g glimpse) bool { return now.Sub(g.at) >= search.GlimpseTTL })
	out := make(map[search.CellID]search.Glimpse, len(s.glimpses))
	for id, g := range s.glimpses {
		out[id] = g.Glimpse
	}
	if now.Sub(s.sampledAt) >= search.GlimpseTTL {
		s.sample = search.Sample{}
	}
	return out, s.sample
}

// remember keeps what a query saw.
func (s *Service) remember(seen []search.Glimpse, sample search.Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if len(sample.Ads) > 0 {
		s.sample, s.sampledAt = sample, now
	}
	s.directory.Saw(now, seen)
	for _, g := range seen {
		if len(s.glimpses) >= maxSeen && s.glimpses[g.Cell].at.IsZero() {
			return // those that are old go with the next query
		}
		s.glimpses[g.Cell] = glimpse{Glimpse: g, at: now}
	}
}

// consult asks a participant who holds cells.
func (s *Service) consult(ctx context.Context, to dht.Contact, cells []search.CellID) ([]search.Glimpse, error) {
	ctx, cancel := context.WithTimeout(ctx, consultTimeout)
	defer cancel()
	w := new(wire.SearchConsult)
	for _, c := range cells {
		w.Cells = append(w.Cells, cellToWire(c))
	}
	reply := new(wire.SearchGuide)
	if err := s.call(ctx, to, &wire.SearchRequest{Kind: &wire.SearchRequest_Consult{Consult: w}}, reply); err != nil {
		return nil, err
	}
	return glimpsesFromWire(s.schema, reply)
}

func glimpsesFromWire(schema *search.Schema, w *wire.SearchGuide) ([]search.Glimpse, error) {
	if len(w.GetGlimpses()) > maxConsulted {
		return nil, fmt.Errorf("%w: %d glimpses, limit %d", errMessage, len(w.GetGlimpses()), maxConsulted)
	}
	out := make([]search.Glimpse, 0, len(w.GetGlimpses()))
	for _, g := range w.GetGlimpses() {
		cell, err := cellFromWire(schema, g.GetCell())
		if err != nil {
			return nil, err
		}
		holders, err := contactsFromWire(g.GetHolders())
		if err != nil {
			return nil, err
		}
		mirrors, err := mirrorsFromWire(g.GetMirrors())
		if err != nil {
			return nil, err
		}
		out = append(out, search.Glimpse{Cell: cell, Holders: holders, Mirrors: mirrors})
	}
	return out, nil
}

// serveConsult answers with the holders that were found lately, if ever: a
// server publishes to every root, so it knows them.
func (s *Service) serveConsult(w *wire.SearchConsult) (*wire.SearchGuide, error) {
	if len(w.GetCells()) > maxConsulted {
		return nil, fmt.Errorf("%w: %d cells, limit %d", errMessage, len(w.GetCells()), maxConsulted)
	}
	reply := new(wire.SearchGuide)
	for _, c := range w.GetCells() {
		cell, err := cellFromWire(s.schema, c)
		if err != nil {
			return nil, err
		}
		if holders := s.located.recall(cell); len(holders) > 0 {
			s.mu.Lock()
			mirrors := s.directory.Recall(time.Now(), cell)
			s.mu.Unlock()
			reply.Glimpses = append(reply.Glimpses, &wire.SearchGlimpse{Cell: c, Holders: contactsToWire(holders), Mirrors: mirrorsToWire(mirrors)})
		}
	}
	return reply, nil
}
