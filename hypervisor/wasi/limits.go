package wasi

import "time"

const (
	// maxModuleBytes is above any module that compiles in reasonable time; the
	// largest known ones, language runtimes, have some 30 MiB.
	maxModuleBytes = 128 << 20
	// maxOutputBytes is the most that a module may write to each of standard
	// output and standard error; the newest part is kept. Copying it is work
	// that the host does unpaid.
	maxOutputBytes = 64 << 20
	// maxStateBytes bounds the state files that are read; the largest holds
	// arguments and environment, which JSON may blow up six-fold.
	maxStateBytes = 8 << 20
	// maxReportBytes bounds what is believed of a child: an error message.
	maxReportBytes = 4 << 10

	// overheadBytes is the memory of the runtime around the module: the
	// executable's own data, what compiling takes, and a call stack; wazero's
	// bound for that, 400 MB, is above what this leaves.
	overheadBytes = 256 << 20
	// reservedBytes is address space that the Go runtime and thread stacks
	// reserve writable without using it.
	reservedBytes = 1 << 30
	// entryBytes is charged for each file and directory besides its content:
	// an inode and a name cost the host space, too.
	entryBytes = 4 << 10
	// maxOpenFiles bounds the files that a module has open.
	maxOpenFiles = 256
	// minThreads are needed beside the one that may run compiled code for
	// hours without a pause.
	minThreads = 2

	// startTimeout is how long compiling may take before _start is called.
	startTimeout = 2 * time.Minute
	// clockStep is the resolution of the clocks that a module sees: too
	// coarse to time the host's caches.
	clockStep = 100 * time.Microsecond
	// collectCalls and collectBytes say when the runtime's own garbage is
	// collected: looked at every so many host calls, done after so much.
	collectCalls = 1 << 12
	collectBytes = 32 << 20

	// nobody is the user and group that a module runs as when the daemon is
	// the superuser.
	nobody = 65534
)
