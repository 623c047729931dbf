package ledger

import (
	"time"

	"github.com/xenoserver/xeno/dht"
)

// An AccountKind says what money in an account may be used for.
type AccountKind string

// The kinds of accounts.
const (
	AccountExternal  AccountKind = "external"  // the world outside; what came in counts negative here
	AccountAvailable AccountKind = "available" // a participant's own, free to use
	AccountReserved  AccountKind = "reserved"  // a client's, ring-fenced by one order
	AccountHeld      AccountKind = "held"      // a client's, held for one session
	AccountPending   AccountKind = "pending"   // a server's, claimed but not yet settled
	AccountFee       AccountKind = "fee"       // XenoCorp's own
	AccountDispute   AccountKind = "dispute"   // claimed and disputed, until decided
)

// An Account is one side of an entry. Peer is zero for XenoCorp's own accounts
// and the external one; Ref is the order of a reserved account, and the session
// of a held or pending one.
type Account struct {
	Kind AccountKind `cbor:"kind"`
	Peer dht.PeerID  `cbor:"peer"`
	Ref  ID          `cbor:"ref"`
}

// An EntryKind says why money moved.
type EntryKind string

// The kinds of entries.
const (
	EntryDeposit   EntryKind = "deposit"   // external → available
	EntryWithdraw  EntryKind = "withdraw"  // available → external
	EntryReserve   EntryKind = "reserve"   // available → reserved: an order is created
	EntryUnreserve EntryKind = "unreserve" // reserved → available: an order is closed
	EntryHold      EntryKind = "hold"      // reserved → held: an agreement is authorised
	EntryClaim     EntryKind = "claim"     // held → pending: a receipt is claimed
	EntryRelease   EntryKind = "release"   // held → reserved or available: the rest of a hold
	EntryPay       EntryKind = "pay"       // pending → available: a session is settled
	EntryFee       EntryKind = "fee"       // pending → fee
)

// An Entry moves money from one account to another, so that the sum over all
// accounts stays zero.
type Entry struct {
	Seq    uint64    `cbor:"seq"` // from 1, without gaps
	Time   int64     `cbor:"time_ns"`
	Kind   EntryKind `cbor:"kind"`
	From   Account   `cbor:"from"`
	To     Account   `cbor:"to"`
	Amount Amount    `cbor:"amount"` // greater than zero
	Ref    ID        `cbor:"ref"`    // the order, the session, or the command of a deposit or withdrawal
}

// When returns the time of the entry.
func (e *Entry) When() time.Time { return time.Unix(0, e.Time).UTC() }

// Balances are the sums of one participant's accounts by kind.
type Balances struct {
	Peer      dht.PeerID
	Name      string // subject of its credential
	Available Amount
	Reserved  Amount
	Held      Amount
	Pending   Amount
}

// Sum returns all that the participant has in the ledger.
func (b Balances) Sum() Amount { return b.Available + b.Reserved + b.Held + b.Pending }

// Accounts are all balances of a ledger. Their Sum is zero.
type Accounts struct {
	Peers    []Balances // by peer, ascending
	External Amount
	Fee      Amount
	Dispute  Amount
}

// Sum adds up everything.
func (a *Accounts) Sum() Amount {
	sum := a.External + a.Fee + a.Dispute
	for _, p := range a.Peers {
		sum += p.Sum()
	}
	return sum
}

// An OrderStatus is how an order stands.
type OrderStatus struct {
	ID      ID
	Client  dht.PeerID
	Link    Link
	Amount  Amount // ring-fenced at the start: Free + Held + Spent while it is open
	Free    Amount // not held by a session
	Held    Amount // held by sessions, or claimed by them and not yet settled
	Spent   Amount // paid by settled sessions, fees included
	MaxCap  Amount
	Issued  time.Time
	Expires time.Time
	Closed  bool // cancelled, expired, or its client was revoked
}

// A SessionStatus is how an authorised session stands.
type SessionStatus struct {
	ID        ID
	Client    dht.PeerID
	Server    dht.PeerID
	Order     ID
	Agreement Link   // newest revision
	Hold      Amount // held at the start, raised by revisions: Cap
	Claimed   Amount // cumulative, fee included
	Confirmed Amount // of that, countersigned by the client
	Seq       uint64 // of the newest receipt; 0: none yet
	Expires   time.Time
	Settled   bool
	Fee       Amount // once settled
	Released  Amount // once settled
}
