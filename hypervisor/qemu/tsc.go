package qemu

import (
	"time"

	"golang.org/x/sys/unix"
)

// tscKHz measures the frequency of the time stamp counter, which an emulated
// guest sees unchanged. The guest is told, for its own way to find out (to
// time the counter by the emulated interval timer) fails on a busy host, and
// then its kernel waits forever for timer interrupts. 0: not known.
//
// It takes tscTime. The error is some nanoseconds in that: 1e-6.
func tscKHz() uint64 {
	ticks, at := sampleTSC()
	time.Sleep(tscTime)
	ticks2, at2 := sampleTSC()
	if ticks2 <= ticks || at2 <= at {
		return 0
	}
	return uint64(float64(ticks2-ticks) / float64(at2-at) * 1e6)
}

// sampleTSC reads the counter and the clock at one instant: of several tries
// the one that was interrupted least.
func sampleTSC() (ticks uint64, nanos int64) {
	best := int64(1<<63 - 1)
	for range tscTries {
		before := monotonic()
		t := readTSC()
		after := monotonic()
		if after-before < best {
			best, ticks, nanos = after-before, t, before+(after-before)/2
		}
	}
	return ticks, nanos
}

func monotonic() int64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &ts) != nil {
		return 0
	}
	return ts.Nano()
}
