package market

import (
	"math"
	"math/rand/v2"
)

// Drift changes what server i has free and how loaded it is, as time does, and
// raises the sequence number of its ad. Steps are generalised Pareto, as those
// of dynamic attributes of real hosts (Bandara and Jayasumana, 2011): mostly a
// few hundredths, at times nearly everything.
func (m *Market) Drift(i int, rng *rand.Rand) {
	load := float64(m.hot.load[i]) + step(rng)
	m.setLoad(i, reflect(load))
	if total := m.hot.ofDisk[i]; total > 0 {
		free := reflect(float64(m.hot.disk[i]/total) + step(rng)/8) // disks change slowly
		m.hot.disk[i] = wholes(total*float32(free), gib)
	}
	if gpus := m.hot.ofGPU[i]; !isMissing(gpus) && rng.IntN(4) == 0 {
		m.hot.gpu[i] = max(0, min(m.hot.gpu[i]+float32(2*rng.IntN(2)-1), gpus))
	}
	m.seqs[i]++
}

// step is a change of a share of something, to either side.
func step(rng *rand.Rand) float64 {
	const scale, shape = 0.03, 0.3
	size := scale / shape * (math.Pow(1-rng.Float64(), -shape) - 1)
	if rng.IntN(2) == 0 {
		return -min(size, 1)
	}
	return min(size, 1)
}

// reflect folds a share that left 0 to 1 by at most 1 back into it.
func reflect(x float64) float64 {
	if x < 0 {
		return -x
	}
	if x > 1 {
		return 2 - x
	}
	return x
}

// setLoad sets the load and what it leaves free: CPUs in quarters or, of many,
// wholes, memory in 64 MiB, the network in megabits.
func (m *Market) setLoad(i int, load float64) {
	h := &m.hot
	h.load[i] = hundredths(load)
	left := 1 - h.load[i]
	cpuUnit := float32(0.25)
	if h.ofCPU[i] >= 8 {
		cpuUnit = 1
	}
	h.cpu[i] = wholes(h.ofCPU[i]*left, cpuUnit)
	h.memory[i] = wholes(h.ofMemory[i]*(1-min(1, h.load[i]*h.memoryWeight[i])), 64*mib)
	h.network[i] = wholes(h.ofNetwork[i]*(1-0.6*h.load[i]), bytesPerMbit) // missing stays missing
	h.sessions[i] = float32(math.Ceil(float64(h.ofCPU[i] * h.load[i] / 2)))
}
