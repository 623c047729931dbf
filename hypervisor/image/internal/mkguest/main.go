// Command mkguest builds the guest's init as it is committed: the same source,
// modules and Go version give the same bytes on every machine.
package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"

	"github.com/xenoserver/xeno/hypervisor/image/internal/guestbuild"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mkguest:", err)
		os.Exit(1)
	}
}

// run writes the compressed executable to the named file.
func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: mkguest FILE")
	}
	data, err := guestbuild.Build()
	if err != nil {
		return err
	}
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(data); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(args[0], out.Bytes(), 0o644)
}
