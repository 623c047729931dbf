package report

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A column of a table.
type column struct {
	head    string
	figure  string
	percent bool
}

func (c column) show(x float64) string {
	if c.percent {
		return percent(x)
	}
	return digits(x)
}

// columns are those of the tables of a class.
func columns() []column {
	return []column{
		{"latency p50 (L)", FactorP50, false},
		{"p99 (L)", FactorP99, false},
		{"p99 (L's p99)", TailP99, false},
		{"p50 (ms)", MillisP50, false},
		{"requests p50", RequestsP50, false},
		{"p99", RequestsP99, false},
		{"mean", RequestsMean, false},
		{"recall %", Recall, true},
		{"estimate off %", EstimateError, true},
		{"hottest node %", LoadMaxShare, true},
		{"per refresh", Refresh, false},
	}
}

// digits shows three significant digits, at most two behind the point.
func digits(x float64) string {
	if math.IsNaN(x) {
		return "-"
	}
	return strconv.FormatFloat(x, 'f', places(x), 64)
}

// places is how many digits behind the point show three in all.
func places(x float64) int {
	switch {
	case x == 0 || math.Abs(x) >= 100:
		return 0
	case math.Abs(x) >= 10:
		return 1
	default:
		return 2
	}
}

// percent shows a part of 1; what is not all is never shown as 100.
func percent(x float64) string {
	if x *= 100; x > 99.9 && x < 100 {
		return strconv.FormatFloat(math.Floor(x*100)/100, 'f', 2, 64)
	}
	return digits(x)
}

// A cell is one figure in a table.
type cell struct {
	text string
	best bool
}

// A Table is the figures of one class, or a comparison.
type Table struct {
	Title string
	Head  []string
	Rows  [][]cell
}

// Tables returns a table for each class, cold before warm, with algorithms as
// rows and the best of each column marked.
func (s *Summary) Tables() []Table {
	var out []Table
	for _, rows := range s.byKind() {
		title := rows[0].Class
		if rows[0].Warm {
			title += ", clients that asked before"
		}
		t := Table{Title: title, Head: []string{"algorithm"}}
		for _, r := range rows {
			t.Rows = append(t.Rows, []cell{{text: r.Algorithm}})
		}
		for _, c := range columns() {
			t.Head = append(t.Head, c.head)
			top, found := best(rows, c.figure)
			for i, r := range rows {
				e := r.Figures[c.figure]
				if !says(r.Algorithm, c.figure) {
					e = bare(math.NaN())
				}
				mark := found && r.Algorithm != Plain && e.Value == top
				t.Rows[i] = append(t.Rows[i], cell{withInterval(e, c), mark})
			}
		}
		out = append(out, t)
	}
	return out
}

// byKind divides the rows into classes.
func (s *Summary) byKind() [][]Row {
	var out [][]Row
	for i, r := range s.Rows {
		if i == 0 || s.Rows[i-1].Class != r.Class || s.Rows[i-1].Warm != r.Warm {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], r)
	}
	return out
}

// withInterval shows a figure and its interval: ±, or its ends where the figure
// is not in the middle.
func withInterval(e Estimate, c column) string {
	unit := 1.0
	if c.percent {
		unit = 100
	}
	shown, half := c.show(e.Value), e.Half()*unit
	if !(half > 0) { // none, or NaN
		return shown
	}
	if other := min(e.High-e.Value, e.Value-e.Low) * unit; other < 0.9*half {
		return shown + " (" + digits(e.Low*unit) + "–" + digits(e.High*unit) + ")"
	}
	return shown + " ±" + strconv.FormatFloat(half, 'f', places(e.Value*unit), 64)
}

// says tells whether a figure means anything for an algorithm: a plain lookup
// finds no servers.
func says(algorithm, figure string) bool {
	return algorithm != Plain || figure != Recall && figure != EstimateError
}

// WriteText writes the report for a terminal: what ran, a table for each class
// with the best of each column marked by *, and what the columns mean.
func (s *Summary) WriteText(w io.Writer) error {
	var b strings.Builder
	b.WriteString(s.headline() + "\n")
	for _, t := range s.Tables() {
		b.WriteString("\n" + t.Text())
	}
	fmt.Fprintf(&b, "\n%s\n* best among those that find as much, within 1 %%. %s is the unit, not a rival.\n", s.IntervalOf(), Plain)
	b.WriteString(s.engineLine() + "\n")
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	return WriteChecks(w, s.Checks)
}

// headline says what ran.
func (s *Summary) headline() string {
	line := s.Scenario
	if s.Value != "" {
		line += ", " + s.Value
	}
	line += fmt.Sprintf(": %d servers, %s, %s", s.Engine.Nodes, s.seeds(), s.unit())
	if s.Partial {
		line += "\nPARTIAL: " + s.Why
	}
	return line
}

// unit says what L is.
func (s *Summary) unit() string {
	text := fmt.Sprintf("L = %s ms", digits(s.UnitMillis))
	if s.UnitP99Millis > 0 {
		text += fmt.Sprintf(", p99 %s ms", digits(s.UnitP99Millis))
	}
	return text
}

func (s *Summary) seeds() string {
	parts := make([]string, len(s.Seeds))
	for i, seed := range s.Seeds {
		parts[i] = strconv.FormatUint(seed, 10)
	}
	if len(parts) == 1 {
		return "seed " + parts[0]
	}
	return "seeds " + strings.Join(parts, " ")
}

func (s *Summary) engineLine() string {
	return fmt.Sprintf("Engine: %d events, %s bytes a node. Digest %.16s.", s.Engine.Events, digits(s.Engine.BytesPerNode), s.Digest)
}

// Text lays the table out for a terminal.
func (t Table) Text() string {
	width := make([]int, len(t.Head))
	for i, h := range t.Head {
		width[i] = utf8.RuneCountInString(h)
		for _, row := range t.Rows {
			width[i] = max(width[i], utf8.RuneCountInString(row[i].starred()))
		}
	}
	var b strings.Builder
	b.WriteString(t.Title + "\n")
	line := func(cells []string) {
		for i, text := range cells {
			gap := strings.Repeat(" ", width[i]-utf8.RuneCountInString(text))
			if i == 0 {
				b.WriteString("  " + text + gap)
			} else {
				b.WriteString("  " + gap + text)
			}
		}
		b.WriteString("\n")
	}
	line(t.Head)
	for _, row := range t.Rows {
		cells := make([]string, len(row))
		for i, c := range row {
			cells[i] = c.starred()
		}
		line(cells)
	}
	return trimLines(b.String())
}

// starred marks the best; others keep its place, so that digits align.
func (c cell) starred() string {
	if c.best {
		return c.text + "*"
	}
	return c.text + " "
}

func trimLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " ")
	}
	return strings.Join(lines, "\n")
}

// WriteMarkdown writes the report as Markdown, the best of each column in bold.
func (s *Summary) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n", strings.ReplaceAll(s.headline(), "\n", "\n\n"))
	if s.Description != "" {
		fmt.Fprintf(&b, "%s\n\n", s.Description)
	}
	for _, t := range s.Tables() {
		fmt.Fprintf(&b, "## %s\n\n%s\n", t.Title, t.Markdown())
	}
	fmt.Fprintf(&b, "%s\nBold: best among those that find as much, within 1 %%; %s is the unit, not a rival.\n\n%s\n", s.IntervalOf(), Plain, s.engineLine())
	_, err := io.WriteString(w, b.String())
	return err
}

// Markdown writes the table as GitHub's.
func (t Table) Markdown() string {
	var b strings.Builder
	b.WriteString("| " + strings.Join(t.Head, " | ") + " |\n|---|" + strings.Repeat("---:|", len(t.Head)-1) + "\n")
	for _, row := range t.Rows {
		for _, c := range row {
			text := c.text
			if c.best {
				text = "**" + text + "**"
			}
			b.WriteString("| " + text + " ")
		}
		b.WriteString("|\n")
	}
	return b.String()
}
