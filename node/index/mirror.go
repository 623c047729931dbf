package index

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/wire"
)

// recruit draws participants that may mirror a cell: neighbours, since those
// who are connected can be reached.
func (s *Service) recruit(e search.Recruit) {
	known := s.overlay.Neighbours(math.MaxInt)
	rand.Shuffle(len(known), func(i, j int) { known[i], known[j] = known[j], known[i] })
	s.step(search.Recruits{Cell: e.Cell, Contacts: known[:min(e.Count, len(known))]})
}

// mirror queues an update for a mirror; one that finds no place counts as lost.
func (s *Service) mirror(e search.SendMirror) {
	select {
	case s.updates <- e:
	default:
		s.step(search.Mirrored{Cell: e.Update.Cell, From: e.To.ID, Fed: e.Update.Fed})
	}
}

// update sends updates to mirrors.
func (s *Service) update() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case e := <-s.updates:
			s.step(search.Mirrored{Cell: e.Update.Cell, From: e.To.ID, Fed: e.Update.Fed, Reply: s.sendMirror(e)})
		}
	}
}

// sendMirror sends one update; the zero reply where that fails.
func (s *Service) sendMirror(e search.SendMirror) search.MirrorReply {
	ctx, cancel := context.WithTimeout(s.ctx, publishTimeout)
	defer cancel()
	reply := new(wire.SearchMirrorReply)
	err := s.call(ctx, e.To, &wire.SearchRequest{Kind: &wire.SearchRequest_Mirror{Mirror: updateToWire(e.Update)}}, reply)
	if err != nil {
		s.log.Debug("update mirror", slog.String("of", e.Update.Cell.String()), slog.Any("err", err))
		return search.MirrorReply{}
	}
	return search.MirrorReply{Accepted: reply.GetAccepted(), Version: reply.GetVersion(), Asks: reply.GetAsks()}
}

// serveMirror takes in an update of a cell that is mirrored here, or should be.
func (s *Service) serveMirror(from dht.PeerID, w *wire.SearchMirrorUpdate) (*wire.SearchMirrorReply, error) {
	cell, err := cellFromWire(s.schema, w.GetCell())
	if err != nil {
		return nil, err
	}
	if cell.Tree == "" || !search.MayHold(from, cell, s.overlay.Neighbours(math.MaxInt)) {
		return new(wire.SearchMirrorReply), nil
	}
	update, err := updateFromWire(s.schema, w, s.opened.open)
	if err != nil {
		return nil, err
	}
	reply, _ := s.step(search.MirrorCell{From: from, Update: update}).(search.MirrorReply)
	return &wire.SearchMirrorReply{Accepted: reply.Accepted, Version: reply.Version, Asks: reply.Asks}, nil
}

func mirrorsToWire(m search.Mirrors) *wire.SearchMirrors {
	if len(m.List) == 0 {
		return nil
	}
	w := &wire.SearchMirrors{All: uint32(min(max(0, m.All), math.MaxUint32))}
	for _, mirror := range m.List {
		w.List = append(w.List, &wire.SearchMirror{Contact: &wire.SearchContact{Id: mirror.ID[:], Addrs: mirror.Addrs}, Of: mirror.Of[:]})
	}
	return w
}

func mirrorsFromWire(w *wire.SearchMirrors) (m search.Mirrors, err error) {
	m.All = int(w.GetAll())
	contacts := make([]*wire.SearchContact, 0, len(w.GetList()))
	for _, mirror := range w.GetList() {
		if len(mirror.GetOf()) != len(dht.PeerID{}) {
			return m, fmt.Errorf("%w: mirror of %d bytes", errMessage, len(mirror.GetOf()))
		}
		contacts = append(contacts, mirror.GetContact())
	}
	list, err := contactsFromWire(contacts)
	for i, c := range list {
		m.List = append(m.List, search.Mirror{Contact: c, Of: dht.PeerID(w.GetList()[i].GetOf())})
	}
	return m, err
}

func updateToWire(u search.MirrorUpdate) *wire.SearchMirrorUpdate {
	w := &wire.SearchMirrorUpdate{
		Cell: cellToWire(u.Cell), AgeMillis: uint64(max(0, u.Age.Milliseconds())), Inner: u.Inner, From: u.From, To: u.To, Whole: u.Whole,
		Children: childrenToWire(u.Children), Beside: mirrorsToWire(u.Beside),
		Rate: u.Rate, Fed: u.Fed,
	}
	for _, ad := range u.Ads {
		w.Ads = append(w.Ads, ad.Envelope)
	}
	for _, hash := range u.Gone {
		w.Gone = append(w.Gone, hash[:])
	}
	for _, slot := range u.Bare {
		w.Bare = append(w.Bare, uint32(slot)) //nolint:gosec // at most search.MaxIndex
	}
	return w
}

// updateFromWire reads an update. Ads that do not verify are left out: they
// may have expired in between.
func updateFromWire(s *search.Schema, w *wire.SearchMirrorUpdate, open func([]byte) (*search.Signed, error)) (u search.MirrorUpdate, err error) {
	u = search.MirrorUpdate{
		Age: time.Duration(min(w.GetAgeMillis(), 1<<40)) * time.Millisecond, Inner: w.GetInner(),
		From: w.GetFrom(), To: w.GetTo(), Whole: w.GetWhole(), Rate: w.GetRate(), Fed: w.GetFed(),
	}
	if u.Cell, err = cellFromWire(s, w.GetCell()); err != nil {
		return u, err
	}
	if len(w.GetAds()) > maxCopied || len(w.GetGone()) > maxCopied || len(w.GetBare()) > maxListed {
		return u, fmt.Errorf("%w: lists too long", errMessage)
	}
	if u.Children, err = childrenFromWire(s, w.GetChildren()); err != nil {
		return u, err
	}
	if u.Beside, err = mirrorsFromWire(w.GetBeside()); err != nil {
		return u, err
	}
	for _, b := range w.GetGone() {
		if len(b) != len(search.Hash{}) {
			return u, fmt.Errorf("%w: hash of %d bytes", errMessage, len(b))
		}
		u.Gone = append(u.Gone, search.Hash(b))
	}
	for _, slot := range w.GetBare() {
		if slot > search.MaxIndex {
			return u, fmt.Errorf("%w: child %d", errMessage, slot)
		}
		u.Bare = append(u.Bare, int(slot))
	}
	for _, b := range w.GetAds() {
		if ad, err := open(b); err == nil {
			u.Ads = append(u.Ads, ad)
		}
	}
	return u, nil
}
