package kad_test

import (
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad"
	"github.com/xenoserver/xeno/dht/kad/kadtest"
)

// nearest is the oracle: the n hosts nearest to key.
func nearest(hosts []*kad.Overlay, key dht.Key, n int) []dht.PeerID {
	var ids []dht.PeerID
	for _, h := range hosts {
		ids = append(ids, h.ID())
	}
	p := key.Position()
	slices.SortFunc(ids, func(a, b dht.PeerID) int { return p.Compare(a.Position(), b.Position()) })
	return ids[:min(n, len(ids))]
}

func ids(contacts []dht.Contact) []dht.PeerID {
	var ids []dht.PeerID
	for _, c := range contacts {
		ids = append(ids, c.ID)
	}
	return ids
}

// testClosest compares lookups from many hosts with the oracle.
func testClosest(t *testing.T, hosts []*kad.Overlay, lookups int) (mean time.Duration) {
	t.Helper()
	var total time.Duration
	for i := range lookups {
		key := dht.KeyspaceBlock.Key([]byte{byte(i), byte(i >> 8)})
		n := []int{1, 3, 4, 8}[i%4]
		began := time.Now()
		got, err := hosts[i*7%len(hosts)].Closest(t.Context(), key, n)
		total += time.Since(began)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(ids(got), nearest(hosts, key, n)); diff != "" {
			t.Errorf("lookup %d of %d nearest (-got +want):\n%s", i, n, diff)
		}
		for _, c := range got {
			if len(c.Addrs) == 0 {
				t.Errorf("lookup %d: %s without address", i, c.ID)
			}
		}
	}
	return total / time.Duration(lookups)
}

func TestClosest100(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 100
		if testing.Short() { // the race detector's own tables overflow at more
			n = 25
		}
		hosts := kadtest.Cluster(t, n, kadtest.WithLatency(50*time.Millisecond))
		t.Logf("mean latency right after the start: %v", testClosest(t, hosts, 200))
		time.Sleep(10 * time.Minute)
		t.Logf("mean latency after ten minutes: %v", testClosest(t, hosts, 200))
	})
}

// TestCoordinates: ordinary traffic teaches every host where it is.
func TestCoordinates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		place := func(id dht.PeerID) float64 { return float64(id.Position()[0]) } // on a line of 256 × 0.4 ms
		way := func(a, b dht.PeerID) time.Duration {
			return 2*time.Millisecond + time.Duration(math.Abs(place(a)-place(b))*0.2*float64(time.Millisecond))
		}
		n := 25
		if testing.Short() {
			n = 10
		}
		hosts := kadtest.Cluster(t, n, kadtest.WithFabric(kadtest.NewFabric(way)))
		time.Sleep(time.Hour)
		var errs []float64
		for _, a := range hosts {
			for _, b := range hosts {
				if a == b {
					continue
				}
				rtt := 2 * way(a.ID(), b.ID())
				predicted := a.Coordinate().DistanceTo(b.Coordinate())
				errs = append(errs, math.Abs(float64(predicted-rtt))/float64(rtt))
				if seen, ok := a.RTT(b.ID()); ok && (seen < rtt || seen > rtt*11/10) {
					t.Errorf("measured %v, expected %v", seen, rtt)
				}
			}
		}
		slices.Sort(errs)
		t.Logf("relative error of predictions: p50 %.3f, p95 %.3f", errs[len(errs)/2], errs[len(errs)*95/100])
		if errs[len(errs)/2] > 0.15 {
			t.Errorf("median relative error %.3f, limit 0.15", errs[len(errs)/2])
		}
	})
}

// TestRealTime uses a cluster without synctest.
func TestRealTime(t *testing.T) {
	hosts := kadtest.Cluster(t, 20)
	testClosest(t, hosts, 40)
}
