package ledger

import (
	"math"
	"math/bits"
	"time"
)

// Bases of the rates: an hour in nanoseconds, and GiB as a shift.
const (
	hourNanos = uint64(time.Hour)
	gibShift  = 30
)

// Cost returns what usage costs under terms. Each of the five parts is exact
// and rounded down to a nano-unit; the sum stops at MaxAmount. It never falls
// when a counter grows.
func (r *Rates) Cost(terms *Terms, usage *Usage) Amount {
	traffic, carry := bits.Add64(usage.RxBytes, usage.TxBytes, 0)
	if carry > 0 {
		traffic = math.MaxUint64
	}
	return sumAmounts(
		scale(r.Session, usage.RunNanos, 1, 0, hourNanos),
		scale(r.CPU, usage.CPUNanos, 1, 0, hourNanos),
		scale(r.Memory, terms.MemoryBytes, usage.RunNanos, gibShift, hourNanos),
		scale(r.Disk, terms.DiskBytes, usage.RunNanos, gibShift, hourNanos),
		scale(r.Network, traffic, 1, gibShift, 1),
	)
}

// scale returns rate*x*y / (2^shift * d), rounded down, at most MaxAmount.
// The product has 192 bits; shift is below 64 and d is not zero.
func scale(rate Amount, x, y uint64, shift uint, d uint64) Amount {
	if rate <= 0 {
		return 0
	}
	h, l := bits.Mul64(uint64(rate), x) // times y: three words w2 w1 w0
	m, w0 := bits.Mul64(l, y)
	w2, w1 := bits.Mul64(h, y)
	w1, carry := bits.Add64(w1, m, 0)
	w2 += carry
	if shift > 0 {
		w0 = w0>>shift | w1<<(64-shift)
		w1 = w1>>shift | w2<<(64-shift)
		w2 >>= shift
	}
	if w2 > 0 || w1 >= d {
		return MaxAmount
	}
	q, _ := bits.Div64(w1, w0, d)
	return Amount(min(q, uint64(MaxAmount)))
}

// sumAmounts adds amounts of at most MaxAmount each, and stops at MaxAmount.
func sumAmounts(amounts ...Amount) Amount {
	var sum Amount
	for _, a := range amounts {
		sum = min(sum+a, MaxAmount)
	}
	return sum
}

// MaxUsage returns the most that an environment under t can consume in elapsed:
// the agreed share of its CPUs, and the agreed rate each way.
func (t *Terms) MaxUsage(elapsed time.Duration) Usage {
	if elapsed <= 0 {
		return Usage{}
	}
	run := uint64(elapsed)
	share := uint64(t.CPUShare)
	if share == 0 {
		share = 1000 * uint64(t.CPUs)
	}
	traffic := mulDivUint(run, t.NetworkRate, uint64(time.Second))
	return Usage{RunNanos: run, CPUNanos: mulDivUint(run, share, 1000), RxBytes: traffic, TxBytes: traffic}
}

// WorstCost returns what the session costs if it uses all that its terms allow
// until it expires. A Cap of that much is never exhausted.
func (a *Agreement) WorstCost() Amount {
	return a.Rates.WorstCost(&a.Terms, time.Duration(a.Expires-a.Issued)*time.Second)
}

// WorstCost returns what an environment under terms can cost at most in elapsed.
func (r *Rates) WorstCost(terms *Terms, elapsed time.Duration) Amount {
	usage := terms.MaxUsage(elapsed)
	return r.Cost(terms, &usage)
}

// mulDivUint returns a*b/c rounded down, at most math.MaxUint64.
func mulDivUint(a, b, c uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	if hi >= c {
		return math.MaxUint64
	}
	q, _ := bits.Div64(hi, lo, c)
	return q
}
