package session

import (
	"errors"
	"fmt"

	"github.com/xenoserver/xeno/wire"
)

// A Code says why a server refused, for programs. Codes are never reused.
type Code string

// The codes.
const (
	CodeMalformed    Code = "malformed"      // the request itself is wrong
	CodeUnknown      Code = "unknown"        // no such session here, or not yours
	CodeCapacity     Code = "no_capacity"    // the resources are not free
	CodeEnvironment  Code = "environment"    // this kind of environment is not offered
	CodeTerms        Code = "terms"          // terms outside what is offered
	CodeOrder        Code = "order"          // the purchase order does not do
	CodeRole         Code = "role"           // the credential does not allow this
	CodeExpired      Code = "expired"        // the hold or the agreement is over
	CodeUnauthorized Code = "not_authorised" // no valid authorization by XenoCorp
	CodeConflict     Code = "conflict"       // the ID stands for something else
	CodeBusy         Code = "busy"           // too many at once; try again
	CodeDraining     Code = "draining"       // the server takes no new sessions
	CodeState        Code = "state"          // the session is not in a state for this
	CodeInternal     Code = "internal"       // the server's own fault
)

// A Refusal is a server's coded no. Retry tells whether the same request may
// succeed later or elsewhere without change.
type Refusal struct {
	Code    Code
	Message string
}

// Error implements error.
func (r *Refusal) Error() string { return fmt.Sprintf("refused (%s): %s", r.Code, r.Message) }

// ErrUnknown reports a session that this node does not know.
var ErrUnknown = errors.New("session: unknown session (xeno ps lists yours)")

func refuse(code Code, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Message: fmt.Sprintf(format, args...)}
}

// asRefusal turns any error into a refusal; what is not one is the server's
// fault, and its text stays with the server.
func asRefusal(err error) *Refusal {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r
	}
	return refuse(CodeInternal, "the server could not carry this out; try again or another server")
}

func (r *Refusal) wire() *wire.SessionRefusal {
	return &wire.SessionRefusal{Code: string(r.Code), Message: r.Message}
}

func refusalFromWire(w *wire.SessionRefusal) error {
	const most = 500
	msg := w.GetMessage()
	if len(msg) > most {
		msg = msg[:most]
	}
	return &Refusal{Code: Code(w.GetCode()), Message: msg}
}
