package search

// Names of dimensions that the code itself knows.
const (
	DimServer     = "server"     // the server's peer ID; set by Open, never claimed
	DimOwner      = "owner"      // subject of the server's credential; set by Open
	DimPlace      = "place"      // default of within()
	DimCoordinate = "coordinate" // default of rtt()
)

const (
	gib = 1 << 30
	tib = 1 << 40
)

// DefaultSchema returns the schema of a network whose file declares none.
func DefaultSchema() *Schema {
	s, err := NewSchema(defaultDimensions(), defaultComposites()...)
	if err != nil {
		panic("search: the default schema is right: " + err.Error())
	}
	return s
}

// defaultComposites are the trees of several dimensions that make queries with
// several conditions cheap; docs/search.md says what each saved.
func defaultComposites() []Tree {
	return []Tree{
		{Name: "compute", Dims: []string{"free_cpu", "free_memory", "price_hour"}},
		{Name: "locale", Dims: []string{DimPlace, "price_hour"}},
		{Name: "nearby", Dims: []string{DimCoordinate, "free_cpu"}},
		{Name: "quality", Dims: []string{"price_hour", "reputation", "free_cpu"}},
	}
}

func defaultDimensions() []Dimension {
	number := func(name string, unit Unit, low, high float64, tree bool, doc string) Dimension {
		return Dimension{Name: name, Kind: KindNumber, Unit: unit, Min: low, Max: high, Scale: ScaleLog, Tree: tree, Doc: doc}
	}
	return []Dimension{
		number("free_cpu", UnitNone, 0.25, 1024, true, "virtual CPUs that can be had now"),
		number("total_cpu", UnitNone, 0.25, 1024, true, "virtual CPUs of the machine"),
		number("free_cpu_share", UnitShare, 10, 4096e3, false, "CPU milliseconds a second that can be had now"),
		number("total_cpu_share", UnitShare, 10, 4096e3, false, "CPU milliseconds a second of the machine"),
		number("free_memory", UnitBytes, gib/4, 16*tib, true, "memory that can be had now"),
		number("total_memory", UnitBytes, gib/4, 16*tib, false, "memory of the machine"),
		number("free_disk", UnitBytes, gib/16, 4096*tib, true, "disk that can be had now"),
		number("total_disk", UnitBytes, gib/16, 4096*tib, false, "disk of the machine"),
		number("free_network", UnitRate, 1e4, 1e12, true, "network rate each way that can be had now"),
		number("total_network", UnitRate, 1e4, 1e12, false, "network rate of the machine"),
		number("free_gpu", UnitNone, 0.5, 256, true, "graphics processors that can be had now"),
		number("total_gpu", UnitNone, 0.5, 256, false, "graphics processors of the machine"),
		number("gpu_memory", UnitBytes, gib/4, tib, false, "memory of one graphics processor"),
		{Name: "gpu_model", Kind: KindText, Doc: "model of the graphics processors"},

		number("price_hour", UnitHour, 1e-4, 1e2, true, "price of an hour of running, whatever is used"),
		number("price_cpu", UnitHour, 1e-4, 1e2, true, "price of an hour of CPU time"),
		number("price_memory", UnitGiBHour, 1e-7, 1e2, false, "price of a GiB of memory for an hour"),
		number("price_disk", UnitGiBHour, 1e-8, 1e1, false, "price of a GiB of disk for an hour"),
		number("price_network", UnitGiB, 1e-7, 1e2, false, "price of a GiB sent or received"),

		{
			Name: "environments", Kind: KindSet, Values: []string{"wasi", "linux", "bsd", "windows"}, Tree: true,
			Doc: "kinds of environments offered",
		},
		{
			Name: "drivers", Kind: KindSet, Values: []string{"wasi", "qemu", "cloudhypervisor"},
			Doc: "what runs the environments",
		},
		{Name: "os", Kind: KindText, Tree: true, Doc: "operating system of the image on offer, such as debian"},
		{Name: "os_version", Kind: KindVersion, Doc: "its version"},
		{Name: "systems", Kind: KindSet, Doc: "every operating system on offer, as name-version"},
		{Name: "kernel", Kind: KindVersion, Tree: true, Doc: "version of the kernel that guests boot"},
		{
			Name: "arch", Kind: KindEnum, Values: []string{"amd64", "arm64", "riscv64", "ppc64le", "s390x", "loong64"}, Tree: true,
			Doc: "processor architecture",
		},
		{
			Name: "hypervisor", Kind: KindEnum, Values: []string{"none", "tcg", "kvm", "hvf", "whpx", "xen", "bhyve"}, Tree: true,
			Doc: "what accelerates virtual machines",
		},
		{
			Name: "isolation", Kind: KindSet,
			Values: []string{"process", "seccomp", "cgroup", "namespace", "vm", "sev", "sev-snp", "tdx", "sgx"},
			Doc:    "isolation features",
		},
		{Name: "meter", Kind: KindSet, Values: []string{"ebpf", "cgroup", "rusage", "qmp"}, Doc: "what counts the usage that is billed"},

		{Name: "country", Kind: KindText, Tree: true, Doc: "ISO 3166 code, two capital letters"},
		{Name: "region", Kind: KindText, Doc: "region, as the owner calls it"},
		{Name: "city", Kind: KindText, Doc: "city"},
		{Name: DimPlace, Kind: KindPlace, Tree: true, Doc: "latitude and longitude; see within()"},
		{Name: DimCoordinate, Kind: KindCoordinate, Tree: true, Doc: "network coordinate; see rtt()"},

		{Name: "name", Kind: KindText, Doc: "what its owner calls the server"},
		{Name: DimServer, Kind: KindText, Tree: true, Doc: "peer ID of the server"},
		{Name: DimOwner, Kind: KindText, Tree: true, Doc: "registered subject that owns the server, from its credential"},
		{Name: "reputation", Kind: KindNumber, Min: 0, Max: 1, Tree: true, Doc: "0 (bad) to 1 (good)"},
		number("uptime", UnitSeconds, 60, 1e9, true, "time since the server came up"),
		{Name: "load", Kind: KindNumber, Min: 0, Max: 1, Doc: "part of the CPU in use"},
		{Name: "sessions", Kind: KindNumber, Min: 0, Max: 1024, Doc: "sessions running"},
	}
}
