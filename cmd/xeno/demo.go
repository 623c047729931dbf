package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/xenoserver/xeno/cmd/xeno/internal/demo"
)

func newDemo(a *app) *cobra.Command {
	opts := demo.Options{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the whole platform at work on this machine",
		Long: `Demo starts a network of separate daemons on loopback: a XenoCorp, XenoServers with
different places, sizes and prices, and other participants. A client registers, sets
money aside, searches, leases an environment, runs a job in it, and pays the metered bill.
At the end the books are shown; they sum to zero. Everything that was started is stopped.

It needs no privileges. As root, and with QEMU and a kernel in /boot, it leases a Linux
virtual machine.`,
		Example: "  xeno demo\n  xeno demo --env linux --json\n  xeno demo --servers 10 --participants 20 --keep",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if opts.Executable, err = os.Executable(); err != nil {
				return err
			}
			opts.Out = a.stdout
			if a.json {
				opts.Out = a.stderr
			}
			result, err := demo.Run(cmd.Context(), opts)
			if errors.Is(err, demo.ErrOptions) {
				return usageError{err}
			}
			if err == nil && a.json {
				return a.print(result, nil)
			}
			if err == nil {
				fmt.Fprintf(a.stdout, "\nDone: the bill is paid and the books sum to %s.\n", result.Sum)
			}
			return err
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&opts.Env, "env", demo.EnvAuto, "`environment` to lease: auto, wasi or linux")
	fs.IntVar(&opts.Servers, "servers", 3, "number of XenoServers")
	fs.IntVar(&opts.Participants, "participants", 5, "number of other participants, the client among them")
	fs.StringVar(&opts.LogLevel, "log-level", "info", "of the daemons' logs: debug, info, warn or error")
	fs.BoolVar(&opts.Keep, "keep", false, "leave the directory with state and logs")
	return cmd
}
