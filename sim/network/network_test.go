package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// ring is a latency model: sites on a circle, 1 ms to the next one.
type ring int

func (r ring) Sites() int { return int(r) }
func (r ring) RTT(a, b int) time.Duration {
	d := (a - b + int(r)) % int(r)
	return time.Duration(1+min(d, int(r)-d)) * time.Millisecond
}

func make1(t testing.TB, cfg Config) *Network {
	t.Helper()
	cfg.Latency = ring(200)
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestClosest(t *testing.T) {
	n := make1(t, Config{Nodes: 3000, Seed: 1, Unreachable: 0.2})
	rng := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		key := rng.Uint64()
		var all []NodeID
		for i := range n.Len() {
			if n.Answers(NodeID(i)) {
				all = append(all, NodeID(i))
			}
		}
		slices.SortFunc(all, func(a, b NodeID) int {
			if n.hosts[a].pos^key < n.hosts[b].pos^key {
				return -1
			}
			return 1
		})
		if got := n.Closest(nil, key, 7); !slices.Equal(got, all[:7]) {
			t.Fatalf("closest to %x: %v, want %v", key, got, all[:7])
		}
	}
}

// TestTables compares derived tables with Kademlia's rule, and maintained
// ones with derived ones.
func TestTables(t *testing.T) {
	n := make1(t, Config{Nodes: 2000, Seed: 2})
	m := make1(t, Config{Nodes: 2000, Seed: 2, Maintained: true})
	rng := rand.New(rand.NewPCG(2, 2))
	for range 300 {
		of, key := NodeID(rng.IntN(2000)), rng.Uint64()
		var table []NodeID
		for cpl := range 64 {
			belong := 0
			for i, h := range n.hosts {
				if NodeID(i) != of && shares(h.pos, n.hosts[of].pos) == cpl {
					belong++
				}
			}
			var bucket []NodeID
			for _, s := range n.derive(new([dht.K]slot), of, cpl) {
				bucket = append(bucket, s.node)
			}
			if len(bucket) != min(belong, dht.K) {
				t.Fatalf("bucket %d of %d has %d entries of %d", cpl, of, len(bucket), belong)
			}
			table = append(table, bucket...)
		}
		slices.SortFunc(table, func(a, b NodeID) int {
			if n.hosts[a].pos^key < n.hosts[b].pos^key {
				return -1
			}
			return 1
		})
		want := table[:min(len(table), dht.K)]
		if got := n.Nearest(nil, of, key, dht.K); !slices.Equal(got, want) {
			t.Fatalf("nearest: %v, want %v", got, want)
		}
		if got := m.Nearest(nil, of, key, dht.K); !slices.Equal(got, want) {
			t.Fatalf("maintained: %v, want %v", got, want)
		}
	}
}

func shares(a, b uint64) (n int) {
	for bit := 63; bit >= 0 && a>>bit&1 == b>>bit&1; bit-- {
		n++
	}
	return n
}

// TestIdentity gives identities from elsewhere.
func TestIdentity(t *testing.T) {
	give := func(id NodeID) dht.PeerID { return dht.PeerID{31: byte(id), 30: byte(id >> 8), 29: 1} }
	n := make1(t, Config{Nodes: 500, Seed: 1, Identity: give})
	for i := range NodeID(500) {
		p := n.PeerID(i)
		if at, ok := n.NodeOf(p); p != give(i) || !ok || at != i || n.Position(i) != Short(p.Position()) {
			t.Fatalf("node %d is %s, which is node %d, %v", i, p, at, ok)
		}
	}
	if at, ok := n.NodeOf(give(500)); ok {
		t.Errorf("a stranger is node %d", at)
	}
	_, err := New(Config{Nodes: 2, Latency: ring(1), Identity: func(NodeID) dht.PeerID { return dht.PeerID{1} }})
	if !errors.Is(err, ErrBadConfig) {
		t.Errorf("two nodes with one identity: %v", err)
	}
}

// TestLookup finds the true closest nodes, with dead ones about and losses.
func TestLookup(t *testing.T) {
	n := make1(t, Config{Nodes: 5000, Seed: 3, Unreachable: 0.1, Loss: 0.01, Jitter: 0.1})
	rng := rand.New(rand.NewPCG(3, 3))
	exact, total, requests := 0, 0, 0
	for range 100 {
		var key dht.Key
		for i := range key {
			key[i] = byte(rng.Uint32())
		}
		from := n.Closest(nil, rng.Uint64(), 1)[0]
		finished := false
		n.Lookup(from, key.Position(), 4, func(nearest []NodeID, sent int) {
			finished = true
			requests += sent
			total += 4
			want := n.Closest(nil, Short(key.Position()), 4)
			for _, id := range nearest {
				if slices.Contains(want, id) {
					exact++
				}
			}
		})
		if err := n.RunWhile(context.Background(), func() bool { return !finished }); err != nil || !finished {
			t.Fatal("the lookup does not end", err)
		}
	}
	t.Logf("%.3f of the closest found, %.1f requests", float64(exact)/float64(total), float64(requests)/100)
	if exact < total*97/100 {
		t.Errorf("found %d of %d", exact, total)
	}
}

func TestFind(t *testing.T) {
	n := make1(t, Config{Nodes: 5000, Seed: 4})
	rng := rand.New(rand.NewPCG(4, 4))
	for range 100 {
		key := rng.Uint64()
		holders := n.Closest(nil, key, dht.K)
		finished := false
		n.Find(NodeID(rng.IntN(5000)), key, PlainAlpha, func(id NodeID) bool { return slices.Contains(holders, id) }, func(at NodeID, ok bool, requests int) {
			finished = true
			if !ok || !slices.Contains(holders, at) {
				t.Errorf("found %d %v after %d requests", at, ok, requests)
			}
		})
		_ = n.RunWhile(context.Background(), func() bool { return !finished })
		if !finished {
			t.Fatal("the lookup does not end")
		}
	}
}

// TestCut lets nobody talk across a cut.
func TestCut(t *testing.T) {
	n := make1(t, Config{Nodes: 10, Seed: 8})
	arrives := func(from, to NodeID) (arrived, ok bool) {
		n.Request(from, to, func() { arrived = true }, func(did bool) { ok = did })
		_ = n.Run(context.Background(), n.Now()+time.Minute)
		return arrived, ok
	}
	n.Cut([]NodeID{1, 2})
	for _, pair := range []struct {
		from, to NodeID
		want     bool
	}{{1, 2, true}, {3, 4, true}, {1, 3, false}, {3, 1, false}} {
		if arrived, ok := arrives(pair.from, pair.to); arrived != pair.want || ok != pair.want {
			t.Errorf("%d to %d: arrived %v, answered %v", pair.from, pair.to, arrived, ok)
		}
	}
	n.Cut(nil)
	if _, ok := arrives(1, 3); !ok {
		t.Error("still apart")
	}
}

// TestSame runs the same network twice.
func TestSame(t *testing.T) {
	run := func() string {
		n := make1(t, Config{Nodes: 500, Seed: 5, Loss: 0.05, Jitter: 0.2, Unreachable: 0.1})
		rng := rand.New(rand.NewPCG(5, 5))
		out := ""
		for range 50 {
			n.Find(NodeID(rng.IntN(500)), rng.Uint64(), PlainAlpha, func(id NodeID) bool { return id%17 == 0 }, func(at NodeID, ok bool, requests int) {
				out += fmt.Sprintln(n.Now(), at, ok, requests)
			})
		}
		_ = n.Run(context.Background(), time.Hour)
		return out
	}
	if a, b := run(), run(); a != b || a == "" {
		t.Errorf("two runs differ:\n%s\n%s", a, b)
	}
}

func TestOrder(t *testing.T) {
	var e Engine
	rng := rand.New(rand.NewPCG(6, 6))
	var got []int
	want := make([]time.Duration, 1000)
	for i := range want {
		want[i] = time.Duration(rng.IntN(100))
		e.After(want[i], func() { got = append(got, i) })
	}
	_ = e.Run(context.Background(), time.Second)
	for i := 1; i < len(got); i++ {
		a, b := got[i-1], got[i]
		if want[a] > want[b] || want[a] == want[b] && a > b {
			t.Fatalf("%d at %d before %d at %d", a, want[a], b, want[b])
		}
	}
	if len(got) != 1000 || e.Now() != time.Second || e.Events() != 1000 {
		t.Errorf("%d events, now %s", len(got), e.Now())
	}
}

// TestBytes foresees a million nodes: a node has one bucket more with each
// doubling.
func TestBytes(t *testing.T) {
	const nodes, most, million = 50_000, 2048, 1_000_000
	n := make1(t, Config{Nodes: nodes, Seed: 1, Maintained: true})
	entries := float64(len(n.tables.entry)) / nodes
	const entry = 4 + 1
	foreseen := float64(n.Bytes())/nodes + entry*dht.K*math.Log2(million/nodes)
	t.Logf("%.0f entries, %.0f bytes a node; %.0f among a million", entries, float64(n.Bytes())/nodes, foreseen)
	if foreseen > most {
		t.Errorf("%.0f bytes a node among a million, expected at most %d", foreseen, most)
	}
}

// TestHandshakes lets first contacts take three round trips, and others one.
func TestHandshakes(t *testing.T) {
	n := make1(t, Config{Nodes: 10, Seed: 12, Handshakes: true})
	took := func(from, to NodeID) time.Duration {
		begin, end := n.Now(), time.Duration(0)
		n.Request(from, to, func() {}, func(bool) { end = n.Now() })
		_ = n.Run(context.Background(), n.Now()+time.Minute)
		return end - begin
	}
	rtt := n.RTT(1, 2)
	for i, trips := range []int{3, 1, 1} {
		if got := took(1, 2); got != time.Duration(trips)*rtt {
			t.Errorf("request %d took %s, expected %d times %s", i, got, trips, rtt)
		}
	}
	if got := took(2, 1); got != rtt {
		t.Errorf("the other way it took %s, expected %s", got, rtt)
	}
	_ = n.Run(context.Background(), n.Now()+time.Hour)
	if got := took(1, 2); got != 3*rtt {
		t.Errorf("after an hour it took %s, expected %s", got, 3*rtt)
	}
	n.Acquaint(3, 4)
	if got := took(4, 3); got != n.RTT(3, 4) {
		t.Errorf("between acquainted nodes it took %s", got)
	}
	// Two at once share a handshake.
	var ends []time.Duration
	begin := n.Now()
	for range 2 {
		n.Request(5, 6, func() {}, func(bool) { ends = append(ends, n.Now()-begin) })
	}
	_ = n.Run(context.Background(), n.Now()+time.Minute)
	if want := 3 * n.RTT(5, 6); !slices.Equal(ends, []time.Duration{want, want}) {
		t.Errorf("two at once took %s, expected %s", ends, want)
	}
	for a := range NodeID(10) {
		n.Acquaint(a, 9-a)
	}
	_ = n.Run(context.Background(), n.Now()+time.Hour)
	n.connections.sweep = 1
	if took(1, 2); len(n.connections.open) != 1 {
		t.Errorf("%d connections are remembered, one is open", len(n.connections.open))
	}
}

// TestRepair lets lookups replace the dead in kept tables by the living.
func TestRepair(t *testing.T) {
	n := make1(t, Config{Nodes: 3000, Seed: 11, Maintained: true})
	rng := rand.New(rand.NewPCG(11, 11))
	for i := range n.Len() {
		if rng.IntN(2) == 0 && i != 0 {
			n.Kill(NodeID(i))
		}
	}
	dead := func() (count int) {
		for _, id := range n.tables.entry[n.tables.begin[0]:n.tables.begin[1]] {
			if !n.Answers(id) {
				count++
			}
		}
		return count
	}
	before := dead()
	for range 300 {
		n.Find(0, rng.Uint64(), PlainAlpha, func(NodeID) bool { return false }, func(NodeID, bool, int) {})
		_ = n.Run(context.Background(), n.Now()+time.Hour)
	}
	// Those of buckets that are known whole stay.
	whole := 0
	for i := n.tables.begin[0]; i < n.tables.begin[1]; i++ {
		if low, high := n.bucket(n.hosts[0].pos, int(n.tables.buckets[i])); high-low <= dht.K && !n.Answers(n.tables.entry[i]) {
			whole++
		}
	}
	t.Logf("%d of %d entries were dead, %d are, %d of them in buckets without others", before, n.tables.begin[1], dead(), whole)
	if after := dead(); after > whole+before/8 {
		t.Errorf("%d dead entries of %d are left, %d cannot be replaced", after, before, whole)
	}
	for i := n.tables.begin[0]; i < n.tables.begin[1]; i++ {
		if cpl := shares(n.hosts[0].pos, n.hosts[n.tables.entry[i]].pos); cpl != int(n.tables.buckets[i]) {
			t.Errorf("entry %d shares %d bits, and is in bucket %d", i, cpl, n.tables.buckets[i])
		}
	}
}

// TestEnded leaves out of kept tables who is silent for long, until it is back.
func TestEnded(t *testing.T) {
	n := make1(t, Config{Nodes: 400, Seed: 12, Maintained: true, Unreachable: 0.05})
	known := func(of NodeID) (entries map[NodeID]bool) {
		entries = make(map[NodeID]bool)
		for cpl := range n.depth(of) {
			found := nearest{key: n.hosts[of].pos, most: dht.K}
			n.entries(&found, of, cpl)
			for _, c := range found.list[:found.n] {
				entries[c.node] = true
			}
		}
		return entries
	}
	pass := func(d time.Duration) { _ = n.Run(context.Background(), n.Now()+d) }
	const of = NodeID(0)
	before, sole := known(of), n.Nearest(nil, of, n.Position(of), 8) // these have no substitute
	for _, id := range sole {
		n.Kill(id)
	}
	pass(noticed - time.Second)
	if now := known(of); !maps.Equal(now, before) {
		t.Errorf("%d entries right after deaths, before them %d", len(now), len(before))
	}
	pass(time.Second)
	if now := known(of); len(now) != len(before)-len(sole) {
		t.Errorf("%d entries when %d of %d are known to be dead", len(now), len(sole), len(before))
	}
	for _, id := range sole {
		n.Revive(id)
	}
	if now := known(of); !maps.Equal(now, before) {
		t.Errorf("%d entries when all are back, before %d", len(now), len(before))
	}
	if !slices.ContainsFunc(slices.Collect(maps.Keys(before)), func(id NodeID) bool { return !n.Answers(id) }) {
		t.Error("nobody who never answers stands in the table")
	}

	var apart []NodeID
	for id := range before {
		if id%2 == 1 {
			apart = append(apart, id)
		}
	}
	n.Cut(apart)
	pass(noticed)
	here, there := known(of), known(apart[0])
	for _, side := range []struct {
		of    NodeID
		knows map[NodeID]bool
	}{{of, here}, {apart[0], there}} {
		if len(side.knows) == 0 {
			t.Errorf("%d knows nobody", side.of)
		}
		for id := range side.knows {
			if !n.Together(side.of, id) {
				t.Errorf("%d knows %d across the cut", side.of, id)
			}
		}
	}
	n.Cut(nil)
	if now := known(of); len(now) != len(before) {
		t.Errorf("%d entries after the cut, before it %d", len(now), len(before))
	}
}

// TestNoGarbage lets messages and the steps of lookups use memory again.
func TestNoGarbage(t *testing.T) {
	n := make1(t, Config{Nodes: 5000, Seed: 9, Jitter: 0.1, Loss: 0.01, Unreachable: 0.01})
	rng := rand.New(rand.NewPCG(9, 9))
	deliver, done := func() {}, func(bool) {}
	message := func() {
		n.Request(NodeID(rng.IntN(5000)), NodeID(rng.IntN(5000)), deliver, done)
		_ = n.Run(context.Background(), n.Now()+time.Minute)
	}
	find := func() {
		key := rng.Uint64()
		holder := n.Closest(nil, key, 1)[0]
		n.Find(NodeID(rng.IntN(5000)), key, PlainAlpha, func(id NodeID) bool { return id == holder }, func(NodeID, bool, int) {})
		_ = n.Run(context.Background(), n.Now()+time.Minute)
	}
	for range 100 {
		message()
		find()
	}
	if allocs := testing.AllocsPerRun(100, message); allocs > 0.5 {
		t.Errorf("%g allocations a message", allocs)
	}
	if allocs := testing.AllocsPerRun(100, find); allocs > 8 {
		t.Errorf("%g allocations a lookup of some forty messages", allocs)
	}
}

// BenchmarkEvents measures lookups in a million nodes, in events a second.
func BenchmarkEvents(b *testing.B) {
	n := make1(b, Config{Nodes: 1_000_000, Seed: 7, Jitter: 0.1})
	rng := rand.New(rand.NewPCG(7, 7))
	b.ReportAllocs()
	b.ResetTimer()
	before := n.Events()
	for range b.N {
		key := rng.Uint64()
		holders := n.Closest(nil, key, dht.K)
		n.Find(NodeID(rng.IntN(n.Len())), key, PlainAlpha, func(id NodeID) bool { return slices.Contains(holders, id) }, func(NodeID, bool, int) {})
		if n.Pending() > 20_000 {
			_ = n.Run(b.Context(), n.Now()+200*time.Millisecond)
		}
	}
	_ = n.Run(b.Context(), n.Now()+time.Hour)
	b.ReportMetric(float64(n.Events()-before)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(n.Bytes())/float64(n.Len()), "B/node")
}
