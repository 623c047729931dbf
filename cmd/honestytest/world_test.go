package honestytest_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad/kadtest"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/latency"
	"github.com/xenoserver/xeno/sim/market"
	"github.com/xenoserver/xeno/sim/network"
	"github.com/xenoserver/xeno/sim/trial"
)

const (
	// hosts is how many participants there are, each a server as well.
	hosts = 100
	// perClass is how many queries of each class are asked: as many as it takes
	// to see that all took a fifth longer (TestHonesty checks that).
	perClass = 60
	// waves is how often every host looks something up.
	waves = 4
	// apart is from the beginning of a wave to that of the next one, by which
	// everything is answered: all waves fit between two renewals.
	apart = 1200 * time.Millisecond
	// seed is that of everything drawn.
	seed = 11
)

// A searching is one query from one host.
type searching struct {
	class  string
	client int
	query  search.Query
}

// A finding is what came of it.
type finding struct {
	servers  []int // in the order of the answer
	complete bool
	matches  int // in all, by estimate
	requests int // those of lookups included in the simulator alone
	lookups  int // known of real hosts alone
	took     time.Duration
}

// A lookup is one search for the nearest participants to a key.
type lookup struct {
	client int
	key    dht.Key
}

// A nearest is what came of it.
type nearest struct {
	hosts []int
	took  time.Duration
}

// A script is everything that is asked, wave by wave: what is in one wave is
// asked at one time, and by hosts that all differ.
type script struct {
	lookups [][]lookup
	queries [][]searching
}

// newNetwork returns the simulated network of the same participants.
func newNetwork(t *testing.T, maintained bool) (*network.Network, *latency.Cities) {
	t.Helper()
	cities := latency.NewCities(seed)
	net, err := network.New(network.Config{
		Nodes: hosts, Seed: seed, Latency: cities, Site: latency.NewChooser(cities).Site, Maintained: maintained,
		Access:   func(rng *rand.Rand) time.Duration { return latency.Access{}.Draw(rng) },
		Identity: func(id network.NodeID) dht.PeerID { return kadtest.PeerID(int(id)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return net, cities
}

// newWorld returns the simulated network and its market.
func newWorld(t *testing.T, maintained bool) trial.World {
	t.Helper()
	net, cities := newNetwork(t, maintained)
	rng := rand.New(rand.NewPCG(seed, 1))
	at := latency.Embed(cities, 0, rng)
	m, err := market.New(market.Config{
		Servers: hosts, Seed: seed, PeerOf: kadtest.PeerID,
		PlaceOf: func(i int) (lat, lon float64, country, city string, ok bool) {
			return cities.Place(net.Site(network.NodeID(i)))
		},
		CoordinateOf: func(i int) dht.Coordinate {
			return latency.At(at[net.Site(network.NodeID(i))], net.Access(network.NodeID(i)))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return trial.World{Net: net, Market: m, Rand: rng}
}

// newScript draws what is asked.
func newScript(t *testing.T, m *market.Market) script {
	t.Helper()
	var s script
	rng := rand.New(rand.NewPCG(seed, 2))
	for w := range waves {
		var wave []lookup
		for client := range hosts {
			wave = append(wave, lookup{client, sha256.Sum256(fmt.Appendf(nil, "key %d %d", w, client))})
		}
		s.lookups = append(s.lookups, wave)
	}
	var all []searching
	for _, class := range market.Classes() {
		queries, err := m.Queries(t.Context(), class, perClass, market.Asking{}, rng)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range queries {
			all = append(all, searching{class: class, query: q})
		}
	}
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for len(all) > 0 {
		n := min(hosts, len(all))
		for i, client := range rng.Perm(hosts)[:n] {
			all[i].client = client
		}
		s.queries, all = append(s.queries, all[:n]), all[n:]
	}
	return s
}

// signed returns the ad of a server, signed by it, and its owner.
func signed(t *testing.T, m *market.Market, server int) (*search.Signed, string) {
	t.Helper()
	now := time.Now()
	ad := &search.Ad{
		Network: kadtest.Network, Server: kadtest.PeerID(server), Addrs: []string{"/ip4/192.0.2.1/udp/1/quic-v1"},
		Seq: 1, Issued: now.Unix(), Expires: now.Add(time.Hour).Unix(), Attributes: m.Ad(server).Ad.Attributes,
	}
	owner, _ := m.Value(server, search.DimOwner).Text() // a few have none
	out, err := m.Schema().Sign(ad, kadtest.Key(server), owner)
	if err != nil {
		t.Fatal(err)
	}
	return out, owner
}

// numbers tells which participant has an identity.
func numbers() map[dht.PeerID]int {
	of := make(map[dht.PeerID]int, hosts)
	for i := range hosts {
		of[kadtest.PeerID(i)] = i
	}
	return of
}

// truth returns the hosts nearest to a key.
func truth(net *network.Network, key dht.Key, n int) (out []int) {
	p := key.Position()
	for _, id := range net.Closest(nil, binary.BigEndian.Uint64(p[:8]), n) {
		out = append(out, int(id))
	}
	return out
}
