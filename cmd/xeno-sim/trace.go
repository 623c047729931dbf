package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xenoserver/xeno/sim"
	"github.com/xenoserver/xeno/sim/trial"
)

func newTrace(a *app) *cobra.Command {
	var o overrides
	var algorithm, class string
	var n int
	cmd := &cobra.Command{
		Use:   "trace SCENARIO",
		Short: "Follow one query hop by hop",
		Long: `Trace asks one query of a scenario, the n-th of a class as run does with the first seed, and
shows every message: when it was sent and answered, to whom and why. Messages on the way at
one time stand side by side on the time line. Where servers come, go or change, all that is
asked before the query is asked, too.`,
		Example: "  xeno-sim trace small --class needle --n 3\n  xeno-sim trace small --class broad --algorithm pht",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: completeScenario,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.load(args[0], &o)
			if err != nil {
				return err
			}
			if class == "" {
				class = s.Queries.Classes[0]
			}
			if err := a.fits(s, o.force); err != nil {
				return err
			}
			f, err := sim.Follow(cmd.Context(), s, algorithm, class, n)
			if err != nil {
				return err
			}
			return a.print(traceObject(s, f), func(w io.Writer) error { return writeTrace(w, s, f) })
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&algorithm, "algorithm", "xeno", "whose way of asking")
	cmd.Flags().StringVar(&class, "class", "", "class of the query, default the scenario's first")
	cmd.Flags().IntVar(&n, "n", 1, "number of the query in its class, from 1")
	_ = cmd.RegisterFlagCompletionFunc("algorithm", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return sim.Algorithms(), cobra.ShellCompDirectiveNoFileComp
	})
	_ = cmd.RegisterFlagCompletionFunc("class", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return trial.Classes(), cobra.ShellCompDirectiveNoFileComp
	})
	return cmd
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// traceObject is what --json prints.
func traceObject(s *sim.Scenario, f *sim.Followed) any {
	type hop struct {
		At   float64 `json:"at_ms"`
		Took float64 `json:"took_ms"`
		From uint32  `json:"from"`
		To   uint32  `json:"to"`
		What string  `json:"what"`
		OK   bool    `json:"ok"`
	}
	hops := []hop{}
	for _, h := range f.Hops {
		hops = append(hops, hop{millis(h.At), millis(h.Took), uint32(h.From), uint32(h.To), h.What, h.OK})
	}
	return map[string]any{
		"scenario": s.Name, "seed": f.Seed, "algorithm": f.Algorithm, "class": f.Class, "n": f.Number, "client": f.Client,
		"query": f.Text, "limit": f.Query.Limit, "hops": hops, "latency_ms": millis(f.Took), "unit_ms": millis(f.Unit),
		"requests": f.Outcome.Requests, "servers": f.Outcome.Servers, "estimated": f.Outcome.Estimated, "matches": f.Matches,
		"recall": f.Recall, "complete": f.Outcome.Complete,
	}
}

// lane is how many characters the time line of a trace has.
const lane = 40

// writeTrace shows a time line: a line for each message, in the order of their
// beginning, with a bar from when it was sent to when it was answered.
func writeTrace(w io.Writer, s *sim.Scenario, f *sim.Followed) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, seed %d: %s query %d by node %d, asked with %s\n", s.Name, f.Seed, f.Class, f.Number, f.Client, f.Algorithm)
	fmt.Fprintf(&b, "  %s", f.Text)
	if f.Query.OrderBy != "" {
		fmt.Fprintf(&b, ", by %s", f.Query.OrderBy)
	}
	if f.Query.Limit > 0 {
		fmt.Fprintf(&b, ", at most %d", f.Query.Limit)
	}
	b.WriteString("\n\n")
	end := f.Took
	for _, h := range f.Hops {
		end = max(end, h.At+h.Took)
	}
	for _, h := range f.Hops {
		fmt.Fprintf(&b, "%8.1f ms %s %7.1f ms  %d → %d  %s\n", millis(h.At), bar(h, end), millis(h.Took), h.From, h.To, what(h))
	}
	fmt.Fprintf(&b, "\nanswered after %.1f ms (%.2f L), %d requests, %d servers, recall %.3g", millis(f.Took), float64(f.Took)/float64(max(1, f.Unit)),
		f.Outcome.Requests, len(f.Outcome.Servers), f.Recall)
	complete := "complete"
	if !f.Outcome.Complete {
		complete = "not complete"
	}
	fmt.Fprintf(&b, ", %s\n%d match, estimated %.1f\n", complete, f.Matches, f.Outcome.Estimated)
	_, err := io.WriteString(w, b.String())
	return err
}

// bar draws when a message was on its way, of the time until end.
func bar(h trial.Hop, end time.Duration) string {
	if end <= 0 {
		return strings.Repeat(" ", lane)
	}
	from := min(lane-1, int(int64(lane)*int64(h.At)/int64(end)))
	to := min(lane, max(from+1, int(int64(lane)*int64(h.At+h.Took)/int64(end))))
	fill := "━"
	if !h.OK {
		fill = "╌"
	}
	return strings.Repeat(" ", from) + strings.Repeat(fill, to-from) + strings.Repeat(" ", lane-to)
}

func what(h trial.Hop) string {
	if !h.OK {
		return h.What + ", no answer"
	}
	return h.What
}
