// Package api is the door by which a user, a script or a program on the same
// machine commands a Xeno daemon: HTTP with JSON bodies on a Unix socket that
// only the daemon's own user (or root) may open.
//
// The paths live under /v1; openapi.json, generated from the Go types of this
// package, describes them and is served at /v1/openapi.json. Prometheus
// metrics are at /metrics. Amounts are integers of nano-units (1e-9) of the
// network's currency and stay below 2^53, so that every JSON reader keeps them
// exact. Times are RFC 3339, identities are libp2p peer IDs, IDs of orders and
// sessions are 32 hexadecimal digits, links are CIDs.
//
// Handler serves a Backend, which package node implements; Client speaks to
// it.
package api

import (
	"context"
	"io"
	"net"
	"net/http"

	"github.com/xenoserver/xeno/ledger"
)

// A Backend is a daemon as the API shows it. All methods may be called at
// once; each returns when ctx is done. Errors are *Error, possibly wrapped,
// where the caller shall learn a code; any other error reaches the caller as
// CodeInternal with its text.
type Backend interface {
	Participant
	Market
	Sessions
	Access
	Storage
	Operator
}

// A Participant answers for the daemon itself.
type Participant interface {
	// Status returns at once, whatever the network does.
	Status(ctx context.Context) (Status, error)
	// Register presents an invitation code to the XenoCorp and stores the
	// credential. Registering again renews it.
	Register(ctx context.Context, req RegisterRequest) (Credential, error)
	// Metrics serves Prometheus metrics; nil if there are none.
	Metrics() http.Handler
}

// A Market looks for servers and sets money aside.
type Market interface {
	// Search runs a query over the overlay. A malformed query is CodeQuery
	// with the place of the fault in the message.
	Search(ctx context.Context, req SearchRequest) (SearchAnswer, error)
	// SearchAll finds every server that fits, within a budget of messages. found
	// is called with each as soon as it has confirmed its ad, from one
	// goroutine, before SearchAll returns an answer without results. A request
	// that CheckAll refuses is CodeBadRequest; else it is like Search.
	SearchAll(ctx context.Context, req SearchRequest, found func(Result)) (SearchAnswer, error)
	// Place finds machines with constraints among them. CodeNoMatch where no
	// placement meets them, with what stands against it in the message;
	// CodeQuery as for Search.
	Place(ctx context.Context, req PlaceRequest) (PlaceAnswer, error)
	// CreateOrder asks XenoCorp to ring-fence money. Repeating it with the
	// same ID returns the order that exists.
	CreateOrder(ctx context.Context, req OrderRequest) (Order, error)
	// Orders returns the own orders, newest first.
	Orders(ctx context.Context) ([]Order, error)
	// CancelOrder returns what no session holds to the account. CodeNotFound.
	CancelOrder(ctx context.Context, id ledger.ID) (Order, error)
	// Account returns the own balances as XenoCorp has them.
	Account(ctx context.Context) (Account, error)
}

// Sessions leases environments: those this participant bought and, on a
// XenoServer, those it hosts.
type Sessions interface {
	// Run finds a server if none is named, agrees, has XenoCorp authorise,
	// launches, and returns when the session is running (or has run).
	// progress is called in order, from one goroutine, before Run returns.
	// A repetition with the same req.Session joins the first.
	Run(ctx context.Context, req RunRequest, progress func(RunEvent)) (Session, error)
	// Sessions returns all that is known, newest first; ended ones for as
	// long as the daemon keeps them.
	Sessions(ctx context.Context) ([]Session, error)
	// Session returns one. CodeNotFound.
	Session(ctx context.Context, id ledger.ID) (Session, error)
	// ExtendSession moves the end and the cap of a bought session.
	ExtendSession(ctx context.Context, id ledger.ID, req ExtendRequest) (Session, error)
	// StopSession ends it, waits for the final receipt and returns the
	// settled session. Stopping what has ended is no error. CodeNotFound.
	StopSession(ctx context.Context, id ledger.ID) (Session, error)
}

// Access looks into a session and connects to its environment.
type Access interface {
	// Logs returns the newest limit bytes of each output. CodeNotFound.
	Logs(ctx context.Context, id ledger.ID, limit int) (Logs, error)
	// Usage returns the newest meter readings. CodeNotFound.
	Usage(ctx context.Context, id ledger.ID) (Usage, error)
	// Receipts returns the chain, oldest first. CodeNotFound.
	Receipts(ctx context.Context, id ledger.ID) ([]Receipt, error)
	// Connect opens a TCP connection to a port of the environment through
	// the overlay. The caller closes it. CodeNotFound, CodeUnavailable.
	Connect(ctx context.Context, id ledger.ID, port int) (net.Conn, error)
}

// Storage is XenoStore as the participant uses it.
type Storage interface {
	// StoreAdd stores what it reads from r as a UnixFS file and announces
	// it. r is valid only during the call.
	StoreAdd(ctx context.Context, name string, r io.Reader) (Object, error)
	// StoreAddPath stores a file or directory of this machine, named by an
	// absolute path that the daemon can read. CodeNotFound.
	StoreAddPath(ctx context.Context, path string) (Object, error)
	// StoreGet returns the file's content, fetched from whoever has it and
	// verified. The caller closes it. CodeNotFound.
	StoreGet(ctx context.Context, cid string) (io.ReadCloser, error)
}

// An Operator runs XenoCorp. Every method returns CodeNotOperator on a daemon
// that is not the network's XenoCorp, unless its credential has the operator's
// role.
type Operator interface {
	// Invite makes a one-time invitation code; it is shown only here.
	Invite(ctx context.Context, req InviteRequest) (Invitation, error)
	// Deposit credits money that reached the operator from outside.
	Deposit(ctx context.Context, req DepositRequest) (Account, error)
	// Revoke ends credentials before their time.
	Revoke(ctx context.Context, req RevokeRequest) (RevokeAnswer, error)
	// Accounts returns every account and their sum, which is zero.
	Accounts(ctx context.Context) (Books, error)
	// Journal returns up to limit entries with a number above after, oldest
	// first.
	Journal(ctx context.Context, after uint64, limit int) ([]Entry, error)
}
