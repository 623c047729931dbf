package qemu

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/image"
	"github.com/xenoserver/xeno/hypervisor/vmm"
)

// TestAccelerator checks KVM with a real guest. Whatever comes out, it comes
// out within the limit, and a second driver believes it without a guest.
func TestAccelerator(t *testing.T) {
	w := newWorld(t)
	cache := t.TempDir()
	spec := hypervisor.Spec{Kernel: filepath.Join(w.image, image.KernelName), Initrd: filepath.Join(w.image, image.InitrdName)}
	var first string
	for i := range 2 {
		d := w.driver(t, t.TempDir(), func(c *Config) { c.Accel, c.CacheDir = accelAuto, cache })
		began := time.Now()
		accel, why, err := d.Accelerator(t.Context(), spec)
		took := time.Since(began)
		t.Logf("%s: %s (%v)", accel, why, took.Round(time.Millisecond))
		if err != nil || accel != vmm.KVM && accel != vmm.TCG || why == "" {
			t.Fatalf("%q, %q, %v", accel, why, err)
		}
		if i == 0 {
			first = accel
			continue
		}
		if accel != first || took > 4*time.Second {
			t.Errorf("second driver: %s in %v, first %s", accel, took, first)
		}
	}
}
