package xeno

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestOccupancies packs words and finds them again.
func TestOccupancies(t *testing.T) {
	const ads, words = 500, 5
	rng := rand.New(rand.NewPCG(1, 1))
	o := newOccupancies(ads, words)
	given := make([][]uint64, ads)
	for i := range given {
		given[i] = []uint64{0, 1 << rng.IntN(64), 1<<rng.IntN(32) | 1<<(32+rng.IntN(32)), ^uint64(0), rng.Uint64()}
	}
	spread(ads, func(i int) { o.set(i, given[i]) })
	for i, want := range given {
		got := make([]uint64, words)
		if o.unite(got, i); !slices.Equal(got, want) {
			t.Fatalf("ad %d: %x, expected %x", i, got, want)
		}
	}
	got, want := make([]uint64, words), make([]uint64, words)
	for i := range 3 {
		o.unite(got, i)
		for w, b := range given[i] {
			want[w] |= b
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("together %x, expected %x", got, want)
	}
}
