package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
)

func newForward(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "forward SESSION LOCAL:REMOTE",
		Short: "Make a TCP port of an environment a local one",
		Long: `Forward listens on port LOCAL of the loopback address and carries each connection
through the overlay to port REMOTE of the environment, until it is interrupted.
LOCAL 0 takes a free port and prints it.`,
		Example:           "  xeno forward 1f2e3d4c 8080:80\n  xeno forward 1f2e3d4c 0:22",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeSessions(a),
		RunE: func(cmd *cobra.Command, args []string) error {
			local, remote, err := parsePorts(args[1])
			if err != nil {
				return err
			}
			c := a.client()
			id, err := sessionID(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			if s, err := c.Session(cmd.Context(), id); err != nil || s.State.Stopped() {
				return errors.Join(err, stoppedError(s))
			}
			return a.forward(cmd.Context(), c, id, local, remote)
		},
	}
}

func stoppedError(s api.Session) error {
	if !s.State.Stopped() {
		return nil
	}
	return api.Errorf(api.CodeConflict, "session %s is %s", shortID(s.ID), s.State)
}

// parsePorts reads LOCAL:REMOTE.
func parsePorts(text string) (local, remote int, err error) {
	l, r, ok := strings.Cut(text, ":")
	local, errL := strconv.Atoi(l)
	remote, errR := strconv.Atoi(r)
	if !ok || errL != nil || errR != nil || local < 0 || local > 65535 || remote < 1 || remote > 65535 {
		return 0, 0, usagef("%.40q is not LOCAL:REMOTE, two port numbers such as 8080:80", text)
	}
	return local, remote, nil
}

// forward serves until ctx is done, which is its normal end.
func (a *app) forward(ctx context.Context, c *api.Client, id ledger.ID, local, remote int) error {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(local)))
	if err != nil {
		return err
	}
	port := l.Addr().(*net.TCPAddr).Port
	err = a.print(map[string]any{"address": l.Addr().String(), "port": port, "remote": remote}, func(w io.Writer) {
		fmt.Fprintf(w, "%s is port %d of session %s; interrupt to end\n", l.Addr(), remote, shortID(id))
	})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		conns.Go(func() {
			if err := carry(ctx, c, id, conn, remote); err != nil {
				fmt.Fprintf(a.stderr, "xeno: connection from %s: %v\n", conn.RemoteAddr(), err)
			}
		})
	}
}

// carry joins one local connection to the remote port.
func carry(ctx context.Context, c *api.Client, id ledger.ID, conn net.Conn, remote int) error {
	defer conn.Close()
	far, err := c.Connect(ctx, id, remote)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() {
		_ = conn.Close()
		_ = far.Close()
	})
	defer stop()
	api.Splice(conn, far)
	return nil
}
