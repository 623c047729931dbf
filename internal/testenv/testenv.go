// Package testenv decides whether a test that needs a privilege or a program
// may skip: on an ordinary machine it may, in CI it may not.
package testenv

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/xenoserver/xeno/hypervisor"
)

// requireVar names what must be there: a comma-separated list such as
// "root,bpf,qemu". A skip for want of one of these is a failure.
const requireVar = "XENO_TEST_REQUIRE"

// Require ends the test when err is not nil: as skipped if err wraps
// hypervisor.ErrNotSupported and feature is not listed in XENO_TEST_REQUIRE,
// as failed otherwise.
func Require(t testing.TB, feature string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if errors.Is(err, hypervisor.ErrNotSupported) && !required(feature) {
		t.Skipf("%s: %v", feature, err) // ErrNotSupported only
	}
	t.Fatalf("%s: %v", feature, err)
}

// Root returns nil for the superuser, an error that wraps ErrNotSupported for
// everybody else.
func Root() error {
	if os.Geteuid() == 0 {
		return nil
	}
	return errors.Join(errors.New("run the test as root"), hypervisor.ErrNotSupported)
}

func required(feature string) bool {
	return slices.Contains(strings.Split(os.Getenv(requireVar), ","), feature)
}
