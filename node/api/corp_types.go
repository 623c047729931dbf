package api

import (
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
)

// InviteRequest asks for an invitation code.
type InviteRequest struct {
	// Subject is the real-world entity that the operator has identified.
	Subject string `json:"subject"`
	// Roles are what the credential will allow; empty: participant, client.
	Roles []ledger.Role `json:"roles,omitempty"`
	// TTLSeconds is how long the code may be used; 0: a day.
	TTLSeconds int64 `json:"ttl_seconds,omitempty"`
}

// An Invitation lets one entity register once.
type Invitation struct {
	// Code is the secret; it is shown only now.
	Code string `json:"code"`
	// Subject is whom it is for.
	Subject string `json:"subject"`
	// Roles are what the credential will allow.
	Roles []ledger.Role `json:"roles"`
	// Expires is when the code ends.
	Expires time.Time `json:"expires"`
}

// DepositRequest credits money from outside.
type DepositRequest struct {
	// ID makes the request idempotent; absent: the daemon draws one.
	ID ledger.ID `json:"id,omitzero"`
	// Peer is whose account.
	Peer dht.PeerID `json:"peer"`
	// Amount is how much.
	Amount ledger.Amount `json:"amount"`
	// Note is the operator's reference, such as a bank transfer's.
	Note string `json:"note,omitempty"`
}

// RevokeRequest ends the credentials of a peer.
type RevokeRequest struct {
	// Peer is whose credentials.
	Peer dht.PeerID `json:"peer"`
	// Reason is kept in the journal.
	Reason string `json:"reason,omitempty"`
}

// RevokeAnswer tells what was revoked.
type RevokeAnswer struct {
	// Serials are the credentials.
	Serials []uint64 `json:"serials"`
	// Seq is the number of the new revocation list.
	Seq uint64 `json:"seq"`
}

// Books are all accounts of a XenoCorp.
type Books struct {
	// Currency is the unit.
	Currency string `json:"currency,omitempty"`
	// Accounts are all of them, by name.
	Accounts []BookAccount `json:"accounts"`
	// Sum is that of all balances: zero.
	Sum ledger.Amount `json:"sum"`
}

// A BookAccount is one account of the double-entry books.
type BookAccount struct {
	// Name is the account's, such as client/12D3…/available or fee.
	Name string `json:"name"`
	// Peer is the owner; empty for accounts of XenoCorp itself.
	Peer dht.PeerID `json:"peer"`
	// Subject is the owner's registered name.
	Subject string `json:"subject,omitempty"`
	// Kind is available, reserved, held, pending, fee, dispute or world.
	Kind string `json:"kind"`
	// Balance is credits less debits; that of world (money from outside) is
	// never positive.
	Balance ledger.Amount `json:"balance"`
}

// An Entry is one line of the journal.
type Entry struct {
	// Seq counts from 1 without gaps.
	Seq uint64 `json:"seq"`
	// Time is when it was committed.
	Time time.Time `json:"time"`
	// Kind is the command: register, deposit, order, authorise, claim, settle,
	// release, expire, revoke and so on.
	Kind string `json:"kind"`
	// Note says what it concerns.
	Note string `json:"note,omitempty"`
	// Postings sum to zero.
	Postings []Posting `json:"postings"`
}

// A Posting changes one account.
type Posting struct {
	// Account is its name.
	Account string `json:"account"`
	// Amount is added to its balance.
	Amount ledger.Amount `json:"amount"`
}
