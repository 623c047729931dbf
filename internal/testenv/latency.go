package testenv

import (
	"os"
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
	b.ReportMetric(millis(all[len(all)/2]), "p50-ms")
	b.ReportMetric(millis(all[len(all)*99/100]), "p99-ms")
	b.ReportMetric(millis(all[len(all)-1]), "max-ms")
	b.ReportMetric(0, "ns/op")
}

// fsyncs is how many writes ReportFsync syncs.
const fsyncs = 200

// ReportFsync reports the 99th percentile of writing 4 KiB at the end of a file
// and syncing it, in milliseconds: what the disk below a durable operation does
// to everybody at the time of the measurement, be it busy with others.
func ReportFsync(b *testing.B) {
	b.Helper()
	f, err := os.CreateTemp(b.TempDir(), "fsync")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, 4096)
	took := make([]time.Duration, fsyncs)
	for i := range took {
		begin := time.Now()
		if _, err := f.Write(page); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		took[i] = time.Since(begin)
	}
	slices.Sort(took)
	b.ReportMetric(millis(took[len(took)*99/100]), "fsync-p99-ms")
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
