package qemu

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/image"
	"github.com/xenoserver/xeno/internal/testenv"
)

// TestAccelerator checks KVM with a real guest. Whatever comes out, it comes
// out within the limit, and a second driver believes it without a guest.
func TestAccelerator(t *testing.T) {
	w := newWorld(t)
	cache := t.TempDir()
	spec := hypervisor.Spec{Kernel: filepath.Join(w.image, image.KernelName), Initrd: filepath.Join(w.image, image.InitrdName)}
	var first string
	for i := range 2 {
		d := w.driver(t, t.TempDir())
		d.config.Accel, d.config.CacheDir = accelAuto, cache
		began := time.Now()
		accel, why, err := d.Accelerator(t.Context(), spec)
		took := time.Since(began)
		t.Logf("%s: %s (%v)", accel, why, took.Round(time.Millisecond))
		if err != nil || accel != accelKVM && accel != accelTCG || why == "" {
			t.Fatalf("%q, %q, %v", accel, why, err)
		}
		if i == 0 {
			first = accel
			continue
		}
		if accel != first || took > checkTimeout/2 {
			t.Errorf("second driver: %s in %v, first %s", accel, took, first)
		}
	}
}

// TestHangingKVM replaces QEMU by a program that hangs, as a kernel may do
// under KVM within another machine.
func TestHangingKVM(t *testing.T) {
	testenv.Require(t, "root", testenv.Root())
	dir := t.TempDir()
	script := filepath.Join(dir, "qemu")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nexec sleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	d := &Driver{config: Config{Binary: script}}
	v, err := d.tryKVM(t.Context(), hypervisor.Spec{Kernel: script, Initrd: script})
	if err != nil || v.KVM || !strings.Contains(v.Why, "did not start") {
		t.Errorf("%+v, %v", v, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if v, err := d.tryKVM(ctx, hypervisor.Spec{Kernel: script, Initrd: script}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cancelled: %+v, %v", v, err)
	}
}

func TestVerdictLife(t *testing.T) {
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name, text string
		ok         bool
	}{
		{"works", `{"kvm":true,"at":"2026-01-01T00:00:00Z"}`, true},
		{"recent refusal", `{"kvm":false,"at":"2026-11-22T12:00:00Z"}`, true},
		{"old refusal", `{"kvm":false,"at":"2026-11-20T00:00:00Z"}`, false},
		{"from the future", `{"kvm":true,"at":"2027-01-01T00:00:00Z"}`, false},
		{"damaged", `{"kvm":`, false},
	} {
		name := filepath.Join(t.TempDir(), "v.json")
		if err := os.WriteFile(name, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, ok := readVerdict(name, now); ok != tt.ok {
			t.Errorf("%s: got %v", tt.name, ok)
		}
	}
}
