package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/xenoserver/xeno/sim"
	"github.com/xenoserver/xeno/sim/report"
)

func newRun(a *app) *cobra.Command {
	var o overrides
	var out string
	var show bool
	cmd := &cobra.Command{
		Use:   "run SCENARIO",
		Short: "Run a scenario and print what came of it",
		Long: `Run carries out a scenario: one that ships, by its name, or a TOML file. It prints a table
for each class of queries. With --out it writes the result, every query, tables, pictures
and one HTML page into a directory, the same bytes for the same scenario and seed.

Control-C ends a run with what there is, marked as partial; a second one ends it at once.`,
		Example: `  xeno-sim run small
  xeno-sim run needle --seed 1,2,3 --algorithms xeno,pht --out results
  xeno-sim run mine.toml --nodes 50000 --set queries.count=500 --json`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: completeScenario,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.load(args[0], &o)
			if err != nil {
				return err
			}
			if err := a.fits(s, o.force); err != nil {
				return err
			}
			dir, err := makeDir(out)
			if err != nil {
				return err
			}
			p := a.progress(show, 1)
			result, runErr := sim.Run(cmd.Context(), s, p.show)
			p.end()
			if result == nil || len(result.Runs) == 0 {
				return runErr
			}
			return errors.Join(runErr, a.finishRun(s, result, runErr, dir))
		},
	}
	o.flags(cmd)
	o.expectFlag(cmd)
	cmd.Flags().StringVar(&out, "out", "", "`directory` to write the result into; it is made")
	cmd.Flags().BoolVar(&show, "progress", onTerminal(a.stderr), "show progress on standard error; default on a terminal")
	return cmd
}

// finishRun prints and writes what came of a run, and looks whether it is as
// expected.
func (a *app) finishRun(s *sim.Scenario, result *report.Report, runErr error, dir string) error {
	markPartial(result, runErr)
	summary := result.Summarise()
	if !result.Partial {
		summary.Checks = s.Verify(summary)
	}
	if err := a.print(summary.Object(), summary.WriteText); err != nil {
		return err
	}
	if err := write(dir, []*report.Report{result}, [][]report.Check{summary.Checks}); err != nil {
		return err
	}
	return verdict(summary.Checks)
}

// markPartial says of a run that did not come to its end why.
func markPartial(result *report.Report, runErr error) {
	switch {
	case errors.Is(runErr, context.Canceled):
		result.Partial, result.Why = true, "interrupted"
	case runErr != nil:
		result.Partial, result.Why = true, runErr.Error()
	}
}

// verdict is an error where something is not as expected.
func verdict(checks []report.Check) error {
	failed := 0
	for _, c := range checks {
		if !c.OK {
			failed++
		}
	}
	if failed == 0 {
		return nil
	}
	return fmt.Errorf("%w: %d of %d figures, marked FAIL", errExpectation, failed, len(checks))
}

func newSweep(a *app) *cobra.Command {
	var o overrides
	var out string
	var show bool
	cmd := &cobra.Command{
		Use:   "sweep SCENARIO",
		Short: "Run a scenario once for every value of its parameter",
		Long: `Sweep carries out a scenario once for every value in its table [sweep], and prints the
tables one after the other. With --out it also draws how figures grow.`,
		Example: "  xeno-sim sweep growth --out growth\n  xeno-sim sweep growth --set 'sweep.values=[1000, 2000]' --json",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: completeScenario,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.load(args[0], &o)
			if err != nil {
				return err
			}
			points, err := s.Points()
			if err != nil {
				return err
			}
			if len(points) == 0 {
				return usagef("scenario %s has no table [sweep]: add one, or use xeno-sim run", s.Name)
			}
			for i := range points {
				if err := a.fits(&points[i], o.force); err != nil {
					return fmt.Errorf("%s: %w", s.Title(i), err)
				}
			}
			dir, err := makeDir(out)
			if err != nil {
				return err
			}
			var all []*report.Report
			var runErr error
			p := a.progress(show, len(points))
			for i := 0; i < len(points) && runErr == nil; i++ {
				var result *report.Report
				p.part(i, s.Title(i))
				if result, runErr = sim.Run(cmd.Context(), &points[i], p.show); result != nil && len(result.Runs) > 0 {
					result.Value = s.Title(i)
					markPartial(result, runErr)
					all = append(all, result)
				}
			}
			p.end()
			if len(all) == 0 {
				return runErr
			}
			return errors.Join(runErr, a.finishSweep(s, all, dir))
		},
	}
	o.flags(cmd)
	o.expectFlag(cmd)
	cmd.Flags().StringVar(&out, "out", "", "`directory` to write the results into; it is made")
	cmd.Flags().BoolVar(&show, "progress", onTerminal(a.stderr), "show progress on standard error; default on a terminal")
	return cmd
}

// finishSweep prints and writes what came of a sweep.
func (a *app) finishSweep(s *sim.Scenario, all []*report.Report, dir string) error {
	var summaries []*report.Summary
	var objects []any
	complete := len(all) == len(s.Sweep.Values)
	for _, r := range all {
		summaries = append(summaries, r.Summarise())
		objects = append(objects, summaries[len(summaries)-1].Object())
		complete = complete && !r.Partial
	}
	var checks []report.Check
	if complete {
		checks = s.Verify(summaries...)
	}
	object := map[string]any{"scenario": s.Name, "parameter": s.Sweep.Parameter, "partial": !complete, "points": objects, "expect": checks}
	err := a.print(object, func(w io.Writer) error {
		for _, sum := range summaries {
			if err := sum.WriteText(w); err != nil {
				return err
			}
			fmt.Fprintln(w)
		}
		return report.WriteChecks(w, checks)
	})
	if err != nil {
		return err
	}
	if err := write(dir, all, [][]report.Check{checks}); err != nil {
		return err
	}
	return verdict(checks)
}
