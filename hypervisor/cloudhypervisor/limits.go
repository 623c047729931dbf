package cloudhypervisor

import "time"

const (
	// minVersion is the oldest major version that is used: 52 is the first
	// without the virtio-block use after free of CVE-2026-45782.
	minVersion = 52
	// minMemory is the least that the kernel, its unpacked initrd and an SSH
	// session fit into.
	minMemory = 64 << 20
	// overhead is what the monitor itself may need beside guest memory.
	overhead = 64 << 20
	// consoleBytes is kept of the console: a boot and what went wrong.
	consoleBytes = 1 << 20
	// maxFiles bounds the monitor's descriptors: some 40, and some more for
	// each virtual CPU.
	maxFiles = 2048
	// maxRecordBytes bounds instance.json, which has about 1 KiB.
	maxRecordBytes = 64 << 10
	// maxBody bounds an answer: vm.info of a machine with 256 CPUs has some
	// 100 KiB.
	maxBody = 4 << 20
	// maxErrorBody bounds what of a refusal goes into an error.
	maxErrorBody = 2 << 10
	// maxVersionBytes bounds what --version may print.
	maxVersionBytes = 4 << 10

	// readyTimeout is how long the monitor may take until its socket answers.
	readyTimeout = 20 * time.Second
	// requestTimeout bounds one request; the longest is vm.boot, which loads
	// kernel and initrd.
	requestTimeout = 20 * time.Second
	// versionTimeout bounds --version.
	versionTimeout = 5 * time.Second
	// shutdownTimeout is how long the monitor may take to shut the guest down
	// in order, once its grace is over, before it is killed.
	shutdownTimeout = 2 * time.Second
	// cleanTimeout bounds the tidying up after a failed start.
	cleanTimeout = 30 * time.Second
	// checkTimeout is how long the check guest may take under KVM; on real
	// hardware it takes less than a second.
	checkTimeout = 8 * time.Second
	// checkMemory is what that guest gets.
	checkMemory = 128 << 20
	// verdictLife is how long a verdict against this machine holds; one in its
	// favour holds until the machine restarts.
	verdictLife = 24 * time.Hour
	// saveInterval is how often Usage writes down what it read.
	saveInterval = 5 * time.Second
)
