// Command generate writes the module of package demo. The same source gives
// the same bytes everywhere.
package main

import (
	"fmt"
	"os"

	"github.com/xenoserver/xeno/hypervisor/wasi/internal/assembler"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: generate FILE")
		os.Exit(2)
	}
	if err := os.WriteFile(os.Args[1], assembler.Primes(), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}
