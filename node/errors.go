package node

import (
	"context"
	"errors"
	"strings"

	"github.com/xenoserver/xeno/dht/kad"
	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
	"github.com/xenoserver/xeno/node/corp"
	"github.com/xenoserver/xeno/node/session"
	"github.com/xenoserver/xeno/node/storage"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/store/blocks"
)

// apiCodes pairs the sentinels of the services with codes of the API; the
// first that matches wins.
var apiCodes = [...]struct {
	err  error
	code api.Code
}{
	{session.ErrUnknown, api.CodeNotFound},
	{session.ErrNoServer, api.CodeRefused},
	{ledger.ErrUnknownPeer, api.CodeNotRegistered},
	{ledger.ErrUnknown, api.CodeNotFound},
	{ledger.ErrFunds, api.CodeFunds},
	{ledger.ErrConflict, api.CodeConflict},
	{ledger.ErrClosed, api.CodeConflict},
	{ledger.ErrBadCode, api.CodeForbidden},
	{ledger.ErrDenied, api.CodeForbidden},
	{ledger.ErrRevoked, api.CodeForbidden},
	{ErrRevoked, api.CodeForbidden},
	{ledger.ErrExpired, api.CodeConflict},
	{ledger.ErrMalformed, api.CodeBadRequest},
	{ledger.ErrBadAmount, api.CodeBadRequest},
	{ledger.ErrLargeAmount, api.CodeBadRequest},
	{ledger.ErrLimit, api.CodeRefused},
	{corp.ErrThrottled, api.CodeRefused},
	{corp.ErrUnavailable, api.CodeUnavailable},
	{search.ErrBadQuery, api.CodeQuery},
	{session.ErrNeverRan, api.CodeRefused},
	{storage.ErrUnavailable, api.CodeNotFound},
	{blocks.ErrNotFile, api.CodeBadRequest},
	{blocks.ErrUnsafe, api.CodeBadRequest},
	{blocks.ErrMalformed, api.CodeBadRequest},
	{blocks.ErrTooLarge, api.CodeBadRequest},
	{blocks.ErrFull, api.CodeRefused},
	{hypervisor.ErrNotSupported, api.CodeUnsupported},
	{hypervisor.ErrBadSpec, api.CodeBadRequest},
	{context.DeadlineExceeded, api.CodeTimeout},
}

// refusalCodes gives the codes of a server's refusal one of the API's.
var refusalCodes = map[session.Code]api.Code{
	session.CodeUnknown: api.CodeNotFound, session.CodeMalformed: api.CodeBadRequest, session.CodeState: api.CodeConflict,
}

// oneLine is the text of an error, which has a line for each address where a
// peer was not reached.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n  * ", "; ") }

// peerError codes what the overlay reports of a peer, nil if it does not.
func peerError(err error) error {
	text := oneLine(err)
	switch {
	case errors.Is(err, kad.ErrRefused):
		return api.Errorf(api.CodeForbidden, "%s", text).WithHint("where the credential was revoked or is expired: xeno register CODE, with a new invitation code")
	case strings.Contains(text, "peer id mismatch"):
		return api.Errorf(api.CodeUnavailable, "%s", text).WithHint("somebody else answers there: compare network.toml with that of XenoCorp")
	case errors.Is(err, kad.ErrUnreachable), errors.Is(err, kad.ErrNotFound):
		return api.Errorf(api.CodeUnavailable, "%s", text).WithHint("try again when its daemon runs; xeno status shows whether this node is connected")
	}
	return nil
}

// fallbackError codes what has no sentinel.
func fallbackError(err error) error {
	if coded := peerError(err); coded != nil {
		return coded
	}
	if refusal, ok := errors.AsType[*session.Refusal](err); ok {
		code, ok := refusalCodes[refusal.Code]
		if !ok {
			code = api.CodeRefused
		}
		return api.Errorf(code, "%v", err)
	}
	if _, ok := errors.AsType[*corp.Error](err); ok {
		return api.Errorf(api.CodeRefused, "%v", err)
	}
	if _, ok := errors.AsType[*kad.RemoteError](err); ok {
		return api.Errorf(api.CodeRefused, "%v", err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return api.Errorf(api.CodeTimeout, "%s", oneLine(err)).WithHint("try again; xeno status shows whether this node is connected")
	}
	return api.Errorf(api.CodeUnavailable, "%s", oneLine(err)).WithHint("try again; xeno status shows whether this node is connected")
}
