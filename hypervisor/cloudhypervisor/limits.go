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
	// maxFiles bounds the monitor's descriptors: some 40, and some more for
	// each virtual CPU.
	maxFiles = 2048
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
)
