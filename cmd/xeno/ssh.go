package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"
	"golang.org/x/term"

	"github.com/xenoserver/xeno/cmd/xeno/internal/access"
)

// defaultTerm is assumed where TERM is not set.
const defaultTerm = "xterm"

func newSSH(a *app) *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use:   "ssh SESSION [COMMAND...]",
		Short: "Log in to an environment, or run a command in it",
		Long: `Ssh connects through the overlay, so that neither side needs a public address. The host
key is the one that the server signed in the session's agreement; any other is refused.
The exit code is that of the command.`,
		Example:           "  xeno ssh 1f2e3d4c\n  xeno ssh 1f2e3d4c uname -a",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeSessions(a),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := a.client()
			id, err := sessionID(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			client, err := access.Dial(cmd.Context(), c, access.Login{Home: a.home, Session: id, User: user})
			if err != nil {
				return err
			}
			stop := context.AfterFunc(cmd.Context(), func() { _ = client.Close() })
			defer stop()
			defer client.Close()
			if len(args) > 1 {
				return a.sshCommand(client, strings.Join(args[1:], " "))
			}
			return a.sshShell(client)
		},
	}
	cmd.Flags().StringVarP(&user, "user", "l", "", "log in as this `user`; default the session's")
	cmd.Flags().SetInterspersed(false)
	return cmd
}

// sshCommand runs a command without a terminal.
func (a *app) sshCommand(client *ssh.Client, command string) error {
	s, err := client.NewSession()
	if err != nil {
		return err
	}
	defer s.Close()
	if err := a.attach(s); err != nil {
		return err
	}
	return remoteStatus(s.Run(command))
}

// sshShell logs in, with a terminal if there is one.
func (a *app) sshShell(client *ssh.Client) error {
	s, err := client.NewSession()
	if err != nil {
		return err
	}
	defer s.Close()
	if err := a.attach(s); err != nil {
		return err
	}
	if in, ok := a.stdin.(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		restore, err := a.terminal(s, int(in.Fd()))
		if err != nil {
			return err
		}
		defer restore()
	}
	if err := s.Shell(); err != nil {
		return err
	}
	return remoteStatus(s.Wait())
}

// attach connects the session's streams. Its input is copied aside: the
// session's end must not wait for a key that nobody presses.
func (a *app) attach(s *ssh.Session) error {
	s.Stdout, s.Stderr = a.stdout, a.stderr
	in, err := s.StdinPipe()
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(in, a.stdin)
		_ = in.Close()
	}()
	return nil
}

// terminal makes the local terminal raw, asks for one of its size there and
// keeps the sizes equal. restore undoes that.
func (a *app) terminal(s *ssh.Session, fd int) (restore func(), err error) {
	width, height, err := term.GetSize(fd)
	if err != nil {
		return nil, err
	}
	if err := s.RequestPty(nameOr(a.getenv("TERM"), defaultTerm), height, width, ssh.TerminalModes{}); err != nil {
		return nil, err
	}
	old, err := term.MakeRaw(fd)
	if err != nil {
		return nil, err
	}
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range resized {
			if width, height, err := term.GetSize(fd); err == nil {
				_ = s.WindowChange(height, width)
			}
		}
	}()
	return func() {
		signal.Stop(resized)
		close(resized)
		<-done
		_ = term.Restore(fd, old)
	}, nil
}

// remoteStatus turns the end of a remote command into ours.
func remoteStatus(err error) error {
	if exit, ok := errors.AsType[*ssh.ExitError](err); ok {
		return remoteExit{exit.ExitStatus()}
	}
	return err
}
