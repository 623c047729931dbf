package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/xenoserver/xeno/node/api"
)

// homeVar names the environment variable with the default home directory.
const homeVar = "XENO_HOME"

// An app is one run of the command line.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string

	home    string // of the daemon
	json    bool
	started bool // the command line was in order and the verb began
}

// run carries out one command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.started {
		err = usageError{err}
	}
	if err != nil && ctx.Err() != nil && exitCode(err) != exitUsage {
		err = fmt.Errorf("%w: %w", context.Canceled, err)
	}
	return a.report(err, cmd.CommandPath())
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "xeno",
		Short: "Lease servers of an open platform, or offer them",
		Long: `xeno commands the local daemon (xeno-node) of the XenoServer platform: a public
infrastructure on which anybody can run any code on anybody's machine, safely, in
exchange for money.

See it all at work on this machine with: xeno demo`,
		Example:       "  xeno demo\n  xeno search 'free_cpu >= 4 && country == \"GB\"' --sort price_cpu\n  xeno run --env linux --image linux",
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRun: func(*cobra.Command, []string) {
			a.started = true
		},
	}
	root.PersistentFlags().StringVar(&a.home, "home", a.defaultHome(), "home `directory` of the daemon, default $"+homeVar)
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print one JSON value instead of text")
	root.AddGroup(&cobra.Group{ID: "start", Title: "Begin:"}, &cobra.Group{ID: "buy", Title: "Buy:"},
		&cobra.Group{ID: "use", Title: "Use:"}, &cobra.Group{ID: "operate", Title: "Operate:"})
	for group, verbs := range map[string][]*cobra.Command{
		"start":   {newDemo(a), newInit(a), newRegister(a), newStatus(a), newVersion(a)},
		"buy":     {newAccount(a), newOrder(a), newSearch(a), newPlace(a), newRun(a)},
		"use":     {newPs(a), newInspect(a), newSSH(a), newForward(a), newLogs(a), newUsage(a), newReceipts(a), newExtend(a), newStop(a), newStore(a)},
		"operate": {newCorp(a), newDeposit(a), newImage(a)},
	} {
		for _, v := range verbs {
			v.GroupID = group
			root.AddCommand(v)
		}
	}
	root.AddCommand(newDaemon(a))
	return root
}

// defaultHome is $XENO_HOME, else .xeno in the user's home directory.
func (a *app) defaultHome() string {
	if dir := a.getenv(homeVar); dir != "" {
		return dir
	}
	return filepath.Join(a.getenv("HOME"), ".xeno")
}

// client returns the API of the daemon in the home directory.
func (a *app) client() *api.Client {
	return api.NewClient(filepath.Join(a.home, api.SocketName))
}

// print shows v as JSON, or by text.
func (a *app) print(v any, text func(w io.Writer)) error {
	if a.json {
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	text(w)
	return w.Flush()
}

// onTerminal tells whether w is a terminal that a person looks at.
func onTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
