package wasi

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/tetratelabs/wazero/sys"
)

// A host is what a module calls out to. All of it runs on the module's thread.
type host struct {
	job     job
	disk    *disk
	begun   time.Time
	calls   int
	kept    uint64 // bytes that the last collection kept
	told    bool   // that the disk is full
	stopped error  // why the host ended the module
}

func (h *host) start() {
	h.begun = time.Now()
	h.kept = heapBytes()
}

// tick counts host calls and collects the garbage that they make.
func (h *host) tick() {
	if h.calls++; h.calls%collectCalls != 0 {
		return
	}
	if heapBytes() > h.kept+collectBytes {
		runtime.GC()
		h.kept = heapBytes()
	}
}

func heapBytes() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func (h *host) diskFull() {
	if !h.told {
		h.told = true
		fmt.Fprintf(os.Stderr, "xeno: the private directory is full: %d bytes\n", h.job.DiskBytes)
	}
}

func (h *host) walltime() (sec int64, nsec int32) {
	h.tick()
	now := time.Now().Truncate(clockStep)
	return now.Unix(), int32(now.Nanosecond())
}

func (h *host) nanotime() int64 {
	h.tick()
	return int64(time.Since(h.begun).Truncate(clockStep))
}

func (h *host) nanosleep(ns int64) {
	h.tick()
	time.Sleep(time.Duration(ns))
}

// An output is a standard stream with a limit.
type output struct {
	file  *os.File
	name  string // for the client
	host  *host
	bytes int64
}

var errOutput = errors.New("output limit")

// Write implements io.Writer. Over the limit it ends the module, by the panic
// that wazero documents for that.
func (o *output) Write(data []byte) (int, error) {
	o.host.tick()
	if o.bytes += int64(len(data)); o.bytes > maxOutputBytes {
		o.host.stopped = fmt.Errorf("%w: more than %d bytes on %s", errOutput, maxOutputBytes, o.name)
		panic(sys.NewExitError(1))
	}
	return o.file.Write(data)
}
