package hypervisor

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func wasi() Spec {
	return Spec{ID: "a1-b", Kind: KindWASI, CPUs: 1, MemoryBytes: 64 << 20, Module: "/m.wasm"}
}

func linux() Spec {
	return Spec{ID: "a1-b", Kind: KindLinux, CPUs: 2, CPUShare: 2000, MemoryBytes: 64 << 20, Kernel: "/k", Initrd: "/i"}
}

func TestValidate(t *testing.T) {
	odd := wasi()
	odd.MemoryBytes, odd.DiskBytes = 1e9+1, 1000
	for _, s := range []Spec{wasi(), linux(), odd} {
		if err := s.Validate(); err != nil {
			t.Error(err)
		}
	}
	tests := []struct {
		field string // named in the error
		base  Spec
		edit  func(*Spec)
	}{
		{"ID", wasi(), func(s *Spec) { s.ID = "" }},
		{"ID", wasi(), func(s *Spec) { s.ID = "../x" }},
		{"ID", wasi(), func(s *Spec) { s.ID = "A" }},
		{"ID", wasi(), func(s *Spec) { s.ID = "-a" }},
		{"ID", wasi(), func(s *Spec) { s.ID = strings.Repeat("a", 41) }},
		{"Kind", wasi(), func(s *Spec) { s.Kind = "jvm" }},
		{"CPUs", wasi(), func(s *Spec) { s.CPUs = 0 }},
		{"CPUs", wasi(), func(s *Spec) { s.CPUs = 257 }},
		{"CPUShare", linux(), func(s *Spec) { s.CPUShare = 2001 }},
		{"CPUShare", linux(), func(s *Spec) { s.CPUShare = -1 }},
		{"MemoryBytes", wasi(), func(s *Spec) { s.MemoryBytes = 0 }},
		{"MemoryBytes", wasi(), func(s *Spec) { s.MemoryBytes = 1 << 63 }},
		{"DiskBytes", wasi(), func(s *Spec) { s.DiskBytes = 1 << 63 }},
		{"ask for 953MiB or 954MiB", linux(), func(s *Spec) { s.MemoryBytes = 1e9 }},
		{"ask for 512 or 1024", linux(), func(s *Spec) { s.DiskBytes = 1000 }},
		{"NetworkRate", linux(), func(s *Spec) { s.NetworkRate = 1 << 63 }},
		{"NetworkRate", wasi(), func(s *Spec) { s.NetworkRate = 1 }},
		{"Module", wasi(), func(s *Spec) { s.Module = "" }},
		{"Module", wasi(), func(s *Spec) { s.Module = "m.wasm" }},
		{"Module", wasi(), func(s *Spec) { s.Module = "/a/../m.wasm" }},
		{"Module", wasi(), func(s *Spec) { s.Module = "/a\x00" }},
		{"Module", wasi(), func(s *Spec) { s.Module = "/" + strings.Repeat("a", 4096) }},
		{"Args", wasi(), func(s *Spec) { s.Args = []string{"a\x00"} }},
		{"Args", wasi(), func(s *Spec) { s.Args = []string{"\xff"} }},
		{"Args", wasi(), func(s *Spec) { s.Args = make([]string, 1025) }},
		{"Args", wasi(), func(s *Spec) { s.Args = []string{strings.Repeat("a", 256<<10)} }},
		{"Env", wasi(), func(s *Spec) { s.Env = []string{"A"} }},
		{"Env", wasi(), func(s *Spec) { s.Env = []string{"=A"} }},
		{"Stdin", wasi(), func(s *Spec) { s.Stdin = make([]byte, 5<<20) }},
		{"Timeout", wasi(), func(s *Spec) { s.Timeout = -1 }},
		{"Timeout", wasi(), func(s *Spec) { s.Timeout = 400 * 24 * time.Hour }},
		{"Kernel", wasi(), func(s *Spec) { s.Kernel = "/k" }},
		{"HostKey", wasi(), func(s *Spec) { s.HostKey = []byte("k") }},
		{"Kernel", linux(), func(s *Spec) { s.Kernel = "" }},
		{"Initrd", linux(), func(s *Spec) { s.Initrd = "i" }},
		{"Module", linux(), func(s *Spec) { s.Module = "/m" }},
		{"HostKey", linux(), func(s *Spec) { s.HostKey = make([]byte, 17<<10) }},
		{"SSHKeys", linux(), func(s *Spec) { s.SSHKeys = make([]string, 65) }},
		{"SSHKeys", linux(), func(s *Spec) { s.SSHKeys = []string{"ssh-ed25519 a\nroot"} }},
	}
	for _, tt := range tests {
		s := tt.base
		tt.edit(&s)
		if err := s.Validate(); !errors.Is(err, ErrBadSpec) || !strings.Contains(err.Error(), tt.field) {
			t.Errorf("%s: got %v", tt.field, err)
		}
		if text, ok := Explanation(s.Validate()); !ok || !strings.Contains(text, tt.field) || strings.Contains(text, "/") && tt.field != "ID" && tt.field != "CPUShare" {
			t.Errorf("%s: the client reads %q, want the field and no path", tt.field, text)
		}
	}
}
