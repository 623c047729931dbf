package latency

import (
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// Sites is what Embed needs of a model.
type Sites interface {
	Sites() int
	RTT(a, b int) time.Duration
}

// Embed returns the network coordinate of every site as production finds it: a
// dht.Vivaldi each, which measures one of up to 64 random neighbours a round.
// rounds 0 stands for EmbedRounds. Access links are not in it: see At. The
// adjustments, which the prediction of package search leaves out, are zero.
// Round trips longer than the ten seconds that production takes for a fault
// are left out.
func Embed(l Sites, rounds int, rng *rand.Rand) []dht.Coordinate {
	if rounds == 0 {
		rounds = EmbedRounds
	}
	n := l.Sites()
	ids := make([]dht.PeerID, n)
	nodes := make([]*dht.Vivaldi, n)
	neighbours := make([][]int32, n)
	for i := range n {
		binary.BigEndian.PutUint32(ids[i][:], uint32(i)+1)
		nodes[i] = dht.NewVivaldi(rng)
		neighbours[i] = drawNeighbours(i, n, rng)
	}
	for range rounds {
		for i, v := range nodes {
			if len(neighbours[i]) == 0 {
				continue
			}
			j := int(neighbours[i][rng.IntN(len(neighbours[i]))])
			if err := v.Observe(ids[j], nodes[j].Coordinate(), l.RTT(i, j)); err != nil {
				continue // nothing changed
			}
		}
	}
	coordinates := make([]dht.Coordinate, n)
	for i, v := range nodes {
		coordinates[i] = v.Coordinate()
		coordinates[i].Adjustment = 0
	}
	return coordinates
}

// drawNeighbours returns different sites other than i.
func drawNeighbours(i, n int, rng *rand.Rand) []int32 {
	want := min(embedNeighbours, n-1)
	chosen := make([]int32, 0, want)
	if want == n-1 {
		for j := range n {
			if j != i {
				chosen = append(chosen, int32(j))
			}
		}
		return chosen
	}
	seen := map[int]bool{i: true}
	for len(chosen) < want {
		if j := rng.IntN(n); !seen[j] {
			seen[j] = true
			chosen = append(chosen, int32(j))
		}
	}
	return chosen
}

// At returns the coordinate of a node at a site: the access link is height.
func At(site dht.Coordinate, access time.Duration) dht.Coordinate {
	site.Height += access.Seconds()
	return site
}
