package apitest

import (
	"context"
	"fmt"
	"time"

	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
)

func (b *Backend) operatorLocked() error {
	if !b.Operate {
		return api.Errorf(api.CodeNotOperator, "this daemon is not the network's XenoCorp").WithHint("run the command with --home of the XenoCorp's daemon")
	}
	return nil
}

// Invite implements api.Operator.
func (b *Backend) Invite(_ context.Context, req api.InviteRequest) (api.Invitation, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.operatorLocked(); err != nil {
		return api.Invitation{}, err
	}
	if len(req.Roles) == 0 {
		req.Roles = []ledger.Role{ledger.RoleParticipant, ledger.RoleClient}
	}
	inv := api.Invitation{Code: fmt.Sprintf("code-%d", len(b.invites)+1), Subject: req.Subject, Roles: req.Roles, Expires: Epoch.Add(24 * time.Hour)}
	b.invites[inv.Code] = inv
	return inv, nil
}

// Deposit implements api.Operator.
func (b *Backend) Deposit(_ context.Context, req api.DepositRequest) (api.Account, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.operatorLocked(); err != nil {
		return api.Account{}, err
	}
	b.credit += req.Amount
	b.journal = append(b.journal, api.Entry{
		Seq: uint64(len(b.journal) + 1), Time: Epoch, Kind: "deposit", Note: req.Note,
		Postings: []api.Posting{{Account: "world", Amount: -req.Amount}, {Account: "ada/available", Amount: req.Amount}},
	})
	return b.accountLocked(), nil
}

// Revoke implements api.Operator.
func (b *Backend) Revoke(context.Context, api.RevokeRequest) (api.RevokeAnswer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.operatorLocked(); err != nil {
		return api.RevokeAnswer{}, err
	}
	return api.RevokeAnswer{Serials: []uint64{7}, Seq: 1}, nil
}

// Accounts implements api.Operator.
func (b *Backend) Accounts(context.Context) (api.Books, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.operatorLocked(); err != nil {
		return api.Books{}, err
	}
	a := b.accountLocked()
	total := a.Available + a.Reserved + a.Held
	return api.Books{Currency: "XEN", Accounts: []api.BookAccount{
		{Name: "ada/available", Peer: a.Peer, Subject: a.Subject, Kind: "available", Balance: a.Available},
		{Name: "ada/reserved", Peer: a.Peer, Subject: a.Subject, Kind: "reserved", Balance: a.Reserved},
		{Name: "ada/held", Peer: a.Peer, Subject: a.Subject, Kind: "held", Balance: a.Held},
		{Name: "world", Kind: "world", Balance: -total},
	}}, nil
}

// Journal implements api.Operator.
func (b *Backend) Journal(_ context.Context, after uint64, limit int) ([]api.Entry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.operatorLocked(); err != nil {
		return nil, err
	}
	rest := b.journal[min(after, uint64(len(b.journal))):]
	return rest[:min(limit, len(rest))], nil
}
