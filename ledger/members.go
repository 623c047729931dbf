package ledger

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// A member is a registered participant with its newest credential.
type member struct {
	cred    Credential
	live    []issued // serials that may still hold, ascending
	revoked bool
}

// issued is a serial and when its credential expires.
type issued struct {
	serial  uint64
	expires int64
}

// An invitation is a one-time code.
type invitation struct {
	roles   []Role
	subject string // whom the operator identified; empty: as the holder says
	expires int64
	usedBy  dht.PeerID // zero: not yet
	name    string     // that it was redeemed under
	cred    Credential // what it was redeemed for
}

// authorised checks that the credential of a caller holds and has the role.
func (b *batch) authorised(by dht.PeerID, role Role) error {
	m := b.s.members[by]
	if m == nil {
		return fmt.Errorf("%w: %s", ErrUnknownPeer, by)
	}
	if m.revoked {
		return fmt.Errorf("%w: that of %s", ErrRevoked, by)
	}
	if err := m.cred.CheckTime(b.now(), MaxSkew); err != nil {
		return fmt.Errorf("credential of %s: %w", by, err)
	}
	if !m.cred.Has(role) {
		return fmt.Errorf("%w: %s has no credential as %s", ErrDenied, by, role)
	}
	return nil
}

// operator checks that by may give orders to XenoCorp.
func (b *batch) operator(by dht.PeerID) error {
	if by == b.s.conf.Corp {
		return nil
	}
	return b.authorised(by, RoleOperator)
}

func (b *batch) invite(c *Invite) (Result, error) {
	if err := b.operator(c.By); err != nil {
		return Result{}, err
	}
	if again, err := b.repeated(c.ID, c); again || err != nil {
		return Result{}, err
	}
	if b.s.codes[c.Code] != nil {
		return Result{}, fmt.Errorf("%w: invitation code", ErrConflict)
	}
	if c.Expires <= b.unix() {
		return Result{}, fmt.Errorf("%w: the invitation", ErrExpired)
	}
	if len(b.s.codes) >= maxInvitations {
		return Result{}, fmt.Errorf("%w: %d invitations", ErrLimit, maxInvitations)
	}
	b.s.codes[c.Code] = &invitation{roles: slices.Clone(c.Roles), subject: c.Note, expires: c.Expires}
	b.s.due.push(dueItem{at: c.Expires, what: dueInvitation, code: c.Code})
	b.remember(c.ID, c)
	return Result{Changed: true}, nil
}

func (b *batch) register(c *Register) (Result, error) {
	inv := b.s.codes[c.Code]
	if inv == nil || inv.expires <= b.unix() || (!inv.usedBy.IsZero() && inv.usedBy != c.By) {
		return Result{}, ErrBadCode
	}
	roles := c.Roles
	if len(roles) == 0 {
		roles = inv.roles
	}
	for _, r := range roles {
		if !slices.Contains(inv.roles, r) {
			return Result{}, fmt.Errorf("%w: the invitation is not for a %s", ErrDenied, r)
		}
	}
	if !inv.usedBy.IsZero() {
		if c.Name != inv.name || !slices.Equal(roles, inv.cred.Roles) {
			return Result{}, fmt.Errorf("%w: the code was redeemed under another name or for other roles", ErrConflict)
		}
		cred := inv.cred
		return Result{Credential: &cred}, nil
	}
	if b.s.members[c.By] == nil && len(b.s.members) >= maxMembers {
		return Result{}, fmt.Errorf("%w: %d members", ErrLimit, maxMembers)
	}
	// The operator's word about who somebody is counts more than their own.
	cred := b.issue(c.By, cmp.Or(inv.subject, c.Name), roles)
	inv.usedBy, inv.name, inv.cred = c.By, c.Name, cred
	return Result{Changed: true, Credential: &cred}, nil
}

func (b *batch) renew(c *Renew) (Result, error) {
	if c.By == b.s.conf.Corp && b.s.members[c.By] == nil {
		cred := b.issue(c.By, "XenoCorp of "+b.s.conf.Network, []Role{RoleOperator, RoleParticipant})
		return Result{Changed: true, Credential: &cred}, nil
	}
	m := b.s.members[c.By]
	if m == nil {
		return Result{}, fmt.Errorf("%w: %s", ErrUnknownPeer, c.By)
	}
	cred := m.cred
	switch now := b.unix(); {
	case m.revoked:
		return Result{}, fmt.Errorf("%w: that of %s", ErrRevoked, c.By)
	case now >= cred.Expires && c.By != b.s.conf.Corp:
		return Result{}, fmt.Errorf("credential of %s: %w; register again with a new invitation", c.By, ErrExpired)
	case cred.Expires-now > (cred.Expires-cred.Issued)/2:
		return Result{Credential: &cred}, nil
	}
	cred = b.issue(c.By, cred.Subject, cred.Roles)
	return Result{Changed: true, Credential: &cred}, nil
}

// issue makes the next credential.
func (b *batch) issue(peer dht.PeerID, subject string, roles []Role) Credential {
	s, now := b.s, b.unix()
	s.serial++
	cred := Credential{
		Network: s.conf.Network, Serial: s.serial, Peer: peer, Subject: subject,
		Roles: slices.Clone(roles), Issued: now, Expires: now + s.conf.CredentialTTL,
	}
	m := s.members[peer]
	if m == nil {
		m = new(member)
		s.members[peer] = m
	}
	m.live = slices.DeleteFunc(m.live, func(i issued) bool { return i.expires <= now })
	m.live = append(m.live, issued{cred.Serial, cred.Expires})
	m.cred, m.revoked = cred, false
	return cred
}

func (b *batch) revoke(c *Revoke) (Result, error) {
	if err := b.operator(c.By); err != nil {
		return Result{}, err
	}
	again, err := b.repeated(c.ID, c)
	if err != nil {
		return Result{}, err
	}
	s, m := b.s, b.s.members[c.Peer]
	switch {
	case again:
		return Result{Revocations: s.Revocations()}, nil
	case c.Peer == s.conf.Corp:
		return Result{}, fmt.Errorf("%w: XenoCorp cannot revoke itself", ErrDenied)
	case m == nil:
		return Result{}, fmt.Errorf("%w: %s", ErrUnknownPeer, c.Peer)
	}
	now := b.unix()
	kept := make([]issued, 0, len(s.revoked)+len(m.live))
	for _, i := range append(slices.Clone(s.revoked), m.live...) {
		if i.expires+int64(revokedKept/time.Second) > now && !slices.Contains(kept, i) {
			kept = append(kept, i)
		}
	}
	if len(kept) > MaxRevoked {
		return Result{}, fmt.Errorf("%w: %d revoked credentials", ErrLimit, MaxRevoked)
	}
	slices.SortFunc(kept, func(x, y issued) int { return int(int64(x.serial) - int64(y.serial)) })
	s.revoked, m.revoked = kept, true
	serials := make([]uint64, len(kept))
	for i := range kept {
		serials[i] = kept[i].serial
	}
	s.list = Revocations{Network: s.conf.Network, Seq: s.list.Seq + 1, Issued: now, Serials: serials}
	for _, key := range s.owners[c.Peer] {
		b.closeOrder(s.orders[key])
	}
	b.remember(c.ID, c)
	return Result{Changed: true, Revocations: s.Revocations()}, nil
}

func (b *batch) deposit(c *Deposit) (Result, error) {
	if err := b.transferable(c.By, c.Peer); err != nil {
		return Result{}, err
	}
	again, err := b.repeated(c.ID, c)
	if err != nil {
		return Result{}, err
	}
	if !again {
		if -b.s.balances[Account{Kind: AccountExternal}] > maxTotal-c.Amount {
			return Result{}, fmt.Errorf("%w: %s in the whole ledger", ErrLimit, maxTotal)
		}
		b.post(EntryDeposit, Account{Kind: AccountExternal}, available(c.Peer), c.Amount, c.ID)
		b.remember(c.ID, c)
	}
	balances := b.s.Balances(c.Peer)
	return Result{Changed: !again, Balances: &balances}, nil
}

func (b *batch) withdraw(c *Withdraw) (Result, error) {
	if err := b.transferable(c.By, c.Peer); err != nil {
		return Result{}, err
	}
	again, err := b.repeated(c.ID, c)
	if err != nil {
		return Result{}, err
	}
	if !again {
		if has := b.s.balances[available(c.Peer)]; has < c.Amount {
			return Result{}, fmt.Errorf("%w: %s available, %s asked for", ErrFunds, has, c.Amount)
		}
		b.post(EntryWithdraw, available(c.Peer), Account{Kind: AccountExternal}, c.Amount, c.ID)
		b.remember(c.ID, c)
	}
	balances := b.s.Balances(c.Peer)
	return Result{Changed: !again, Balances: &balances}, nil
}

// transferable checks the parties of a deposit or withdrawal.
func (b *batch) transferable(by, peer dht.PeerID) error {
	if err := b.operator(by); err != nil {
		return err
	}
	if b.s.members[peer] == nil {
		return fmt.Errorf("%w: %s", ErrUnknownPeer, peer)
	}
	return nil
}

func available(peer dht.PeerID) Account { return Account{Kind: AccountAvailable, Peer: peer} }
