package qemu

import "time"

const (
	// minMemory is the least that the kernel, its unpacked initrd and an SSH
	// session fit into.
	minMemory = 96 << 20
	// codeCache is the room for translated code under emulation: QEMU's own
	// default, an eighth of the machine, would be outside of every limit.
	codeCache = 64 << 20
	// overhead is what QEMU itself may need beside guest memory and code.
	overhead = 128 << 20
	// maxFiles bounds QEMU's descriptors; it has some 20.
	maxFiles = 256

	// readyTimeout is how long QEMU may take until it runs the guest: it has
	// to load the image, on a busy machine.
	readyTimeout = 30 * time.Second
	// commandTimeout bounds one command of the monitor.
	commandTimeout = 10 * time.Second
	// pollInterval is how often QEMU is asked whether it runs the guest.
	pollInterval = 5 * time.Millisecond
	// tscTime is over what time the time stamp counter is measured, tscTries
	// how often each end of it is taken.
	tscTime  = 50 * time.Millisecond
	tscTries = 20

	// maxMessage bounds a message of the monitor; ours have some 100 bytes.
	maxMessage = 1 << 20
	// maxEvents bounds the events that may come before an answer.
	maxEvents = 1000
)
