package qemu

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/image"
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
