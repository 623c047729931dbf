package index

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/wire"
)

// nowhere is an overlay without anybody.
type nowhere struct{}

var errNowhere = errors.New("nobody there")

func (nowhere) ID() dht.PeerID                       { return dht.PeerID{1} }
func (nowhere) Contact() dht.Contact                 { return dht.Contact{ID: dht.PeerID{1}} }
func (nowhere) Handle(string, int, kad.Handler)      {}
func (nowhere) RTT(dht.PeerID) (time.Duration, bool) { return 0, false }
func (nowhere) Neighbours(int) []dht.Contact         { return nil }
func (nowhere) Near(int) []dht.Contact               { return nil }
func (nowhere) Closest(context.Context, dht.Key, int) ([]dht.Contact, error) {
	return nil, errNowhere
}

func (nowhere) Request(context.Context, dht.Contact, string, []byte, int) ([]byte, error) {
	return nil, errNowhere
}

func lonely(t testing.TB) *Service {
	t.Helper()
	s, err := New(Config{
		Overlay: nowhere{}, Schema: search.DefaultSchema(), Network: "test",
		Vouch: func(dht.PeerID, []byte) (string, error) { return "owner", nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// someMirrors are two of a holder.
func someMirrors() search.Mirrors {
	return search.Mirrors{All: 9, List: []search.Mirror{
		{Contact: dht.Contact{ID: dht.PeerID{3}, Addrs: []string{"/ip4/192.0.2.1/tcp/1"}}, Of: dht.PeerID{7}},
		{Contact: dht.Contact{ID: dht.PeerID{4}}, Of: dht.PeerID{7}},
	}}
}

// FuzzServe checks that no request panics, and that what is answered can be
// read by the asker.
func FuzzServe(f *testing.F) {
	schema := search.DefaultSchema()
	cell := search.CellID{Tree: "arch", Prefix: search.Prefix{Level: 1, Key: search.Key{0x10}}}
	ask, err := askToWire(search.CellQuery{
		Cell: cell, Query: search.Query{Where: search.Has{Dim: "arch"}, OrderBy: "free_cpu", Limit: 3, Origin: &dht.Coordinate{}},
		After: &search.Cursor{Value: search.Number(1)},
	})
	if err != nil {
		f.Fatal(err)
	}
	count, err := askToWire(search.CellQuery{Cell: search.Root("arch"), Query: search.Query{Where: search.Has{Dim: "arch"}}, Whole: true, Count: true})
	if err != nil {
		f.Fatal(err)
	}
	id := make([]byte, 32)
	update := updateToWire(search.MirrorUpdate{
		Cell: cell, To: 2, Whole: true, Gone: []search.Hash{{1}}, Bare: []int{1}, Beside: someMirrors(),
		Children: []search.Child{{Index: 3, Summary: schema.NewSummary(), Holders: []dht.Contact{{ID: dht.PeerID{7}}}, Mirrors: someMirrors()}},
	})
	for _, req := range []*wire.SearchRequest{
		{Kind: &wire.SearchRequest_Ask{Ask: ask}},
		{Kind: &wire.SearchRequest_Ask{Ask: count}},
		{Kind: &wire.SearchRequest_Publish{Publish: &wire.SearchPublish{Ad: []byte{1}, Places: []*wire.SearchPlacement{{Tree: "arch"}}}}},
		{Kind: &wire.SearchRequest_Push{Push: &wire.SearchPush{
			Child: cellToWire(cell), Summary: summaryToWire(schema.NewSummary()), Epoch: 1, Addrs: []string{"/ip4/192.0.2.1/tcp/1"},
			Below: childrenToWire([]search.Child{{Index: search.Slots + 3, Summary: schema.NewSummary(), Holders: []dht.Contact{{ID: dht.PeerID{7}}}}}),
		}}},
		{Kind: &wire.SearchRequest_Withdraw{Withdraw: &wire.SearchWithdraw{Server: id, Cells: []*wire.SearchCell{cellToWire(cell)}}}},
		{Kind: &wire.SearchRequest_Current{Current: &wire.SearchCurrent{Server: id}}},
		{Kind: &wire.SearchRequest_Mirror{Mirror: update}},
		{Kind: &wire.SearchRequest_Consult{Consult: &wire.SearchConsult{Cells: []*wire.SearchCell{cellToWire(cell)}}}},
		{Kind: &wire.SearchRequest_Reconcile{Reconcile: new(wire.SearchReconcile)}},
		{Kind: &wire.SearchRequest_Fetch{Fetch: &wire.SearchFetch{Cell: cellToWire(cell), Have: []uint64{1, 2}}}},
		{},
	} {
		req.Schema = schema.Fingerprint()
		b, err := proto.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	s := lonely(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		req := new(wire.SearchRequest)
		if proto.Unmarshal(b, req) == nil {
			req.Schema = schema.Fingerprint() // or hardly any would get in
			b, _ = proto.Marshal(req)
		}
		answer, err := s.serve(t.Context(), dht.PeerID{2}, b)
		if err != nil {
			return
		}
		if _, ok := req.GetKind().(*wire.SearchRequest_Ask); ok {
			reply := new(wire.SearchReply)
			if err := proto.Unmarshal(answer, reply); err != nil {
				t.Fatal(err)
			}
			if _, err := replyFromWire(schema, reply, s.opened.open); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzReply checks that no answer of a hostile holder panics, neither in its
// decoding nor in a query that takes it in.
func FuzzReply(f *testing.F) {
	schema := search.DefaultSchema()
	summary := schema.NewSummary()
	summary.Count = 3
	for i := range summary.Occupancy {
		summary.Occupancy[i] = rand.New(rand.NewPCG(1, uint64(i))).Uint64()
	}
	summary.Balls = []search.Ball{{Dim: coordinateOf(schema), Radius: 40}, {Dim: coordinateOf(schema), Radius: 0xffff}}
	b, err := proto.Marshal(replyToWire(search.CellReply{
		Known: true, Inner: true, Total: 5, Excluded: []uint32{1}, Pruned: []uint32{2}, Mirrors: someMirrors(),
		Children: []search.Child{{
			Index: 3, Summary: summary, Holders: []dht.Contact{{ID: dht.PeerID{7}, Addrs: []string{"/ip4/192.0.2.1/tcp/1"}}}, Mirrors: someMirrors(),
		}, {Index: search.MaxIndex, Summary: summary}},
	}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	s := lonely(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		w := new(wire.SearchReply)
		if proto.Unmarshal(b, w) != nil {
			return
		}
		reply, err := replyFromWire(schema, w, s.opened.open)
		if err != nil {
			return
		}
		where := search.Has{Dim: "arch"}
		seeker, err := search.NewSeeker(schema, search.Query{Where: where, Limit: 5, OrderBy: "free_cpu"}, search.SeekerConfig{Budget: 50})
		if err != nil {
			t.Fatal(err)
		}
		counter, err := search.NewCounter(schema, where, search.CounterConfig{Error: 0.01, Budget: 50})
		if err != nil {
			t.Fatal(err)
		}
		mislead(t, seeker, reply)
		e := mislead(t, counter, reply).Answer.Matches
		if !(0 <= e.Low && e.Low <= e.Count && e.Count <= e.High) {
			t.Fatalf("%g is not between %g and %g", e.Count, e.Low, e.High)
		}
	})
}

// mislead gives a machine the same reply for every cell, until it has enough.
func mislead(t *testing.T, m machine, reply *search.CellReply) search.Finish {
	t.Helper()
	now := time.Unix(1_800_000_000, 0)
	todo := m.Step(now, search.Start{})
	for steps := 0; len(todo) > 0; steps++ {
		if steps > 10_000 {
			t.Fatal("the query does not end")
		}
		e := todo[0]
		todo = todo[1:]
		switch e := e.(type) {
		case search.Locate:
			todo = append(todo, m.Step(now, search.Located{Cell: e.Cell, Holders: []dht.Contact{{ID: dht.PeerID{9}}}})...)
		case search.Ask:
			todo = append(todo, m.Step(now, search.Answered{Cell: e.Query.Cell, From: e.To.ID, Reply: reply})...)
		case search.Finish:
			return e
		case search.Consult, search.Verify, search.Wake, search.Hit:
		}
	}
	t.Fatal("the query neither ends nor waits")
	return search.Finish{}
}

// FuzzHanded checks that nothing that a hostile neighbour says of the cells it
// has panics, or makes the holder ask without end.
func FuzzHanded(f *testing.F) {
	schema := search.DefaultSchema()
	cell := search.Root("arch")
	inventory, err := proto.Marshal(inventoryToWire(search.Inventory{{Cell: cell, Digest: 7}}))
	if err != nil {
		f.Fatal(err)
	}
	handed, err := proto.Marshal(&wire.SearchHanded{Leases: []*wire.SearchLease{{Ad: []byte{1}, LeftMillis: 1 << 63}}, More: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(inventory, handed)
	s := lonely(f)
	from := dht.Contact{ID: dht.PeerID{7}}
	f.Fuzz(func(t *testing.T, inventory, handed []byte) {
		now := time.Now()
		holder := search.NewHolder(schema, search.HolderConfig{})
		holder.Step(now, search.Neighbourhood{Self: dht.PeerID{1}, Near: []dht.Contact{from}})
		w, h := new(wire.SearchInventory), new(wire.SearchHanded)
		if proto.Unmarshal(inventory, w) != nil || proto.Unmarshal(handed, h) != nil {
			return
		}
		list, err := inventoryFromWire(schema, w)
		if err != nil {
			return
		}
		leases, err := s.handedFromWire(h, now)
		if err != nil {
			return
		}
		todo := holder.Step(now, search.Reconciled{From: from, Inventory: list})
		for steps := 0; len(todo) > 0; steps++ {
			if steps > 1000 {
				t.Fatal("it asks without end")
			}
			if e, ok := todo[0].(search.SendFetch); ok {
				todo = append(todo, holder.Step(now, search.Fetched{From: from, Cell: e.Cell, Handed: leases})...)
			}
			todo = todo[1:]
		}
	})
}

// FuzzGuide checks that no hint of a hostile participant panics, and that a
// query goes on in spite of it.
func FuzzGuide(f *testing.F) {
	schema := search.DefaultSchema()
	b, err := proto.Marshal(&wire.SearchGuide{Glimpses: []*wire.SearchGlimpse{{
		Cell: cellToWire(search.Root("arch")), Holders: contactsToWire([]dht.Contact{{ID: dht.PeerID{7}, Addrs: []string{"/ip4/192.0.2.1/tcp/1"}}}),
		Mirrors: mirrorsToWire(someMirrors()),
	}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		w := new(wire.SearchGuide)
		if proto.Unmarshal(b, w) != nil {
			return
		}
		glimpses, err := glimpsesFromWire(schema, w)
		if err != nil {
			return
		}
		guide := dht.Contact{ID: dht.PeerID{8}}
		seeker, err := search.NewSeeker(schema, search.Query{Where: search.Has{Dim: "arch"}, Limit: 5},
			search.SeekerConfig{Guides: []dht.Contact{guide}})
		if err != nil {
			t.Fatal(err)
		}
		now := time.Unix(1_800_000_000, 0)
		seeker.Step(now, search.Start{})
		for _, e := range seeker.Step(now, search.Guided{From: guide.ID, Glimpses: glimpses}) {
			switch e.(type) {
			case search.Locate, search.Ask:
				return
			default:
			}
		}
		t.Fatal("the query waits for nobody")
	})
}
