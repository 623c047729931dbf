package corp

import (
	"time"

	"github.com/xenoserver/xeno/ledger"
)

// The protocols.
const (
	Protocol         = "/xeno/corp/1"     // admitted peers
	ProtocolRegister = "/xeno/register/1" // anybody; registration alone
)

const (
	// MaxRequest bounds a request in bytes: one envelope and its framing.
	MaxRequest = ledger.MaxEnvelope + 1<<10
	// MaxRegister bounds a registration: a code, a name, a few roles.
	MaxRegister = 4 << 10
	// MaxResponse bounds a response: MaxEntriesListed entries or
	// MaxAccountsListed balances of less than 256 bytes each.
	MaxResponse = 4 << 20
	// MaxOrdersListed bounds the orders in one answer.
	MaxOrdersListed = 256
	// MaxEntriesListed bounds the entries in one answer; the caller asks on.
	MaxEntriesListed = 4096
	// MaxAccountsListed bounds the balances in one answer.
	MaxAccountsListed = 10_000
	// DefaultCredentialTTL is how long a credential holds: long enough for a
	// holder that is away for weeks, short enough to forget revocations.
	DefaultCredentialTTL = 30 * 24 * time.Hour
	// DefaultInvitationTTL is how long a code can be redeemed.
	DefaultInvitationTTL = 7 * 24 * time.Hour
	// DefaultClaimGrace is how long after the end of an agreement its server
	// may still claim: time enough to restart a crashed daemon.
	DefaultClaimGrace = 15 * time.Minute
)

const (
	// maxGroup bounds the calls that one write to the disk makes durable, and
	// those that wait for the next.
	maxGroup = 512
	// tickEvery is how often what is due by time is carried out when no call
	// does: a reservation outlives its expiry by no more.
	tickEvery = time.Second
	// A peer may try registerAttempts codes in registerWindow. A code has 130
	// random bits, so this protects the log and the processor, not the codes.
	registerAttempts = 10
	registerWindow   = time.Minute
	// maxTracked bounds the peers whose attempts are remembered; beyond it
	// every peer without a record waits for the window to end.
	maxTracked = 10_000
)
