package ledger

import "errors"

// Refusals of commands. Each is final for the same command and state, except
// ErrExpiryDue, which asks the caller to apply a Tick first.
var (
	ErrUnknownPeer = errors.New("ledger: peer is not registered with this XenoCorp")
	ErrBadCode     = errors.New("ledger: no such invitation code, or it is expired or used up")
	ErrDenied      = errors.New("ledger: not allowed to the caller")
	ErrRevoked     = errors.New("ledger: credential was revoked")
	ErrUnknown     = errors.New("ledger: no such order or session")
	ErrConflict    = errors.New("ledger: ID was used before with another content")
	ErrFunds       = errors.New("ledger: not enough money")
	ErrClosed      = errors.New("ledger: order or session is closed")
	ErrBadReceipt  = errors.New("ledger: receipt is not allowed by its agreement")
	ErrLimit       = errors.New("ledger: limit reached")
	ErrExpiryDue   = errors.New("ledger: reservations are due to expire; apply a Tick first")
)
