package corp

import (
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xenoserver/xeno/internal/testenv"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/wire"
)

// claimers is how many sessions claim at once in BenchmarkDurableClaim.
const claimers = 32

// BenchmarkDurableClaim measures a claim as XenoCorp sees it, from the bytes of
// the request to those of the response: both signatures verified, the receipt
// checked, booked, journaled and synced. Claims of many sessions wait for one
// write together. Receipts are made before the clock starts.
func BenchmarkDurableClaim(b *testing.B) {
	w := newWorld(b)
	w.join2(b)
	if _, err := w.client(corpKey).Deposit(b.Context(), NewID(), peerOf(clientKey), 1000*ledger.Unit, ""); err != nil {
		b.Fatal(err)
	}
	each := (b.N + claimers - 1) / claimers
	requests := make([][][]byte, claimers)
	for i := range requests {
		requests[i] = w.claims(b, each)
	}
	w.pass(9 * time.Hour)
	latencies := make([][]time.Duration, claimers)
	var wg sync.WaitGroup
	b.ResetTimer()
	for i := range claimers {
		wg.Go(func() {
			for _, request := range requests[i] {
				start := time.Now()
				response, err := w.corp.Serve(b.Context(), peerOf(serverKey), request)
				latencies[i] = append(latencies[i], time.Since(start))
				var r wire.CorpResponse
				if err != nil || proto.Unmarshal(response, &r) != nil || r.GetError() != nil {
					b.Errorf("%v, %v", err, r.GetError())
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	testenv.ReportLatencies(b, slices.Concat(latencies...))
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "claims/s")
	testenv.ReportFsync(b)
	if err := w.corp.Close(); err != nil {
		b.Fatal(err)
	}
}

// claims authorises a session and returns n requests to claim its receipts.
func (w *world) claims(b *testing.B, n int) [][]byte {
	b.Helper()
	d := w.deal(10*ledger.Unit, 10*ledger.Unit, 10)
	client := w.client(clientKey)
	if _, err := client.CreateOrder(b.Context(), d.orderEnv); err != nil {
		b.Fatal(err)
	}
	if _, err := client.Authorise(b.Context(), d.env); err != nil {
		b.Fatal(err)
	}
	requests := make([][]byte, n)
	var prev *ledger.Envelope
	for i := range n {
		run := 8 * time.Hour * time.Duration(i+1) / time.Duration(n)
		e := w.seal(ledger.KindReceipt, d.receipt(run.Truncate(time.Millisecond), prev, uint64(i)+1, i == n-1), serverKey, clientKey)
		request, err := proto.Marshal(&wire.CorpRequest{Call: &wire.CorpRequest_Claim{Claim: &wire.CorpClaim{Receipt: e.Marshal()}}})
		if err != nil {
			b.Fatal(err)
		}
		requests[i], prev = request, e
	}
	return requests
}
