package report

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// less is the part by which a rival's figure must be below ours to be called
// less: what is within a hundredth is as much.
const less = 0.01

// WriteFigures writes one table of several results, as of a sweep over the
// number of servers, as Markdown for documents: a row for each size and class,
// a column for each algorithm. Below it stands in which rows a rival has fewer
// requests or less latency than the first algorithm.
func WriteFigures(w io.Writer, all []*Summary) error {
	names := algorithmsOf(all)
	if len(names) == 0 {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n\n", all[0].Scenario, legend(all))
	b.WriteString("| servers | class | " + strings.Join(names, " | ") + " |\n|---:|---|" + strings.Repeat("---|", len(names)) + "\n")
	for _, s := range all {
		for _, rows := range s.byKind() {
			fmt.Fprintf(&b, "| %d | %s |", s.Engine.Nodes, label(rows[0].Class, rows[0].Warm))
			asked := most(rows)
			for _, name := range names {
				b.WriteString(" " + figuresOf(rows, name, asked) + " |")
			}
			b.WriteString("\n")
		}
	}
	b.WriteString("\n" + shortfalls(all, names[0]))
	_, err := io.WriteString(w, b.String())
	return err
}

// legend says what the cells are, and of how many queries.
func legend(all []*Summary) string {
	var b strings.Builder
	b.WriteString("Requests p50 / p99; latency p50 / p99 in L, the median latency of a plain lookup in the same network, / p99 in the p99 of that lookup; recall, or how far a count is off p50 / p99. " +
		"A number of queries in brackets: fewer than the others were asked, because each takes so many messages. Means over the seeds.\n")
	for _, s := range all {
		fmt.Fprintf(&b, "\n- %d servers: %s, %s, %d queries a class.", s.Engine.Nodes, s.seeds(), s.unit(), most(s.Rows))
		if s.Partial {
			b.WriteString(" PARTIAL: " + s.Why + ".")
		}
	}
	return b.String()
}

// most is how many queries the algorithm was asked that was asked most.
func most(rows []Row) (n int) {
	for _, r := range rows {
		n = max(n, r.Queries)
	}
	return n
}

// figuresOf is the cell of one algorithm.
func figuresOf(rows []Row, algorithm string, asked int) string {
	at := slices.IndexFunc(rows, func(r Row) bool { return r.Algorithm == algorithm })
	if at < 0 {
		return "–"
	}
	r := rows[at]
	show := func(figure string) string { return digits(r.Figures[figure].Value) }
	text := fmt.Sprintf("%s / %s; %s / %s / %s", show(RequestsP50), show(RequestsP99), show(FactorP50), show(FactorP99), show(TailP99))
	switch {
	case !says(algorithm, Recall):
	case r.Class == "count":
		text += "; off " + percent(r.Figures[EstimateError].Value) + " / " + percent(r.Figures[EstimateWorst].Value) + " %"
	default:
		text += "; " + percent(r.Figures[Recall].Value) + " %"
	}
	if r.Queries < asked {
		text += fmt.Sprintf(" (%d)", r.Queries)
	}
	return text
}

// shortfalls says where rivals have less of what costs than an algorithm, and
// what they find.
func shortfalls(all []*Summary, ours string) string {
	var lines strings.Builder
	for _, s := range all {
		for _, rows := range s.byKind() {
			at := slices.IndexFunc(rows, func(r Row) bool { return r.Algorithm == ours })
			if at < 0 {
				continue
			}
			var ahead []string
			for _, r := range rows {
				if text := cheaper(r, rows[at]); text != "" && r.Algorithm != ours && r.Algorithm != Plain {
					ahead = append(ahead, text)
				}
			}
			if len(ahead) > 0 {
				fmt.Fprintf(&lines, "- %d, %s: %s.\n", s.Engine.Nodes, label(rows[0].Class, rows[0].Warm), strings.Join(ahead, "; "))
			}
		}
	}
	if lines.Len() == 0 {
		return fmt.Sprintf("No rival has fewer requests or less latency than %s anywhere.\n", ours)
	}
	return fmt.Sprintf("Where a rival has fewer requests or less latency than %s:\n\n%s", ours, lines.String())
}

// cheaper says in which figures a rival has less than ours, nothing if in none.
func cheaper(rival, ours Row) string {
	var in []string
	for _, figure := range []struct{ name, key string }{
		{"requests p50", RequestsP50}, {"requests p99", RequestsP99}, {"latency p50", FactorP50}, {"latency p99", FactorP99},
	} {
		x, y := rival.Figures[figure.key].Value, ours.Figures[figure.key].Value
		if !math.IsNaN(x) && x < y*(1-less) {
			in = append(in, fmt.Sprintf("%s %s against %s", figure.name, digits(x), digits(y)))
		}
	}
	if len(in) == 0 {
		return ""
	}
	text := rival.Algorithm + " (" + strings.Join(in, ", ")
	if found, all := rival.Figures[Recall].Value, ours.Figures[Recall].Value; found < all-less {
		text += ", recall " + percent(found) + " %"
	}
	return text + ")"
}
