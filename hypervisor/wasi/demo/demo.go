// Package demo holds a job that any XenoServer can run at once: a module of
// WASI preview 1 that counts prime numbers by trial division. It needs no
// file, no input and 64 KiB of memory, reports on the way, and its answer can
// be looked up in any table.
//
//	primes N
//
// writes "664579 primes below 10000000" as its last line for N = 10000000,
// after about 1.5 CPU seconds. It
// exits with 2 when N is not a number between 10 and 100000000.
package demo

import _ "embed"

//go:generate go run ./generate primes.wasm

//go:embed primes.wasm
var module []byte

// Module returns the compiled module, which is the caller's.
func Module() []byte { return append([]byte(nil), module...) }

// A job for the demonstration, with its known answer.
const (
	DefaultArg    = "10000000"
	DefaultAnswer = "664579 primes below 10000000"
)
