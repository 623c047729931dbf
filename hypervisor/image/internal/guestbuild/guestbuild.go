// Package guestbuild compiles the guest's init with fixed settings.
package guestbuild

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// source is the import path of the guest's init.
const source = "github.com/xenoserver/xeno/hypervisor/image/guest"

// Build compiles the guest's init for Linux on amd64 and returns the
// executable: static, without symbols, paths, version control or build ID, so
// that it depends on nothing but its source, its modules and the Go version.
func Build() ([]byte, error) {
	dir, err := os.MkdirTemp("", "guest-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "init")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1", "GOFLAGS=", "GOEXPERIMENT=")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build %s: %w\n%s", source, err, text)
	}
	return os.ReadFile(out)
}
