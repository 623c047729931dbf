package api

import (
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
)

// Status describes the daemon and its place in the network.
type Status struct {
	// ID is the daemon's identity.
	ID dht.PeerID `json:"id"`
	// Name is its label in tables, from its configuration.
	Name string `json:"name"`
	// Version is that of the software.
	Version string `json:"version"`
	// Network is the network's name.
	Network string `json:"network"`
	// Currency is the unit of its money.
	Currency string `json:"currency,omitempty"`
	// XenoCorp is the identity of the network's trusted third party.
	XenoCorp dht.PeerID `json:"xenocorp"`
	// IsXenoCorp tells whether that is this daemon.
	IsXenoCorp bool `json:"is_xenocorp"`
	// Ready tells whether the daemon is registered and has joined the overlay.
	Ready bool `json:"ready"`
	// Started is when the daemon came up.
	Started time.Time `json:"started"`
	// Addrs are the addresses others reach it at, with its identity.
	Addrs []string `json:"addrs"`
	// Credential is null until the daemon is registered.
	Credential *Credential `json:"credential"`
	// Peers are the admitted participants it is connected to.
	Peers []Peer `json:"peers"`
	// Coordinate is its network coordinate.
	Coordinate Coordinate `json:"coordinate"`
	// Server is null unless the daemon is a XenoServer.
	Server *ServerStatus `json:"server"`
}

// A Credential is what XenoCorp certified about a participant.
type Credential struct {
	// Serial is its number with this XenoCorp.
	Serial uint64 `json:"serial"`
	// Peer is whose it is.
	Peer dht.PeerID `json:"peer"`
	// Subject is who that is in the real world.
	Subject string `json:"subject"`
	// Roles are what it allows: participant, client, server, operator.
	Roles []ledger.Role `json:"roles"`
	// Issued is when it began to hold.
	Issued time.Time `json:"issued"`
	// Expires is when it ends.
	Expires time.Time `json:"expires"`
}

// A Peer is a connected participant.
type Peer struct {
	// ID is its identity.
	ID dht.PeerID `json:"id"`
	// Addrs are its addresses.
	Addrs []string `json:"addrs,omitempty"`
	// Direction is inbound or outbound.
	Direction string `json:"direction,omitempty"`
	// RTTMillis is the smoothed round-trip time; 0: not yet measured.
	RTTMillis float64 `json:"rtt_ms"`
}

// A Coordinate is a Vivaldi network coordinate, in seconds.
type Coordinate struct {
	// Vec is the Euclidean part.
	Vec []float64 `json:"vec"`
	// Height is the distance to the core of the network.
	Height float64 `json:"height"`
	// Error is its own estimate of how wrong it is, relative.
	Error float64 `json:"error"`
}

// ServerStatus is what a XenoServer offers at present.
type ServerStatus struct {
	// Environments are the kinds it runs.
	Environments []string `json:"environments"`
	// Unsupported says why the machine cannot run the other kinds, by kind.
	Unsupported map[string]string `json:"unsupported,omitempty"`
	// Drivers are the drivers behind them, in order of preference.
	Drivers []string `json:"drivers"`
	// Meter is the source of the billed readings: ebpf, cgroup, rusage.
	Meter string `json:"meter"`
	// Total is what it may lease at most.
	Total Capacity `json:"total"`
	// Free is what it could lease now.
	Free Capacity `json:"free"`
	// Rates are its prices.
	Rates Rates `json:"rates"`
	// Sessions is how many it hosts now.
	Sessions int `json:"sessions"`
}

// Capacity is a size of server or environment.
type Capacity struct {
	// CPUs are virtual CPUs.
	CPUs int `json:"cpus"`
	// MemoryBytes is memory.
	MemoryBytes uint64 `json:"memory_bytes"`
	// DiskBytes is disk.
	DiskBytes uint64 `json:"disk_bytes"`
}

// Rates are prices in nano-units.
type Rates struct {
	// Session is for an hour of running.
	Session ledger.Amount `json:"session"`
	// CPU is for an hour of CPU time used.
	CPU ledger.Amount `json:"cpu"`
	// Memory is for a GiB of agreed memory for an hour.
	Memory ledger.Amount `json:"memory"`
	// Disk is for a GiB of agreed disk for an hour.
	Disk ledger.Amount `json:"disk"`
	// Network is for a GiB sent or received.
	Network ledger.Amount `json:"network"`
}

// RegisterRequest presents an invitation.
type RegisterRequest struct {
	// Code is the one-time invitation code.
	Code string `json:"code"`
	// Name is what the participant calls itself; the credential has the
	// invitation's subject.
	Name string `json:"name,omitempty"`
}

// OrderRequest asks for a purchase order.
type OrderRequest struct {
	// ID makes the request idempotent; absent: the daemon draws one.
	ID ledger.ID `json:"id,omitzero"`
	// Amount is what to ring-fence.
	Amount ledger.Amount `json:"amount"`
	// TTLSeconds is how long the order holds; 0: a day.
	TTLSeconds int64 `json:"ttl_seconds,omitempty"`
	// Servers are those that may draw on it; empty: any.
	Servers []dht.PeerID `json:"servers,omitempty"`
	// MaxCap is the most one session may hold; 0: no bound.
	MaxCap ledger.Amount `json:"max_cap,omitempty"`
}

// An Order is a purchase order and what became of its money:
// Amount = Held + Spent + Free while it is open.
type Order struct {
	// ID is its name.
	ID ledger.ID `json:"id"`
	// CID links to the signed document.
	CID string `json:"cid"`
	// State is open, cancelled or expired.
	State string `json:"state"`
	// Amount is what was ring-fenced.
	Amount ledger.Amount `json:"amount"`
	// Held is what sessions hold now.
	Held ledger.Amount `json:"held"`
	// Spent is what was paid from it.
	Spent ledger.Amount `json:"spent"`
	// Free is what sessions may still hold; 0 once it is closed.
	Free ledger.Amount `json:"free"`
	// MaxCap is the most one session may hold; 0: no bound.
	MaxCap ledger.Amount `json:"max_cap"`
	// Servers are those that may draw on it; empty: any.
	Servers []dht.PeerID `json:"servers"`
	// Created is when it was made.
	Created time.Time `json:"created"`
	// Expires is when the remainder returns by itself.
	Expires time.Time `json:"expires"`
}

// An Account is one participant's balances at XenoCorp.
type Account struct {
	// Peer is whose it is; empty for accounts of XenoCorp itself.
	Peer dht.PeerID `json:"peer"`
	// Subject is the registered name.
	Subject string `json:"subject"`
	// Available is what the owner may spend or draw.
	Available ledger.Amount `json:"available"`
	// Reserved is what purchase orders ring-fence and no session holds.
	Reserved ledger.Amount `json:"reserved"`
	// Held is what sessions hold.
	Held ledger.Amount `json:"held"`
	// Pending is what a server earned and XenoCorp has not released yet.
	Pending ledger.Amount `json:"pending"`
}

// AddPathRequest names what to store.
type AddPathRequest struct {
	// Path is the absolute path of a file or directory of this machine.
	Path string `json:"path"`
}

// Object is a stored file or directory.
type Object struct {
	// CID is the root of its UnixFS graph.
	CID string `json:"cid"`
	// Name is the label it was given.
	Name string `json:"name,omitempty"`
	// SizeBytes is the length of its content.
	SizeBytes uint64 `json:"size_bytes"`
}
