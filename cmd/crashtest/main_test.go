package crashtest

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/xenoserver/xeno/cmd/internal/daemon"
	"github.com/xenoserver/xeno/hypervisor/wasi"
)

// asDaemon names the home directory in processes of the test binary that are
// to be daemons.
const asDaemon = "XENO_CRASHTEST_HOME"

func TestMain(m *testing.M) {
	wasi.MaybeRun()
	if home := os.Getenv(asDaemon); home != "" {
		os.Exit(runDaemon(home))
	}
	os.Exit(m.Run())
}

// runDaemon is what cmd/xeno-node does. The pipe at descriptor 3 ends it with
// the test.
func runDaemon(home string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := daemon.Run(ctx, daemon.Options{Home: home, Lifeline: 3}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
