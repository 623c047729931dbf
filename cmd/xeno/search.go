package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/xenoserver/xeno/node/api"
)

func newSearch(a *app) *cobra.Command {
	var req api.SearchRequest
	var all bool
	cmd := &cobra.Command{
		Use:   "search [QUERY]",
		Short: "Look for servers",
		Long: `Search asks the overlay for servers whose advertisement fits the query, an expression in
CEL syntax over the dimensions of an advertisement, and has every result confirmed by
the server itself. Without a query any server fits.

With --all it finds every server that fits and shows each as soon as it has confirmed, in no
order; with --json a line of JSON for each, and one for the answer. It ends at 2,000 messages,
or at --budget, and says how complete that is.

With --count it says only how many fit, from a few messages: an estimate with bounds that
hold the truth in 95 of 100 cases. With --error they are as narrow as that, at most 2,000
messages.`,
		Example: `  xeno search
  xeno search 'free_cpu >= 4 && country == "GB"' --sort price_cpu --limit 5
  xeno search 'price_cpu < 0.05' --explain
  xeno search 'free_gpu >= 1 && gpu_memory >= 24GiB' --count
  xeno search 'country == "DE"' --all --budget 20000 --json
  xeno search 'country == "DE"' --count --error 0.01 --json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			limited := req.Order != "" || cmd.Flags().Changed("limit")
			if all && (req.Count || limited) {
				return usagef("--all has no --sort, no --limit and no --count: it shows all that fit as they are found")
			}
			if req.Count && limited {
				return usagef("--count has no --sort and no --limit: it counts all that fit")
			}
			if !req.Count && req.Error != 0 {
				return usagef("--error is for a count; add --count")
			}
			if len(args) == 1 {
				req.Query = args[0]
			}
			if all {
				req.Limit = 0
				return a.searchAll(cmd.Context(), req)
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
	cmd.Flags().BoolVar(&all, "all", false, "every server that fits, as they are found")
	cmd.Flags().IntVar(&req.Budget, "budget", 0, "most `messages`; default 2000, or 10 for a count")
	cmd.Flags().Float64Var(&req.Error, "error", 0, "how far off a count may be, as a `part` of it; default 0.1, or what 10 messages give")
	return cmd
}

// searchAll shows every server that fits as it is found.
func (a *app) searchAll(ctx context.Context, req api.SearchRequest) error {
	// Rows are shown before the widest is known.
	w := tabwriter.NewWriter(a.stdout, 12, 8, 2, ' ', 0)
	enc := json.NewEncoder(a.stdout)
	n := 0
	var failed error // to write, which ends the search
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answer, err := a.client().SearchAll(ctx, req, func(r api.Result) {
		n++
		switch {
		case failed != nil:
			return
		case a.json:
			failed = enc.Encode(api.SearchLine{Result: &r})
		default:
			if n == 1 {
				printHeader(w)
			}
			printResult(w, r)
			failed = w.Flush()
		}
		if failed != nil {
			cancel()
		}
	})
	switch {
	case failed != nil:
		return failed
	case err != nil:
		return err
	case a.json:
		return enc.Encode(api.SearchLine{Answer: &answer})
	}
	return a.print(answer, func(w io.Writer) { printExtent(w, n, answer) })
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
	printExtent(w, len(answer.Results), answer)
}

// printExtent says how many servers were found, and of how many.
func printExtent(w io.Writer, found int, answer api.SearchAnswer) {
	extent := "all that fit"
	if !answer.Complete {
		extent = fmt.Sprintf("about %d fit, %d to %d", answer.Estimated, answer.Low, answer.High)
	}
	fmt.Fprintf(w, "\n%d servers (%s), %d requests, %.1f ms\n", found, extent, answer.Requests, answer.Millis)
	if answer.Incomplete != "" {
		fmt.Fprintf(w, "%.0f %% of what had to be read was: %s\n", 100*answer.Completeness, answer.Incomplete)
	}
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
	printHeader(w)
	for _, r := range results {
		printResult(w, r)
	}
}

func printHeader(w io.Writer) {
	fmt.Fprintln(w, "SERVER\tNAME\tPLACE\tENVIRONMENTS\tFREE CPUS\tMEMORY\tPER HOUR\tCPU HOUR\tRTT")
}

func printResult(w io.Writer, r api.Result) {
	rtt := "-"
	if r.RTTMillis > 0 {
		rtt = fmt.Sprintf("%.1f ms", r.RTTMillis)
	}
	place := strings.Trim(r.Place+" "+r.Country, " ")
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", r.Server.Short(), nameOr(r.Name, "-"), nameOr(place, "-"),
		strings.Join(r.Environments, ","), r.Free.CPUs, formatSize(r.Free.MemoryBytes), r.Rates.Session, r.Rates.CPU, rtt)
}

func nameOr(name, otherwise string) string {
	if name == "" {
		return otherwise
	}
	return name
}
