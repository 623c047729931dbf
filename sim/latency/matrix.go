package latency

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrBadMatrix reports a file that is no matrix of round trip times.
var ErrBadMatrix = errors.New("latency: bad matrix")

// Within is the round trip time between two nodes of one site, access links
// not included: the switches and exchanges of a city.
const Within = 500 * time.Microsecond

// A Matrix holds measured round trip times between sites. It is immutable and
// may be used at once.
type Matrix struct {
	sites int
	rtt   []float32 // milliseconds, row by row
	notes []string
}

// ReadMatrix reads a square matrix of round trip times in milliseconds, a line
// for each row, cells separated by spaces, tabs or commas, without a header.
// Empty lines and lines that begin with # are skipped. A cell of 0 off the
// diagonal is a missing measurement: it gets the median of its row, and Notes
// says so. The diagonal does not matter. name stands in errors, which wrap
// ErrBadMatrix and say file, line and remedy, or are those of r.
func ReadMatrix(r io.Reader, name string) (*Matrix, error) {
	m := new(Matrix)
	limited := &io.LimitedReader{R: r, N: maxMatrixBytes + 1}
	lines := bufio.NewScanner(limited)
	lines.Buffer(nil, maxLineBytes)
	line, rows := 0, 0
	for lines.Scan() {
		line++
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) == 0 || text[0] == '#' {
			continue
		}
		if err := m.addRow(string(text), rows); err != nil {
			return nil, fmt.Errorf("%w: %s:%d: %w", ErrBadMatrix, name, line, err)
		}
		rows++
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("%w: %s:%d: a line of more than %d bytes: put each row on a line of its own", ErrBadMatrix, name, line+1, maxLineBytes)
	case err != nil:
		return nil, fmt.Errorf("latency: read %s: %w", name, err)
	case limited.N == 0:
		return nil, fmt.Errorf("%w: %s: more than %d MiB: use fewer sites or digits", ErrBadMatrix, name, maxMatrixBytes>>20)
	case rows == 0:
		return nil, fmt.Errorf("%w: %s: no rows: give a line of milliseconds for each site", ErrBadMatrix, name)
	case rows < m.sites:
		return nil, fmt.Errorf("%w: %s:%d: the file ends after %d rows of %d cells: rows and columns must be as many", ErrBadMatrix, name, line, rows, m.sites)
	}
	return m, m.fill(name)
}

// addRow parses the row-th row.
func (m *Matrix) addRow(text string, row int) error {
	cells := strings.Fields(text)
	if strings.Contains(text, ",") {
		cells = strings.Split(text, ",")
	}
	if row == 0 {
		if len(cells) > MaxSites {
			return fmt.Errorf("%d cells, limit %d: leave sites out", len(cells), MaxSites)
		}
		m.sites = len(cells)
		m.rtt = make([]float32, 0, len(cells)*len(cells))
	}
	if row == m.sites {
		return fmt.Errorf("a row too many: the first has %d cells, so there are as many rows", m.sites)
	}
	if len(cells) != m.sites {
		return fmt.Errorf("%d cells, but the first row has %d: the matrix must be square", len(cells), m.sites)
	}
	for i, cell := range cells {
		ms, err := parseMillis(strings.TrimSpace(cell))
		if err != nil {
			return fmt.Errorf("cell %d: %w", i+1, err)
		}
		m.rtt = append(m.rtt, float32(ms))
	}
	return nil
}

func parseMillis(cell string) (float64, error) {
	if cell == "" {
		return 0, errors.New("is empty: write 0 for what was not measured")
	}
	ms, err := strconv.ParseFloat(cell, 64)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%.20q is no number: leave out headers and row names", cell)
	case math.IsNaN(ms):
		return 0, errors.New("is not a number: write 0 for what was not measured")
	case ms < 0:
		return 0, fmt.Errorf("%g is negative: write 0 for what was not measured", ms)
	case ms > maxMillis:
		return 0, fmt.Errorf("%g ms is more than %d: give milliseconds, and 0 for time-outs", ms, maxMillis)
	}
	return ms, nil
}

// fill replaces missing cells by the median of their row.
func (m *Matrix) fill(name string) error {
	missing := 0
	for a := range m.sites {
		row := m.rtt[a*m.sites : (a+1)*m.sites]
		var known []float32
		for b, ms := range row {
			if b != a && ms > 0 {
				known = append(known, ms)
			}
		}
		if len(known) == 0 && m.sites > 1 {
			return fmt.Errorf("%w: %s: row %d has no measurement at all: leave its row and column out", ErrBadMatrix, name, a+1)
		}
		slices.Sort(known)
		for b, ms := range row {
			if b != a && ms == 0 {
				row[b] = known[len(known)/2]
				missing++
			}
		}
	}
	if missing > 0 {
		m.notes = append(m.notes, fmt.Sprintf("%s: %d of %d cells are 0 off the diagonal and were replaced by the median of their row",
			name, missing, m.sites*(m.sites-1)))
	}
	return nil
}

// Notes says what was done to the data, one line each.
func (m *Matrix) Notes() []string { return m.notes }

// Sites returns how many sites there are.
func (m *Matrix) Sites() int { return m.sites }

// RTT returns the round trip time from site a to site b; Within for a == b. It
// is not symmetric where the measurements are not.
func (m *Matrix) RTT(a, b int) time.Duration {
	if a == b {
		return Within
	}
	return time.Duration(float64(m.rtt[a*m.sites+b]) * float64(time.Millisecond))
}

// Weight returns the share of nodes at a site: all are alike.
func (m *Matrix) Weight(int) float64 { return 1 }

// Place returns ok false: a matrix does not say where its sites are.
func (m *Matrix) Place(int) (lat, lon float64, country, city string, ok bool) {
	return 0, 0, "", "", false
}
