package xeno_test

import (
	"slices"
	"testing"

	"github.com/xenoserver/xeno/sim/xeno"
)

// TestLeafSizes looks how evenly advertisements lie in leaves where the
// popularity of machine types is Zipf 1.0.
func TestLeafSizes(t *testing.T) {
	index, err := xeno.NewIndex(t.Context(), newWorld(t, 10_000, 1), 0)
	if err != nil {
		t.Fatal(err)
	}
	sum, sizes := 0, index.Leaves()
	for _, n := range sizes {
		sum += n
	}
	mean := float64(sum) / float64(len(sizes))
	most := float64(slices.Max(sizes)) / mean
	t.Logf("%d leaves of %.0f in the mean, the largest has %.2f times as many", len(sizes), mean, most)
	if most > 2 {
		t.Errorf("the largest leaf has %.2f times the mean, want at most 2", most)
	}
}
