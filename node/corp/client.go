package corp

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/wire"
)

// A Requester sends one request to a peer and returns its response, of at most
// limit bytes; kad.Overlay is one.
type Requester interface {
	Request(ctx context.Context, to dht.Contact, protocol string, request []byte, limit int) ([]byte, error)
}

// A Client calls XenoCorp on behalf of the overlay's own identity. Refusals
// are *Error and match the sentinels of package ledger with errors.Is; any
// other error means that no answer came, and that the same call may be made
// again: every call is idempotent. All methods may be called at once.
type Client struct {
	overlay Requester
	corp    dht.Contact
}

// NewClient returns a client of the XenoCorp at corp.
func NewClient(overlay Requester, corp dht.Contact) *Client {
	return &Client{overlay: overlay, corp: corp}
}

// A SessionResult is how a session stands with XenoCorp.
type SessionResult struct {
	ledger.SessionStatus
	Settlement *ledger.Envelope // XenoCorp's final word; nil until the session is settled
}

// An Invitation says whom a one-time code is for.
type Invitation struct {
	Roles   []ledger.Role // most that the code allows
	Note    string        // for the operator, such as whom it was given to
	Expires time.Time     // zero: DefaultInvitationTTL from now, by XenoCorp's clock
}

// Register redeems a one-time invitation code for the caller's key and returns
// its credential. roles may narrow what the invitation allows; none asks for
// all of it. The same peer may repeat the call with the same code, and gets
// the same credential. Errors match ledger.ErrBadCode, ledger.ErrDenied (a role
// that the code does not allow), ErrThrottled.
func (c *Client) Register(ctx context.Context, code, name string, roles []ledger.Role) (*ledger.Envelope, error) {
	req := &wire.CorpRegister{Code: code, Name: name}
	for _, r := range roles {
		req.Roles = append(req.Roles, string(r))
	}
	resp, err := c.call(ctx, ProtocolRegister, &wire.CorpRequest{Call: &wire.CorpRequest_Register{Register: req}})
	if err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	return document(resp)
}

// Renew returns a fresh credential with the same subject and roles, or the
// present one while less than half of its time is over. It needs a credential
// that still holds.
func (c *Client) Renew(ctx context.Context) (*ledger.Envelope, error) {
	resp, err := c.call(ctx, Protocol, &wire.CorpRequest{Call: &wire.CorpRequest_Renew{Renew: &wire.CorpRenew{}}})
	if err != nil {
		return nil, fmt.Errorf("renew credential: %w", err)
	}
	return document(resp)
}

// CreateOrder ring-fences the amount of a sealed order. Errors match
// ledger.ErrFunds, ledger.ErrConflict, ledger.ErrExpired, ledger.ErrDenied.
func (c *Client) CreateOrder(ctx context.Context, order *ledger.Envelope) (ledger.OrderStatus, error) {
	resp, err := c.call(ctx, Protocol, &wire.CorpRequest{
		Call: &wire.CorpRequest_CreateOrder{CreateOrder: &wire.CorpCreateOrder{Order: order.Marshal()}},
	})
	if err != nil {
		return ledger.OrderStatus{}, fmt.Errorf("create order: %w", err)
	}
	return oneOrder(resp)
}

// CancelOrder closes an order of the caller: what no session holds returns at
// once, the rest when the sessions are settled. A closed order is no error.
func (c *Client) CancelOrder(ctx context.Context, order ledger.ID) (ledger.OrderStatus, error) {
	resp, err := c.call(ctx, Protocol, &wire.CorpRequest{
		Call: &wire.CorpRequest_CancelOrder{CancelOrder: &wire.CorpCancelOrder{Id: order[:]}},
	})
	if err != nil {
		return ledger.OrderStatus{}, fmt.Errorf("cancel order %s: %w", order, err)
	}
	return oneOrder(resp)
}

// Order returns one order of the caller. Errors match ledger.ErrUnknown.
func (c *Client) Order(ctx context.Context, order ledger.ID) (ledger.OrderStatus, error) {
	resp, err := c.call(ctx, Protocol, &wire.CorpRequest{
		Call: &wire.CorpRequest_ListOrders{ListOrders: &wire.CorpListOrders{Id: order[:]}},
	})
	if err != nil {
		return ledger.OrderStatus{}, fmt.Errorf("order %s: %w", order, err)
	}
	return oneOrder(resp)
}

// Orders returns the caller's newest orders, at most MaxOrdersListed, newest first.
func (c *Client) Orders(ctx context.Context) ([]ledger.OrderStatus, error) {
	resp, err := c.call(ctx, Protocol, &wire.CorpRequest{Call: &wire.CorpRequest_ListOrders{ListOrders: &wire.CorpListOrders{}}})
	if err != nil {
		return nil, fmt.Errorf("orders: %w", err)
	}
	return ordersFromWire(resp.GetOrders())
}

// Authorise holds the cap of an agreement that both parties signed, and
// returns XenoCorp's Authorization. An agreement with the next Revision raises
// the hold. Only the client of the agreement may call. Errors match
// ledger.ErrFunds, ledger.ErrUnknown (the order), ledger.ErrClosed,
// ledger.ErrExpired, ledger.ErrRevoked, ledger.ErrDenied, ledger.ErrConflict.
func (c *Client) Authorise(ctx context.Context, agreement *ledger.Envelope) (*ledger.Envelope, error) {
	resp, err := c.call(ctx, Protocol, &wire.CorpRequest{
		Call: &wire.CorpRequest_Authorise{Authorise: &wire.CorpAuthorise{Agreement: agreement.Marshal()}},
	})
	if err != nil {
		return nil, fmt.Errorf("authorise: %w", err)
	}
	return document(resp)
}

// Claim presents the newest receipt of a session, countersigned by the client
// or not. A receipt older than the newest claimed changes nothing. The final
// one settles the session. Errors match ledger.ErrBadReceipt,
// ledger.ErrUnknown, ledger.ErrDenied.
func (c *Client) Claim(ctx context.Context, receipt *ledger.Envelope) (SessionResult, error) {
	resp, err := c.call(ctx, Protocol, &wire.CorpRequest{
		Call: &wire.CorpRequest_Claim{Claim: &wire.CorpClaim{Receipt: receipt.Marshal()}},
	})
	if err != nil {
		return SessionResult{}, fmt.Errorf("claim: %w", err)
	}
	return sessionFromWire(resp.GetSession())
}

// Release settles a session at what was claimed so far and returns the rest
// of its hold. Only its server may call: for a session that never ran, or one
// that it gives up. A settled session is no error.
func (c *Client) Release(ctx context.Context, session ledger.ID) (SessionResult, error) {
	resp, err := c.call(ctx, Protocol, &wire.CorpRequest{
		Call: &wire.CorpRequest_Release{Release: &wire.CorpRelease{Session: session[:]}},
	})
	if err != nil {
		return SessionResult{}, fmt.Errorf("release session %s: %w", session, err)
	}
	return sessionFromWire(resp.GetSession())
}

// Session returns how a session of the caller stands. Errors match ledger.ErrUnknown.
func (c *Client) Session(ctx context.Context, session ledger.ID) (SessionResult, error) {
	resp, err := c.call(ctx, Protocol, &wire.CorpRequest{
		Call: &wire.CorpRequest_ShowSession{ShowSession: &wire.CorpShowSession{Session: session[:]}},
	})
	if err != nil {
		return SessionResult{}, fmt.Errorf("session %s: %w", session, err)
	}
	return sessionFromWire(resp.GetSession())
}

// Account returns the caller's own balances.
func (c *Client) Account(ctx context.Context) (ledger.Balances, error) {
	resp, err := c.call(ctx, Protocol, &wire.CorpRequest{Call: &wire.CorpRequest_ShowAccount{ShowAccount: &wire.CorpShowAccount{}}})
	if err != nil {
		return ledger.Balances{}, fmt.Errorf("account: %w", err)
	}
	return balancesFromWire(resp.GetBalances())
}

// Revocations returns XenoCorp's signed list of revoked credentials, or nil if
// the list that the caller has, by its Seq, is the newest.
func (c *Client) Revocations(ctx context.Context, have uint64) (*ledger.Envelope, error) {
	resp, err := c.call(ctx, Protocol, &wire.CorpRequest{
		Call: &wire.CorpRequest_ShowRevocations{ShowRevocations: &wire.CorpShowRevocations{Have: have}},
	})
	if err != nil {
		return nil, fmt.Errorf("revocations: %w", err)
	}
	if resp.GetDocument() != nil && len(resp.GetDocument().GetEnvelope()) == 0 {
		return nil, nil
	}
	return document(resp)
}

// Invite makes a one-time invitation code. XenoCorp gets to know its hash
// alone, so the code that is returned here cannot be shown again. Operators only.
func (c *Client) Invite(ctx context.Context, inv Invitation) (code string, err error) {
	code = rand.Text()
	hash := ledger.HashCode(code)
	id := NewID()
	req := &wire.CorpInvite{Id: id[:], CodeHash: hash[:], Note: inv.Note}
	if !inv.Expires.IsZero() {
		req.Expires = inv.Expires.Unix()
	}
	for _, r := range inv.Roles {
		req.Roles = append(req.Roles, string(r))
	}
	if _, err := c.call(ctx, Protocol, &wire.CorpRequest{Call: &wire.CorpRequest_Invite{Invite: req}}); err != nil {
		return "", fmt.Errorf("invite: %w", err)
	}
	return code, nil
}

// Deposit books money that peer paid in, and returns its balances. id makes a
// repetition harmless. Operators only.
func (c *Client) Deposit(ctx context.Context, id ledger.ID, peer dht.PeerID, amount ledger.Amount, note string) (ledger.Balances, error) {
	resp, err := c.call(ctx, Protocol, &wire.CorpRequest{Call: &wire.CorpRequest_Deposit{
		Deposit: &wire.CorpTransfer{Id: id[:], Peer: peer[:], Amount: int64(amount), Note: note},
	}})
	if err != nil {
		return ledger.Balances{}, fmt.Errorf("deposit: %w", err)
	}
	return balancesFromWire(resp.GetBalances())
}

// Withdraw books money that was paid out to peer: a server's earnings, or the
// refund of a client. id makes a repetition harmless. Operators only.
func (c *Client) Withdraw(ctx context.Context, id ledger.ID, peer dht.PeerID, amount ledger.Amount, note string) (ledger.Balances, error) {
	resp, err := c.call(ctx, Protocol, &wire.CorpRequest{Call: &wire.CorpRequest_Withdraw{
		Withdraw: &wire.CorpTransfer{Id: id[:], Peer: peer[:], Amount: int64(amount), Note: note},
	}})
	if err != nil {
		return ledger.Balances{}, fmt.Errorf("withdraw: %w", err)
	}
	return balancesFromWire(resp.GetBalances())
}

// Revoke ends all credentials of peer, closes its orders, and returns the new
// list of revocations. Operators only.
func (c *Client) Revoke(ctx context.Context, id ledger.ID, peer dht.PeerID, note string) (*ledger.Envelope, error) {
	resp, err := c.call(ctx, Protocol, &wire.CorpRequest{
		Call: &wire.CorpRequest_Revoke{Revoke: &wire.CorpRevoke{Id: id[:], Peer: peer[:], Note: note}},
	})
	if err != nil {
		return nil, fmt.Errorf("revoke: %w", err)
	}
	return document(resp)
}

// Accounts returns all accounts. Operators only.
func (c *Client) Accounts(ctx context.Context) (ledger.Accounts, error) {
	resp, err := c.call(ctx, Protocol, &wire.CorpRequest{Call: &wire.CorpRequest_ListAccounts{ListAccounts: &wire.CorpListAccounts{}}})
	if err != nil {
		return ledger.Accounts{}, fmt.Errorf("accounts: %w", err)
	}
	return accountsFromWire(resp.GetAccounts())
}

// Journal returns the entries after the one numbered after, in order, at most
// limit and at most MaxEntriesListed. Operators only.
func (c *Client) Journal(ctx context.Context, after uint64, limit int) ([]ledger.Entry, error) {
	resp, err := c.call(ctx, Protocol, &wire.CorpRequest{Call: &wire.CorpRequest_ListJournal{
		ListJournal: &wire.CorpListJournal{After: after, Limit: uint32(min(max(limit, 0), MaxEntriesListed))},
	}})
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return entriesFromWire(resp.GetJournal())
}

// NewID draws a random ID for a command, an order or a session.
func NewID() ledger.ID {
	var id ledger.ID
	_, _ = rand.Read(id[:]) // never fails
	return id
}

// call makes one request. The error is *Error where XenoCorp refused.
func (c *Client) call(ctx context.Context, protocol string, req *wire.CorpRequest) (*wire.CorpResponse, error) {
	b, err := proto.Marshal(req)
	if err != nil {
		return nil, err
	}
	if len(b) > MaxRequest {
		return nil, fmt.Errorf("%w: request of %d bytes, limit %d", ledger.ErrMalformed, len(b), MaxRequest)
	}
	b, err = c.overlay.Request(ctx, c.corp, protocol, b, MaxResponse)
	if err != nil {
		return nil, fmt.Errorf("xenocorp %s: %w", c.corp.ID.Short(), err)
	}
	resp := new(wire.CorpResponse)
	if err := proto.Unmarshal(b, resp); err != nil {
		return nil, fmt.Errorf("xenocorp %s: response: %w", c.corp.ID.Short(), err)
	}
	if e := resp.GetError(); e != nil {
		return nil, &Error{Code: e.GetCode(), Message: e.GetMessage()}
	}
	return resp, nil
}
