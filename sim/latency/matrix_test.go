package latency

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestReadMatrix(t *testing.T) {
	for name, text := range map[string]string{
		"tabs":     "0\t10.5\t0\n10\t0\t30\n20\t30\t7\n",
		"commas":   "0, 10.5,0\n10,0,30\n\n20,30,7",
		"spaces":   "# milliseconds\n 0  10.5 0 \r\n10 0 30\r\n20 30 7\r\n",
		"unending": "0 10.5 0\n10 0 30\n20 30 7",
	} {
		m, err := ReadMatrix(strings.NewReader(text), "m.tsv")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if m.Sites() != 3 || m.RTT(0, 1) != 10500*time.Microsecond || m.RTT(1, 0) != 10*time.Millisecond || m.RTT(2, 2) != Within {
			t.Errorf("%s: %d sites, %v %v %v", name, m.Sites(), m.RTT(0, 1), m.RTT(1, 0), m.RTT(2, 2))
		}
		if got := m.RTT(0, 2); got != 10500*time.Microsecond {
			t.Errorf("%s: the missing cell is %v, want the median of its row", name, got)
		}
		if n := m.Notes(); len(n) != 1 || n[0] != "m.tsv: 1 of 6 cells are 0 off the diagonal and were replaced by the median of their row" {
			t.Errorf("%s: notes %q", name, n)
		}
		if _, _, _, _, ok := m.Place(0); ok || m.Weight(0) != 1 {
			t.Errorf("%s: a matrix knows no places and weighs all alike", name)
		}
	}
}

func TestReadMatrixRefuses(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "\n# nothing\n", "m.tsv: no rows"},
		{"too few rows", "0 1 2\n1 0 2\n", "m.tsv:2: the file ends after 2 rows of 3 cells"},
		{"too many rows", "0 1\n1 0\n2 2\n", "m.tsv:3: a row too many"},
		{"ragged", "0 1\n1\n", "m.tsv:2: 1 cells, but the first row has 2"},
		{"header", "a b\n0 1\n1 0\n", `m.tsv:1: cell 1: "a" is no number: leave out headers`},
		{"nan", "0 1\nNaN 0\n", "m.tsv:2: cell 1: is not a number: write 0"},
		{"infinite", "0 1\nInf 0\n", "m.tsv:2: cell 1: +Inf ms is more than"},
		{"huge", "0 1\n1e400 0\n", "m.tsv:2: cell 1: "},
		{"negative", "0 -1\n1 0\n", "m.tsv:1: cell 2: -1 is negative"},
		{"microseconds", "0 140000\n140000 0\n", "m.tsv:1: cell 2: 140000 ms is more than 10000"},
		{"empty cell", "0,,2\n1,0,2\n2,1,0\n", "m.tsv:1: cell 2: is empty"},
		{"row unknown", "0 0\n1 0\n", "m.tsv: row 1 has no measurement"},
		{"one long line", strings.Repeat("0 ", maxLineBytes), "m.tsv:1: a line of more than"},
		{"many sites", strings.Repeat("1 ", MaxSites+1) + "\n", "m.tsv:1: 4001 cells, limit 4000"},
	} {
		_, err := ReadMatrix(strings.NewReader(tt.text), "m.tsv")
		if !errors.Is(err, ErrBadMatrix) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestReadMatrixBroken(t *testing.T) {
	r := io.MultiReader(strings.NewReader("0 1\n"), iotest.ErrReader(io.ErrUnexpectedEOF))
	if _, err := ReadMatrix(r, "m.tsv"); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

func FuzzReadMatrix(f *testing.F) {
	f.Add("0 1\n1 0\n")
	f.Add("0,1\n,0\n")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ReadMatrix(strings.NewReader(text), "f")
		if err != nil {
			return
		}
		for a := range m.Sites() {
			for b := range m.Sites() {
				if rtt := m.RTT(a, b); rtt < 0 || rtt > maxMillis*time.Millisecond {
					t.Fatalf("%d to %d: %v", a, b, rtt)
				}
			}
		}
	})
}
