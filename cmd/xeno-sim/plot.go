package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/xenoserver/xeno/sim/report"
)

func newPlot(a *app) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "plot RESULT...",
		Short: "Draw results anew, or several as a sweep",
		Long: `Plot writes the files of run --out from results that have samples: pictures as SVG and PNG,
tables, CSV, and one HTML page. Several results are drawn as a sweep: over the number of
servers where that differs.`,
		Example: "  xeno-sim plot results --out pictures\n  xeno-sim plot thousand.json million.json --out growth",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var all []*report.Report
			for _, name := range args {
				_, r, err := read(name)
				if err != nil {
					return err
				}
				if r == nil {
					return usagef("%s has figures without samples, as --json prints them: give the result.json that --out writes", name)
				}
				all = append(all, r)
			}
			dir, err := makeDir(out)
			if err != nil {
				return err
			}
			if err := write(dir, all, [][]report.Check{nil}); err != nil {
				return err
			}
			return a.print(map[string]any{"directory": dir}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "wrote %s/report.html, pictures and tables beside it\n", dir)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&out, "out", "plot", "`directory` to write into; it is made")
	return cmd
}
