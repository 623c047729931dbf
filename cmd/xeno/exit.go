package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/node/api"
)

// The exit codes of xeno. docs/cli.md shows this table; a test compares.
const (
	exitOK          = 0   // done
	exitFailure     = 1   // something failed that no other code says
	exitUsage       = 2   // a flag, argument, query or file is wrong; nothing was done
	exitNoDaemon    = 3   // no daemon answers in the home directory
	exitNotFound    = 4   // there is no such session, order, file or call
	exitRefused     = 5   // not registered, not allowed, or refused by the other side
	exitNoMatch     = 6   // no server fits the query
	exitFunds       = 7   // the account, order or cap does not hold enough money
	exitUnavailable = 8   // a peer does not answer, or it took too long
	exitUnsupported = 9   // this machine lacks what it takes
	exitProgram     = 10  // the program in the environment failed (xeno run)
	exitInterrupted = 130 // interrupted by a signal
)

// A usageError is a mistake on the command line.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// A remoteExit is the status of a command that ran elsewhere and failed; it
// has told why itself.
type remoteExit struct{ status int }

func (e remoteExit) Error() string {
	return fmt.Sprintf("the remote command ended with status %d", e.status)
}

// exitCode returns the code for err.
func exitCode(err error) int {
	var usage usageError
	var remote remoteExit
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &remote):
		return remote.status
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.Is(err, api.ErrNoDaemon):
		return exitNoDaemon
	case errors.Is(err, hypervisor.ErrNotSupported):
		return exitUnsupported
	case errors.Is(err, errProgram):
		return exitProgram
	}
	switch api.CodeOf(err) {
	case api.CodeBadRequest, api.CodeQuery, api.CodeTooLarge:
		return exitUsage
	case api.CodeNotFound:
		return exitNotFound
	case api.CodeNotRegistered, api.CodeNotOperator, api.CodeForbidden, api.CodeRefused, api.CodeConflict:
		return exitRefused
	case api.CodeNoMatch:
		return exitNoMatch
	case api.CodeFunds:
		return exitFunds
	case api.CodeUnavailable, api.CodeTimeout:
		return exitUnavailable
	case api.CodeUnsupported:
		return exitUnsupported
	case api.CodeInternal:
	}
	return exitFailure
}

// report tells the user about err and returns the exit code. In JSON the
// error is one object on standard error.
func (a *app) report(err error, command string) int {
	code := exitCode(err)
	var remote remoteExit
	if err == nil || errors.As(err, &remote) {
		return code
	}
	e := explain(err, a.home, command)
	if a.json {
		_ = json.NewEncoder(a.stderr).Encode(api.ErrorAnswer{Error: e})
		return code
	}
	fmt.Fprintf(a.stderr, "xeno: %s\n", e.Message)
	if e.Hint != "" {
		fmt.Fprintf(a.stderr, "  → %s\n", e.Hint)
	}
	return code
}

// explain turns err into what a person needs.
func explain(err error, home, command string) *api.Error {
	var usage usageError
	var known *api.Error
	switch {
	case errors.Is(err, context.Canceled):
		return api.Errorf("interrupted", "interrupted")
	case errors.As(err, &usage):
		return api.Errorf(api.CodeBadRequest, "%v", err).WithHint("see " + command + " --help")
	case errors.Is(err, api.ErrNoDaemon):
		hint := "start one with: xeno-node --home " + home
		return api.Errorf("no_daemon", "%v", err).WithHint(hint)
	case errors.As(err, &known):
		if text := strings.TrimSuffix(err.Error(), known.Error()); text != err.Error() && text != "" {
			return &api.Error{Code: known.Code, Message: text + known.Message, Hint: known.Hint}
		}
		return known
	}
	return api.Errorf(api.CodeOf(err), "%v", err)
}
