// Command xeno is what people touch of the XenoServer platform: it commands
// the local daemon and shows the whole platform at work with xeno demo.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/xenoserver/xeno/hypervisor/wasi"
)

func main() {
	wasi.MaybeRun() // does not return in the processes that carry environments
	os.Exit(runMain())
}

// runMain runs the command line of the process and returns its exit code.
func runMain() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}
	return a.run(ctx, os.Args[1:])
}
