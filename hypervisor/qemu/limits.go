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
	// consoleBytes is kept of the console: a boot and what went wrong.
	consoleBytes = 1 << 20
	// maxFiles bounds QEMU's descriptors; it has some 20.
	maxFiles = 256
	// maxRecordBytes bounds instance.json, which has about 1 KiB.
	maxRecordBytes = 64 << 10

	// readyTimeout is how long QEMU may take until its monitor answers: it
	// has to load the image, on a busy machine.
	readyTimeout = 30 * time.Second
	// commandTimeout bounds one command of the monitor.
	commandTimeout = 10 * time.Second
	// pressInterval is how often the power button is pressed.
	pressInterval = time.Second
	// cleanTimeout bounds the tidying up after a failed start.
	cleanTimeout = 30 * time.Second
	// checkTimeout is how long the check guest may take under KVM; on real
	// hardware it takes less than a second.
	checkTimeout = 8 * time.Second
	// checkMemory is what that guest gets.
	checkMemory = 128 << 20
	// tscTime is over what time the time stamp counter is measured, tscTries
	// how often each end of it is taken.
	tscTime  = 50 * time.Millisecond
	tscTries = 20
	// verdictLife is how long a verdict against KVM holds; one in its favour
	// holds until the machine restarts.
	verdictLife = 24 * time.Hour
	// saveInterval is how often Usage writes down what it read.
	saveInterval = 5 * time.Second
	// pollInterval is how often a lock or a monitor is tried.
	pollInterval = 5 * time.Millisecond

	// maxMessage bounds a message of the monitor; ours have some 100 bytes.
	maxMessage = 1 << 20
	// maxEvents bounds the events that may come before an answer.
	maxEvents = 1000
)
