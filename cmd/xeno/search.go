package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xenoserver/xeno/node/api"
)

func newSearch(a *app) *cobra.Command {
	var req api.SearchRequest
	cmd := &cobra.Command{
		Use:   "search [QUERY]",
		Short: "Look for servers",
		Long: `Search asks the overlay for servers whose advertisement fits the query, an expression in
CEL syntax over the dimensions of an advertisement, and has every result confirmed by
the server itself. Without a query it finds all.

With --count it says only how many fit, from a few messages: an estimate with bounds that
hold the truth in 95 of 100 cases. With --error they are as narrow as that, at most 2,000
messages.`,
		Example: `  xeno search
  xeno search 'free_cpu >= 4 && country == "GB"' --sort price_cpu --limit 5
  xeno search 'price_cpu < 0.05' --explain
  xeno search 'free_gpu >= 1 && gpu_memory >= 24GiB' --count
  xeno search 'country == "DE"' --count --error 0.01 --json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if req.Count && (req.Order != "" || cmd.Flags().Changed("limit")) {
				return usagef("--count has no --sort and no --limit: it counts all that fit")
			}
			if !req.Count && req.Error != 0 {
				return usagef("--error is for a count; add --count")
			}
			if len(args) == 1 {
				req.Query = args[0]
			}
			answer, err := a.client().Search(cmd.Context(), req)
			if err != nil {
				return err
			}
			return a.print(answer, func(w io.Writer) {
				if req.Count {
					printCount(w, answer)
					return
				}
				printSearch(w, answer)
			})
		},
	}
	cmd.Flags().StringVar(&req.Order, "sort", "", "`expression` to sort by, - for descending; default price")
	cmd.Flags().IntVar(&req.Limit, "limit", 10, "most results")
	cmd.Flags().BoolVar(&req.Explain, "explain", false, "show the plan, what it cost, and which condition excluded which server")
	cmd.Flags().BoolVar(&req.Count, "count", false, "only how many fit")
	cmd.Flags().Float64Var(&req.Error, "error", 0, "how far off a count may be, as a `part` of it; default 0.1, or what 10 messages give")
	return cmd
}

func printCount(w io.Writer, answer api.SearchAnswer) {
	if answer.Complete {
		fmt.Fprintf(w, "%d servers fit", answer.Estimated)
	} else {
		fmt.Fprintf(w, "about %d servers fit, %d to %d with %g %% confidence", answer.Estimated, answer.Low, answer.High, 100*answer.Confidence)
	}
	fmt.Fprintf(w, " (%d requests, %.1f ms)\n", answer.Requests, answer.Millis)
	printExplanation(w, answer)
}

func printSearch(w io.Writer, answer api.SearchAnswer) {
	printResults(w, answer.Results)
	extent := "all that fit"
	if !answer.Complete {
		extent = fmt.Sprintf("about %d fit, %d to %d", answer.Estimated, answer.Low, answer.High)
	}
	fmt.Fprintf(w, "\n%d servers (%s), %d requests, %.1f ms\n", len(answer.Results), extent, answer.Requests, answer.Millis)
	printExplanation(w, answer)
}

// shownTrees is how many of the trees that were considered are shown.
const shownTrees = 5

func printExplanation(w io.Writer, answer api.SearchAnswer) {
	if p := answer.Plan; p != nil {
		fmt.Fprintf(w, "tree %s\t%d cells read, %d of them leaves, %d look-ups of holders\n", nameOr(p.Tree, "-"), p.Cells, p.Leaves, p.Lookups)
		for _, t := range p.Expected[:min(len(p.Expected), shownTrees)] {
			fmt.Fprintf(w, "expected %g\tcells of tree %s\n", t.Cells, t.Tree)
		}
	}
	for _, c := range answer.Conditions {
		fmt.Fprintf(w, "excluded %d\tby %s\n", c.Excluded, c.Text)
	}
	for _, x := range answer.Excluded {
		fmt.Fprintf(w, "not %s\t%s\n", nameOr(x.Name, x.Server.Short()), x.Reason)
	}
}

func printResults(w io.Writer, results []api.Result) {
	fmt.Fprintln(w, "SERVER\tNAME\tPLACE\tENVIRONMENTS\tFREE CPUS\tMEMORY\tPER HOUR\tCPU HOUR\tRTT")
	for _, r := range results {
		rtt := "-"
		if r.RTTMillis > 0 {
			rtt = fmt.Sprintf("%.1f ms", r.RTTMillis)
		}
		place := strings.Trim(r.Place+" "+r.Country, " ")
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", r.Server.Short(), nameOr(r.Name, "-"), nameOr(place, "-"),
			strings.Join(r.Environments, ","), r.Free.CPUs, formatSize(r.Free.MemoryBytes), r.Rates.Session, r.Rates.CPU, rtt)
	}
}

func nameOr(name, otherwise string) string {
	if name == "" {
		return otherwise
	}
	return name
}
