package market

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

const header = "type,arch,cpu,mem_mib,net_mbps,gpu_count,gpu_mem_mib,gpu_name,usd_per_hour,colour\n"

func TestReadTypes(t *testing.T) {
	text := header +
		"small,x86_64,2,4096,500,,,,0.05,red\n" +
		"free,arm64,1,1024,100,,,,,blue\n" +
		"\"big, with GPUs\",amd64,64,524288,25000,8,81920,H100,32.5,\n"
	types, skipped, err := ReadTypes(strings.NewReader(text), "t.csv", Columns{})
	if err != nil {
		t.Fatal(err)
	}
	want := []MachineType{
		{Name: "small", Arch: "amd64", CPU: 2, MemMiB: 4096, NetMbps: 500, USDPerHour: 0.05},
		{Name: "big, with GPUs", Arch: "amd64", CPU: 64, MemMiB: 524288, NetMbps: 25000, GPUs: 8, GPUMemMiB: 81920, GPUName: "H100", USDPerHour: 32.5},
	}
	if !slices.Equal(types, want) || skipped != 1 {
		t.Errorf("got %+v, %d skipped", types, skipped)
	}
	columns := Columns{Type: "-", Arch: "-", CPU: "vcpus", MemMiB: "memory", NetMbps: "-", GPUCount: "-", GPUMemMiB: "-", GPUName: "-", USDPerHour: "price"}
	types, _, err = ReadTypes(strings.NewReader("\ufeffprice, memory, vcpus\n1, 2048, 4\n"), "t.csv", columns)
	if want := []MachineType{{CPU: 4, MemMiB: 2048, USDPerHour: 1}}; err != nil || !slices.Equal(types, want) {
		t.Errorf("configured columns: %+v, %v", types, err)
	}
}

func TestReadTypesRefuses(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "t.csv: is empty"},
		{"missing column", "type,arch,cpu\n", `t.csv:1: no column "mem_mib": add it, or configure`},
		{"no rows", header, "t.csv: no row with a price"},
		{"no price", header + "a,amd64,1,2,,,,,,\n", "t.csv: no row with a price in column usd_per_hour"},
		{"nan", header + "a,amd64,1,2,,,,,1,\nb,amd64,NaN,2,,,,,1,\n", `t.csv:3: column cpu is "NaN": write a number of 0 to 1e12`},
		{"huge", header + "a,amd64,1e13,2,,,,,1,\n", `t.csv:2: column cpu is "1e13": write a number of 0 to 1e12`},
		{"infinite", header + "a,amd64,1,2,inf,,,,1,\n", `t.csv:2: column net_mbps is "inf": write a number`},
		{"word", header + "a,amd64,1,lots,,,,,1,\n", `t.csv:2: column mem_mib is "lots": write a number`},
		{"no cpu", header + "a,amd64,,2,,,,,1,\n", `t.csv:2: column cpu is "": write a number greater than 0`},
		{"free", header + "a,amd64,1,2,,,,,0,\n", `t.csv:2: column usd_per_hour is "0": write a number greater than 0`},
		{"negative", header + "\na,amd64,1,2,,-1,,,1,\n", `t.csv:3: column gpu_count is "-1": write a number of 0 to 1e12`},
		{"arch", header + "a,z80,1,2,,,,,1,\n", `t.csv:2: column arch is "z80": write one of amd64`},
		{"ragged", header + "a,amd64,1\n", "t.csv:2: wrong number of fields: put as many cells in each row"},
		{"quotes", header + "a,\"amd64,1\n", "t.csv:2: "},
		{"second row", header + "a,amd64,1,2,,,,,1,\n\"b\nc\",amd64,x,2,,,,,1,\n", `t.csv:4: column cpu is "x"`},
	} {
		_, _, err := ReadTypes(strings.NewReader(tt.text), "t.csv", Columns{})
		if !errors.Is(err, ErrBadFile) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	broken := io.MultiReader(strings.NewReader(header), iotest.ErrReader(io.ErrClosedPipe))
	if _, _, err := ReadTypes(broken, "t.csv", Columns{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a reader that fails: %v", err)
	}
}

func TestReadRequests(t *testing.T) {
	got, err := ReadRequests(strings.NewReader("name,cpu_milli,memory_mib,num_gpu\na,12000,16384,1\nb,500,,0\n"), "r.csv")
	if want := []Request{{CPU: 12, MemMiB: 16384, GPUs: 1}, {CPU: 0.5}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for text, want := range map[string]string{
		"cpu_milli,memory_mib\n1,2\n":           `r.csv:1: no column "num_gpu"`,
		"cpu_milli,memory_mib,num_gpu\n":        "r.csv: no rows",
		"cpu_milli,memory_mib,num_gpu\n1,2,x\n": `r.csv:2: column num_gpu is "x"`,
	} {
		if _, err := ReadRequests(strings.NewReader(text), "r.csv"); !errors.Is(err, ErrBadFile) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzReadTypes(f *testing.F) {
	f.Add(header + "a,amd64,1,2,,,,,1,\n")
	f.Fuzz(func(t *testing.T, text string) {
		types, _, err := ReadTypes(strings.NewReader(text), "t.csv", Columns{})
		if err != nil {
			return
		}
		for _, m := range types {
			if !(m.CPU > 0 && m.MemMiB > 0 && m.USDPerHour > 0 && m.NetMbps >= 0 && m.GPUs >= 0) {
				t.Errorf("took %+v", m)
			}
		}
	})
}

// TestMarketFromTypes holds that servers are of the types, the popular ones
// most, at about their prices.
func TestMarketFromTypes(t *testing.T) {
	cfg := testConfig(20_000)
	cfg.Zipf, cfg.PriceNoise = 1, -1
	for k := range 50 {
		cfg.Types = append(cfg.Types, MachineType{
			Name: "t", Arch: "arm64", CPU: float64(k + 1), MemMiB: float64(k+1) * 1024, USDPerHour: 0.01 * float64(k+1), GPUs: float64(k % 2), GPUName: "X",
		})
	}
	m := newMarket(t, cfg)
	counts := make([]int, 51)
	for i := range m.Len() {
		cpu, _ := m.Value(i, "total_cpu").Number()
		price, _ := m.Value(i, "price_hour").Number()
		if arch, _ := m.Value(i, "arch").Text(); arch != "arm64" || float32(price) != rounded(0.01*cpu) {
			t.Fatalf("server %d: %s, %v CPUs for %v", i, arch, cpu, price)
		}
		if gpus := m.Value(i, "total_gpu"); gpus.IsZero() != (int(cpu)%2 == 1) || gpus.IsZero() != m.Value(i, "gpu_model").IsZero() {
			t.Fatalf("server %d with %v CPUs: GPUs %v", i, cpu, gpus)
		}
		if !m.Value(i, "total_network").IsZero() {
			t.Fatalf("server %d: a network rate that its type does not tell", i)
		}
		counts[int(cpu)]++
	}
	slices.Sort(counts)
	sum := 0.0
	for k := range 50 {
		sum += 1 / float64(k+1)
	}
	for rank, got := range []int{counts[50], counts[49], counts[48]} {
		want := 20_000 / sum / float64(rank+1)
		if float64(got) < 0.9*want || float64(got) > 1.1*want {
			t.Errorf("the type of rank %d has %d servers, want %.0f", rank+1, got, want)
		}
	}
}
