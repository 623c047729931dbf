package honestytest_test

import (
	"sync"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad"
	"github.com/xenoserver/xeno/dht/kad/kadtest"
	"github.com/xenoserver/xeno/node/index"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/market"
	"github.com/xenoserver/xeno/sim/network"
)

// renew is how often the real hosts renew their leases: often, so that what
// they hold is old enough to be trusted soon.
const renew = 15 * time.Second

const (
	// fills is how long the routing tables get to fill after the start.
	fills = 10 * time.Second
	// ages is until when copies of cells are older than the age below which a
	// query asks all holders, 7 × renew, and another renewal is over, so that
	// nothing is under way but pings.
	ages = 7*renew + 2500*time.Millisecond
)

// A cluster is the real hosts with their search services.
type cluster struct {
	hosts    []*kad.Overlay
	services []*index.Service
	number   map[dht.PeerID]int
}

// newCluster runs the hosts, as far apart as the simulated nodes are, each of
// which publishes its ad. It returns when everything is in its place and no
// longer young.
func newCluster(t *testing.T, net *network.Network, m *market.Market) *cluster {
	t.Helper()
	c := &cluster{number: numbers()}
	ads, owner := make([]*search.Signed, hosts), make(map[dht.PeerID]string, hosts)
	for i := range ads {
		ads[i], owner[kadtest.PeerID(i)] = signed(t, m, i)
	}
	fabric := kadtest.NewFabric(func(from, to dht.PeerID) time.Duration {
		return net.RTT(network.NodeID(c.number[from]), network.NodeID(c.number[to])) / 2
	})
	c.hosts = kadtest.Cluster(t, hosts, kadtest.WithFabric(fabric), kadtest.WithSetup(func(_ int, o *kad.Overlay) {
		s, err := index.New(index.Config{
			Overlay: o, Schema: m.Schema(), Network: kadtest.Network, Renew: renew,
			Vouch: func(server dht.PeerID, _ []byte) (string, error) { return owner[server], nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		c.services = append(c.services, s)
	}))
	time.Sleep(fills)
	begin := time.Now()
	for i, s := range c.services {
		s.Start()
		if err := s.Advertise(ads[i]); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range c.services {
		if err := s.InPlace(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("in place after %s", time.Since(begin))
	time.Sleep(time.Until(begin.Add(ages)))
	return c
}

// play carries the script out.
func (c *cluster) play(t *testing.T, s script) *outcome {
	t.Helper()
	out := &outcome{name: "real"}
	idle := c.idle()
	before := c.served()
	for _, wave := range s.lookups {
		results := make([]nearest, len(wave))
		c.wave(len(wave), func(i int) { results[i] = c.lookup(t, wave[i]) })
		out.nearest = append(out.nearest, results)
	}
	asked := float64(c.served() - before)
	idle = min(idle, c.idle()) // something that a host repeats may be in one
	out.served = (asked - idle*waves) / (waves * hosts)
	for _, wave := range s.queries {
		results := make([]finding, len(wave))
		c.wave(len(wave), func(i int) { results[i] = c.search(t, wave[i]) })
		out.findings = append(out.findings, results)
	}
	return out
}

// idle returns how many requests the hosts answer in the time of a wave in
// which nothing is asked.
func (c *cluster) idle() float64 {
	before := c.served()
	time.Sleep(apart)
	return float64(c.served() - before)
}

// wave does n things at once, and waits for the next wave.
func (c *cluster) wave(n int, do func(i int)) {
	over := time.Now().Add(apart)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { do(i) })
	}
	wg.Wait()
	time.Sleep(time.Until(over))
}

func (c *cluster) lookup(t *testing.T, l lookup) (out nearest) {
	begin := time.Now()
	found, err := c.hosts[l.client].Closest(t.Context(), l.key, search.Replicas)
	if err != nil {
		t.Errorf("host %d: %v", l.client, err)
	}
	out.took = time.Since(begin)
	for _, contact := range found {
		out.hosts = append(out.hosts, c.number[contact.ID])
	}
	return out
}

func (c *cluster) search(t *testing.T, q searching) (out finding) {
	begin := time.Now()
	a, err := c.services[q.client].Search(t.Context(), q.query, index.Options{Unverified: true})
	if err != nil {
		t.Errorf("host %d: %v", q.client, err)
		return out
	}
	out = finding{complete: a.Complete, matches: int(a.Matches.Count), requests: a.Requests, lookups: a.Lookups, took: time.Since(begin)}
	for _, r := range a.Results {
		out.servers = append(out.servers, c.number[r.Signed.Ad.Server])
	}
	return out
}

// served returns how many requests the hosts answered in all.
func (c *cluster) served() (n uint64) {
	for _, h := range c.hosts {
		n += h.Stats().Served
	}
	return n
}
