// Command xeno-node is the daemon of one participant of a Xeno network.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/xenoserver/xeno/cmd/internal/daemon"
	"github.com/xenoserver/xeno/hypervisor/wasi"
	"github.com/xenoserver/xeno/node"
	"github.com/xenoserver/xeno/node/api"
)

// The exit codes of the daemon; docs/cli.md describes them.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2 // a flag or a configuration file is wrong
	exitInUse   = 5 // another daemon runs on the home directory
)

func main() {
	wasi.MaybeRun() // does not return in the processes that carry environments
	os.Exit(runMain())
}

// runMain carries out the command line of the process.
func runMain() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "xeno-node: %v\n  → see xeno-node --help\n", err)
		return exitUsage
	}
	fmt.Fprintf(os.Stderr, "xeno-node: %v\n", err)
	switch {
	case errors.Is(err, node.ErrConfig), errors.Is(err, node.ErrIdentity):
		return exitUsage
	case errors.Is(err, api.ErrInUse):
		return exitInUse
	}
	return exitFailure
}

// A usageError is a mistake on the command line.
type usageError struct{ error }

const usage = `Run the daemon of one participant until SIGTERM or SIGINT. Its home directory, made by
xeno init, holds node.toml, network.toml and identity.pem; the local API is at api.sock.

Usage:
  xeno-node [flags]

Example:
  xeno init --home corp --corp --network example
  xeno-node --home corp

Flags:
`

func run(ctx context.Context, args []string, stdout io.Writer) error {
	opts := daemon.Options{}
	fs := pflag.NewFlagSet("xeno-node", pflag.ContinueOnError)
	fs.Usage = func() {}
	fs.StringVar(&opts.Home, "home", defaultHome(), "home `directory`, default $XENO_HOME")
	version := fs.Bool("version", false, "print the version")
	opts.Flags(fs)
	err := fs.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		_, err := io.WriteString(stdout, usage+fs.FlagUsages())
		return err
	case err != nil:
		return usageError{err}
	case fs.NArg() > 0:
		return usageError{fmt.Errorf("unexpected argument %q", fs.Arg(0))}
	case *version:
		_, err := fmt.Fprintf(stdout, "xeno-node %s\n", daemon.Version())
		return err
	}
	return daemon.Run(ctx, opts)
}

func defaultHome() string {
	if dir := os.Getenv("XENO_HOME"); dir != "" {
		return dir
	}
	return filepath.Join(os.Getenv("HOME"), ".xeno")
}
