package process

import "time"

const (
	// DefaultLogBytes is kept of each output stream: a full boot log of Linux
	// is 60 to 100 KiB.
	DefaultLogBytes = 1 << 20
	// maxLogBytes keeps one file from filling the daemon's memory when read.
	maxLogBytes = 64 << 20
	// maxRecordBytes bounds record.json and exit.json; they are below 4 KiB.
	maxRecordBytes = 64 << 10
	// maxConfigBytes bounds what a keeper reads: Linux takes 2 MiB of
	// arguments and environment at most, JSON may escape every byte six-fold.
	maxConfigBytes = 16 << 20
	// maxReplyBytes bounds a keeper's answer, an error message at most.
	maxReplyBytes = 8 << 10
	// maxLegacyDirs is above the number of v1 controllers that Linux has.
	maxLegacyDirs = 32

	// startTimeout is how long a keeper may take to start the child. Starting
	// takes some 10 ms; a machine that swaps may take seconds.
	startTimeout = 20 * time.Second
	// killTimeout is how long a killed process may take to go: the kernel has
	// to free its memory.
	killTimeout = 10 * time.Second
	// removeTimeout is how long Remove looks for the end of a keeper.
	removeTimeout = time.Second
	// drainTimeout is how long output is read after the child's end. What it
	// wrote is in the pipe already.
	drainTimeout = 200 * time.Millisecond
	// pollInterval is how often a keeper that comes up is looked for, and a lock
	// tried, which is held for some milliseconds.
	pollInterval = 5 * time.Millisecond
	// reapRounds bounds the search for descendants that multiply while they
	// are killed.
	reapRounds = 100
)
