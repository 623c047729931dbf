// Command xeno-sim runs XenoSearch and the algorithms that it is compared with
// on simulated networks of up to millions of servers, and shows what came of
// it. It is a thin shell around package sim.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() { os.Exit(runMain()) }

// runMain runs the command line of the process and returns its exit code. The
// first signal ends a run with what there is, the second ends the process.
func runMain() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	begin := time.Now()
	a := &app{stdout: os.Stdout, stderr: os.Stderr, clock: func() time.Duration { return time.Since(begin) }}
	return a.run(ctx, os.Args[1:])
}
