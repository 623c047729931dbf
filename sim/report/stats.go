package report

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// An Estimate is a figure with its 95 % confidence interval. Low and High are
// NaN where there is none.
type Estimate struct{ Value, Low, High float64 }

// level is the confidence of all intervals.
const level = 0.95

// bare is an estimate without an interval.
func bare(x float64) Estimate { return Estimate{x, math.NaN(), math.NaN()} }

// HasInterval tells whether there is one.
func (e Estimate) HasInterval() bool { return !math.IsNaN(e.Low) && !math.IsNaN(e.High) }

// Half returns the longer arm of the interval, NaN without one.
func (e Estimate) Half() float64 { return math.Max(e.High-e.Value, e.Value-e.Low) }

// Percentile returns the smallest value of sorted that at least the part p of
// all do not exceed (nearest rank), NaN of nothing.
func Percentile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	rank := int(math.Ceil(p*float64(len(sorted)) - 1e-9))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// percentile returns a percentile with the interval that order statistics give
// by the binomial distribution, whatever the values' own is (David & Nagaraja,
// Order Statistics, 2003, section 7.1). It has no interval where the ends of
// sorted would have to be it.
func percentile(sorted []float64, p float64) Estimate {
	e := bare(Percentile(sorted, p))
	n := float64(len(sorted))
	if n*p < 1 || n*(1-p) < 1 {
		return e
	}
	// The binomial by the normal distribution, which n·p(1-p) allows from some
	// ten on; below, the interval is wide anyway.
	half := distuv.UnitNormal.Quantile(1-(1-level)/2) * math.Sqrt(n*p*(1-p))
	low, high := int(math.Floor(n*p-half)), int(math.Ceil(n*p+half))
	if low < 1 || high >= len(sorted) {
		return e
	}
	e.Low, e.High = sorted[low-1], sorted[high]
	return e
}

// mean returns the mean of values with Student's interval.
func mean(values []float64) Estimate {
	if len(values) == 0 {
		return bare(math.NaN())
	}
	if len(values) == 1 {
		return bare(values[0])
	}
	m, deviation := stat.MeanStdDev(values, nil)
	t := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(len(values) - 1)}.Quantile(1 - (1-level)/2)
	half := t * deviation / math.Sqrt(float64(len(values)))
	return Estimate{m, m - half, m + half}
}

// maxExact bounds the exact test: a million steps take some milliseconds.
const maxExact = 1_000_000

// KS is the two-sample test of Kolmogorov and Smirnov: d is the greatest
// distance between the two distributions, p how probable one as great is where
// both samples come from the same one. Neither needs to be sorted. p is exact,
// ties included, up to a product of lengths of a million; beyond, it is the
// limit with Stephens' correction (J. R. Statist. Soc. B 32, 1970), which
// overstates p with ties. An empty sample gives 0 and 1.
func KS(a, b []float64) (d, p float64) {
	if len(a) == 0 || len(b) == 0 {
		return 0, 1
	}
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	d = stat.KolmogorovSmirnov(a, nil, b, nil)
	if len(a)*len(b) <= maxExact {
		return d, exactKS(a, b, d)
	}
	n := float64(len(a)) * float64(len(b)) / float64(len(a)+len(b))
	return d, limitKS((math.Sqrt(n) + 0.12 + 0.11/math.Sqrt(n)) * d)
}

// limitKS is Kolmogorov's distribution, from x up.
func limitKS(x float64) float64 {
	if x < 0.2 {
		return 1 // to fifteen digits
	}
	sum, sign := 0.0, 1.0
	for k := 1.0; k <= 100; k++ {
		term := math.Exp(-2 * k * k * x * x)
		sum += sign * term
		sign = -sign
		if term < 1e-16 {
			break
		}
	}
	return min(1, max(0, 2*sum))
}

// exactKS walks over all orders in which the values can come, all alike
// probable, as paths from (0,0) to (n,m), and adds up what leaves the band of
// distances below d. Within a tie nothing is looked at (Schröer & Trenkler,
// Comput. Stat. Data Anal. 20, 1995).
func exactKS(a, b []float64, d float64) float64 {
	n, m := len(a), len(b)
	all := slices.Concat(a, b)
	slices.Sort(all)
	tied := func(steps int) bool { return steps < len(all) && all[steps-1] == all[steps] }
	band := d - 1e-9
	alive := make([]float64, m+1) // by j, of the present i
	var left float64
	for i := range n + 1 {
		for j := range m + 1 {
			var p float64
			switch {
			case i == 0 && j == 0:
				alive[0] = 1
				continue
			case i > 0:
				p = alive[j] * float64(n-i+1) / float64(n+m-i-j+1)
			}
			if j > 0 {
				p += alive[j-1] * float64(m-j+1) / float64(n+m-i-j+1)
			}
			if away := math.Abs(float64(i)/float64(n) - float64(j)/float64(m)); away >= band && !tied(i+j) {
				left, p = left+p, 0
			}
			alive[j] = p
		}
	}
	return min(1, left)
}
