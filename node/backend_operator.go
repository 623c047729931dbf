package node

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
	"github.com/xenoserver/xeno/node/corp"
)

// operator refuses who does not run XenoCorp.
func (n *Node) operator() error {
	if n.corp != nil {
		return nil
	}
	if own, err := n.own(); err == nil && own.Has(ledger.RoleOperator) {
		return nil
	}
	return api.Errorf(api.CodeNotOperator, "only the operator of XenoCorp may do this").WithHint("run it on XenoCorp's own daemon: --home with its directory")
}

// defaultInviteTTL is how long an invitation may be used that says nothing.
const defaultInviteTTL = 24 * time.Hour

// Invite implements api.Operator.
func (n *Node) Invite(ctx context.Context, req api.InviteRequest) (api.Invitation, error) {
	if err := n.operator(); err != nil {
		return api.Invitation{}, err
	}
	ttl := time.Duration(req.TTLSeconds) * time.Second
	if req.TTLSeconds == 0 {
		ttl = defaultInviteTTL
	}
	if req.TTLSeconds < 0 || ttl > 366*24*time.Hour {
		return api.Invitation{}, api.Errorf(api.CodeBadRequest, "ttl_seconds %d: between 1 and a year", req.TTLSeconds)
	}
	roles := req.Roles
	if len(roles) == 0 {
		roles = []ledger.Role{ledger.RoleParticipant, ledger.RoleClient}
	}
	inv := corp.Invitation{Roles: roles, Note: req.Subject, Expires: time.Now().Add(ttl)}
	code, err := n.corpClient.Invite(ctx, inv)
	if err != nil {
		return api.Invitation{}, apiError(err)
	}
	return api.Invitation{Code: code, Subject: req.Subject, Roles: roles, Expires: inv.Expires.UTC().Truncate(time.Second)}, nil
}

// Deposit implements api.Operator.
func (n *Node) Deposit(ctx context.Context, req api.DepositRequest) (api.Account, error) {
	if err := n.operator(); err != nil {
		return api.Account{}, err
	}
	id := req.ID
	if id.IsZero() {
		_, _ = rand.Read(id[:]) // never fails
	}
	b, err := n.corpClient.Deposit(ctx, id, req.Peer, req.Amount, req.Note)
	if err != nil {
		return api.Account{}, apiError(err)
	}
	return accountOf(b), nil
}

// Revoke implements api.Operator.
func (n *Node) Revoke(ctx context.Context, req api.RevokeRequest) (api.RevokeAnswer, error) {
	if err := n.operator(); err != nil {
		return api.RevokeAnswer{}, err
	}
	var id ledger.ID
	_, _ = rand.Read(id[:]) // never fails
	env, err := n.corpClient.Revoke(ctx, id, req.Peer, req.Reason)
	if err != nil {
		return api.RevokeAnswer{}, apiError(err)
	}
	var list ledger.Revocations
	if err := env.Open(ledger.KindRevocations, &list, n.cfg.Network.XenoCorp); err != nil {
		return api.RevokeAnswer{}, err
	}
	n.takeRevocations(env.Marshal())
	return api.RevokeAnswer{Serials: list.Serials, Seq: list.Seq}, nil
}

// Accounts implements api.Operator.
func (n *Node) Accounts(ctx context.Context) (api.Books, error) {
	if err := n.operator(); err != nil {
		return api.Books{}, err
	}
	all, err := n.corpClient.Accounts(ctx)
	if err != nil {
		return api.Books{}, apiError(err)
	}
	books := api.Books{Currency: n.cfg.Network.Currency, Accounts: []api.BookAccount{}}
	add := func(kind string, peer dht.PeerID, subject string, amount ledger.Amount) {
		name := kind
		if !peer.IsZero() {
			name = peer.String() + "/" + kind
		}
		books.Accounts = append(books.Accounts, api.BookAccount{Name: name, Peer: peer, Subject: subject, Kind: kind, Balance: amount})
		books.Sum += amount
	}
	for _, p := range all.Peers {
		add("available", p.Peer, p.Name, p.Available)
		add("reserved", p.Peer, p.Name, p.Reserved)
		add("held", p.Peer, p.Name, p.Held)
		add("pending", p.Peer, p.Name, p.Pending)
	}
	add("fee", dht.PeerID{}, "", all.Fee)
	add("dispute", dht.PeerID{}, "", all.Dispute)
	add(accountWorld, dht.PeerID{}, "", all.External)
	if books.Sum != all.Sum() {
		return api.Books{}, fmt.Errorf("node: accounts add up to %s, XenoCorp says %s", books.Sum, all.Sum())
	}
	return books, nil
}

// Journal implements api.Operator.
func (n *Node) Journal(ctx context.Context, after uint64, limit int) ([]api.Entry, error) {
	if err := n.operator(); err != nil {
		return nil, err
	}
	list, err := n.corpClient.Journal(ctx, after, limit)
	if err != nil {
		return nil, apiError(err)
	}
	out := make([]api.Entry, len(list))
	for i, e := range list {
		out[i] = api.Entry{
			Seq: e.Seq, Time: e.When(), Kind: string(e.Kind), Note: e.Ref.String(),
			Postings: []api.Posting{{Account: accountName(e.From), Amount: -e.Amount}, {Account: accountName(e.To), Amount: e.Amount}},
		}
	}
	return out, nil
}

// accountName is the account's name in the books.
func accountName(a ledger.Account) string {
	kind := string(a.Kind)
	if a.Kind == ledger.AccountExternal {
		kind = accountWorld
	}
	if a.Peer.IsZero() {
		return kind
	}
	return a.Peer.String() + "/" + kind
}

// accountWorld is what the books call the account of the world outside.
const accountWorld = "world"
