package xeno

import (
	"testing"

	"github.com/xenoserver/xeno/search"
)

func TestWanted(t *testing.T) {
	for _, c := range []struct {
		name string
		in   [search.Replicas]float64
		want [search.Replicas]int
	}{
		{"nobody", [search.Replicas]float64{}, [search.Replicas]int{}},
		{"few", [search.Replicas]float64{0.9, 0.5, 0, 0.9}, [search.Replicas]int{}},
		{"one holder", [search.Replicas]float64{8, 0, 0, 0}, [search.Replicas]int{8, 0, 0, 0}},
		{"more than they may", [search.Replicas]float64{1000, 900, 500, 300}, [search.Replicas]int{80, 80, 80, 80}},
		{"one has all it may, the others get more", [search.Replicas]float64{200, 60, 60, 60}, [search.Replicas]int{80, 80, 80, 80}},
	} {
		if got := wanted(c.in); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}
