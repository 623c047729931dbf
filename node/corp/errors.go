package corp

import (
	"errors"

	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/wire"
)

// Refusals that the ledger knows nothing of.
var (
	// ErrThrottled reports too many attempts by one peer.
	ErrThrottled = errors.New("corp: too many attempts")
	// ErrUnavailable reports a XenoCorp that is stopping or cannot write its
	// journal. The call may be repeated.
	ErrUnavailable = errors.New("corp: XenoCorp is not available")
)

// An Error is a refusal by XenoCorp. errors.Is matches it with the sentinel
// of its code: those of package ledger, ErrThrottled and ErrUnavailable.
type Error struct {
	Code    wire.CorpCode
	Message string // what happened and what to do
}

// Error implements error.
func (e *Error) Error() string { return "xenocorp: " + e.Message }

// Is implements the interface of errors.Is.
func (e *Error) Is(target error) bool {
	for _, c := range codes {
		if c.code == e.Code {
			return c.err == target
		}
	}
	return false
}

// codes pairs sentinels with codes, and with what the caller can do about it.
// The first that matches an error wins.
var codes = [...]struct {
	err  error
	code wire.CorpCode
	help string
}{
	{ledger.ErrBadReceipt, wire.CorpCode_CORP_CODE_RECEIPT, "claim again with a receipt that the agreement allows"},
	{ledger.ErrConflict, wire.CorpCode_CORP_CODE_CONFLICT, "use a new ID for a new request"},
	{ledger.ErrBadCode, wire.CorpCode_CORP_CODE_CODE, "check the code, or ask the operator for a new one"},
	{ErrThrottled, wire.CorpCode_CORP_CODE_THROTTLED, "wait a minute before the next attempt"},
	{ledger.ErrRevoked, wire.CorpCode_CORP_CODE_REVOKED, "ask the operator of XenoCorp"},
	{ledger.ErrUnknownPeer, wire.CorpCode_CORP_CODE_UNKNOWN_PEER, "register first: xeno register CODE"},
	{ledger.ErrUnknown, wire.CorpCode_CORP_CODE_UNKNOWN, "check the ID"},
	{ledger.ErrFunds, wire.CorpCode_CORP_CODE_FUNDS, "deposit more, or ask for less"},
	{ledger.ErrClosed, wire.CorpCode_CORP_CODE_CLOSED, "create a new one"},
	{ledger.ErrDenied, wire.CorpCode_CORP_CODE_DENIED, "call as one of its parties, with a credential that has the role"},
	{ledger.ErrExpired, wire.CorpCode_CORP_CODE_EXPIRED, "make a new document, and check both clocks"},
	{ledger.ErrWrongNetwork, wire.CorpCode_CORP_CODE_NETWORK, "check the network file"},
	{ledger.ErrBadSignature, wire.CorpCode_CORP_CODE_SIGNATURE, "sign the exact bytes with the key of the caller"},
	{ledger.ErrNotSigned, wire.CorpCode_CORP_CODE_SIGNATURE, "have every party sign first"},
	{ledger.ErrLimit, wire.CorpCode_CORP_CODE_LIMIT, "close what is not needed, then try again"},
	{ledger.ErrMalformed, wire.CorpCode_CORP_CODE_MALFORMED, "correct the request"},
	{ledger.ErrUnknownKind, wire.CorpCode_CORP_CODE_MALFORMED, "use a version that XenoCorp knows"},
	{ledger.ErrWrongKind, wire.CorpCode_CORP_CODE_MALFORMED, "send the document that the call asks for"},
	{ErrUnavailable, wire.CorpCode_CORP_CODE_UNAVAILABLE, "try again in a few seconds"},
}

// refusal turns an error into what a stranger may read.
func refusal(err error) *wire.CorpError {
	for _, c := range codes {
		if c.code != wire.CorpCode_CORP_CODE_UNAVAILABLE && errors.Is(err, c.err) {
			return &wire.CorpError{Code: c.code, Message: err.Error() + "; " + c.help}
		}
	}
	return &wire.CorpError{
		Code:    wire.CorpCode_CORP_CODE_UNAVAILABLE,
		Message: ErrUnavailable.Error() + "; try again in a few seconds",
	}
}
