package index

import (
	"errors"
	"reflect"
	"testing"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/wire"
)

// TestChildrenFromWire takes children there and back, and refuses those that no
// honest participant sends.
func TestChildrenFromWire(t *testing.T) {
	s := search.DefaultSchema()
	summary := s.NewSummary()
	summary.Count, summary.Occupancy[2] = 7, 9
	fine := []search.Child{
		{Index: 3, Summary: summary, Holders: []dht.Contact{{ID: dht.PeerID{7}, Addrs: []string{"/ip4/192.0.2.1/tcp/1"}}}, Sampled: 4, Matched: 2},
		{Index: search.MaxIndex, Summary: summary},
	}
	got, err := childrenFromWire(s, childrenToWire(fine))
	if err != nil || !reflect.DeepEqual(got, fine) {
		t.Errorf("children come back as %+v, %v", got, err)
	}
	child := func(slot uint32) *wire.SearchChild {
		return &wire.SearchChild{Index: slot, Summary: summaryToWire(summary)}
	}
	var many []*wire.SearchChild
	for i := range uint32(search.MaxChildren + 1) {
		many = append(many, child(i))
	}
	for name, list := range map[string][]*wire.SearchChild{
		"many":    many,
		"deep":    {child(search.MaxIndex + 1)},
		"twice":   {child(5), child(5)},
		"summary": {{Index: 1}},
	} {
		if _, err := childrenFromWire(s, list); !errors.Is(err, errMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPassedWire takes what a query may pass over there and back, and refuses
// what no honest participant sends.
func TestPassedWire(t *testing.T) {
	s := search.DefaultSchema()
	summary := s.NewSummary()
	summary.Count = 7
	r := search.CellReply{
		Known: true, Inner: true, Children: []search.Child{{Index: 14, Summary: summary}, {Index: 15, Summary: summary}},
		Passed: []int{14}, Below: []search.Child{{Index: search.MaxIndex, Summary: summary, Holders: []dht.Contact{{ID: dht.PeerID{7}}}}},
	}
	got, err := replyFromWire(s, replyToWire(r), nil)
	if err != nil || !reflect.DeepEqual(got.Children, r.Children) || !reflect.DeepEqual(got.Passed, r.Passed) || !reflect.DeepEqual(got.Below, r.Below) {
		t.Errorf("a reply comes back as %+v, %v", got, err)
	}
	for name, change := range map[string]func(*wire.SearchReply){
		"slot":  func(w *wire.SearchReply) { w.Passed = []uint32{search.Slots} },
		"many":  func(w *wire.SearchReply) { w.Passed = make([]uint32, search.Slots+1) },
		"twice": func(w *wire.SearchReply) { w.Below = append(w.Below, w.GetBelow()[0]) },
		"deep":  func(w *wire.SearchReply) { w.Below[0].Index++ },
	} {
		w := replyToWire(r)
		change(w)
		if _, err := replyFromWire(s, w, nil); !errors.Is(err, errMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
