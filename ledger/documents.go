package ledger

import (
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// The kinds of documents, with who signs them. Times are Unix seconds unless
// the name says otherwise.
const (
	KindCredential    Kind = "credential"    // XenoCorp
	KindRevocations   Kind = "revocations"   // XenoCorp
	KindOrder         Kind = "order"         // client
	KindAgreement     Kind = "agreement"     // server, then client
	KindAuthorization Kind = "authorization" // XenoCorp
	KindReceipt       Kind = "receipt"       // server, then client where it agrees
	KindSettlement    Kind = "settlement"    // XenoCorp
	KindAd            Kind = "ad"            // server (payload: search.Ad)
	KindName          Kind = "name"          // owner (payload: store.Name)
)

// A Role is what a credential allows its holder to be.
type Role string

// The roles.
const (
	RoleParticipant Role = "participant" // carries the overlay
	RoleClient      Role = "client"      // buys
	RoleServer      Role = "server"      // hosts for money
	RoleOperator    Role = "operator"    // runs XenoCorp: invites, deposits, revokes
)

// A Credential is XenoCorp's statement that a participant's key belongs to a
// registered real-world subject.
type Credential struct {
	Network string     `cbor:"network"`
	Serial  uint64     `cbor:"serial"`  // of this XenoCorp, never reused
	Peer    dht.PeerID `cbor:"peer"`    // whose key it is
	Subject string     `cbor:"subject"` // who that is, as the verifier established
	Roles   []Role     `cbor:"roles"`
	Issued  int64      `cbor:"issued"`
	Expires int64      `cbor:"expires"`
}

// Has tells whether the credential allows role.
func (c *Credential) Has(role Role) bool {
	return slices.Contains(c.Roles, role)
}

// CheckTime returns an error that wraps ErrExpired if c does not hold at now.
// skew is how much earlier than its issue it is accepted.
func (c *Credential) CheckTime(now time.Time, skew time.Duration) error {
	return checkWindow(now, c.Issued, c.Expires, skew)
}

// Revocations is the list of credentials that hold no longer, by serial.
// Seq grows with every list; a node keeps the newest it saw.
type Revocations struct {
	Network string   `cbor:"network"`
	Seq     uint64   `cbor:"seq"`
	Issued  int64    `cbor:"issued"`
	Serials []uint64 `cbor:"serials"` // ascending
}

// An Order is a purchase order: the client asks XenoCorp to ring-fence money
// that sessions may then draw on.
type Order struct {
	Network string       `cbor:"network"`
	ID      ID           `cbor:"id"` // chosen by the client; makes creation idempotent
	Client  dht.PeerID   `cbor:"client"`
	Amount  Amount       `cbor:"amount"`
	Issued  int64        `cbor:"issued"`
	Expires int64        `cbor:"expires"`
	Servers []dht.PeerID `cbor:"servers"` // only these may draw on it; empty: any
	MaxCap  Amount       `cbor:"max_cap"` // most that one session may hold; 0: no bound
}

// Rates are the prices of an agreement in nano-units.
type Rates struct {
	Session Amount `cbor:"session"` // an hour of running, whatever is used
	CPU     Amount `cbor:"cpu"`     // an hour of CPU time used
	Memory  Amount `cbor:"memory"`  // a GiB of agreed memory for an hour of running
	Disk    Amount `cbor:"disk"`    // a GiB of agreed disk for an hour of running
	Network Amount `cbor:"network"` // a GiB sent or received
}

// Terms are what an agreement promises to run.
type Terms struct {
	Environment string   `cbor:"environment"` // kind: wasi, linux
	Image       Link     `cbor:"image"`       // UnixFS root of the image
	CPUs        uint32   `cbor:"cpus"`        // virtual CPUs
	CPUShare    uint32   `cbor:"cpu_share"`   // CPU milliseconds a second, over all CPUs
	MemoryBytes uint64   `cbor:"memory_bytes"`
	DiskBytes   uint64   `cbor:"disk_bytes"`
	NetworkRate uint64   `cbor:"network_rate"` // bytes a second each way; 0: no network
	Args        []string `cbor:"args"`         // of a WASI module
	Env         []string `cbor:"env"`          // NAME=value
	Stdin       []byte   `cbor:"stdin"`        // of a WASI module
	SSHKeys     []string `cbor:"ssh_keys"`     // authorized_keys lines of the client
	HostKey     string   `cbor:"host_key"`     // SSH host key of the environment, authorized_keys form; set by the server
}

// An Agreement is the contract for one session. The server seals it, the
// client countersigns, XenoCorp authorises. An agreement with the same ID and
// the next Revision amends it (extends: Cap and Expires may grow, nothing else
// changes); XenoCorp then raises the hold of the session to the new Cap and
// takes the new Expires, and receipts link to the newest revision.
type Agreement struct {
	Network  string     `cbor:"network"`
	ID       ID         `cbor:"id"` // the session's, chosen by the client
	Client   dht.PeerID `cbor:"client"`
	Server   dht.PeerID `cbor:"server"`
	Order    Link       `cbor:"order"`
	Revision uint32     `cbor:"revision"` // 0, and one more for every amendment
	Prev     Link       `cbor:"prev"`     // the agreement that this one amends; null at revision 0
	Terms    Terms      `cbor:"terms"`
	Rates    Rates      `cbor:"rates"`
	Cap      Amount     `cbor:"cap"` // most the session can cost
	Issued   int64      `cbor:"issued"`
	Expires  int64      `cbor:"expires"` // when the session ends at the latest
}

// An Authorization is XenoCorp's word that Cap is held for the agreement.
type Authorization struct {
	Network   string `cbor:"network"`
	Agreement Link   `cbor:"agreement"`
	Hold      Amount `cbor:"hold"`
	Issued    int64  `cbor:"issued"`
	Expires   int64  `cbor:"expires"` // when the hold is released by itself
}

// Usage is what an environment consumed since its start; every field only grows.
type Usage struct {
	RunNanos uint64 `cbor:"run_ns"`   // time it was running
	CPUNanos uint64 `cbor:"cpu_ns"`   // CPU time
	RxBytes  uint64 `cbor:"rx_bytes"` // received by the environment
	TxBytes  uint64 `cbor:"tx_bytes"` // sent by the environment
}

// A Reading is one meter's view of a usage.
type Reading struct {
	Source string `cbor:"source"` // ebpf, cgroup, rusage, qmp
	Usage  Usage  `cbor:"usage"`
}

// A Receipt says what a session consumed from its start to To. Receipts are
// cumulative, numbered and chained: only the newest counts.
type Receipt struct {
	Network   string     `cbor:"network"`
	Agreement Link       `cbor:"agreement"`
	Server    dht.PeerID `cbor:"server"`
	Seq       uint64     `cbor:"seq"`      // from 1
	Prev      Link       `cbor:"prev"`     // previous receipt; null for the first
	From      int64      `cbor:"from_ms"`  // when the session began to run, Unix milliseconds
	To        int64      `cbor:"to_ms"`    // Unix milliseconds
	Usage     Usage      `cbor:"usage"`    // what is billed
	Readings  []Reading  `cbor:"readings"` // the meters behind it, the billed one first
	Amount    Amount     `cbor:"amount"`   // what Usage costs at the agreement's rates, at most its cap
	Final     bool       `cbor:"final"`
	Reason    Reason     `cbor:"reason"` // why it ended; empty unless Final
}

// A Settlement is XenoCorp's final word on a session.
type Settlement struct {
	Network   string `cbor:"network"`
	Agreement Link   `cbor:"agreement"`
	Paid      Amount `cbor:"paid"`     // by the client, fee included
	Fee       Amount `cbor:"fee"`      // of Paid, kept by XenoCorp
	Released  Amount `cbor:"released"` // back to the order
	Issued    int64  `cbor:"issued"`
}

// A Reason is the coded cause of a session's end.
type Reason string

// The reasons.
const (
	ReasonDone      Reason = "done"      // the program ended by itself
	ReasonStopped   Reason = "stopped"   // the client asked
	ReasonExpired   Reason = "expired"   // the agreement's time was over
	ReasonExhausted Reason = "exhausted" // the cap was reached
	ReasonFailed    Reason = "failed"    // the environment failed
	ReasonEvicted   Reason = "evicted"   // the server withdrew
)
