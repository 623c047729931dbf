package xeno_test

import (
	"testing"

	"github.com/xenoserver/xeno/sim/xeno"
)

// TestCovered checks that the summaries of all cells at rest cover their ads.
func TestCovered(t *testing.T) {
	const nodes = 1000
	index, err := xeno.NewIndex(t.Context(), newWorld(t, nodes, 3), 32)
	if err != nil {
		t.Fatal(err)
	}
	if n, all := xeno.Uncovered(index); n > 0 || all < nodes {
		t.Errorf("%d of %d ads in cells are not covered", n, all)
	}
}
