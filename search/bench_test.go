package search

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// BenchmarkAsk asks a holder for a full leaf, and for a table that gathers as much
// as it may: ten results in order, with a condition on each of three dimensions,
// and the most that a stranger may make it evaluate.
func BenchmarkAsk(b *testing.B) {
	usual := And{Compare{"free_cpu", OpGreaterEqual, Number(2)}, Compare{"arch", OpEqual, Text("amd64")}, Compare{"price_hour", OpLess, Number(1)}}
	nobody := func(n int) (or Or) {
		for i := range n {
			or = append(or, Compare{"name", OpEqual, Text(fmt.Sprint("nobody-", i))})
		}
		return or
	}
	leases := benchLeases(GatherAds)
	leaf := Copy{Cell: Root("price_hour"), Born: testNow, Leases: leases[:LeafAds]}
	gathered := Copy{Cell: CellID{Tree: "price_hour", Prefix: PrefixOf(Key{}, tableBits)}, Born: testNow, Inner: true, Gathered: leases}
	for _, c := range []struct {
		name  string
		cell  Copy
		where Predicate
	}{
		{"leaf", leaf, usual},
		{"leaf_most", leaf, nobody(maxNodes - 1)},
		{"gathered", gathered, usual},
		{"gathered_most", gathered, nobody(maxGatheredNodes - 1)},
	} {
		h := NewHolder(testSchema, HolderConfig{MaxPerPublisher: 1 << 20})
		h.Step(testNow, Restore{Copy: c.cell})
		q := CellQuery{Cell: c.cell.Cell, Query: Query{Where: c.where, OrderBy: "price_hour", Limit: 10}}
		if err := testSchema.Check(q.Query); err != nil {
			b.Fatal(err)
		}
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				reply, ok := h.Step(testNow, AskCell{Query: q})[0].(CellReply)
				if want := len(c.cell.Leases) + len(c.cell.Gathered); !ok || int(reply.Total) != want {
					b.Fatalf("%d ads were looked at, want %d", reply.Total, want)
				}
			}
		})
	}
}

func benchLeases(n int) []Lease {
	rng := rand.New(rand.NewPCG(1, 1))
	leases := make([]Lease, n)
	for i := range leases {
		ad := randomAd(rng, testNow)
		leases[i] = Lease{Ad: ad, From: ad.Ad.Server, Until: testNow.Add(time.Hour)}
	}
	return leases
}

// BenchmarkOpen opens 10,000 ads that claim every dimension of the default
// schema, and reports what each keeps of the heap besides its envelope.
func BenchmarkOpen(b *testing.B) {
	s := testSchema
	envelopes := fullEnvelopes(b, s, 10_000)
	held := make([]*Signed, len(envelopes))
	var bytes float64
	for b.Loop() {
		clear(held)
		before := heapBytes()
		for i, e := range envelopes {
			ad, err := s.Open(e, "test", testNow, vouch)
			if err != nil {
				b.Fatal(err)
			}
			held[i] = ad
		}
		bytes = float64(heapBytes() - before)
		for _, ad := range held {
			bytes -= float64(cap(ad.Envelope))
		}
	}
	b.ReportMetric(bytes/float64(len(held)), "B/ad")
}

func heapBytes() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// fullEnvelopes returns the envelopes of n servers that claim all they may.
func fullEnvelopes(tb testing.TB, s *Schema, n int) [][]byte {
	rng := rand.New(rand.NewPCG(1, 1))
	credential := make([]byte, 300) // about what XenoCorp issues
	envelopes := make([][]byte, n)
	for i := range envelopes {
		key := ed25519.NewKeyFromSeed(binary.BigEndian.AppendUint64(make([]byte, ed25519.SeedSize-8), uint64(i)))
		for j := range credential {
			credential[j] = byte(rng.Uint32())
		}
		ad := &Ad{
			Network: "test", Server: dht.PeerIDFromKey(key.Public().(ed25519.PublicKey)), Credential: credential,
			Addrs: []string{fmt.Sprintf("/ip4/192.0.2.%d/udp/%d/quic-v1", i%256, 1024+i)},
			Seq:   1, Issued: testNow.Unix(), Expires: testNow.Add(time.Hour).Unix(), Attributes: AttributesOf(fullAttributes(rng, s)),
		}
		signed, err := s.Sign(ad, key, "alice")
		if err != nil {
			tb.Fatal(err)
		}
		envelopes[i] = signed.Envelope
	}
	return envelopes
}

// fullAttributes returns a value for every dimension that an ad may claim.
func fullAttributes(rng *rand.Rand, s *Schema) map[string]Value {
	all := make(map[string]Value)
	for _, d := range s.Dimensions() {
		if d.Name == DimServer || d.Name == DimOwner {
			continue
		}
		switch d.Kind {
		case KindNumber:
			all[d.Name] = Number(d.Min + (d.Max-d.Min)*rng.Float64())
		case KindVersion:
			all[d.Name] = Text(fmt.Sprintf("6.%d.%d", rng.IntN(20), rng.IntN(100)))
		case KindEnum:
			all[d.Name] = Text(d.Values[rng.IntN(len(d.Values))])
		case KindSet:
			members := []string{"debian-13", "alpine-3.22", "freebsd-14.3"}
			if len(d.Values) > 0 {
				members = d.Values
			}
			all[d.Name] = Set(members[:1+rng.IntN(len(members))]...)
		case KindPlace:
			all[d.Name] = PlaceAt(180*rng.Float64()-90, 360*rng.Float64()-180)
		case KindCoordinate:
			all[d.Name] = CoordinateAt(dht.Coordinate{Height: rng.Float64()})
		case KindText:
			all[d.Name] = Text(fmt.Sprintf("%s-%d", d.Name, rng.IntN(1000)))
		}
	}
	return all
}
