package cgroup

import "time"

const (
	// DefaultPids bounds the threads of an environment: a virtual machine
	// monitor has some 10 and one for each CPU, the Go runtime some 20.
	DefaultPids = 512
	// maxFileBytes is above any control file that is read: cgroup.procs of a
	// full group has 8 bytes a process.
	maxFileBytes = 1 << 20
	// removeTimeout is how long killed processes may take to leave: the kernel
	// has to free their memory first.
	removeTimeout = 10 * time.Second
	// pollInterval is how often is looked whether they left.
	pollInterval = 5 * time.Millisecond
	// killRounds bounds the pursuit of processes that fork while they are
	// killed one by one, on kernels before 5.14.
	killRounds = 1000

	// period is over what time the CPU limit is enforced: the kernel's
	// default. longPeriod, the kernel's longest, is for shares below 10 ms/s,
	// since a quota is at least 1 ms.
	period     = 100 * time.Millisecond
	longPeriod = time.Second
)
