package demo

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"github.com/xenoserver/xeno/hypervisor/wasi/internal/assembler"
)

func run(tb testing.TB, args ...string) (stdout, stderr string, code uint32) {
	tb.Helper()
	ctx := context.Background()
	r := wazero.NewRuntime(ctx)
	defer r.Close(ctx)
	wasi_snapshot_preview1.MustInstantiate(ctx, r)
	var out, errs bytes.Buffer
	_, err := r.InstantiateWithConfig(ctx, Module(), wazero.NewModuleConfig().WithArgs(append([]string{"primes"}, args...)...).WithStdout(&out).WithStderr(&errs))
	if err != nil {
		var exit *sys.ExitError
		if !errors.As(err, &exit) {
			tb.Fatal(err)
		}
		code = exit.ExitCode()
	}
	return out.String(), errs.String(), code
}

func TestPrimes(t *testing.T) {
	if !bytes.Equal(Module(), assembler.Primes()) {
		t.Fatal("primes.wasm is not what its source says; run go generate ./hypervisor/wasi/demo")
	}
	tests := []struct{ arg, want string }{
		{"10", "4 primes below 10"},
		{"11", "4 primes below 11"},
		{"12", "5 primes below 12"},
		{"1000", "168 primes below 1000"},
		{"100000", "9592 primes below 100000"},
	}
	for _, tt := range tests {
		out, errs, code := run(t, tt.arg)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if lines[len(lines)-1] != tt.want || errs != "" || code != 0 {
			t.Errorf("%s: got %q, %q, %d", tt.arg, out, errs, code)
		}
	}
	for _, args := range [][]string{{}, {""}, {"x"}, {"-1"}, {"9"}, {"100000001"}, {"99999999999999999999"}, {"10", "10"}, {strings.Repeat("1", 5000)}} {
		if out, errs, code := run(t, args...); code != 2 || out != "" || !strings.HasPrefix(errs, "usage") {
			t.Errorf("%q: got %q, %q, %d", args, out, errs, code)
		}
	}
}

func BenchmarkPrimes(b *testing.B) {
	for b.Loop() {
		out, _, _ := run(b, DefaultArg)
		if !strings.HasSuffix(out, DefaultAnswer+"\n") {
			b.Fatal(out)
		}
	}
}
