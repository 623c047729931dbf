package market

import (
	"encoding/binary"
	"fmt"
	"iter"
	"strconv"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
)

// Dates and names of the ads: they never run out by themselves, since a
// simulation lasts hours and what ends is the lease.
const (
	network = "simulation"
	issued  = 1_700_000_000
	expires = issued + 10*365*24*3600
)

// A Market is what servers are and have: index i is server i. It may be used
// at once, but not while Drift runs.
type Market struct {
	schema  *search.Schema
	servers int
	owners  int
	peerOf  func(int) dht.PeerID

	numbers   map[string]numbers
	texts     map[string]*texts
	places    []point
	positions []position
	owner     []uint32 // one more than the number in the name, 0: none
	hashes    []uint64 // leading bits of the servers' hashes
	seqs      []uint32
	hot       dynamic
	sample    []int32 // servers at random, for estimates
	quantiles map[string][]float32
	byNumber  []string // names of numbers and texts in the schema's order
	byText    []string
}

// dynamic holds the columns that Drift changes, out of the map.
type dynamic struct {
	load, cpu, memory, disk, network, gpu, sessions         numbers
	ofCPU, ofMemory, ofDisk, ofNetwork, ofGPU, memoryWeight numbers
}

// New makes a market. The same configuration makes the same market, and a
// server is the same whatever the number of servers, except for its owner.
// Errors wrap ErrBadConfig.
func New(cfg Config) (*Market, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	m := allocate(&cfg)
	f := newFiller(&cfg, m)
	for i := range cfg.Servers {
		if err := f.fill(i); err != nil {
			return nil, fmt.Errorf("%w: server %d: %w", ErrBadConfig, i, err)
		}
	}
	m.measure(cfg.Seed)
	return m, nil
}

// The columns that every market fills, at least for some servers.
func numberColumns() []string {
	return []string{
		"free_cpu", "total_cpu", "free_memory", "total_memory", "free_disk", "total_disk", "free_network", "total_network",
		"free_gpu", "total_gpu", "gpu_memory", "price_hour", "price_cpu", "price_memory", "price_disk", "price_network",
		"reputation", "uptime", "load", "sessions",
	}
}

func textColumns() []string {
	return []string{
		"gpu_model", "environments", "drivers", "os", "os_version", "kernel", "arch", "hypervisor", "isolation", "country", "city",
	}
}

func allocate(cfg *Config) *Market {
	n := cfg.Servers
	m := &Market{
		schema: search.DefaultSchema(), servers: n, owners: cfg.Owners, peerOf: cfg.PeerOf,
		numbers: make(map[string]numbers), texts: make(map[string]*texts),
		owner: make([]uint32, n), hashes: make([]uint64, n), seqs: make([]uint32, n),
		byNumber: numberColumns(), byText: textColumns(),
	}
	for _, name := range m.byNumber {
		m.numbers[name] = make(numbers, n)
	}
	for _, name := range m.byText {
		m.texts[name] = newTexts(n)
	}
	if cfg.PlaceOf != nil {
		m.places = make([]point, n)
	}
	if cfg.CoordinateOf != nil {
		m.positions = make([]position, n)
	}
	m.hot = dynamic{
		load: m.numbers["load"], sessions: m.numbers["sessions"],
		cpu: m.numbers["free_cpu"], ofCPU: m.numbers["total_cpu"],
		memory: m.numbers["free_memory"], ofMemory: m.numbers["total_memory"], memoryWeight: make(numbers, n),
		disk: m.numbers["free_disk"], ofDisk: m.numbers["total_disk"],
		network: m.numbers["free_network"], ofNetwork: m.numbers["total_network"],
		gpu: m.numbers["free_gpu"], ofGPU: m.numbers["total_gpu"],
	}
	return m
}

// Len returns how many servers there are.
func (m *Market) Len() int { return m.servers }

// Schema returns the schema of the ads, search.DefaultSchema.
func (m *Market) Schema() *search.Schema { return m.schema }

// Seq returns how often server i has changed since the start; one more is the
// sequence number of its ad.
func (m *Market) Seq(i int) uint64 { return uint64(m.seqs[i]) }

// Hash returns the leading bits of the hash of server i, the order of samples.
func (m *Market) Hash(i int) uint64 { return m.hashes[i] }

// Value returns what server i claims for a dimension, or what search.Open
// would derive for it; the zero Value where it lacks it.
func (m *Market) Value(i int, dim string) search.Value {
	if col, ok := m.numbers[dim]; ok {
		return col.value(i)
	}
	if col, ok := m.texts[dim]; ok {
		return col.values[col.codes[i]]
	}
	switch {
	case dim == search.DimServer:
		return search.Text(m.peerOf(i).String())
	case dim == search.DimOwner && m.owner[i] != 0:
		return search.Text(ownerName(m.owner[i]))
	case dim == search.DimPlace && m.places != nil && !isMissing(m.places[i].lat):
		at := m.places[i].place()
		return search.PlaceAt(at.Lat, at.Lon)
	case dim == search.DimCoordinate && m.positions != nil && !isMissing(m.positions[i].height):
		return search.CoordinateAt(m.positions[i].coordinate())
	default:
		return search.Value{}
	}
}

func (col numbers) value(i int) search.Value {
	if isMissing(col[i]) {
		return search.Value{}
	}
	return search.Number(float64(col[i]))
}

// claims ranges over what server i claims.
func (m *Market) claims(i int) iter.Seq2[string, search.Value] {
	return func(yield func(string, search.Value) bool) {
		for _, names := range [][]string{m.byNumber, m.byText, {search.DimPlace, search.DimCoordinate}} {
			for _, name := range names {
				if v := m.Value(i, name); !v.IsZero() && !yield(name, v) {
					return
				}
			}
		}
	}
}

// Ad returns the ad of server i as it is now, as if it had been opened. It
// takes some 5 µs.
func (m *Market) Ad(i int) *search.Signed {
	owner := ""
	if m.owner[i] != 0 {
		owner = ownerName(m.owner[i])
	}
	return m.schema.Assume(&search.Ad{
		Network: network, Server: m.peerOf(i), Seq: m.Seq(i) + 1, Issued: issued, Expires: expires,
		Attributes: m.schema.Attributes(m.claims(i)),
	}, owner)
}

// Bytes returns the memory that the market takes.
func (m *Market) Bytes() int {
	total := 4*len(m.owner) + 8*len(m.hashes) + 4*len(m.seqs) + 8*len(m.places) + 4*(dht.CoordinateDims+2)*len(m.positions) +
		4*len(m.hot.memoryWeight) + 4*len(m.sample)
	for _, name := range m.byNumber {
		total += 4 * (len(m.numbers[name]) + len(m.quantiles[name]))
	}
	for _, name := range m.byText {
		const entry = 200 // value, name and index entry of a dictionary
		total += 2*len(m.texts[name].codes) + entry*len(m.texts[name].values)
	}
	return total
}

// ownerName is the subject with a code of the owner column.
func ownerName(code uint32) string { return "owner-" + strconv.FormatUint(uint64(code)-1, 10) }

// ownerCode is the inverse of ownerName; 0 for what is none of the owners.
func (m *Market) ownerCode(name string) uint32 {
	const prefix = len("owner-")
	if len(name) <= prefix {
		return 0
	}
	k, err := strconv.ParseUint(name[prefix:], 10, 31)
	if err != nil || k >= uint64(m.owners) || ownerName(uint32(k)+1) != name {
		return 0
	}
	return uint32(k) + 1
}

// hashOf returns the leading bits of a server's hash.
func hashOf(id dht.PeerID) uint64 {
	h := search.HashOf(id)
	return binary.BigEndian.Uint64(h[:])
}
