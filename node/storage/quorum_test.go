package storage

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad/kadtest"
	"github.com/xenoserver/xeno/store"
	"github.com/xenoserver/xeno/wire"
)

// A net is a small world of holders without a network.
type net struct {
	self  dht.PeerID
	nodes map[dht.PeerID]*names
	order []dht.PeerID // nearest first
	fail  func(to dht.PeerID, req *wire.StoreRequest) error
	alter func(to dht.PeerID, resp *wire.StoreResponse)
}

func (n *net) ID() dht.PeerID { return n.self }

func (n *net) Closest(_ context.Context, _ dht.Key, count int) ([]dht.Contact, error) {
	var all []dht.Contact
	for _, id := range n.order[:min(count, len(n.order))] {
		all = append(all, dht.Contact{ID: id})
	}
	return all, nil
}

func (n *net) Request(ctx context.Context, to dht.Contact, _ string, request []byte, limit int) ([]byte, error) {
	var req wire.StoreRequest
	if err := proto.Unmarshal(request, &req); err != nil {
		return nil, err
	}
	if n.fail != nil {
		if err := n.fail(to.ID, &req); err != nil {
			return nil, err
		}
	}
	b, err := n.nodes[to.ID].handle(ctx, n.self, request)
	if err != nil || n.alter == nil {
		return b, err
	}
	var resp wire.StoreResponse
	if err := proto.Unmarshal(b, &resp); err != nil {
		return nil, err
	}
	n.alter(to.ID, &resp)
	b, err = proto.Marshal(&resp)
	if len(b) > limit {
		return nil, errors.New("too large")
	}
	return b, err
}

func newTestNames(t testing.TB, net *net, key ed25519.PrivateKey, dir string) *names {
	t.Helper()
	n, err := newNames(t.Context(), namesConfig{
		net: net, key: key, network: "test", life: defaultNameLife, dir: dir, log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// newNet returns n holders; the first is the one who asks.
func newNet(t testing.TB, n int) (*net, []*names) {
	t.Helper()
	w := &net{self: kadtest.PeerID(0), nodes: map[dht.PeerID]*names{}}
	var all []*names
	for i := range n {
		peer := *w
		peer.self = kadtest.PeerID(i)
		own := &peer
		if i == 0 {
			own = w
		}
		one := newTestNames(t, own, kadtest.Key(i), t.TempDir())
		w.nodes[own.self], all = one, append(all, one)
		w.order = append(w.order, own.self)
	}
	return w, all
}

var errDown = errors.New("down")

func TestQuorumRefusesMinority(t *testing.T) {
	for _, tc := range []struct {
		down int
		ok   bool
	}{{0, true}, {1, true}, {2, false}, {4, false}} {
		w, all := newNet(t, 4)
		down := w.order[4-tc.down:]
		w.fail = func(to dht.PeerID, _ *wire.StoreRequest) error {
			if slices.Contains(down, to) {
				return errDown
			}
			return nil
		}
		_, err := all[0].publish(t.Context(), "n", inline("v"), nil)
		if tc.ok != (err == nil) || err != nil && (!errors.Is(err, ErrNoQuorum) || !errors.Is(err, errDown)) {
			t.Errorf("publish with %d of 4 down: %v", tc.down, err)
		}
		_, err = all[0].resolve(t.Context(), w.self, "n", 0)
		if tc.ok != (err == nil) || err != nil && !errors.Is(err, ErrNoQuorum) {
			t.Errorf("resolve with %d of 4 down: %v", tc.down, err)
		}
	}
}

// TestLyingHolders: a holder can withhold a name, but not change one.
func TestLyingHolders(t *testing.T) {
	w, all := newNet(t, 4)
	if _, err := all[0].publish(t.Context(), "n", inline("v1"), nil); err != nil {
		t.Fatal(err)
	}
	old := all[1].table.Newest(w.self, "n").Bytes
	if _, err := all[0].publish(t.Context(), "n", inline("v2"), nil); err != nil {
		t.Fatal(err)
	}
	foreign := &net{self: kadtest.PeerID(9)}
	bad, err := newTestNames(t, foreign, kadtest.Key(9), t.TempDir()).seal("n", 99, inline("evil"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	liar := w.order[1]
	for name, tc := range map[string]struct {
		lie func(*wire.StoreResponse)
	}{
		"nothing":      {func(r *wire.StoreResponse) { r.Record, r.Status = nil, wire.StoreStatus_STORE_STATUS_NOT_FOUND }},
		"an old one":   {func(r *wire.StoreResponse) { r.Record = old }},
		"another's":    {func(r *wire.StoreResponse) { r.Record = bad.Bytes }},
		"garbage":      {func(r *wire.StoreResponse) { r.Record = []byte("garbage") }},
		"a flipped":    {func(r *wire.StoreResponse) { r.Record = slices.Clone(old); r.Record[40] ^= 1 }},
		"a conflict":   {func(r *wire.StoreResponse) { r.Status = wire.StoreStatus_STORE_STATUS_CONFLICT }},
		"a full table": {func(r *wire.StoreResponse) { r.Status = wire.StoreStatus_STORE_STATUS_FULL }},
	} {
		w.alter = func(to dht.PeerID, r *wire.StoreResponse) {
			if to == liar {
				tc.lie(r)
			}
		}
		all[0].seen = newSeen() // a reader that was told nothing
		r, err := all[0].resolve(t.Context(), w.self, "n", 0)
		if err != nil || r.Seq < 2 {
			t.Errorf("a holder that answers %s: %+v, %v", name, r, err)
		}
		if _, err := all[0].publish(t.Context(), "n", inline("next"), nil); err != nil {
			t.Errorf("publish while a holder answers %s: %v", name, err)
		}
	}
}

// TestCompareAndSwapRace: of writers that share a key and build on one
// version, at most one succeeds.
func TestCompareAndSwapRace(t *testing.T) {
	w, all := newNet(t, 4)
	first := all[0]
	for round := range 20 {
		base, err := first.publish(t.Context(), "n", inline(fmt.Sprint("base", round)), nil)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for i := range 4 {
			device := newTestNames(t, w, kadtest.Key(0), t.TempDir())
			wg.Go(func() {
				_, err := device.publish(t.Context(), "n", inline(fmt.Sprint("device", i)), &base)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won++
				} else if !errors.Is(err, store.ErrConflict) && !errors.Is(err, ErrNoQuorum) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won > 1 {
			t.Fatalf("%d writers succeeded on version %d", won, base)
		}
	}
}

// TestMonotonicReads drives readers and a writer while holders go down and
// come back, never more than one of four at once: no reader ever sees an
// older version than any reader saw before, or than was published.
func TestMonotonicReads(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w, all := newNet(t, 4)
		var down dht.PeerID
		w.fail = func(to dht.PeerID, _ *wire.StoreRequest) error {
			if to == down {
				return errDown
			}
			return nil
		}
		published, told := uint64(0), uint64(0)
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			down = dht.PeerID{}
			if i := rapid.IntRange(0, 4).Draw(rt, "down"); i < 4 {
				down = w.order[i]
			}
			if rapid.Bool().Draw(rt, "publish") {
				seq, err := all[0].publish(t.Context(), "n", inline("v"), nil)
				if err != nil {
					rt.Fatal(err)
				}
				published = seq
				continue
			}
			all[0].seen = newSeen() // another reader
			r, err := all[0].resolve(t.Context(), w.self, "n", 0)
			switch {
			case errors.Is(err, store.ErrNoName) && published == 0:
			case err != nil:
				rt.Fatal(err)
			case r.Seq < published || r.Seq < told:
				rt.Fatalf("version %d after %d was published and %d told", r.Seq, published, told)
			default:
				told = r.Seq
			}
		}
	})
}

// TestWriteBack: a version that reached one holder only is completed by the
// reader that returns it.
func TestWriteBack(t *testing.T) {
	w, all := newNet(t, 4)
	r, err := all[0].seal("n", 1, inline("v"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := all[2].table.Put(time.Now(), r, 0, w.self); err != nil {
		t.Fatal(err)
	}
	if got, err := all[0].resolve(t.Context(), w.self, "n", 0); err != nil || got.Seq != 1 {
		t.Fatalf("resolve: %+v, %v", got, err)
	}
	for i, h := range all {
		if h.table.Get(time.Now(), w.self, "n") == nil {
			t.Errorf("holder %d still lacks it", i)
		}
	}
}

func TestNamesRestart(t *testing.T) {
	w, all := newNet(t, 4)
	for _, label := range []string{"a", "b", "c"} {
		if _, err := all[0].publish(t.Context(), label, inline(label), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := all[0].retract("b"); err != nil {
		t.Fatal(err)
	}
	if err := all[0].retract("b"); !errors.Is(err, store.ErrNoName) {
		t.Errorf("second retract: %v", err)
	}
	if err := all[0].close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(all[0].ownDir(), tempPrefix+"1"), []byte("rest"), 0o600); err != nil {
		t.Fatal(err)
	}
	again := newTestNames(t, w, kadtest.Key(0), all[0].dir)
	w.nodes[w.self] = again
	if got := again.stats(); got.Names != 3 {
		t.Errorf("holds %d names after the restart, want 3", got.Names)
	}
	again.renewAll(t.Context())
	for label, want := range map[string]uint64{"a": 2, "b": 1, "c": 2} {
		r, err := again.resolve(t.Context(), w.self, label, 0)
		if err != nil || r.Seq != want || string(r.Value) != label {
			t.Errorf("%s: %+v, %v, want version %d", label, r, err, want)
		}
	}
	if err := os.WriteFile(again.tablePath(), []byte(tableMagic+"damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := newTestNames(t, w, kadtest.Key(0), again.dir).stats(); got.Names != 0 {
		t.Errorf("a damaged table gave %d names", got.Names)
	}
	if _, err := os.Stat(again.tablePath() + ".damaged"); err != nil {
		t.Errorf("the damaged table was not kept: %v", err)
	}
}

// TestTriedNumbersAreNotReused: a publish that failed may have left its
// version somewhere.
func TestTriedNumbersAreNotReused(t *testing.T) {
	w, all := newNet(t, 4)
	w.fail = func(to dht.PeerID, req *wire.StoreRequest) error {
		if req.GetPut() != nil && to != w.order[0] {
			return errDown
		}
		return nil
	}
	if _, err := all[0].publish(t.Context(), "n", inline("lost"), nil); !errors.Is(err, ErrNoQuorum) {
		t.Fatalf("publish: %v, want ErrNoQuorum", err)
	}
	w.fail = func(to dht.PeerID, _ *wire.StoreRequest) error {
		if to == w.order[0] { // the one that has it
			return errDown
		}
		return nil
	}
	for _, n := range []*names{all[0], newTestNames(t, w, kadtest.Key(0), all[0].dir)} {
		seq, err := n.publish(t.Context(), "n", inline("v"), nil)
		if err != nil || seq < 2 {
			t.Errorf("next publish: version %d, %v, want above 1", seq, err)
		}
	}
}

// TestRenewLeavesOthersAlone: a name that another device with this key
// changed is not overwritten by a renewal.
func TestRenewLeavesOthersAlone(t *testing.T) {
	w, all := newNet(t, 4)
	if _, err := all[0].publish(t.Context(), "n", inline("old"), nil); err != nil {
		t.Fatal(err)
	}
	other := newTestNames(t, w, kadtest.Key(0), t.TempDir())
	if _, err := other.publish(t.Context(), "n", inline("new"), nil); err != nil {
		t.Fatal(err)
	}
	all[0].renewAll(t.Context())
	all[0].renewAll(t.Context())
	if r, err := all[0].resolve(t.Context(), w.self, "n", 0); err != nil || string(r.Value) != "new" {
		t.Errorf("after a renewal: %+v, %v", r, err)
	}
}

func TestOwnLimit(t *testing.T) {
	_, all := newNet(t, 1)
	for i := range maxOwn {
		if _, err := all[0].publish(t.Context(), fmt.Sprint(i), inline("v"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := all[0].publish(t.Context(), "one more", inline("v"), nil); !errors.Is(err, store.ErrFull) {
		t.Errorf("name %d: %v, want ErrFull", maxOwn+1, err)
	}
	if _, err := all[0].publish(t.Context(), "0", inline("v"), nil); err != nil {
		t.Errorf("next version of a name that exists: %v", err)
	}
}
