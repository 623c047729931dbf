package market

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/xenoserver/xeno/search"
)

const (
	mib = 1 << 20
	gib = 1 << 30
	// bytesPerMbit is a megabit a second in bytes a second.
	bytesPerMbit = 125_000
)

// A filler draws the attributes of one server after the other.
type filler struct {
	cfg    *Config
	m      *Market
	pcg    *rand.PCG
	rng    *rand.Rand
	types  zipf
	rank   []int // type of each rank of popularity
	owners zipf
}

func newFiller(cfg *Config, m *Market) *filler {
	f := &filler{cfg: cfg, m: m, pcg: rand.NewPCG(cfg.Seed, 0), owners: newZipf(cfg.Owners, cfg.OwnerZipf)}
	f.rng = rand.New(f.pcg)
	if len(cfg.Types) > 0 {
		f.types, f.rank = newZipf(len(cfg.Types), cfg.Zipf), f.rng.Perm(len(cfg.Types))
	}
	return f
}

// fill draws server i from a random source of its own.
func (f *filler) fill(i int) error {
	m, rng := f.m, f.rng
	f.pcg.Seed(f.cfg.Seed, uint64(i)+1)
	var machine MachineType
	if len(f.rank) > 0 {
		machine = f.cfg.Types[f.rank[f.types.draw(rng)]]
	} else {
		machine = makeUp(rng)
	}
	m.owner[i] = uint32(f.owners.draw(rng)) + 1
	m.hashes[i] = hashOf(f.cfg.PeerOf(i))
	if err := f.locate(i); err != nil {
		return err
	}
	f.equip(i, machine)
	f.price(i, machine)
	if err := f.install(i, machine); err != nil {
		return err
	}
	// Beta-like: a third loaded on average, a few nearly full.
	load := math.Pow(1-math.Pow(1-rng.Float64(), 1/1.6), 1/0.9)
	m.hot.memoryWeight[i] = float32(0.5 + 0.6*rng.Float64())
	used := rng.Float64()
	m.hot.disk[i] = wholes(m.hot.ofDisk[i]*float32(1-used*used), gib)
	m.setLoad(i, load*f.dayFactor(i))
	m.hot.gpu[i] = missing
	if gpus := m.hot.ofGPU[i]; !isMissing(gpus) {
		m.hot.gpu[i] = gpus - float32(rng.IntN(int(gpus)+1))*float32(rng.IntN(2))
	}
	return nil
}

// locate sets place, country, city and coordinate.
func (f *filler) locate(i int) error {
	if f.cfg.CoordinateOf != nil {
		c := f.cfg.CoordinateOf(i)
		if err := c.Check(); err != nil {
			return err
		}
		f.m.positions[i] = newPosition(c)
	}
	if f.cfg.PlaceOf == nil {
		return nil
	}
	lat, lon, country, city, ok := f.cfg.PlaceOf(i)
	if !ok {
		f.m.places[i] = point{lat: missing}
		return nil
	}
	if !(math.Abs(lat) <= 90 && math.Abs(lon) <= 180) {
		return fmt.Errorf("PlaceOf: latitude %v, longitude %v are not on Earth", lat, lon)
	}
	f.m.places[i] = point{float32(lat), float32(lon)}
	if err := f.m.texts["country"].set(i, country); err != nil {
		return fmt.Errorf("country: %w", err)
	}
	if err := f.m.texts["city"].set(i, city); err != nil {
		return fmt.Errorf("city: %w", err)
	}
	return nil
}

// equip sets what the machine has.
func (f *filler) equip(i int, machine MachineType) {
	m, rng := f.m, f.rng
	m.hot.ofCPU[i] = float32(machine.CPU)
	m.hot.ofMemory[i] = float32(machine.MemMiB * mib)
	m.hot.ofDisk[i] = wholes(float32(60*gib*math.Pow(machine.CPU, 0.7)*math.Exp(1.1*rng.NormFloat64())), gib)
	m.hot.ofNetwork[i] = orMissing(machine.NetMbps * bytesPerMbit)
	m.hot.ofGPU[i] = orMissing(math.Floor(machine.GPUs))
	m.numbers["gpu_memory"][i] = orMissing(machine.GPUMemMiB * mib)
	if isMissing(m.hot.ofGPU[i]) {
		m.numbers["gpu_memory"][i] = missing
	}
	m.numbers["reputation"][i] = missing // nobody knows the newest
	if x := rng.Float64(); rng.Float64() >= 0.04 {
		m.numbers["reputation"][i] = hundredths(1 - 0.6*x*x*x - 0.4*math.Pow(x, 40))
	}
	// Weibull of the shape that sessions of peers have, with a week for scale.
	const shape, week = 0.61, 7 * 24 * 3600
	m.numbers["uptime"][i] = wholes(float32(week*math.Pow(rng.ExpFloat64(), 1/shape)), 1)
}

// price sets the prices: the machine's with noise, and its parts in proportion.
func (f *filler) price(i int, machine MachineType) {
	m, rng := f.m, f.rng
	noise := func(sigma float64) float64 { return math.Exp(sigma * rng.NormFloat64()) }
	hour := machine.USDPerHour * noise(f.cfg.PriceNoise)
	m.numbers["price_hour"][i] = rounded(hour)
	m.numbers["price_cpu"][i] = rounded(0.6 * hour / machine.CPU * noise(0.2))
	m.numbers["price_memory"][i] = rounded(0.3 * hour / (machine.MemMiB / 1024) * noise(0.2))
	m.numbers["price_disk"][i] = rounded(1.1e-4 * noise(0.5))
	m.numbers["price_network"][i] = rounded(0.02 * noise(0.8))
}

// install sets the software.
func (f *filler) install(i int, machine MachineType) error {
	rng := f.rng
	offer, kernel, isolation := pick(rng, offers), pick(rng, kernels), pick(rng, isolations)
	if offer.os == "" {
		kernel = ""
	}
	for _, column := range []struct{ name, text string }{
		{"arch", machine.Arch},
		{"gpu_model", machine.GPUName},
		{"os", offer.os},
		{"os_version", offer.version},
		{"kernel", kernel},
		{"hypervisor", offer.hypervisor},
	} {
		if column.name == "gpu_model" && isMissing(f.m.hot.ofGPU[i]) {
			continue
		}
		if err := f.m.texts[column.name].set(i, column.text); err != nil {
			return fmt.Errorf("%s: %w", column.name, err)
		}
	}
	for _, column := range []struct{ name, members string }{
		{"environments", offer.environments},
		{"drivers", offer.drivers},
		{"isolation", isolation},
	} {
		col := f.m.texts[column.name]
		code, err := col.add(column.members, search.Set(strings.Fields(column.members)...))
		if err != nil {
			return fmt.Errorf("%s: %w", column.name, err)
		}
		col.codes[i] = code
	}
	return nil
}

// dayFactor is how the time of day changes the load at the server's longitude.
func (f *filler) dayFactor(i int) float64 {
	if f.cfg.Diurnal == 0 {
		return 1
	}
	local := f.cfg.Hour
	if f.m.places != nil && !isMissing(f.m.places[i].lat) {
		local += float64(f.m.places[i].lon) / 15
	}
	return 1 + f.cfg.Diurnal*math.Cos(2*math.Pi*(local-15)/24)
}

// orMissing returns x, or missing for 0.
func orMissing(x float64) float32 {
	if x <= 0 {
		return missing
	}
	return float32(x)
}

// wholes rounds x down to a multiple of unit.
func wholes(x, unit float32) float32 { return float32(math.Floor(float64(x/unit))) * unit }

// hundredths rounds x to two decimals, as people write ratios.
func hundredths(x float64) float32 { return float32(math.Round(max(0, min(x, 1))*100) / 100) }

// rounded rounds a price to three significant digits.
func rounded(x float64) float32 {
	if !(x > 0) {
		return missing
	}
	unit := math.Pow(10, math.Floor(math.Log10(x))-2)
	return float32(math.Round(x/unit) * unit)
}
