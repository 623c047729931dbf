package wasi

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	asm "github.com/xenoserver/xeno/hypervisor/wasi/internal/assembler"
)

// program assembles a module whose _start is made by body, which may call
// what of WASI it needs.
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

// say writes a constant string that lies at address 64.
func say(m *asm.Module, write asm.Func, s string) asm.Code {
	m.Data(64, s)
	return asm.Seq(
		asm.Int32(0), asm.Int32(64), asm.Store32(0), asm.Int32(0), asm.Int32(int32(len(s))), asm.Store32(4),
		asm.Int32(1), asm.Int32(0), asm.Int32(1), asm.Int32(8), asm.Call(write), asm.Drop,
	)
}

// Modules.
var (
	exits = func(code int32) []byte {
		return program(func(_ *asm.Module, wasi imports) []asm.Code {
			return []asm.Code{asm.Int32(code), asm.Call(wasi("proc_exit", 1))}
		})
	}
	// spins prints a line and goes on for ever without calling the host.
	spins = program(func(m *asm.Module, wasi imports) []asm.Code {
		return []asm.Code{say(m, wasi("fd_write", 4), "spinning\n"), asm.Loop(asm.Br(0))}
	})
	traps = program(func(*asm.Module, imports) []asm.Code { return []asm.Code{asm.Unreachable} })
	// recurses without end.
	recurses = func() []byte {
		m := &asm.Module{}
		m.Export("_start", m.Func(nil, nil, nil, asm.Call(0)))
		return m.Bytes()
	}()
	floods = program(func(m *asm.Module, wasi imports) []asm.Code {
		return []asm.Code{asm.Loop(say(m, wasi("fd_write", 4), strings.Repeat("flood ", 1000)+"\n"), asm.Br(0))}
	})
	// grows takes memory page by page, touches each, and exits with 3 when it
	// gets no more, after it wrote "full".
	grows = program(func(m *asm.Module, wasi imports) []asm.Code {
		write, exit := wasi("fd_write", 4), wasi("proc_exit", 1)
		return []asm.Code{
			asm.Block(asm.Loop(
				asm.Int32(1), asm.MemoryGrow, asm.Set(0),
				asm.Get(0), asm.Int32(-1), asm.I32Eq, asm.BrIf(1),
				asm.Get(0), asm.Int32(pageBytes), asm.I32Mul, asm.Int32(1), asm.Store8(0),
				asm.Br(0),
			)),
			say(m, write, "full\n"), asm.Int32(3), asm.Call(exit),
		}
	})
	echoes = program(func(_ *asm.Module, wasi imports) []asm.Code {
		read, write := wasi("fd_read", 4), wasi("fd_write", 4)
		return []asm.Code{asm.Block(asm.Loop(
			asm.Int32(0), asm.Int32(1024), asm.Store32(0), asm.Int32(0), asm.Int32(4096), asm.Store32(4),
			asm.Int32(0), asm.Int32(0), asm.Int32(1), asm.Int32(8), asm.Call(read), asm.Drop,
			asm.Int32(8), asm.Load32(0), asm.I32Eqz, asm.BrIf(1),
			asm.Int32(0), asm.Int32(8), asm.Load32(0), asm.Store32(4),
			asm.Int32(1), asm.Int32(0), asm.Int32(1), asm.Int32(8), asm.Call(write), asm.Drop,
			asm.Br(0),
		))}
	})
)

func write1(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "module.wasm")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// compileGuest compiles testdata/guest, a program in Go.
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
