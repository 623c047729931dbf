package vmm

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xenoserver/xeno/hypervisor/image/boot"
)

// A guest that hangs, as a kernel may do under KVM within another machine.
func TestHangingKVM(t *testing.T) {
	hang := func(ctx context.Context) *exec.Cmd { return exec.CommandContext(ctx, "sleep", "1000") }
	v, err := tryKVM(t.Context(), hang)
	if err != nil || v.Works || !strings.Contains(v.Why, "did not start") {
		t.Errorf("%+v, %v", v, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if v, err := tryKVM(ctx, hang); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cancelled: %+v, %v", v, err)
	}
}

// The guest is tried once, also by one that goes on after it spoke.
func TestTryKVM(t *testing.T) {
	kernel := filepath.Join(t.TempDir(), "kernel")
	must(t, os.WriteFile(kernel, nil, 0o600))
	cache := t.TempDir()
	for _, tt := range []struct {
		name, script, why string
		works             bool
	}{
		{"works", "echo " + boot.CheckPassed + "; exec sleep 1000", "ran under KVM", true},
		{"fails", "echo started; echo no such device >&2; exit 1", "exit status 1: no such device", false},
	} {
		d, err := New(Config{Dir: t.TempDir(), CacheDir: cache}, Program{Name: tt.name})
		must(t, err)
		tries := 0
		for range 2 {
			v, err := d.TryKVM(t.Context(), "/proc/self/exe", kernel, func(ctx context.Context) *exec.Cmd {
				tries++
				return exec.CommandContext(ctx, "sh", "-c", tt.script)
			})
			if err != nil || v.Works != tt.works || !strings.Contains(v.Why, tt.why) {
				t.Errorf("%s: %+v, %v", tt.name, v, err)
			}
		}
		if tries != 1 {
			t.Errorf("%s: tried %d times", tt.name, tries)
		}
	}
}

func TestVerdictLife(t *testing.T) {
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name, text string
		ok         bool
	}{
		{"works", `{"works":true,"at":"2026-01-01T00:00:00Z"}`, true},
		{"recent refusal", `{"works":false,"at":"2026-11-22T12:00:00Z"}`, true},
		{"old refusal", `{"works":false,"at":"2026-11-20T00:00:00Z"}`, false},
		{"from the future", `{"works":true,"at":"2027-01-01T00:00:00Z"}`, false},
		{"damaged", `{"works":`, false},
	} {
		name := filepath.Join(t.TempDir(), "v.json")
		must(t, os.WriteFile(name, []byte(tt.text), 0o600))
		if _, ok := readVerdict(name, now); ok != tt.ok {
			t.Errorf("%s: got %v", tt.name, ok)
		}
	}
}
