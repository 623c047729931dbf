package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// An app is one run of the command line.
type app struct {
	stdout, stderr io.Writer
	clock          func() time.Duration // since the start

	json    bool
	started bool // the command line was in order and the verb began
}

// run carries out one command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := newRoot(a)
	root.SetArgs(args)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.started {
		err = usageError{err}
	}
	return a.report(err, cmd.CommandPath())
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "xeno-sim",
		Short: "Simulate searches in networks of up to millions of servers",
		Long: `xeno-sim runs the search of the XenoServer platform, the very code of the daemon, beside
the algorithms that it is compared with, on a simulated network under virtual time.
The same scenario and seed give the same figures on every machine.

Begin with: xeno-sim run small`,
		Example:       "  xeno-sim run small\n  xeno-sim run market --seed 1,2,3 --out results\n  xeno-sim compare before.json after.json",
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRun: func(*cobra.Command, []string) {
			a.started = true
		},
	}
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print one JSON value instead of text")
	root.AddCommand(newRun(a), newSweep(a), newCompare(a), newTrace(a), newPlot(a), newScenarios(a))
	return root
}

// print shows v as JSON, or by text.
func (a *app) print(v any, text func(w io.Writer) error) error {
	if !a.json {
		return text(a.stdout)
	}
	enc := json.NewEncoder(a.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// note tells a person something beside the result.
func (a *app) note(format string, args ...any) {
	fmt.Fprintf(a.stderr, format+"\n", args...)
}

// onTerminal tells whether w is a terminal that a person looks at.
func onTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
