package search

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/xenoserver/xeno/dht"
)

var cities = []Place{{52.52, 13.4}, {48.85, 2.35}, {40.7, -74}, {35.68, 139.7}, {-33.9, 151.2}, {51.5, -0.1}, {1.35, 103.8}, {-23.5, -46.6}}

// testSchema is what the ads below are made for.
var testSchema = DefaultSchema()

// randomAd returns an ad of a new server, with correlated sizes and prices and
// now and then an attribute missing.
func randomAd(rng *rand.Rand, now time.Time) *Signed {
	ad := &Ad{Network: "test", Server: randomID(rng), Seq: 1, Issued: now.Unix(), Expires: now.Add(time.Hour).Unix()}
	ad.Attributes = AttributesOf(randomAttributes(rng))
	return testSchema.Assume(ad, fmt.Sprint("owner-", rng.IntN(20)))
}

func randomAttributes(rng *rand.Rand) map[string]Value {
	size := math.Pow(2, float64(rng.IntN(8)))
	city := cities[rng.IntN(len(cities))]
	arches := []string{"amd64", "amd64", "amd64", "arm64", "riscv64"}
	kernels := []string{"5.15.0", "6.1.0-42-amd64", "6.6.1", "6.12.9", "7.0"}
	var c dht.Coordinate
	for i := range c.Vec {
		c.Vec[i] = rng.NormFloat64() * 0.04
	}
	c.Height = rng.Float64() * 0.01
	free := float64(rng.IntN(int(size)*4+1)) / 4
	all := map[string]Value{
		"total_cpu":    Number(size),
		"free_cpu":     Number(free),
		"total_memory": Number(size * 2 * gib),
		"free_memory":  Number(math.Floor(free * 2 * gib * rng.Float64())),
		"free_disk":    Number(float64(rng.IntN(2000)) * gib),
		"price_hour":   Number(math.Floor(size*(1+rng.Float64())*1e7) / 1e9),
		"price_cpu":    Number(0.01 * float64(1+rng.IntN(4))),
		"environments": Set([]string{"wasi", "linux", "bsd"}[:1+rng.IntN(3)]...),
		"arch":         Text(arches[rng.IntN(len(arches))]),
		"kernel":       Text(kernels[rng.IntN(len(kernels))]),
		"os":           Text([]string{"debian", "alpine"}[rng.IntN(2)]),
		"country":      Text([]string{"DE", "FR", "US", "JP", "AU"}[rng.IntN(5)]),
		"place":        PlaceAt(max(-90, min(90, city.Lat+rng.NormFloat64())), city.Lon+rng.NormFloat64()),
		"coordinate":   CoordinateAt(c),
		"reputation":   Number(rng.Float64()),
		"uptime":       Number(math.Floor(rng.ExpFloat64() * 1e6)),
	}
	if rng.IntN(4) == 0 {
		all["free_gpu"] = Number(float64(rng.IntN(9)))
	}
	for _, name := range []string{"price_hour", "reputation", "coordinate", "country", "kernel"} {
		if rng.IntN(25) == 0 {
			delete(all, name)
		}
	}
	return all
}

// changed returns the ad with other free resources and a higher Seq.
func changed(rng *rand.Rand, old *Signed, now time.Time) *Signed {
	ad := *old.Ad
	ad.Seq++
	ad.Issued, ad.Expires = now.Unix(), now.Add(time.Hour).Unix()
	owner, _ := ad.Attributes.Get(DimOwner).Text()
	ad.Attributes = AttributesOf(randomAttributes(rng))
	return testSchema.Assume(&ad, owner)
}

// renewed returns the same ad with later dates.
func renewed(old *Signed, now time.Time) *Signed {
	ad := *old.Ad
	ad.Seq++
	ad.Issued, ad.Expires = now.Unix(), now.Add(time.Hour).Unix()
	owner, _ := ad.Attributes.Get(DimOwner).Text()
	return testSchema.Assume(&ad, owner)
}

func randomLeaf(rng *rand.Rand) Predicate {
	ops := []Op{OpLess, OpLessEqual, OpGreater, OpGreaterEqual, OpEqual, OpNotEqual}
	order := ops[rng.IntN(4)]
	anyOp := ops[rng.IntN(len(ops))]
	switch rng.IntN(13) {
	case 0:
		return Compare{"free_cpu", anyOp, Number(float64(rng.IntN(64)))}
	case 1:
		return Compare{"free_memory", order, Number(math.Floor(math.Pow(2, rng.Float64()*8) * gib / 2))}
	case 2:
		return Compare{"price_hour", order, Number(math.Floor(math.Pow(2, rng.Float64()*9)*1e7) / 1e9)}
	case 3:
		low := rng.Float64()
		return Range{"reputation", low, low + rng.Float64()*0.3}
	case 4:
		return Compare{"kernel", anyOp, Text([]string{"5.15", "6.1", "6.6.1", "7"}[rng.IntN(4)])}
	case 5:
		return Compare{"arch", ops[4+rng.IntN(2)], Text([]string{"amd64", "arm64", "s390x"}[rng.IntN(3)])}
	case 6:
		return In{"country", []Value{Text("DE"), Text([]string{"FR", "US", "XX"}[rng.IntN(3)])}}
	case 7:
		return Contains{"environments", []string{"wasi", "linux", "bsd", "plan9"}[rng.IntN(4)]}
	case 8:
		return Within{"place", cities[rng.IntN(len(cities))], math.Pow(2, rng.Float64()*14)}
	case 9:
		var to []dht.Coordinate
		for range 1 + rng.IntN(3) {
			var c dht.Coordinate
			for i := range c.Vec {
				c.Vec[i] = rng.NormFloat64() * 0.04
			}
			to = append(to, c)
		}
		return RTT{"coordinate", to, time.Duration(rng.IntN(250)) * time.Millisecond}
	case 10:
		return Has{[]string{"free_gpu", "price_hour", "reputation"}[rng.IntN(3)]}
	case 11:
		return Compare{"free_gpu", order, Number(float64(rng.IntN(9)))}
	default:
		return Compare{"owner", OpEqual, Text(fmt.Sprint("owner-", rng.IntN(22)))}
	}
}

func randomPredicate(rng *rand.Rand, depth int) Predicate {
	if depth == 0 || rng.IntN(3) == 0 {
		return randomLeaf(rng)
	}
	n := 1 + rng.IntN(3)
	members := make([]Predicate, n)
	for i := range members {
		members[i] = randomPredicate(rng, depth-1)
	}
	switch rng.IntN(6) {
	case 0, 1, 2:
		return And(members)
	case 3, 4:
		return Or(members)
	default:
		return Not{members[0]}
	}
}

func randomQuery(rng *rand.Rand) Query {
	q := Query{Where: randomPredicate(rng, 2)}
	if rng.IntN(10) == 0 {
		q.Where = nil
	}
	q.OrderBy = []string{"", "", "price_hour", "free_memory", "reputation", "kernel", "coordinate"}[rng.IntN(7)]
	q.Desc = rng.IntN(3) == 0
	q.Limit = []int{0, 1, 3, 10, 10, 50}[rng.IntN(6)]
	if q.OrderBy == "coordinate" {
		var c dht.Coordinate
		c.Vec[0] = rng.NormFloat64() * 0.04
		q.Origin = &c
	}
	return q
}
