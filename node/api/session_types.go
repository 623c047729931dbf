package api

import (
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
)

// RunRequest asks for a session. Numbers that are 0 take the daemon's
// defaults for the kind of environment.
type RunRequest struct {
	// Session is the new session's ID and the idempotency key; absent: the
	// daemon draws one.
	Session ledger.ID `json:"session,omitzero"`
	// Server is the one to lease from; absent: search.
	Server dht.PeerID `json:"server,omitzero"`
	// Query narrows the search; what Terms need is always part of it.
	Query string `json:"query,omitempty"`
	// OrderBy sorts the candidates; empty: price.
	OrderBy string `json:"order_by,omitempty"`
	// Order is the purchase order to draw on; absent: the newest open one with
	// enough money.
	Order ledger.ID `json:"order,omitzero"`
	// Cap is the most the session may cost; 0: what DurationSeconds costs at
	// the server's rates with every CPU busy.
	Cap ledger.Amount `json:"cap,omitempty"`
	// DurationSeconds is how long it may run; 0: ten minutes.
	DurationSeconds int64 `json:"duration_seconds,omitempty"`
	// Terms are what to run.
	Terms Terms `json:"terms"`
}

// Terms are what a session runs.
type Terms struct {
	// Environment is the kind: wasi or linux.
	Environment string `json:"environment"`
	// Image is the CID of what to run; empty: the server's own Linux image.
	Image string `json:"image,omitempty"`
	// CPUs are virtual CPUs.
	CPUs int `json:"cpus,omitempty"`
	// CPUShare is CPU milliseconds a second over all CPUs.
	CPUShare int `json:"cpu_share,omitempty"`
	// MemoryBytes is memory.
	MemoryBytes uint64 `json:"memory_bytes,omitempty"`
	// DiskBytes is private disk.
	DiskBytes uint64 `json:"disk_bytes,omitempty"`
	// NetworkRate is bytes a second each way.
	NetworkRate uint64 `json:"network_rate,omitempty"`
	// Args are arguments of a WASI module, without its name.
	Args []string `json:"args,omitempty"`
	// Env are NAME=value pairs of a WASI module.
	Env []string `json:"env,omitempty"`
	// Stdin is standard input of a WASI module, base64 in JSON.
	Stdin []byte `json:"stdin,omitempty"`
	// SSHKeys are authorized_keys lines for a Linux environment.
	SSHKeys []string `json:"ssh_keys,omitempty"`
}

// A Stage is a step of Run.
type Stage string

// The stages, in order; refused may come several times.
const (
	StageSearching   Stage = "searching"   // asking the overlay for servers
	StageProposing   Stage = "proposing"   // asking a server for a session
	StageRefused     Stage = "refused"     // it said no; the message has why
	StageAgreed      Stage = "agreed"      // both signed
	StageAuthorising Stage = "authorising" // XenoCorp holds the money
	StageLaunching   Stage = "launching"   // the server starts the environment
	StageRunning     Stage = "running"     // seen to work from outside; Session is set
	StageEnded       Stage = "ended"       // it has run already; Session is set
	StageFailed      Stage = "failed"      // last line of a run that failed; Error is set
)

// A RunEvent is one line of Run's answer.
type RunEvent struct {
	// Time is when it happened.
	Time time.Time `json:"time"`
	// Stage is what happened.
	Stage Stage `json:"stage"`
	// Server is the one concerned, where there is one.
	Server dht.PeerID `json:"server,omitzero"`
	// Message is that in words.
	Message string `json:"message,omitempty"`
	// Session is set in the last line of a run that succeeded.
	Session *Session `json:"session,omitempty"`
	// Error is set in the last line of a run that failed.
	Error *Error `json:"error,omitempty"`
}

// A SessionState is how far a session is.
type SessionState string

// The states of a session.
const (
	SessionProposed   SessionState = "proposed"   // asked for, resources held for a minute
	SessionAgreed     SessionState = "agreed"     // signed by both
	SessionAuthorised SessionState = "authorised" // money held
	SessionLaunching  SessionState = "launching"  // process started, not yet seen to work
	SessionRunning    SessionState = "running"    // seen to work from outside
	SessionStopping   SessionState = "stopping"   // being ended
	SessionEnded      SessionState = "ended"      // final receipt made, not yet settled
	SessionSettled    SessionState = "settled"    // XenoCorp paid and released the rest
	SessionFailed     SessionState = "failed"     // never ran, or lost; nothing is held for it
)

// Over tells whether nothing more happens to the session.
func (s SessionState) Over() bool { return s == SessionSettled || s == SessionFailed }

// Stopped tells whether its environment runs no longer.
func (s SessionState) Stopped() bool { return s == SessionEnded || s.Over() }

// A Session is a lease and its state.
type Session struct {
	// ID is its name.
	ID ledger.ID `json:"id"`
	// State is how far it is.
	State SessionState `json:"state"`
	// Reason is why it ended, a code; empty before.
	Reason string `json:"reason,omitempty"`
	// Error is what failed, where something did.
	Error string `json:"error,omitempty"`
	// Hosted tells that this daemon is the server of it, not the client.
	Hosted bool `json:"hosted"`
	// Client is who pays.
	Client dht.PeerID `json:"client"`
	// Server is who hosts.
	Server dht.PeerID `json:"server"`
	// ServerName is the server's label, as it was advertised when the session
	// was bought; empty where it is not known.
	ServerName string `json:"server_name,omitempty"`
	// ServerPlace is its town, as advertised.
	ServerPlace string `json:"server_place,omitempty"`
	// ServerCountry is its country, as advertised.
	ServerCountry string `json:"server_country,omitempty"`
	// Agreement links to the signed contract.
	Agreement string `json:"agreement,omitempty"`
	// Order links to the purchase order.
	Order string `json:"order,omitempty"`
	// Terms are what was agreed to run.
	Terms Terms `json:"terms"`
	// Rates are the agreed prices.
	Rates Rates `json:"rates"`
	// Cap is the most it can cost.
	Cap ledger.Amount `json:"cap"`
	// Spent is the amount of the newest receipt.
	Spent ledger.Amount `json:"spent"`
	// HostKey is the agreed SSH host key, an authorized_keys line.
	HostKey string `json:"host_key,omitempty"`
	// User is the login name for ssh.
	User string `json:"user,omitempty"`
	// Driver is what runs it, on the server.
	Driver string `json:"driver,omitempty"`
	// ExitCode is that of a WASI module that ended; null before.
	ExitCode *int `json:"exit_code,omitempty"`
	// Created is when it was proposed.
	Created time.Time `json:"created"`
	// Started is when it was seen to run.
	Started time.Time `json:"started,omitzero"`
	// Ended is when it stopped running.
	Ended time.Time `json:"ended,omitzero"`
	// Expires is when it ends at the latest.
	Expires time.Time `json:"expires"`
	// Settlement is XenoCorp's final word; null before.
	Settlement *Settlement `json:"settlement,omitempty"`
}

// A Settlement closes a session.
type Settlement struct {
	// Paid is what the client paid, fee included.
	Paid ledger.Amount `json:"paid"`
	// Fee is what XenoCorp kept of it.
	Fee ledger.Amount `json:"fee"`
	// Released is what went back to the order.
	Released ledger.Amount `json:"released"`
	// Time is when.
	Time time.Time `json:"time"`
}

// ExtendRequest moves the bounds of a session outwards.
type ExtendRequest struct {
	// Seconds are added to its end.
	Seconds int64 `json:"seconds"`
	// Cap is added to its cap; 0: what the seconds cost at most.
	Cap ledger.Amount `json:"cap,omitempty"`
}

// Logs are the newest output of an environment, base64 in JSON.
type Logs struct {
	// Stdout is standard output, or the console.
	Stdout []byte `json:"stdout"`
	// Stderr is standard error.
	Stderr []byte `json:"stderr"`
}

// A Reading is what one meter counted.
type Reading struct {
	// Source is the meter: ebpf, cgroup, rusage, proc, qmp.
	Source string `json:"source"`
	// RunNanos is time it was running.
	RunNanos uint64 `json:"run_ns"`
	// CPUNanos is CPU time.
	CPUNanos uint64 `json:"cpu_ns"`
	// RxBytes were received by the environment.
	RxBytes uint64 `json:"rx_bytes"`
	// TxBytes were sent by it.
	TxBytes uint64 `json:"tx_bytes"`
}

// Usage is what a session consumed so far.
type Usage struct {
	// Session is whose it is.
	Session ledger.ID `json:"session"`
	// Readings are the meters', the billed one first.
	Readings []Reading `json:"readings"`
	// Amount is what it costs so far.
	Amount ledger.Amount `json:"amount"`
	// Cap is the most it can cost.
	Cap ledger.Amount `json:"cap"`
	// Settlement is XenoCorp's final word; absent before.
	Settlement *Settlement `json:"settlement,omitempty"`
}

// A Receipt is a signed statement of cumulative usage.
type Receipt struct {
	// CID links to the signed document.
	CID string `json:"cid"`
	// Seq counts from 1.
	Seq uint64 `json:"seq"`
	// Prev links to the receipt before; empty for the first.
	Prev string `json:"prev,omitempty"`
	// From is when the session began to run.
	From time.Time `json:"from"`
	// To is the end of what it covers.
	To time.Time `json:"to"`
	// Readings are the meters', the billed one first.
	Readings []Reading `json:"readings"`
	// Amount is what it comes to.
	Amount ledger.Amount `json:"amount"`
	// Final tells that it is the last.
	Final bool `json:"final"`
	// Reason is why the session ended, in the last.
	Reason string `json:"reason,omitempty"`
	// Countersigned tells that the client agreed.
	Countersigned bool `json:"countersigned"`
	// Claimed tells that XenoCorp accepted it, as far as this daemon knows.
	Claimed bool `json:"claimed"`
}
