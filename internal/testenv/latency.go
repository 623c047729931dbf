package testenv

import (
	"slices"
	"testing"
	"time"
)

// ReportLatencies reports the median, the 99th percentile and the maximum of
// what was measured, in milliseconds, instead of the time of an iteration. It
// sorts all.
func ReportLatencies(b *testing.B, all []time.Duration) {
	b.Helper()
	if len(all) == 0 {
		b.Fatal("nothing was measured")
	}
	slices.Sort(all)
	report := func(i int, unit string) {
		b.ReportMetric(float64(all[i].Microseconds())/1000, unit)
	}
	report(len(all)/2, "p50-ms")
	report(len(all)*99/100, "p99-ms")
	report(len(all)-1, "max-ms")
	b.ReportMetric(0, "ns/op")
}
