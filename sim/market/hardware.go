package market

import (
	"math"
	"math/rand/v2"
	"sort"
)

// A zipf draws ranks: rank k of 0 … n-1 with a weight of 1/(k+1)^s.
type zipf struct{ until []float64 }

func newZipf(n int, s float64) zipf {
	z := zipf{until: make([]float64, n)}
	sum := 0.0
	for k := range z.until {
		sum += math.Pow(float64(k+1), -s)
		z.until[k] = sum
	}
	return z
}

func (z zipf) draw(rng *rand.Rand) int {
	x := rng.Float64() * z.until[len(z.until)-1]
	return sort.Search(len(z.until)-1, func(k int) bool { return x < z.until[k] })
}

// A choice is something and how often it comes.
type choice[T any] struct {
	weight float64
	value  T
}

// pick draws one of choices, whose weights sum up to 1.
func pick[T any](rng *rand.Rand, choices []choice[T]) T {
	x := rng.Float64()
	for _, c := range choices {
		if x -= c.weight; x < 0 {
			return c.value
		}
	}
	return choices[len(choices)-1].value
}

// Correlated hardware, after Heien, Kondo and Anderson (Correlated resource
// models of Internet end hosts, 2011): core counts and memory a core are
// discrete, disks log-normal, and prices follow sizes.
var (
	coreCounts = []choice[float64]{
		{0.04, 1},
		{0.11, 2},
		{0.23, 4},
		{0.08, 6},
		{0.20, 8},
		{0.07, 12},
		{0.11, 16},
		{0.04, 24},
		{0.06, 32},
		{0.025, 48},
		{0.025, 64},
		{0.006, 96},
		{0.004, 128},
	}
	memoryPerCore = []choice[float64]{ // GiB
		{0.06, 0.5},
		{0.17, 1},
		{0.32, 2},
		{0.30, 4},
		{0.12, 8},
		{0.03, 16},
	}
	architectures = []choice[string]{
		{0.83, "amd64"},
		{0.14, "arm64"},
		{0.02, "riscv64"},
		{0.007, "ppc64le"},
		{0.003, "s390x"},
	}
	linkRates = []float64{100, 250, 500, 1000, 2500, 10_000, 25_000, 100_000} // Mbit/s
	gpuModels = []choice[gpuModel]{
		{0.22, gpuModel{"RTX 3060", 12, 0.06}},
		{0.18, gpuModel{"RTX 3090", 24, 0.16}},
		{0.20, gpuModel{"RTX 4090", 24, 0.30}},
		{0.12, gpuModel{"T4", 16, 0.15}},
		{0.10, gpuModel{"A4000", 16, 0.20}},
		{0.08, gpuModel{"L40S", 48, 0.70}},
		{0.06, gpuModel{"A100", 80, 1.20}},
		{0.04, gpuModel{"H100", 80, 2.20}},
	}
	gpuCounts = []choice[float64]{
		{0.70, 1},
		{0.15, 2},
		{0.10, 4},
		{0.05, 8},
	}
)

type gpuModel struct {
	name   string
	gib    float64
	dollar float64 // an hour
}

// makeUp draws a machine.
func makeUp(rng *rand.Rand) MachineType {
	m := MachineType{Arch: pick(rng, architectures), CPU: pick(rng, coreCounts)}
	gib := m.CPU * pick(rng, memoryPerCore)
	m.MemMiB = gib * 1024
	// Big machines are on fast links: about one step more for four times the cores.
	step := 1.5 + 0.6*math.Log2(m.CPU) + rng.NormFloat64()
	m.NetMbps = linkRates[max(0, min(int(step), len(linkRates)-1))]
	m.USDPerHour = 0.008*m.CPU + 0.002*gib
	if m.CPU >= 4 && rng.Float64() < 0.15 {
		gpu := pick(rng, gpuModels)
		m.GPUs, m.GPUName, m.GPUMemMiB = pick(rng, gpuCounts), gpu.name, gpu.gib*1024
		m.USDPerHour += gpu.dollar * m.GPUs
	}
	return m
}

// Software and owners' habits, made up: shares that differ by orders of
// magnitude, as they do.
type software struct{ environments, os, version, hypervisor, drivers string }

var (
	offers = []choice[software]{
		{0.10, software{"wasi", "", "", "none", "wasi"}},
		{0.22, software{"linux wasi", "debian", "12", "kvm", "qemu wasi"}},
		{0.14, software{"linux wasi", "debian", "13", "kvm", "cloudhypervisor wasi"}},
		{0.16, software{"linux", "ubuntu", "24.04", "kvm", "cloudhypervisor"}},
		{0.10, software{"linux", "ubuntu", "22.04", "kvm", "qemu"}},
		{0.09, software{"linux wasi", "alpine", "3.22", "kvm", "cloudhypervisor wasi"}},
		{0.05, software{"linux windows", "ubuntu", "24.04", "kvm", "qemu"}},
		{0.04, software{"linux", "fedora", "42", "tcg", "qemu"}},
		{0.04, software{"linux", "rocky", "9.6", "xen", "qemu"}},
		{0.03, software{"bsd linux wasi", "debian", "12", "bhyve", "qemu wasi"}},
		{0.02, software{"linux wasi", "debian", "11", "hvf", "qemu wasi"}},
		{0.01, software{"windows", "", "", "whpx", "qemu"}},
	}
	kernels = []choice[string]{
		{0.05, "5.10.0-35-amd64"},
		{0.15, "5.15.0"},
		{0.30, "6.1.0-42-amd64"},
		{0.20, "6.6.93"},
		{0.05, "6.8.0"},
		{0.18, "6.12.9"},
		{0.05, "6.15.4"},
		{0.02, "7.0.1"},
	}
	isolations = []choice[string]{
		{0.55, "cgroup namespace process seccomp vm"},
		{0.30, "cgroup namespace process vm"},
		{0.09, "process"},
		{0.03, "cgroup namespace process seccomp sev vm"},
		{0.02, "cgroup namespace process seccomp sev sev-snp vm"},
		{0.01, "cgroup namespace process seccomp tdx vm"},
	}
)
