package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/xenoserver/xeno/sim/report"
)

// read reads a result: a file, or the directory that --out wrote.
func read(name string) (*report.Summary, *report.Report, error) {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		name = filepath.Join(name, "result.json")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	return report.Read(f, name)
}

func newCompare(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "compare A.json B.json...",
		Short: "Show results side by side, with their differences",
		Long: `Compare reads results that run wrote with --out (a directory or its result.json) or printed
with --json. For results with samples it also tests whether their distributions agree
(Kolmogorov–Smirnov): a small p says that they do not.`,
		Example: "  xeno-sim compare before.json after.json\n  xeno-sim compare results-lazy results-maintained",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			var all []*report.Summary
			var reports []*report.Report
			for _, name := range args {
				s, r, err := read(name)
				if err != nil {
					return err
				}
				all, reports = append(all, s), append(reports, r)
			}
			return a.compare(args, all, reports)
		},
	}
}

func (a *app) compare(names []string, all []*report.Summary, reports []*report.Report) error {
	type tested struct {
		Name       string             `json:"name"`
		Result     any                `json:"result"`
		Agreements []report.Agreement `json:"agreements,omitempty"` // with the first
	}
	var out []tested
	for i, s := range all {
		t := tested{Name: names[i], Result: s.Object()}
		if i > 0 && reports[0] != nil && reports[i] != nil {
			t.Agreements = report.Agreements(reports[0], reports[i])
		}
		out = append(out, t)
	}
	return a.print(out, func(w io.Writer) error {
		if err := report.WriteComparison(w, names, all); err != nil {
			return err
		}
		for _, t := range out {
			if len(t.Agreements) > 0 {
				fmt.Fprintf(w, "\nKolmogorov–Smirnov, %s and %s:\n", names[0], t.Name)
			}
			for _, g := range t.Agreements {
				fmt.Fprintf(w, "  %s\n", g)
			}
		}
		return nil
	})
}
