package wasi

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	asm "github.com/xenoserver/xeno/hypervisor/wasi/internal/assembler"
)

func program(body func(m *asm.Module, wasi func(name string, params int) asm.Func) []asm.Code) []byte {
	m := &asm.Module{}
	code := body(m, func(name string, params int) asm.Func {
		list := make([]asm.Type, params)
		for i := range list {
			list[i] = asm.I32
		}
		if name == "proc_exit" {
			return m.Import("wasi_snapshot_preview1", name, list)
		}
		return m.Import("wasi_snapshot_preview1", name, list, asm.I32)
	})
	m.Memory(1)
	m.Export("_start", m.Func(nil, nil, []asm.Type{asm.I32}, code...))
	return m.Bytes()
}

type imports = func(name string, params int) asm.Func

func say(m *asm.Module, write asm.Func, s string) asm.Code {
	m.Data(64, s)
	return asm.Seq(
		asm.Int32(0), asm.Int32(64), asm.Store32(0), asm.Int32(0), asm.Int32(int32(len(s))), asm.Store32(4),
		asm.Int32(1), asm.Int32(0), asm.Int32(1), asm.Int32(8), asm.Call(write), asm.Drop,
	)
}

// Modules.
func write1(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "module.wasm")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func compileGuest(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "guest.wasm")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", path, "./testdata/guest")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}
