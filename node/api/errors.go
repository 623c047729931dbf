package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// A Code tells programs what went wrong; the message tells people.
type Code string

// The codes, with the HTTP status that carries each.
const (
	CodeBadRequest    Code = "bad_request"    // 400: a field is missing, malformed or out of range
	CodeQuery         Code = "query"          // 400: the query does not compile; the message points at the place
	CodeNotRegistered Code = "not_registered" // 403: the daemon has no valid credential
	CodeNotOperator   Code = "not_operator"   // 403: the call is XenoCorp's operator's
	CodeForbidden     Code = "forbidden"      // 403: not this participant's session or order, or revoked
	CodeNotFound      Code = "not_found"      // 404
	CodeNoMatch       Code = "no_match"       // 404: no server fits the query
	CodeConflict      Code = "conflict"       // 409: the ID was used for something else, or the state forbids it
	CodeFunds         Code = "funds"          // 402: the account or the order does not hold enough
	CodeRefused       Code = "refused"        // 409: the server or XenoCorp refused; the message has its coded reason
	CodeTooLarge      Code = "too_large"      // 413: the body or the answer exceeds a limit
	CodeUnsupported   Code = "unsupported"    // 501: this machine or server lacks what it takes
	CodeUnavailable   Code = "unavailable"    // 503: a peer that is needed does not answer
	CodeTimeout       Code = "timeout"        // 504: it took too long
	CodeInternal      Code = "internal"       // 500: a fault of the daemon
)

// httpStatus maps each code to the status that carries it.
func (c Code) httpStatus() int {
	switch c {
	case CodeBadRequest, CodeQuery:
		return http.StatusBadRequest
	case CodeNotRegistered, CodeNotOperator, CodeForbidden:
		return http.StatusForbidden
	case CodeNotFound, CodeNoMatch:
		return http.StatusNotFound
	case CodeConflict, CodeRefused:
		return http.StatusConflict
	case CodeFunds:
		return http.StatusPaymentRequired
	case CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	case CodeUnsupported:
		return http.StatusNotImplemented
	case CodeUnavailable:
		return http.StatusServiceUnavailable
	case CodeTimeout:
		return http.StatusGatewayTimeout
	case CodeInternal:
	}
	return http.StatusInternalServerError
}

// An Error is what a caller learns about a failure.
type Error struct {
	// Code is one of the codes above.
	Code Code `json:"code"`
	// Message says what happened, in lower case, without a full stop.
	Message string `json:"message"`
	// Hint says what to do about it, where something can be done.
	Hint string `json:"hint,omitempty"`
}

// Error returns the message, and the hint in brackets.
func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Message
	}
	return e.Message + " (" + e.Hint + ")"
}

// Errorf returns an *Error with the formatted message and no hint.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// WithHint returns a copy of e that says what to do.
func (e *Error) WithHint(hint string) *Error {
	return &Error{Code: e.Code, Message: e.Message, Hint: hint}
}

// CodeOf returns the code of err: that of the *Error it wraps, CodeTimeout for
// a passed deadline, CodeInternal otherwise, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	return asError(err).Code
}

// asError returns the *Error that err wraps, or makes one. The text of what
// wraps an *Error is kept.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		if text := err.Error(); text != e.Error() {
			return &Error{Code: e.Code, Message: text}
		}
		return e
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return Errorf(CodeTimeout, "%v", err).WithHint("try again; see xeno status for the state of the network")
	}
	return Errorf(CodeInternal, "%v", err)
}
