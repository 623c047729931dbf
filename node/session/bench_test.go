package session

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad"
	"github.com/xenoserver/xeno/dht/kad/kadtest"
	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/internal/testenv"
	"github.com/xenoserver/xeno/ledger"
)

// benchHosts is how many hosts BenchmarkProposal runs: a client and XenoServers.
const benchHosts = 20

// market starts XenoServers on a real overlay, and the buyer on its first host.
func market(b *testing.B) *Buyer {
	b.Helper()
	client, dir := kadtest.Key(0), b.TempDir()
	corp := &fakeCorp{key: testKey(3), held: map[ledger.ID]*held{}}
	var buyer *Buyer
	kadtest.Cluster(b, benchHosts, kadtest.WithLoopback(), kadtest.WithSetup(func(i int, o *kad.Overlay) {
		if i == 0 {
			var err error
			buyer, err = NewBuyer(BuyerConfig{
				Key: client, Network: testNetwork, Corp: peerOf(corp.key), Dir: filepath.Join(dir, "client"), Overlay: o, Payer: corp,
			})
			closeAfter(b, buyer, err)
			return
		}
		host, err := NewHost(benchHost(o, kadtest.Key(i), corp, filepath.Join(dir, fmt.Sprint("server", i))))
		closeAfter(b, host, err)
	}))
	return buyer
}

func closeAfter(b *testing.B, c io.Closer, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() }) // nothing is measured any more
}

func benchHost(o *kad.Overlay, key ed25519.PrivateKey, corp *fakeCorp, dir string) HostConfig {
	return HostConfig{
		Key: key, Network: testNetwork, Corp: peerOf(corp.key), Dir: dir, Overlay: o, Claimer: corp, Images: fakeImages{},
		Drivers:  map[hypervisor.Kind]hypervisor.Driver{hypervisor.KindWASI: newFakeDriver()},
		Probe:    func(context.Context, hypervisor.Instance) error { return nil },
		Capacity: Capacity{CPUs: 64, CPUShare: 64_000, MemoryBytes: 64 << 30, DiskBytes: 64 << 30, Sessions: 64},
		Rates:    ledger.Rates{Session: ledger.Unit},
		Credential: func(id dht.PeerID) (*ledger.Credential, bool) {
			return &ledger.Credential{Peer: id, Roles: []ledger.Role{ledger.RoleClient}}, true
		},
	}
}

// BenchmarkProposal measures from a proposal to three XenoServers at once, among
// 20 hosts on loopback, to the agreement that the client signed as well and has
// on its disk, as it is on the server's.
func BenchmarkProposal(b *testing.B) {
	buyer := market(b)
	order, err := ledger.Seal(ledger.KindOrder, ledger.Order{
		Network: testNetwork, ID: ledger.ID{9}, Client: buyer.id, Amount: 50 * ledger.Unit,
		Issued: time.Now().Unix(), Expires: time.Now().Add(24 * time.Hour).Unix(),
	}, kadtest.Key(0))
	if err != nil {
		b.Fatal(err)
	}
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		req := BuyRequest{
			Order: order, Duration: time.Hour,
			Terms: ledger.Terms{Environment: "wasi", Image: testImage(), CPUs: 1, MemoryBytes: 64 << 20, DiskBytes: 1 << 20},
		}
		binary.BigEndian.PutUint64(req.Session[:], uint64(i)+1) //nolint:gosec // not negative
		for k := range proposeAtOnce {
			server := kadtest.PeerID(1 + (i+k)%(benchHosts-1))
			req.Candidates = append(req.Candidates, Candidate{Server: server, Cap: ledger.Unit, Rates: ledger.Rates{Session: ledger.Unit}})
		}
		begin := time.Now()
		env, err := buyer.quote(b.Context(), req, func(Event) {})
		if err != nil {
			b.Fatal(err)
		}
		s, err := buyer.sign(req, env)
		took = append(took, time.Since(begin))
		if err != nil {
			b.Fatal(err)
		}
		buyer.decline(s.server, s.id) // or its resources were soon held
	}
	testenv.ReportLatencies(b, took)
	testenv.ReportFsync(b)
}
