package ledger

import (
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseAmount(t *testing.T) {
	for _, test := range []struct {
		in   string
		want Amount
		text string
	}{
		{"0", 0, "0.00"},
		{"12.5", 12_500_000_000, "12.50"},
		{"0.000000001", 1, "0.000000001"},
		{"-3", -3 * Unit, "-3.00"},
		{" 7.10 ", 7_100_000_000, "7.10"},
		{"9000000", 9_000_000 * Unit, "9000000.00"},
		{"-0.5", -Unit / 2, "-0.50"},
	} {
		got, err := ParseAmount(test.in)
		if err != nil || got != test.want || got.String() != test.text {
			t.Errorf("%q: %d %s, %v; want %d %s", test.in, got, got, err, test.want, test.text)
		}
	}
	for _, in := range []string{"", ".", "1.", ".5", "1.0000000001", "1e3", "0x1", "--1", "1.-5", "+1", "1.+5", "1_0", "٣", "99999999999999999999.x", "9007200.+1"} {
		if got, err := ParseAmount(in); !errors.Is(err, ErrBadAmount) {
			t.Errorf("%q: %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"9007200", "-9007200", "9007199.254740992", "99999999999999999999", "-99999999999999999999.5"} {
		if got, err := ParseAmount(in); !errors.Is(err, ErrLargeAmount) || !strings.Contains(err.Error(), "at most 9007199.254740991") || strings.Contains(err.Error(), "not an amount") {
			t.Errorf("%q: %d, %v; want that it is too large, and the limit", in, got, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a := Amount(rapid.Int64Range(-int64(MaxAmount), int64(MaxAmount)).Draw(t, "amount"))
		if b, err := ParseAmount(a.String()); err != nil || a != b {
			t.Fatalf("%d is written %s and read %d, %v", a, a, b, err)
		}
	})
	if got := Amount(math.MinInt64).String(); got != "-9223372036.854775808" {
		t.Errorf("smallest amount: %s", got)
	}
}

func FuzzParseAmount(f *testing.F) {
	f.Add("12.50")
	f.Add("-0.000000001")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAmount(s)
		if err != nil {
			return
		}
		if b, err := ParseAmount(a.String()); err != nil || a != b || a > MaxAmount || a < -MaxAmount {
			t.Fatalf("%q is %d, written %s, read %d, %v", s, a, a, b, err)
		}
	})
}

func FuzzParseID(f *testing.F) {
	f.Add("000102030405060708090a0b0c0d0e0f")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseID(s); err == nil {
			if again, err := ParseID(id.String()); err != nil || again != id {
				t.Fatalf("%q: %s, %s, %v", s, id, again, err)
			}
		}
	})
}

// bigCost is Cost with integers of any size.
func bigCost(r *Rates, t *Terms, u *Usage) Amount {
	part := func(rate Amount, x, y uint64, d ...uint64) *big.Int {
		if rate <= 0 {
			return new(big.Int)
		}
		p := big.NewInt(int64(rate))
		p.Mul(p, new(big.Int).SetUint64(x)).Mul(p, new(big.Int).SetUint64(y))
		for _, d := range d {
			p.Div(p, new(big.Int).SetUint64(d)) // nested divisions round down like one
		}
		return p
	}
	traffic := new(big.Int).Add(new(big.Int).SetUint64(u.RxBytes), new(big.Int).SetUint64(u.TxBytes))
	if !traffic.IsUint64() {
		traffic.SetUint64(math.MaxUint64)
	}
	const hour = 3_600_000_000_000
	sum := part(r.Session, u.RunNanos, 1, hour)
	sum.Add(sum, part(r.CPU, u.CPUNanos, 1, hour))
	sum.Add(sum, part(r.Memory, t.MemoryBytes, u.RunNanos, 1<<30, hour))
	sum.Add(sum, part(r.Disk, t.DiskBytes, u.RunNanos, 1<<30, hour))
	sum.Add(sum, part(r.Network, traffic.Uint64(), 1, 1<<30))
	if !sum.IsInt64() || Amount(sum.Int64()) > MaxAmount {
		return MaxAmount
	}
	return Amount(sum.Int64())
}

// wide draws numbers of every magnitude.
func wide(t *rapid.T, label string) uint64 {
	return rapid.Uint64().Draw(t, label) >> rapid.IntRange(0, 63).Draw(t, label+" shift")
}

func TestCostAgainstBig(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := func(label string) Amount { return Amount(wide(t, label) % uint64(MaxAmount+1)) }
		r := Rates{rate("session"), rate("cpu"), rate("memory"), rate("disk"), rate("network")}
		terms := Terms{MemoryBytes: wide(t, "memory bytes"), DiskBytes: wide(t, "disk bytes")}
		u := Usage{wide(t, "run"), wide(t, "cpu used"), wide(t, "rx"), wide(t, "tx")}
		got, want := r.Cost(&terms, &u), bigCost(&r, &terms, &u)
		if got != want {
			t.Fatalf("%+v %+v %+v: got %d, want %d", r, terms, u, got, want)
		}
		more := u
		more.RunNanos += wide(t, "more run") // may wrap around
		if next := r.Cost(&terms, &more); more.RunNanos >= u.RunNanos && next < got {
			t.Fatalf("cost fell from %d to %d as run grew", got, next)
		}
	})
}

func TestCostExample(t *testing.T) {
	r := Rates{Session: Unit, CPU: 2 * Unit, Memory: Unit / 2, Disk: Unit / 10, Network: Unit / 100}
	terms := Terms{MemoryBytes: 2 << 30, DiskBytes: 10 << 30}
	u := Usage{RunNanos: uint64(30 * time.Minute), CPUNanos: uint64(15 * time.Minute), RxBytes: 1 << 30, TxBytes: 1 << 30}
	if got, want := r.Cost(&terms, &u), parse(t, "2.02"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func parse(t *testing.T, s string) Amount {
	t.Helper()
	a, err := ParseAmount(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestWorstCost holds what a receipt may say to what the worst cost promised.
func TestWorstCost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := Agreement{
			Terms: Terms{
				CPUs: uint32(rapid.IntRange(1, 8).Draw(t, "cpus")), MemoryBytes: wide(t, "memory") % maxMemoryBytes,
				NetworkRate: wide(t, "rate") % maxNetworkRate,
			},
			Rates: Rates{Session: 1e9, CPU: 1e9, Memory: 1e8, Network: 1e7}, Issued: testStart,
			Expires: testStart + rapid.Int64Range(1, maxLifetime).Draw(t, "ttl"),
		}
		a.Terms.CPUShare = uint32(rapid.IntRange(0, 1000*int(a.Terms.CPUs)).Draw(t, "share"))
		worst := a.WorstCost()
		elapsed := time.Duration(rapid.Int64Range(0, a.Expires-a.Issued).Draw(t, "elapsed")) * time.Second
		most := a.Terms.MaxUsage(elapsed)
		if cost := a.Rates.Cost(&a.Terms, &most); cost > worst {
			t.Fatalf("%s costs %s, more than the worst %s", elapsed, cost, worst)
		}
	})
}
