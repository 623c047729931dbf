package main

import "time"

const (
	// maxConns bounds SSH connections: one client with several terminals.
	maxConns = 32
	// maxSessions bounds the sessions of one connection, maxForwards its
	// forwarded connections; a page load opens a few dozen.
	maxSessions = 16
	maxForwards = 128
	// maxAuthTries is how many keys a client may offer.
	maxAuthTries = 6
	// handshakeTimeout leaves room for an emulated processor.
	handshakeTimeout = 30 * time.Second
	// dialTimeout bounds a forwarded connection's start; its target is local.
	dialTimeout = 10 * time.Second
	// maxEnv, maxEnvName and maxEnvValue bound the environment of a session.
	maxEnv      = 64
	maxEnvName  = 128
	maxEnvValue = 4096
	// maxCommand bounds a command line: Linux takes no longer argument.
	maxCommand = 128 << 10
	// termGrace is what processes have to end themselves at power off.
	termGrace = 300 * time.Millisecond
	// maxInputs bounds watched input devices; a machine has one button.
	maxInputs = 8
)
