package vmm

import "time"

const (
	// consoleBytes is kept of the console: a boot and what went wrong.
	consoleBytes = 1 << 20
	// maxRecordBytes bounds instance.json, which has about 1 KiB.
	maxRecordBytes = 64 << 10

	// pressInterval is how often the power button is pressed.
	pressInterval = time.Second
	// quitTimeout is how long guest and monitor may take to end in order, once
	// the guest's grace is over, before they are killed.
	quitTimeout = 2 * time.Second
	// cleanTimeout bounds the tidying up after a failed start.
	cleanTimeout = 30 * time.Second
	// saveInterval is how often Usage writes down what it read.
	saveInterval = 5 * time.Second

	// CheckMemory is how many bytes a check guest gets.
	CheckMemory = 128 << 20
	// checkTimeout is how long it may take under KVM; on real hardware it takes
	// less than a second.
	checkTimeout = 8 * time.Second
	// verdictLife is how long a verdict against this machine holds; one in its
	// favour holds until the machine restarts.
	verdictLife = 24 * time.Hour
)
