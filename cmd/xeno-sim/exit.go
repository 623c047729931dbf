package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/xenoserver/xeno/sim"
	"github.com/xenoserver/xeno/sim/latency"
	"github.com/xenoserver/xeno/sim/market"
	"github.com/xenoserver/xeno/sim/report"
)

// The exit codes of xeno-sim, where they fit those of xeno. docs/simulator.md
// shows this table; a test compares.
const (
	exitOK          = 0   // done, and every figure is as the scenario expects
	exitFailure     = 1   // something failed that no other code says
	exitUsage       = 2   // a flag, argument, scenario or file is wrong; nothing was run
	exitMemory      = 9   // this machine has too little memory; nothing was run
	exitExpectation = 10  // done, but a figure is not as the scenario expects
	exitInterrupted = 130 // interrupted by a signal; what there was is printed and written, marked as partial
)

var (
	// errMemory marks a run that would not fit.
	errMemory = errors.New("too little memory")
	// errExpectation marks a run with other figures than expected.
	errExpectation = errors.New("not as expected")
)

// A usageError is a mistake on the command line.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// exitCode returns the code for err.
func exitCode(err error) int {
	var usage usageError
	var path *fs.PathError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.Is(err, errExpectation):
		return exitExpectation
	case errors.Is(err, errMemory):
		return exitMemory
	case errors.As(err, &usage), errors.As(err, &path) && path.Op != "write", errors.Is(err, sim.ErrBadScenario), errors.Is(err, report.ErrBadResult),
		errors.Is(err, latency.ErrBadMatrix), errors.Is(err, market.ErrBadFile):
		return exitUsage
	}
	return exitFailure
}

// report tells the user about err and returns the exit code. In JSON the
// error is one object on standard error.
func (a *app) report(err error, command string) int {
	code := exitCode(err)
	if err == nil {
		return code
	}
	message, hint := err.Error(), ""
	var usage usageError
	switch {
	case code == exitInterrupted:
		message = "interrupted"
	case errors.As(err, &usage):
		hint = "see " + command + " --help"
	}
	if a.json {
		_ = json.NewEncoder(a.stderr).Encode(map[string]any{"error": map[string]any{"code": code, "message": message, "hint": hint}})
		return code
	}
	fmt.Fprintf(a.stderr, "xeno-sim: %s\n", strings.ReplaceAll(message, "\n", "\n          "))
	if hint != "" {
		fmt.Fprintf(a.stderr, "  → %s\n", hint)
	}
	return code
}
