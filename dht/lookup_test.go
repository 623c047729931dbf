package dht

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// A world is a network that a Lookup is walked through: who knows whom, who
// is dead, how long answers take.
type world struct {
	peers   []PeerID
	knows   map[PeerID][]PeerID
	dead    map[PeerID]bool
	latency func(PeerID) time.Duration
	liars   map[PeerID]func() []Contact
}

func testID(i int) PeerID {
	var id PeerID
	binary.BigEndian.PutUint64(id[:], uint64(i)+1)
	return id
}

func testContact(id PeerID) Contact { return Contact{ID: id, Addrs: []string{"/ip4/192.0.2.1/tcp/1"}} }

func contacts(ids []PeerID) []Contact {
	var all []Contact
	for _, id := range ids {
		all = append(all, testContact(id))
	}
	return all
}

func nearestOf(ids []PeerID, target Position, n int) []PeerID {
	ids = slices.Clone(ids)
	slices.SortFunc(ids, func(a, b PeerID) int { return target.Compare(a.Position(), b.Position()) })
	return ids[:min(n, len(ids))]
}

// answer is what a peer answers: the K nearest that it knows.
func (w *world) answer(id PeerID, target Position) []Contact {
	if lie := w.liars[id]; lie != nil {
		return lie()
	}
	return contacts(nearestOf(w.knows[id], target, K))
}

// outcome is how a lookup went.
type outcome struct {
	done     LookupDone
	requests int
	took     time.Duration
	peak     int // most requests under way at once
	asked    []PeerID
}

// run walks a lookup through the world under virtual time. It fails when the
// machine breaks a law.
func (w *world) run(t rapid.TB, cfg LookupConfig) outcome {
	t.Helper()
	type event struct {
		at time.Time
		in LookupInput
	}
	l := NewLookup(cfg)
	start := time.Unix(0, 0)
	now := start
	var queue []event
	var out outcome
	underway := make(map[PeerID]bool)
	var in LookupInput = LookupStart{}
	for range 100_000 {
		for _, effect := range l.Step(now, in) {
			switch effect := effect.(type) {
			case LookupQuery:
				id := effect.To.ID
				if underway[id] {
					t.Fatalf("two requests to %s at once", id.Short())
				}
				underway[id] = true
				out.requests++
				out.asked = append(out.asked, id)
				latency := time.Millisecond
				if w.latency != nil {
					latency = w.latency(id)
				}
				if !w.dead[id] {
					queue = append(queue, event{now.Add(latency), LookupAnswer{From: id, Contacts: w.answer(id, cfg.Target)}})
				}
			case LookupDone:
				out.done, out.took = effect, now.Sub(start)
				w.checkLaws(t, cfg, out)
				return out
			}
		}
		if err := l.check(); err != nil {
			t.Fatal(err)
		}
		out.peak = max(out.peak, len(underway))
		slices.SortStableFunc(queue, func(a, b event) int { return a.at.Compare(b.at) })
		due, ticking := l.Deadline()
		switch {
		case len(queue) > 0 && (!ticking || !queue[0].at.After(due)):
			now, in = queue[0].at, queue[0].in
			queue = queue[1:]
			delete(underway, in.(LookupAnswer).From)
		case ticking:
			now, in = due, LookupTick{}
			for id := range underway { // timed out, the machine may ask again
				if w.dead[id] {
					delete(underway, id)
				}
			}
		default:
			t.Fatal("the lookup waits for nothing")
		}
	}
	t.Fatal("the lookup does not end")
	return out
}

func (w *world) checkLaws(t rapid.TB, cfg LookupConfig, out outcome) {
	t.Helper()
	if limit := 3*cfg.Want + lookupSpare; out.requests > limit {
		t.Fatalf("%d requests, limit %d", out.requests, limit)
	}
	if len(out.done.Nearest) > cfg.Want {
		t.Fatalf("%d contacts, wanted %d", len(out.done.Nearest), cfg.Want)
	}
	for i, c := range out.done.Nearest {
		if c.ID != cfg.Self.ID && (w.dead[c.ID] || !slices.Contains(out.asked, c.ID)) {
			t.Fatalf("%s did not answer", c.ID.Short())
		}
		if i > 0 && cfg.Target.Compare(out.done.Nearest[i-1].ID.Position(), c.ID.Position()) >= 0 {
			t.Fatal("result is not sorted")
		}
	}
}

func resultIDs(out outcome) []PeerID {
	var ids []PeerID
	for _, c := range out.done.Nearest {
		ids = append(ids, c.ID)
	}
	return ids
}

// reachable is the oracle: those alive that can be reached from the seeds
// through those alive.
func (w *world) reachable(cfg LookupConfig) []PeerID {
	seen := make(map[PeerID]bool)
	var queue, alive []PeerID
	for _, c := range cfg.Seeds {
		queue = append(queue, c.ID)
	}
	if !cfg.Self.ID.IsZero() {
		alive = append(alive, cfg.Self.ID)
		seen[cfg.Self.ID] = true
	}
	for len(queue) > 0 {
		id := queue[0]
		queue = queue[1:]
		if seen[id] {
			continue
		}
		seen[id] = true
		if w.dead[id] {
			continue
		}
		alive = append(alive, id)
		queue = append(queue, nearestOf(w.knows[id], cfg.Target, K)...) // more is not answered
	}
	return alive
}

// TestLookupTinyWorlds walks every network of 4 peers and every set of the
// dead among them, from a live seed that is near and one that is far, wanting
// as many as there are: then the lookup must find exactly those that can be
// reached.
func TestLookupTinyWorlds(t *testing.T) {
	const n = 4
	var ids []PeerID
	for i := range n {
		ids = append(ids, testID(i))
	}
	target := ids[0].Position()
	walked := 0
	for edges := range 1 << (n * (n - 1)) {
		knows := make(map[PeerID][]PeerID)
		bit := 0
		for i := range n {
			for j := range n {
				if i != j {
					if edges>>bit&1 == 1 {
						knows[ids[i]] = append(knows[ids[i]], ids[j])
					}
					bit++
				}
			}
		}
		for deaths := range 1 << n {
			w := &world{peers: ids, knows: knows, dead: make(map[PeerID]bool)}
			for i := range n {
				w.dead[ids[i]] = deaths>>i&1 == 1
			}
			for _, seed := range []int{0, 2} {
				if w.dead[ids[seed]] {
					continue
				}
				cfg := LookupConfig{Target: target, Want: n, Seeds: contacts(ids[seed : seed+1])}
				out := w.run(t, cfg)
				if diff := cmp.Diff(resultIDs(out), nearestOf(w.reachable(cfg), target, n)); diff != "" {
					t.Fatalf("edges %b, dead %b, seed %d (-got +want):\n%s", edges, deaths, seed, diff)
				}
				walked++
			}
		}
	}
	t.Logf("%d lookups", walked)
}

// kademliaWorld is a network where everybody knows what a Kademlia routing
// table holds.
func kademliaWorld(rng *rand.Rand, n int) *world {
	w := &world{knows: make(map[PeerID][]PeerID), dead: make(map[PeerID]bool), liars: make(map[PeerID]func() []Contact)}
	for i := range n {
		w.peers = append(w.peers, testID(i))
	}
	positions := make(map[PeerID]Position)
	for _, id := range w.peers {
		positions[id] = id.Position()
	}
	for _, id := range w.peers {
		buckets := make(map[int]int)
		for _, j := range rng.Perm(n) {
			other := w.peers[j]
			prefix := positions[id].CommonPrefix(positions[other])
			if other == id || buckets[prefix] == K {
				continue
			}
			buckets[prefix]++
			w.knows[id] = append(w.knows[id], other)
		}
	}
	return w
}

// TestLookupKademlia compares lookups in Kademlia networks with brute force,
// with the dead, the slow and bad seeds among them.
func TestLookupKademlia(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 10, 100, 1000} {
		w := kademliaWorld(rng, n)
		w.latency = func(id PeerID) time.Duration { return time.Duration(10+id[7]%200) * time.Millisecond }
		requests, lookups := 0, 0
		for _, want := range []int{1, 4, 20} {
			for i := range 50 {
				target := Keyspace("test").Key([]byte{byte(want), byte(i)}).Position()
				asker := w.peers[rng.IntN(n)]
				out := w.run(t, LookupConfig{
					Target: target, Want: want, Self: testContact(asker), Seeds: contacts(nearestOf(w.knows[asker], target, K)),
				})
				if diff := cmp.Diff(resultIDs(out), nearestOf(w.peers, target, want)); diff != "" {
					t.Fatalf("n=%d want=%d (-got +want):\n%s", n, want, diff)
				}
				if want == 4 {
					requests += out.requests
					lookups++
				}
			}
		}
		t.Logf("n=%d: %.1f requests for the 4 nearest", n, float64(requests)/float64(lookups))
	}
}

// TestLookupDead is exact among the living when a third is dead and those
// alive do not know it yet.
func TestLookupDead(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	w := kademliaWorld(rng, 300)
	var alive []PeerID
	for _, id := range w.peers {
		if w.dead[id] = rng.IntN(3) == 0; !w.dead[id] {
			alive = append(alive, id)
		}
	}
	for i := range 100 {
		target := Keyspace("test").Key([]byte{byte(i)}).Position()
		asker := alive[rng.IntN(len(alive))]
		cfg := LookupConfig{Target: target, Want: 4, Self: testContact(asker), Seeds: contacts(nearestOf(w.knows[asker], target, K))}
		out := w.run(t, cfg)
		if diff := cmp.Diff(resultIDs(out), nearestOf(alive, target, 4)); diff != "" {
			t.Fatalf("lookup %d (-got +want):\n%s", i, diff)
		}
		if out.took > 3*2*time.Second {
			t.Errorf("lookup %d took %v", i, out.took)
		}
	}
}

// TestLookupLiar bounds what one who invents peers can do.
func TestLookupLiar(t *testing.T) {
	w := kademliaWorld(rand.New(rand.NewPCG(5, 6)), 50)
	target := Keyspace("test").Key([]byte("liar")).Position()
	invented := 1000
	lie := func() []Contact { // ever nearer, always dead
		var lies []Contact
		for range 100 {
			invented++
			id := testID(invented)
			w.dead[id] = true
			lies = append(lies, testContact(id))
		}
		return lies
	}
	for _, id := range w.peers[:25] {
		w.liars[id] = lie
	}
	out := w.run(t, LookupConfig{Target: target, Want: 4, Seeds: contacts(w.peers[:K])})
	if invented-1000 > 100*out.requests || out.took > time.Minute {
		t.Errorf("a liar kept the lookup busy: %d requests, %v", out.requests, out.took)
	}
}

// TestLookupFalseAddress: false addresses told first must not hide a peer
// whose right ones are told later.
func TestLookupFalseAddress(t *testing.T) {
	a, b := testID(1), testID(2)
	l := NewLookup(LookupConfig{Target: b.Position(), Want: 2, Seeds: []Contact{testContact(a), {ID: b, Addrs: []string{"/ip4/203.0.113.9/tcp/9"}}}})
	now := time.Unix(0, 0)
	if n := len(l.Step(now, LookupStart{})); n != 2 {
		t.Fatalf("%d queries", n)
	}
	l.Step(now, LookupFailure{From: b})
	effects := l.Step(now, LookupAnswer{From: a, Contacts: []Contact{testContact(b)}})
	want := []LookupEffect{LookupQuery{To: Contact{ID: b, Addrs: []string{"/ip4/203.0.113.9/tcp/9", "/ip4/192.0.2.1/tcp/1"}}}}
	if diff := cmp.Diff(effects, want); diff != "" {
		t.Fatalf("-got +want:\n%s", diff)
	}
	l.Step(now, LookupFailure{From: b})
	if !l.done {
		t.Error("a third try")
	}
}

// TestLookupAnyWorld checks the laws in arbitrary networks with arbitrary
// parameters.
func TestLookupAnyWorld(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "peers")
		w := &world{knows: make(map[PeerID][]PeerID), dead: make(map[PeerID]bool)}
		for i := range n {
			w.peers = append(w.peers, testID(i))
		}
		for _, id := range w.peers {
			w.knows[id] = rapid.SliceOfN(rapid.SampledFrom(w.peers), 0, 30).Draw(t, "knows")
			w.dead[id] = rapid.IntRange(0, 3).Draw(t, "dead") == 0
		}
		w.latency = func(id PeerID) time.Duration { return time.Duration(id[7]%7) * 300 * time.Millisecond }
		cfg := LookupConfig{
			Target:  Keyspace("any").Key([]byte{rapid.Byte().Draw(t, "target")}).Position(),
			Want:    rapid.IntRange(1, K).Draw(t, "want"),
			Alpha:   rapid.IntRange(0, 5).Draw(t, "alpha"),
			Timeout: time.Hour, // the slow are not dead
			Seeds:   contacts(rapid.SliceOfN(rapid.SampledFrom(w.peers), 0, 10).Draw(t, "seeds")),
		}
		out := w.run(t, cfg)
		reachable := w.reachable(cfg)
		for _, c := range out.done.Nearest {
			if !slices.Contains(reachable, c.ID) {
				t.Fatalf("%s cannot be reached", c.ID.Short())
			}
		}
		if len(reachable) <= cfg.Want && len(out.done.Nearest) != len(reachable) {
			t.Fatalf("found %d of %d that can be reached, wanted %d", len(out.done.Nearest), len(reachable), cfg.Want)
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	w := kademliaWorld(rand.New(rand.NewPCG(7, 8)), 1000)
	for i := 0; b.Loop(); i++ {
		target := Keyspace("test").Key(fmt.Append(nil, i)).Position()
		asker := w.peers[i%len(w.peers)]
		w.run(b, LookupConfig{Target: target, Want: 4, Self: testContact(asker), Seeds: contacts(nearestOf(w.knows[asker], target, K))})
	}
}
