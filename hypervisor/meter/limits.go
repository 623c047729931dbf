package meter

const (
	// maxEnvironments bounds what one daemon meters at once; the kernel maps
	// are that large (MAX_ENVIRONMENTS in meter.bpf.c) and take 64 KiB a CPU.
	// A machine of 1,024 threads that overcommits twice stays below it.
	maxEnvironments = 2048
	// maxDepths is how many distinct levels of the cgroup tree can hold
	// environments (MAX_DEPTHS in meter.bpf.c): one as a rule, two while a
	// daemon is moved to another place in the tree.
	maxDepths = 4
	// maxLevel is the deepest level that fits the kernel's bit set.
	maxLevel = 31
	// maxID is the longest ID of an environment, as hypervisor.Spec has it;
	// the key of a kernel map has this size.
	maxID = 40
	// maxNamespace keeps a directory's name within what bpffs takes, and holds
	// a peer ID in any of its spellings.
	maxNamespace = 80
	// maxReads bounds the attempts to read counters while a CPU changes them:
	// one attempt fails only if a CPU switches during each of the 16 short
	// looks that the kernel's side takes.
	maxReads = 8
	// maxPairs bounds the attempts to read two sources between two bookings of
	// the scheduler. An attempt takes some 0.1 ms, a booking comes every 4 ms
	// from each busy CPU: on 32 of them an attempt fails about every second
	// time, and all of them about once in a million.
	maxPairs = 20
)
