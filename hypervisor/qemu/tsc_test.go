package qemu

import (
	"runtime"
	"testing"
)

func TestTSC(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		if got := tscKHz(); got != 0 {
			t.Errorf("%d kHz without a counter", got)
		}
		return
	}
	a, b := tscKHz(), tscKHz()
	t.Logf("%d kHz, %d kHz", a, b)
	if a < 100_000 || a > 10_000_000 || max(a, b)-min(a, b) > a/1000 {
		t.Errorf("%d kHz, then %d kHz", a, b)
	}
}
