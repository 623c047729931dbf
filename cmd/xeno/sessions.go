package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
)

// sessionVerb makes a verb that takes one session.
func sessionVerb(a *app, use, short, example string, f func(ctx context.Context, c *api.Client, id ledger.ID) error) *cobra.Command {
	return &cobra.Command{
		Use:               use,
		Short:             short,
		Example:           example,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeSessions(a),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := a.client()
			id, err := sessionID(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			return f(cmd.Context(), c, id)
		},
	}
}

func newPs(a *app) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:     "ps",
		Short:   "List sessions, bought and hosted",
		Example: "  xeno ps\n  xeno ps --all --json | jq -r '.[].id'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sessions, err := a.client().Sessions(cmd.Context())
			if err != nil {
				return err
			}
			shown := []api.Session{}
			for _, s := range sessions {
				if all || !s.State.Over() {
					shown = append(shown, s)
				}
			}
			return a.print(shown, func(w io.Writer) {
				fmt.Fprintln(w, "SESSION\tSTATE\tENVIRONMENT\tSERVER\tROLE\tSPENT\tCAP\tEXPIRES")
				for _, s := range shown {
					role := "client"
					if s.Hosted {
						role = "server"
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", shortID(s.ID), s.State, s.Terms.Environment,
						serverLabel(s), role, s.Spent, s.Cap, formatTime(s.Expires))
				}
			})
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also those that are over")
	return cmd
}

// serverLabel is what the server of a session is called, with its place, or
// the end of its peer ID.
func serverLabel(s api.Session) string {
	label := nameOr(s.ServerName, s.Server.Short())
	place := s.ServerPlace
	if place != "" && s.ServerCountry != "" {
		place += ", "
	}
	if place += s.ServerCountry; place != "" {
		label += " (" + place + ")"
	}
	return label
}

func newInspect(a *app) *cobra.Command {
	return sessionVerb(a, "inspect SESSION", "Show one session", "  xeno inspect 1f2e3d4c",
		func(ctx context.Context, c *api.Client, id ledger.ID) error {
			s, err := c.Session(ctx, id)
			if err != nil {
				return err
			}
			return a.print(s, func(w io.Writer) { printSession(w, s) })
		})
}

func printSession(w io.Writer, s api.Session) {
	fmt.Fprintf(w, "session\t%s\n", s.ID)
	state := string(s.State)
	if s.Reason != "" {
		state += " (" + s.Reason + ")"
	}
	fmt.Fprintf(w, "state\t%s\n", state)
	if s.Error != "" {
		fmt.Fprintf(w, "error\t%s\n", s.Error)
	}
	if s.ExitCode != nil {
		fmt.Fprintf(w, "exit code\t%d\n", *s.ExitCode)
	}
	fmt.Fprintf(w, "server\t%s\n", s.Server)
	if label := serverLabel(s); label != s.Server.Short() {
		fmt.Fprintf(w, "called\t%s\n", label)
	}
	fmt.Fprintf(w, "client\t%s\n", s.Client)
	fmt.Fprintf(w, "environment\t%s, %d CPUs, %s memory, %s disk\n", s.Terms.Environment, s.Terms.CPUs, formatSize(s.Terms.MemoryBytes), formatSize(s.Terms.DiskBytes))
	fmt.Fprintf(w, "image\t%s\n", nameOr(s.Terms.Image, "-"))
	fmt.Fprintf(w, "agreement\t%s\n", nameOr(s.Agreement, "-"))
	fmt.Fprintf(w, "rates\t%s per hour, %s per CPU hour, %s per GiB memory hour, %s per GiB disk hour, %s per GiB moved\n",
		s.Rates.Session, s.Rates.CPU, s.Rates.Memory, s.Rates.Disk, s.Rates.Network)
	fmt.Fprintf(w, "spent\t%s of at most %s\n", s.Spent, s.Cap)
	fmt.Fprintf(w, "created\t%s\n", formatTime(s.Created))
	fmt.Fprintf(w, "running\t%s to %s, at the latest %s\n", formatTime(s.Started), formatTime(s.Ended), formatTime(s.Expires))
	if s.HostKey != "" {
		fmt.Fprintf(w, "host key\t%s\n", s.HostKey)
	}
	printSettlement(w, s.Settlement)
	if s.State.Stopped() || s.HostKey == "" || s.Hosted {
		return
	}
	use := "See its output with: xeno logs "
	if s.Terms.Environment == string(hypervisor.KindLinux) {
		use = "Use it with: xeno ssh "
	}
	fmt.Fprintf(w, "\n%s%s\nEnd it with: xeno stop %s\n", use, shortID(s.ID), shortID(s.ID))
}

// printSettlement shows the end of the money, once it is reached.
func printSettlement(w io.Writer, x *api.Settlement) {
	if x != nil {
		fmt.Fprintf(w, "settled\tpaid %s (fee %s), released %s\n", x.Paid, x.Fee, x.Released)
	}
}

func newStop(a *app) *cobra.Command {
	return sessionVerb(a, "stop SESSION", "End a session and settle its bill", "  xeno stop 1f2e3d4c",
		func(ctx context.Context, c *api.Client, id ledger.ID) error {
			s, err := c.StopSession(ctx, id)
			if err != nil {
				return err
			}
			return a.print(s, func(w io.Writer) {
				fmt.Fprintf(w, "Session %s is %s; it cost %s of at most %s.\n", shortID(s.ID), s.State, s.Spent, s.Cap)
				if !s.State.Over() {
					fmt.Fprintln(w, "XenoCorp does not answer; the bill is settled when it does. See xeno inspect.")
				}
			})
		})
}

func newExtend(a *app) *cobra.Command {
	var limit ledger.Amount
	cmd := &cobra.Command{
		Use:               "extend SESSION DURATION",
		Short:             "Move the end of a session outwards",
		Example:           "  xeno extend 1f2e3d4c 30m\n  xeno extend 1f2e3d4c 2h --cap 1.50",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeSessions(a),
		RunE: func(cmd *cobra.Command, args []string) error {
			by, err := time.ParseDuration(args[1])
			if err != nil {
				return usageError{err}
			}
			c := a.client()
			id, err := sessionID(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			s, err := c.ExtendSession(cmd.Context(), id, api.ExtendRequest{Seconds: int64(by / time.Second), Cap: limit})
			if err != nil {
				return err
			}
			return a.print(s, func(w io.Writer) {
				fmt.Fprintf(w, "Session %s ends at %s, costs at most %s.\n", shortID(s.ID), formatTime(s.Expires), s.Cap)
			})
		},
	}
	cmd.Flags().Var(amountFlag{&limit}, "cap", "add this to its cap; default what the time costs at most")
	return cmd
}

func newUsage(a *app) *cobra.Command {
	return sessionVerb(a, "usage SESSION", "Show what the meters counted", "  xeno usage 1f2e3d4c",
		func(ctx context.Context, c *api.Client, id ledger.ID) error {
			u, err := c.Usage(ctx, id)
			if err != nil {
				return err
			}
			return a.print(u, func(w io.Writer) {
				fmt.Fprintln(w, "METER\tRUNNING\tCPU\tRECEIVED\tSENT")
				printReadings(w, u.Readings)
				fmt.Fprintf(w, "\n%s of at most %s\n", u.Amount, u.Cap)
				printSettlement(w, u.Settlement)
			})
		})
}

func printReadings(w io.Writer, readings []api.Reading) {
	for _, r := range readings {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.Source, formatNanos(r.RunNanos), formatNanos(r.CPUNanos), formatSize(r.RxBytes), formatSize(r.TxBytes))
	}
}

func newReceipts(a *app) *cobra.Command {
	return sessionVerb(a, "receipts SESSION", "List the signed receipts of a session", "  xeno receipts 1f2e3d4c",
		func(ctx context.Context, c *api.Client, id ledger.ID) error {
			receipts, err := c.Receipts(ctx, id)
			if err != nil {
				return err
			}
			s, err := c.Session(ctx, id)
			if err != nil {
				return err
			}
			return a.print(receipts, func(w io.Writer) {
				fmt.Fprintln(w, "SEQ\tTO\tCPU\tMETER\tAMOUNT\tSIGNED BY CLIENT\tCLAIMED\tFINAL")
				for _, r := range receipts {
					cpu, meter := "-", "-"
					if len(r.Readings) > 0 {
						cpu, meter = formatNanos(r.Readings[0].CPUNanos), r.Readings[0].Source
					}
					fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%v\t%v\t%s\n", r.Seq, formatTime(r.To), cpu, meter, r.Amount, r.Countersigned, r.Claimed, r.Reason)
				}
				printSettlement(w, s.Settlement)
			})
		})
}
