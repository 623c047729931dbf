package market

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// ErrBadFile reports a CSV file that does not say what it should.
var ErrBadFile = errors.New("market: bad file")

// A MachineType is a kind of server that many servers are of.
type MachineType struct {
	Name       string
	Arch       string // as in the schema: amd64, arm64, …; empty: not told
	CPU        float64
	MemMiB     float64
	NetMbps    float64 // megabits a second; 0: not told
	GPUs       float64
	GPUMemMiB  float64
	GPUName    string
	USDPerHour float64
}

// Columns names the columns of a file of machine types. An empty name stands
// for the one in DefaultColumns, "-" for a column that the file does not have:
// allowed for all but CPU, MemMiB and USDPerHour.
type Columns struct {
	Type, Arch, CPU, MemMiB, NetMbps, GPUCount, GPUMemMiB, GPUName, USDPerHour string
}

// DefaultColumns returns the names that are looked for where none are given.
func DefaultColumns() Columns {
	return Columns{
		Type: "type", Arch: "arch", CPU: "cpu", MemMiB: "mem_mib", NetMbps: "net_mbps", GPUCount: "gpu_count",
		GPUMemMiB: "gpu_mem_mib", GPUName: "gpu_name", USDPerHour: "usd_per_hour",
	}
}

// ReadTypes reads machine types from CSV with a header; further columns do not
// matter. Rows without a price are left out and counted in skipped. name
// stands in errors, which wrap ErrBadFile and say file, line and remedy, or
// are those of r.
func ReadTypes(r io.Reader, name string, c Columns) (types []MachineType, skipped int, err error) {
	def := DefaultColumns()
	wanted := []string{c.Type, c.Arch, c.CPU, c.MemMiB, c.NetMbps, c.GPUCount, c.GPUMemMiB, c.GPUName, c.USDPerHour}
	for i, s := range []string{def.Type, def.Arch, def.CPU, def.MemMiB, def.NetMbps, def.GPUCount, def.GPUMemMiB, def.GPUName, def.USDPerHour} {
		if wanted[i] == "" {
			wanted[i] = s
		}
	}
	t, err := openTable(r, name, wanted)
	if err != nil {
		return nil, 0, err
	}
	for t.next() {
		if t.text(8) == "" {
			skipped++
			continue
		}
		m := MachineType{
			Name: t.text(0), Arch: t.arch(1), CPU: t.positive(2), MemMiB: t.positive(3), NetMbps: t.number(4), GPUs: t.number(5),
			GPUMemMiB: t.number(6), GPUName: t.text(7), USDPerHour: t.positive(8),
		}
		types = append(types, m)
	}
	if t.err != nil {
		return nil, 0, t.err
	}
	if len(types) == 0 {
		return nil, 0, fmt.Errorf("%w: %s: no row with a price in column %s: give one machine type at least", ErrBadFile, name, wanted[8])
	}
	return types, skipped, nil
}

// A Request is what somebody really asked of a computing cluster.
type Request struct {
	CPU    float64 // virtual CPUs
	MemMiB float64
	GPUs   float64
}

// ReadRequests reads requests from CSV with a header and the columns cpu_milli
// (thousandths of a CPU), memory_mib and num_gpu; others do not matter. Errors
// are as those of ReadTypes.
func ReadRequests(r io.Reader, name string) ([]Request, error) {
	t, err := openTable(r, name, []string{"cpu_milli", "memory_mib", "num_gpu"})
	if err != nil {
		return nil, err
	}
	var requests []Request
	for t.next() {
		requests = append(requests, Request{CPU: t.number(0) / 1000, MemMiB: t.number(1), GPUs: t.number(2)})
	}
	if t.err != nil {
		return nil, t.err
	}
	if len(requests) == 0 {
		return nil, fmt.Errorf("%w: %s: no rows: give one request at least", ErrBadFile, name)
	}
	return requests, nil
}

// A table reads the wanted columns of a CSV file row by row, and keeps the
// first error.
type table struct {
	name    string
	csv     *csv.Reader
	limited *io.LimitedReader
	wanted  []string
	at      []int // columns in the file; -1: none
	row     []string
	rows    int
	err     error
}

func openTable(r io.Reader, name string, wanted []string) (*table, error) {
	t := &table{name: name, limited: &io.LimitedReader{R: r, N: maxFileBytes + 1}, wanted: wanted, at: make([]int, len(wanted))}
	t.csv = csv.NewReader(t.limited)
	t.csv.ReuseRecord = true
	t.csv.TrimLeadingSpace = true
	header, err := t.csv.Read()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: %s: is empty: begin with a line that names the columns", ErrBadFile, name)
	}
	if err != nil {
		return nil, t.wrap(err)
	}
	columns := make(map[string]int, len(header))
	for i, column := range header {
		columns[strings.TrimSpace(strings.TrimPrefix(column, "\ufeff"))] = i
	}
	for i, want := range wanted {
		at, ok := columns[want]
		if !ok && want != "-" {
			return nil, fmt.Errorf("%w: %s:1: no column %q: add it, or configure what it is called", ErrBadFile, name, want)
		}
		if !ok {
			at = -1
		}
		t.at[i] = at
	}
	return t, nil
}

// next goes to the next row.
func (t *table) next() bool {
	if t.err != nil {
		return false
	}
	row, err := t.csv.Read()
	switch {
	case errors.Is(err, io.EOF) && t.limited.N == 0:
		t.err = fmt.Errorf("%w: %s: more than %d MiB: leave rows or columns out", ErrBadFile, t.name, maxFileBytes>>20)
	case errors.Is(err, io.EOF):
		return false
	case err != nil:
		t.err = t.wrap(err)
	case t.rows == maxRows:
		t.err = fmt.Errorf("%w: %s: more than %d rows: leave rows out", ErrBadFile, t.name, maxRows)
	}
	t.row, t.rows = row, t.rows+1
	return t.err == nil
}

// wrap tells malformed CSV from a reader that failed.
func (t *table) wrap(err error) error {
	if parse, ok := errors.AsType[*csv.ParseError](err); ok {
		return fmt.Errorf("%w: %s:%d: %w: put as many cells in each row as in the header, and quotes in pairs", ErrBadFile, t.name, parse.Line, parse.Err)
	}
	return fmt.Errorf("market: read %s: %w", t.name, err)
}

// text returns the i-th wanted cell; empty where there is none.
func (t *table) text(i int) string {
	if t.at[i] < 0 {
		return ""
	}
	return strings.TrimSpace(t.row[t.at[i]])
}

// number returns a number that is not negative; 0 for an empty cell.
func (t *table) number(i int) float64 {
	text := t.text(i)
	if text == "" {
		return 0
	}
	x, err := strconv.ParseFloat(text, 64)
	if err != nil || !(x >= 0 && x <= maxNumber) {
		t.fail(i, "a number of 0 to 1e12")
		return 0
	}
	return x
}

func (t *table) positive(i int) float64 {
	x := t.number(i)
	if x == 0 {
		t.fail(i, "a number greater than 0")
	}
	return x
}

// arch returns the schema's name of a processor architecture.
func (t *table) arch(i int) string {
	switch text := strings.ToLower(t.text(i)); text {
	case "x86_64", "x64":
		return "amd64"
	case "aarch64":
		return "arm64"
	case "", "amd64", "arm64", "riscv64", "ppc64le", "s390x", "loong64":
		return text
	default:
		t.fail(i, "one of amd64, arm64, riscv64, ppc64le, s390x, loong64")
		return ""
	}
}

func (t *table) fail(i int, want string) {
	if t.err != nil {
		return
	}
	line := 1
	if t.at[i] >= 0 {
		line, _ = t.csv.FieldPos(t.at[i])
	}
	t.err = fmt.Errorf("%w: %s:%d: column %s is %.40q: write %s", ErrBadFile, t.name, line, t.wanted[i], t.text(i), want)
}
