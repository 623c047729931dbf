package storage

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad/kadtest"
	"github.com/xenoserver/xeno/store"
	"github.com/xenoserver/xeno/wire"
)

func inline(s string) Value { return Value{Inline: []byte(s)} }

func TestPublishResolve(t *testing.T) {
	w := newWorld(t, 8, nil)
	ctx := t.Context()
	owner := w.hosts[2].ID()
	if _, err := w.services[5].Resolve(ctx, owner, "profile"); !errors.Is(err, store.ErrNoName) {
		t.Errorf("before it is published: %v, want ErrNoName", err)
	}
	ref := w.add(t, 2, []byte("content"))
	for i, v := range []Value{inline("one"), {Ref: ref}, inline("three")} {
		seq, err := w.services[2].Publish(ctx, "profile", v)
		if err != nil || seq != uint64(i+1) {
			t.Fatalf("publish: version %d, %v, want %d", seq, err, i+1)
		}
		for j, s := range w.services {
			r, err := s.Resolve(ctx, owner, "profile")
			if err != nil || r.Seq != seq || string(r.Inline) != string(v.Inline) || r.Ref != v.Ref {
				t.Errorf("host %d resolves %+v, %v, want version %d", j, r, err, seq)
			}
		}
	}
	if _, err := w.services[2].PublishOn(ctx, "profile", 2, inline("x")); !errors.Is(err, store.ErrConflict) {
		t.Errorf("publish on an old version: %v, want ErrConflict", err)
	}
	if _, err := w.services[2].PublishOn(ctx, "fresh", 0, inline("x")); err != nil {
		t.Error(err)
	}
	if _, err := w.services[2].Publish(ctx, "large", Value{Inline: make([]byte, store.MaxValue+1)}); !errors.Is(err, store.ErrBadName) {
		t.Errorf("value too large: %v, want ErrBadName", err)
	}
	if _, err := w.services[2].Publish(ctx, "", inline("x")); !errors.Is(err, store.ErrBadName) {
		t.Errorf("no label: %v, want ErrBadName", err)
	}
	if _, err := w.services[0].ResolveSince(ctx, owner, "profile", 4); !errors.Is(err, ErrStale) {
		t.Errorf("reader that was told of version 4: %v, want ErrStale", err)
	}
}

// TestDeadHolders kills holders of a name, first one, then one more of the
// original four: a majority of those that then are nearest answers, and knows
// the version.
func TestDeadHolders(t *testing.T) {
	w := newWorld(t, 12, nil)
	ctx := t.Context()
	owner, label := w.hosts[0].ID(), "n"
	if _, err := w.services[0].Publish(ctx, label, inline("v")); err != nil {
		t.Fatal(err)
	}
	index := map[dht.PeerID]int{}
	for i, h := range w.hosts {
		index[h.ID()] = i
	}
	near, err := w.hosts[0].Closest(ctx, store.NameKey(owner, label), holders)
	if err != nil || len(near) != holders {
		t.Fatalf("%d holders, %v", len(near), err)
	}
	dead := map[int]bool{}
	for _, c := range near {
		if i := index[c.ID]; i != 0 && len(dead) < 2 {
			dead[i] = true
			w.kill(t, i)
			for j, s := range w.services {
				if dead[j] {
					continue
				}
				if r, err := s.Resolve(ctx, owner, label); err != nil || r.Seq != 1 {
					t.Errorf("%d dead: host %d resolves %+v, %v", len(dead), j, r, err)
				}
			}
		}
	}
	if seq, err := w.services[0].Publish(ctx, label, inline("w")); err != nil || seq != 2 {
		t.Errorf("publish with two dead: version %d, %v", seq, err)
	}
}

func TestHandlerRefuses(t *testing.T) {
	_, all := newNet(t, 1)
	h := all[0]
	owner := h.self
	expired, err := h.seal("n", 1, inline("v"), time.Now().Add(-2*defaultNameLife))
	if err != nil {
		t.Fatal(err)
	}
	for name, req := range map[string]*wire.StoreRequest{
		"put of nothing":   {Op: &wire.StoreRequest_Put{Put: &wire.StorePut{}}},
		"put of garbage":   {Op: &wire.StoreRequest_Put{Put: &wire.StorePut{Record: []byte{1, 2, 3}}}},
		"expired":          {Op: &wire.StoreRequest_Put{Put: &wire.StorePut{Record: expired.Bytes}}},
		"get of nobody":    {Op: &wire.StoreRequest_Get{Get: &wire.StoreGet{Label: "n"}}},
		"get of no label":  {Op: &wire.StoreRequest_Get{Get: &wire.StoreGet{Owner: owner[:]}}},
		"get of bad label": {Op: &wire.StoreRequest_Get{Get: &wire.StoreGet{Owner: owner[:], Label: "a\x00"}}},
	} {
		b, err := proto.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}
		out, err := h.handle(t.Context(), owner, b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var resp wire.StoreResponse
		if err := proto.Unmarshal(out, &resp); err != nil || resp.GetStatus() != wire.StoreStatus_STORE_STATUS_REFUSED || resp.GetMessage() == "" {
			t.Errorf("%s: %v, %v, want a refusal with a reason", name, &resp, err)
		}
	}
	for _, b := range [][]byte{nil, {0xff}} {
		if out, err := h.handle(t.Context(), owner, b); err == nil {
			t.Errorf("request %x is answered with %x", b, out)
		}
	}
	if got := h.stats(); got.Names != 0 {
		t.Errorf("%d names are kept", got.Names)
	}
}

func FuzzHandle(f *testing.F) {
	net := &net{self: kadtest.PeerID(0)}
	h := newTestNames(f, net, kadtest.Key(0), f.TempDir())
	r, err := h.seal("n", 1, inline("v"), time.Now())
	if err != nil {
		f.Fatal(err)
	}
	for _, req := range []*wire.StoreRequest{
		{Op: &wire.StoreRequest_Put{Put: &wire.StorePut{Record: r.Bytes}}},
		{Op: &wire.StoreRequest_Get{Get: &wire.StoreGet{Owner: h.self[:], Label: "n"}}},
	} {
		b, err := proto.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := h.handle(t.Context(), h.self, b)
		if err == nil && len(out) > maxResponse {
			t.Errorf("answer of %d bytes, limit %d", len(out), maxResponse)
		}
	})
}

func FuzzDecodeTable(f *testing.F) {
	net := &net{self: kadtest.PeerID(0)}
	h := newTestNames(f, net, kadtest.Key(0), f.TempDir())
	r, err := h.seal("n", 1, inline("v"), time.Now())
	if err != nil {
		f.Fatal(err)
	}
	if err := h.table.Put(time.Now(), r, 0, h.self); err != nil {
		f.Fatal(err)
	}
	f.Add(encodeTable(h.table))
	f.Add([]byte(tableMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		tab := store.NewTable(store.TableLimits{})
		if err := decodeTable(tab, b, "test", time.Now()); err != nil {
			return
		}
		again := store.NewTable(store.TableLimits{})
		if err := decodeTable(again, encodeTable(tab), "test", time.Now()); err != nil || again.Stats() != tab.Stats() {
			t.Errorf("written and read again: %+v, %v, want %+v", again.Stats(), err, tab.Stats())
		}
	})
}

// TestSettle: when participants join that are closer, the owner brings its
// names to them.
func TestSettle(t *testing.T) {
	w, all := newNet(t, 6)
	everybody := w.order
	w.order = everybody[:1] // alone
	if _, err := all[0].publish(t.Context(), "n", inline("v"), nil); err != nil {
		t.Fatal(err)
	}
	w.order = everybody[2:] // others are closest
	var puts atomic.Int32
	w.fail = func(_ dht.PeerID, req *wire.StoreRequest) error {
		if req.GetPut() != nil {
			puts.Add(1)
		}
		return nil
	}
	all[0].settle(t.Context())
	all[0].seen = newSeen()
	if r, err := all[0].resolve(t.Context(), w.self, "n", 0); err != nil || r.Seq != 1 {
		t.Errorf("resolve: %+v, %v", r, err)
	}
	all[0].settle(t.Context())
	if got := puts.Load(); got != 4 {
		t.Errorf("%d puts to 4 new holders", got)
	}
}
