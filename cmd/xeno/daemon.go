package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/xenoserver/xeno/cmd/internal/daemon"
	"github.com/xenoserver/xeno/node"
)

// newDaemon makes the hidden verb by which xeno is a daemon of its own, so
// that the demo needs a single program.
func newDaemon(a *app) *cobra.Command {
	var opts daemon.Options
	cmd := &cobra.Command{
		Use:     "daemon",
		Short:   "Run the daemon, as xeno-node does",
		Example: "  xeno daemon --home oslo",
		Args:    cobra.NoArgs,
		Hidden:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.Home = a.home
			err := daemon.Run(cmd.Context(), opts)
			if errors.Is(err, node.ErrConfig) {
				err = usageError{fmt.Errorf("%w", err)}
			}
			return err
		},
	}
	opts.Flags(cmd.Flags())
	return cmd
}
