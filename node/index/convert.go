package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/wire"
)

// errMessage reports a message that breaks the protocol.
var errMessage = errors.New("index: malformed message")

func cellToWire(c search.CellID) *wire.SearchCell {
	if c.Tree == "" {
		return &wire.SearchCell{Server: c.Server[:]}
	}
	return &wire.SearchCell{Tree: c.Tree, Level: uint32(c.Prefix.Level), Prefix: c.Prefix.Key[:]}
}

func cellFromWire(s *search.Schema, w *wire.SearchCell) (search.CellID, error) {
	c := search.CellID{Tree: w.GetTree()}
	if c.Tree == "" {
		if len(w.GetServer()) != len(c.Server) {
			return c, fmt.Errorf("%w: a cell without a tree", errMessage)
		}
		copy(c.Server[:], w.GetServer())
	} else {
		if len(w.GetPrefix()) != len(c.Prefix.Key) || w.GetLevel() > 255 {
			return c, fmt.Errorf("%w: prefix of %d bytes", errMessage, len(w.GetPrefix()))
		}
		c.Prefix.Level = uint8(w.GetLevel())
		copy(c.Prefix.Key[:], w.GetPrefix())
	}
	return c, s.CheckCell(c)
}

func summaryToWire(m search.Summary) *wire.SearchSummary {
	w := &wire.SearchSummary{Count: m.Count, Occupancy: m.Occupancy}
	for _, b := range m.Balls {
		w.Balls = append(w.Balls, b.Dim)
		w.Balls = binary.BigEndian.AppendUint16(w.Balls, b.Radius)
		for _, x := range b.Center {
			w.Balls = binary.BigEndian.AppendUint16(w.Balls, uint16(x))
		}
	}
	return w
}

func summaryFromWire(s *search.Schema, w *wire.SearchSummary) (search.Summary, error) {
	m := search.Summary{Count: w.GetCount(), Occupancy: w.GetOccupancy()}
	balls := w.GetBalls()
	if len(balls)%search.BallBytes != 0 {
		return m, fmt.Errorf("%w: balls of %d bytes, not a multiple of %d", errMessage, len(balls), search.BallBytes)
	}
	for ; len(balls) > 0; balls = balls[search.BallBytes:] {
		b := search.Ball{Dim: balls[0], Radius: binary.BigEndian.Uint16(balls[1:])}
		for axis := range b.Center {
			b.Center[axis] = int16(binary.BigEndian.Uint16(balls[3+2*axis:])) //nolint:gosec // two's complement
		}
		m.Balls = append(m.Balls, b)
	}
	if err := s.CheckSummary(m); err != nil {
		return m, fmt.Errorf("%w: %w", errMessage, err)
	}
	return m, nil
}

func contactsToWire(contacts []dht.Contact) (w []*wire.SearchContact) {
	for _, c := range contacts {
		w = append(w, &wire.SearchContact{Id: c.ID[:], Addrs: c.Addrs})
	}
	return w
}

func contactsFromWire(list []*wire.SearchContact) (contacts []dht.Contact, err error) {
	if len(list) > maxListed {
		return nil, fmt.Errorf("%w: %d contacts", errMessage, len(list))
	}
	for _, w := range list {
		var c dht.Contact
		if len(w.GetId()) != len(c.ID) {
			return nil, fmt.Errorf("%w: contact of %d bytes", errMessage, len(w.GetId()))
		}
		copy(c.ID[:], w.GetId())
		if c.Addrs, err = addrsFromWire(w.GetAddrs()); err != nil {
			return nil, err
		}
		contacts = append(contacts, c)
	}
	return contacts, nil
}

// addrsFromWire takes what fits of a list of addresses.
func addrsFromWire(addrs []string) ([]string, error) {
	if len(addrs) > dht.MaxAddrs {
		addrs = addrs[:dht.MaxAddrs]
	}
	for _, a := range addrs {
		if a == "" || len(a) > dht.MaxAddrBytes {
			return nil, fmt.Errorf("%w: address of %d bytes", errMessage, len(a))
		}
	}
	return addrs, nil
}

func publishToWire(ad *search.Signed, places []search.Placement) *wire.SearchPublish {
	w := &wire.SearchPublish{Ad: ad.Envelope}
	for _, p := range places {
		w.Places = append(w.Places, &wire.SearchPlacement{Tree: p.Tree, Level: uint32(p.Level), Settled: p.Settled, Hint: p.Hint})
	}
	return w
}

func placementsFromWire(list []*wire.SearchPlacement) ([]search.Placement, error) {
	if len(list) > maxListed {
		return nil, fmt.Errorf("%w: %d placements", errMessage, len(list))
	}
	places := make([]search.Placement, len(list))
	for i, w := range list {
		if w.GetLevel() > 255 {
			return nil, fmt.Errorf("%w: level %d", errMessage, w.GetLevel())
		}
		places[i] = search.Placement{Tree: w.GetTree(), Level: uint8(w.GetLevel()), Settled: w.GetSettled(), Hint: w.GetHint()}
	}
	return places, nil
}

func placingToWire(p search.Placing) *wire.SearchPlacing {
	w := new(wire.SearchPlacing)
	for _, placed := range p {
		w.Placed = append(w.Placed, &wire.SearchPlaced{
			Verdict: uint32(placed.Verdict), Held: placed.Held, Next: uint32(placed.Next), Below: contactsToWire(placed.Below),
			Mirrors: mirrorsToWire(placed.Mirrors),
		})
	}
	return w
}

// placingFromWire wants as many answers as there were places.
func placingFromWire(w *wire.SearchPlacing, places int) (search.Placing, error) {
	if len(w.GetPlaced()) != places {
		return nil, fmt.Errorf("%w: %d answers to %d placements", errMessage, len(w.GetPlaced()), places)
	}
	p := make(search.Placing, places)
	for i, placed := range w.GetPlaced() {
		v := search.Verdict(min(placed.GetVerdict(), 255))
		if v < search.VerdictLeaf || v > search.VerdictRefused {
			return nil, fmt.Errorf("%w: verdict %d", errMessage, placed.GetVerdict())
		}
		below, err := contactsFromWire(placed.GetBelow())
		if err != nil {
			return nil, err
		}
		mirrors, err := mirrorsFromWire(placed.GetMirrors())
		if err != nil {
			return nil, err
		}
		p[i] = search.Placed{Verdict: v, Held: placed.GetHeld(), Next: uint8(min(placed.GetNext(), 255)), Below: below, Mirrors: mirrors}
	}
	return p, nil
}

func askToWire(q search.CellQuery) (*wire.SearchAsk, error) {
	where, err := search.EncodePredicate(q.Query.Where)
	if err != nil {
		return nil, err
	}
	w := &wire.SearchAsk{
		Cell: cellToWire(q.Cell), Where: where, OrderBy: q.Query.OrderBy, Desc: q.Query.Desc,
		Limit: uint32(q.Query.Limit), Explain: q.Explain, Whole: q.Whole, Sample: q.Sample, Count: q.Count, //nolint:gosec // Check bounds Limit
	}
	if o := q.Query.Origin; o != nil {
		w.Origin = append(append(w.Origin, o.Vec[:]...), o.Height)
	}
	if q.After != nil {
		w.After = &wire.SearchCursor{Hash: q.After.Hash[:]}
		if !q.After.Value.IsZero() {
			if w.After.Value, err = q.After.Value.MarshalCBOR(); err != nil {
				return nil, err
			}
		}
	}
	return w, nil
}

func askFromWire(s *search.Schema, w *wire.SearchAsk) (q search.CellQuery, err error) {
	if q.Cell, err = cellFromWire(s, w.GetCell()); err != nil {
		return q, err
	}
	where, err := search.DecodePredicate(w.GetWhere())
	if err != nil {
		return q, err
	}
	if w.GetLimit() > search.MaxLimit {
		return q, fmt.Errorf("%w: limit %d", errMessage, w.GetLimit())
	}
	q.Query = search.Query{Where: where, OrderBy: w.GetOrderBy(), Desc: w.GetDesc(), Limit: int(w.GetLimit())}
	q.Explain, q.Whole, q.Sample, q.Count = w.GetExplain(), w.GetWhole(), w.GetSample(), w.GetCount()
	if o := w.GetOrigin(); len(o) > 0 {
		c := dht.NewCoordinate()
		if len(o) != len(c.Vec)+1 {
			return q, fmt.Errorf("%w: origin of %d numbers", errMessage, len(o))
		}
		copy(c.Vec[:], o)
		c.Height = o[len(c.Vec)]
		q.Query.Origin = &c
	}
	if a := w.GetAfter(); a != nil {
		q.After = new(search.Cursor)
		if len(a.GetHash()) != len(q.After.Hash) {
			return q, fmt.Errorf("%w: cursor of %d bytes", errMessage, len(a.GetHash()))
		}
		copy(q.After.Hash[:], a.GetHash())
		if len(a.GetValue()) > 0 {
			if err := q.After.Value.UnmarshalCBOR(a.GetValue()); err != nil {
				return q, err
			}
		}
	}
	return q, s.CheckCellQuery(q)
}

func replyToWire(r search.CellReply) *wire.SearchReply {
	w := &wire.SearchReply{
		Known: r.Known, Inner: r.Inner, AgeMillis: uint64(max(0, r.Age.Milliseconds())), Total: r.Total, Matched: r.Matched,
		Digest: r.Digest, More: r.More, Excluded: r.Excluded, Pruned: r.Pruned,
		Mirrored: r.Mirrored, Gathered: r.Gathered, Mirrors: mirrorsToWire(r.Mirrors), Children: childrenToWire(r.Children),
		Below: childrenToWire(r.Below),
	}
	for _, slot := range r.Passed {
		w.Passed = append(w.Passed, uint32(slot)) //nolint:gosec // below search.Slots
	}
	for _, ad := range r.Ads {
		w.Ads = append(w.Ads, ad.Envelope)
	}
	for _, ad := range r.ExcludedAds {
		w.ExcludedAds = append(w.ExcludedAds, ad.Envelope)
	}
	for _, ad := range r.Sample {
		w.Sample = append(w.Sample, ad.Envelope)
	}
	return w
}

func childrenToWire(children []search.Child) (w []*wire.SearchChild) {
	for _, c := range children {
		w = append(w, &wire.SearchChild{
			Index: uint32(c.Index), Summary: summaryToWire(c.Summary), Holders: contactsToWire(c.Holders), //nolint:gosec // at most search.MaxIndex
			Sampled: c.Sampled, Matched: c.Matched, Mirrors: mirrorsToWire(c.Mirrors),
		})
	}
	return w
}

// replyFromWire reads a reply; open verifies the ads in it. Ads that do not
// verify are left out: their holder may be no liar, but keep what expired in
// between.
func replyFromWire(s *search.Schema, w *wire.SearchReply, open func([]byte) (*search.Signed, error)) (*search.CellReply, error) {
	r := &search.CellReply{
		Known: w.GetKnown(), Inner: w.GetInner(), Age: time.Duration(min(w.GetAgeMillis(), 1<<40)) * time.Millisecond,
		Total: w.GetTotal(), Matched: w.GetMatched(), Digest: w.GetDigest(), More: w.GetMore(),
		Excluded: w.GetExcluded(), Pruned: w.GetPruned(), Mirrored: w.GetMirrored(), Gathered: w.GetGathered(),
	}
	if len(r.Excluded) > maxListed || len(r.Pruned) > maxListed || len(w.GetPassed()) > search.Slots {
		return nil, fmt.Errorf("%w: lists too long", errMessage)
	}
	for _, slot := range w.GetPassed() {
		if slot >= search.Slots {
			return nil, fmt.Errorf("%w: child %d is passed over", errMessage, slot)
		}
		r.Passed = append(r.Passed, int(slot))
	}
	var err error
	if r.Below, err = childrenFromWire(s, w.GetBelow()); err != nil {
		return nil, err
	}
	if r.Children, err = childrenFromWire(s, w.GetChildren()); err != nil {
		return nil, err
	}
	if r.Mirrors, err = mirrorsFromWire(w.GetMirrors()); err != nil {
		return nil, err
	}
	for _, b := range w.GetAds() {
		if ad, err := open(b); err == nil {
			r.Ads = append(r.Ads, ad)
		}
	}
	for _, b := range w.GetExcludedAds() {
		if ad, err := open(b); err == nil {
			r.ExcludedAds = append(r.ExcludedAds, ad)
		}
	}
	for _, b := range w.GetSample()[:min(len(w.GetSample()), maxListed)] {
		if ad, err := open(b); err == nil {
			r.Sample = append(r.Sample, ad)
		}
	}
	return r, nil
}

func childrenFromWire(s *search.Schema, list []*wire.SearchChild) (children []search.Child, err error) {
	if len(list) > search.MaxChildren {
		return nil, fmt.Errorf("%w: %d children", errMessage, len(list))
	}
	seen := make(map[uint32]bool)
	for _, c := range list {
		m, err := summaryFromWire(s, c.GetSummary())
		if err != nil {
			return nil, err
		}
		if c.GetIndex() > search.MaxIndex || seen[c.GetIndex()] {
			return nil, fmt.Errorf("%w: child %d", errMessage, c.GetIndex())
		}
		seen[c.GetIndex()] = true
		holders, err := contactsFromWire(c.GetHolders())
		if err != nil {
			return nil, err
		}
		mirrors, err := mirrorsFromWire(c.GetMirrors())
		if err != nil {
			return nil, err
		}
		children = append(children, search.Child{
			Index: int(c.GetIndex()), Summary: m, Holders: holders, Mirrors: mirrors, Sampled: c.GetSampled(), Matched: c.GetMatched(),
		})
	}
	return children, nil
}
