package ledger

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// receiptWorld is an agreement over an hour, ten minutes into it, with one
// receipt already.
func receiptWorld() (now time.Time, a *Agreement, first, second *Receipt) {
	now = time.Unix(testStart+600, 0)
	order := must(Seal(KindOrder, &Order{}, testKey(2)))
	a = &Agreement{
		Network: "test", ID: ID{1}, Client: testPeer(2), Server: testPeer(3), Order: LinkTo(order),
		Terms: Terms{Environment: "linux", CPUs: 2, CPUShare: 1500, MemoryBytes: 1 << 30, NetworkRate: 1 << 20},
		Rates: Rates{Session: Unit, CPU: Unit, Network: Unit}, Cap: 5 * Unit, Issued: testStart, Expires: testStart + 3600,
	}
	receipt := func(seq uint64, seconds int64) *Receipt {
		u := Usage{RunNanos: uint64(seconds) * 1e9, CPUNanos: uint64(seconds) * 12e8, RxBytes: uint64(seconds) << 20, TxBytes: 5000}
		return &Receipt{
			Network: "test", Agreement: LinkTo(must(Seal(KindAgreement, a, testKey(3)))), Server: a.Server, Seq: seq,
			From: testStart * 1000, To: (testStart + seconds) * 1000, Usage: u,
			Readings: []Reading{{"ebpf", u}, {"cgroup", u}}, Amount: a.Rates.Cost(&a.Terms, &u),
		}
	}
	first, second = receipt(1, 300), receipt(2, 600)
	second.Prev = LinkTo(must(Seal(KindReceipt, first, testKey(3))))
	return now, a, first, second
}

func TestReceiptCheck(t *testing.T) {
	bill := func(a *Agreement, r *Receipt) {
		r.Readings = []Reading{{"ebpf", r.Usage}}
		r.Amount = min(a.Cap, a.Rates.Cost(&a.Terms, &r.Usage))
	}
	for _, test := range []struct {
		name  string
		spoil func(a *Agreement, r *Receipt)
		want  string // part of the error; empty: accepted
	}{
		{"as it should be", func(*Agreement, *Receipt) {}, ""},
		{"one meter", func(_ *Agreement, r *Receipt) { r.Readings = r.Readings[:1] }, ""},
		{"asks for less", func(_ *Agreement, r *Receipt) { r.Amount-- }, ""},
		{"asks for more", func(_ *Agreement, r *Receipt) { r.Amount++ }, "at most"},
		{"above the cap", func(a *Agreement, r *Receipt) { a.Cap = r.Amount - 1 }, "at most"},
		{"at the cap", func(a *Agreement, r *Receipt) { a.Cap = r.Amount - 1; r.Amount = a.Cap }, ""},
		{"another network", func(_ *Agreement, r *Receipt) { r.Network = "live" }, "network"},
		{"another server", func(_ *Agreement, r *Receipt) { r.Server = testPeer(4) }, "the agreement with"},
		{"seq zero", func(_ *Agreement, r *Receipt) { r.Seq, r.Prev = 0, Link{} }, "seq"},
		{"seq repeated", func(_ *Agreement, r *Receipt) { r.Seq, r.Prev = 1, Link{} }, "does not follow"},
		{"not chained", func(_ *Agreement, r *Receipt) { r.Prev = r.Agreement }, "not chained"},
		{"receipts between are lost", func(_ *Agreement, r *Receipt) { r.Seq, r.Prev = 9, r.Agreement }, ""},
		{"run fell", func(a *Agreement, r *Receipt) { r.Usage.RunNanos = 1; bill(a, r) }, "counter fell"},
		{"cpu fell", func(a *Agreement, r *Receipt) { r.Usage.CPUNanos = 1; bill(a, r) }, "counter fell"},
		{"rx fell", func(a *Agreement, r *Receipt) { r.Usage.RxBytes = 1; bill(a, r) }, "counter fell"},
		{"tx fell", func(a *Agreement, r *Receipt) { r.Usage.TxBytes = 1; bill(a, r) }, "counter fell"},
		{"amount fell", func(_ *Agreement, r *Receipt) { r.Amount = 1 }, "asks for less than receipt 1"},
		{"another start", func(_ *Agreement, r *Receipt) { r.From += 1000 }, "began"},
		{"ends before the one before", func(_ *Agreement, r *Receipt) { r.To -= 301_000 }, "before the receipt 1"},
		{"in the future", func(_ *Agreement, r *Receipt) { r.To += 61_000 }, "in the future"},
		{"within skew", func(_ *Agreement, r *Receipt) { r.To += 59_000 }, ""},
		{"ran longer than it took", func(a *Agreement, r *Receipt) { r.Usage.RunNanos += 2e9; bill(a, r) }, "it ran for"},
		{"within slack", func(a *Agreement, r *Receipt) { r.Usage.RunNanos += 1e9; bill(a, r) }, ""},
		{"more CPU than agreed", func(a *Agreement, r *Receipt) { r.Usage.CPUNanos = 905e9; bill(a, r) }, "CPU time"},
		{"all of the CPU", func(a *Agreement, r *Receipt) { r.Usage.CPUNanos = 900e9; bill(a, r) }, ""},
		{"more traffic than agreed", func(a *Agreement, r *Receipt) { r.Usage.TxBytes = 604 << 20; bill(a, r) }, "bytes received"},
		{"absurd traffic", func(a *Agreement, r *Receipt) { r.Usage.TxBytes = math.MaxUint64; bill(a, r) }, "bytes received"},
		{"traffic without network", func(a *Agreement, _ *Receipt) { a.Terms.NetworkRate = 0 }, "more than agreed"},
		{"billed what no meter read", func(_ *Agreement, r *Receipt) { r.Usage.CPUNanos++ }, "first reading"},
		{"meters differ on CPU", func(_ *Agreement, r *Receipt) { r.Readings[1].Usage.CPUNanos += 722e6 }, "differ on CPU"},
		{"meters agree on CPU", func(_ *Agreement, r *Receipt) { r.Readings[1].Usage.CPUNanos += 720e6 }, ""},
		{"meters differ on traffic", func(_ *Agreement, r *Receipt) { r.Readings[1].Usage.RxBytes -= 1 << 20 }, "differ on traffic"},
		{"second meter counts no traffic", func(_ *Agreement, r *Receipt) {
			r.Readings[1].Usage.RxBytes, r.Readings[1].Usage.TxBytes = 0, 0
		}, ""},
		{"no reading", func(_ *Agreement, r *Receipt) { r.Readings = nil }, "readings"},
		{"final without reason", func(_ *Agreement, r *Receipt) { r.Final = true }, "reason"},
		{"reason without final", func(_ *Agreement, r *Receipt) { r.Reason = ReasonDone }, "reason"},
		{"final", func(_ *Agreement, r *Receipt) { r.Final, r.Reason = true, ReasonStopped }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			now, a, first, second := receiptWorld()
			link := LinkTo(must(Seal(KindReceipt, first, testKey(3))))
			if err := first.Check(now, a, nil, Link{}); err != nil {
				t.Fatal(err)
			}
			test.spoil(a, second)
			err := second.Check(now, a, first, link)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case test.want != "" && (!errors.Is(err, ErrBadReceipt) || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestReceiptAfterTheFinalOne(t *testing.T) {
	now, a, first, second := receiptWorld()
	first.Final, first.Reason = true, ReasonDone
	second.Prev = LinkTo(must(Seal(KindReceipt, first, testKey(3))))
	if err := second.Check(now, a, first, second.Prev); !errors.Is(err, ErrBadReceipt) {
		t.Errorf("got %v", err)
	}
}

func TestReceiptOutsideOfAgreement(t *testing.T) {
	now, a, first, _ := receiptWorld()
	for _, test := range []struct {
		name            string
		issued, expires int64
	}{{"began before", testStart + 61, testStart + 3600}, {"ends after", testStart - 100, testStart + 300 - 61}} {
		b := *a
		b.Issued, b.Expires = test.issued, test.expires
		if err := first.Check(now, &b, nil, Link{}); !errors.Is(err, ErrBadReceipt) {
			t.Errorf("%s: got %v", test.name, err)
		}
	}
}

// TestValidate spoils one field of a good document at a time.
func TestValidate(t *testing.T) {
	type document interface{ Validate() error }
	good := func() (*Credential, *Order, *Agreement, *Receipt, *Revocations) {
		docs := testDocuments(t)
		return docs[0].doc.(*Credential), docs[2].doc.(*Order), docs[3].doc.(*Agreement), docs[5].doc.(*Receipt), docs[1].doc.(*Revocations)
	}
	long := strings.Repeat("x", 5000)
	for _, test := range []struct {
		name  string
		spoil func() document
	}{
		{"credential network", func() document { c, _, _, _, _ := good(); c.Network = ""; return c }},
		{"credential long network", func() document { c, _, _, _, _ := good(); c.Network = long; return c }},
		{"credential serial", func() document { c, _, _, _, _ := good(); c.Serial = 0; return c }},
		{"credential peer", func() document { c, _, _, _, _ := good(); c.Peer = dht.PeerID{}; return c }},
		{"credential subject", func() document { c, _, _, _, _ := good(); c.Subject = "a\nb"; return c }},
		{"credential no roles", func() document { c, _, _, _, _ := good(); c.Roles = nil; return c }},
		{"credential many roles", func() document { c, _, _, _, _ := good(); c.Roles = make([]Role, 9); return c }},
		{"credential times", func() document { c, _, _, _, _ := good(); c.Expires = c.Issued; return c }},
		{"credential for ever", func() document { c, _, _, _, _ := good(); c.Expires = math.MaxInt64; return c }},
		{"order id", func() document { _, o, _, _, _ := good(); o.ID = ID{}; return o }},
		{"order amount", func() document { _, o, _, _, _ := good(); o.Amount = 0; return o }},
		{"order negative amount", func() document { _, o, _, _, _ := good(); o.Amount = -1; return o }},
		{"order huge amount", func() document { _, o, _, _, _ := good(); o.Amount = MaxAmount + 1; return o }},
		{"order negative cap", func() document { _, o, _, _, _ := good(); o.MaxCap = -1; return o }},
		{"order servers", func() document { _, o, _, _, _ := good(); o.Servers = make([]dht.PeerID, 257); return o }},
		{"order negative issue", func() document { _, o, _, _, _ := good(); o.Issued = math.MinInt64; return o }},
		{"agreement order", func() document { _, _, a, _, _ := good(); a.Order = Link{}; return a }},
		{"agreement revision", func() document { _, _, a, _, _ := good(); a.Revision = 1; return a }},
		{"agreement cap", func() document { _, _, a, _, _ := good(); a.Cap = 0; return a }},
		{"agreement rate", func() document { _, _, a, _, _ := good(); a.Rates.CPU = -1; return a }},
		{"agreement cpus", func() document { _, _, a, _, _ := good(); a.Terms.CPUs = 0; return a }},
		{"agreement share", func() document { _, _, a, _, _ := good(); a.Terms.CPUShare = 2001; return a }},
		{"agreement memory", func() document { _, _, a, _, _ := good(); a.Terms.MemoryBytes = math.MaxUint64; return a }},
		{"agreement env", func() document { _, _, a, _, _ := good(); a.Terms.Env = []string{"=x"}; return a }},
		{"agreement arg", func() document { _, _, a, _, _ := good(); a.Terms.Args = []string{long}; return a }},
		{"agreement zero byte", func() document { _, _, a, _, _ := good(); a.Terms.Args = []string{"a\x00b"}; return a }},
		{"agreement args", func() document { _, _, a, _, _ := good(); a.Terms.Args = make([]string, 257); return a }},
		{"agreement stdin", func() document { _, _, a, _, _ := good(); a.Terms.Stdin = make([]byte, maxStdin+1); return a }},
		{"agreement keys", func() document { _, _, a, _, _ := good(); a.Terms.SSHKeys = make([]string, 17); return a }},
		{"receipt agreement", func() document { _, _, _, r, _ := good(); r.Agreement = Link{}; return r }},
		{"receipt times", func() document { _, _, _, r, _ := good(); r.To = r.From - 1; return r }},
		{"receipt late", func() document { _, _, _, r, _ := good(); r.To = math.MaxInt64; return r }},
		{"receipt amount", func() document { _, _, _, r, _ := good(); r.Amount = -1; return r }},
		{"receipt source", func() document { _, _, _, r, _ := good(); r.Readings[0].Source = ""; return r }},
		{"revocations order", func() document { _, _, _, _, l := good(); l.Serials = []uint64{2, 1}; return l }},
		{"revocations twice", func() document { _, _, _, _, l := good(); l.Serials = []uint64{1, 1}; return l }},
	} {
		if err := test.spoil().Validate(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v", test.name, err)
		}
	}
	c, o, a, r, l := good()
	for _, d := range []document{c, o, a, r, l} {
		if err := d.Validate(); err != nil {
			t.Errorf("%T: %v", d, err)
		}
	}
}
