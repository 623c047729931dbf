package ledger

import (
	"errors"
	"slices"
	"testing"
	"time"
)

func (j *journaled) refused(want error, cmd Command) {
	j.t.Helper()
	before := len(j.journal)
	r, err := j.apply(cmd)
	if !errors.Is(err, want) {
		j.t.Errorf("%s: got %+v, %v; want %v", cmd.kind(), r, err, want)
	}
	for _, raw := range j.journal[before:] {
		if raw.Kind != "tick" {
			j.t.Errorf("%s was refused, and journaled as %s", cmd.kind(), raw.Kind)
		}
	}
}

func TestFirstCommandConfigures(t *testing.T) {
	s := NewState()
	if _, _, err := s.Apply(time.Unix(testStart, 0), &Renew{By: testPeer(1)}); !errors.Is(err, ErrDenied) {
		t.Errorf("got %v", err)
	}
	j := newJournaled(t, 20)
	c := j.state.Config()
	if r := j.must(&c); r.Changed {
		t.Error("the same configuration changed something")
	}
	other := c
	other.FeePermille, other.ClaimGrace = 30, 60
	if r := j.must(&other); !r.Changed || j.state.Config() != other {
		t.Error("the fee did not change")
	}
	other.Network = "live"
	j.refused(ErrConflict, &other)
	other = c
	other.Corp = testPeer(9)
	j.refused(ErrConflict, &other)
	other = c
	other.FeePermille = 1001
	j.refused(ErrMalformed, &other)
}

func TestInvitations(t *testing.T) {
	j := newJournaled(t, 20)
	code := HashCode("ABCD-efgh")
	if HashCode("abcdEFGH\n") != code || HashCode("abcdEFGI") == code {
		t.Error("codes are not read as people type them")
	}
	roles := []Role{RoleClient, RoleParticipant}
	inv := &Invite{ID: j.id(1), By: testPeer(1), Code: code, Roles: roles, Expires: testStart + 3600}
	stranger := *inv
	stranger.By = testPeer(2)
	j.refused(ErrUnknownPeer, &stranger)
	j.must(inv)
	if r := j.must(inv); r.Changed {
		t.Error("the same invitation counts twice")
	}
	other := *inv
	other.Roles = []Role{RoleOperator}
	j.refused(ErrConflict, &other)
	other.ID = j.id(2)
	j.refused(ErrConflict, &other)
	other.Code, other.Expires = HashCode("x"), testStart
	j.refused(ErrExpired, &other)

	reg := &Register{By: testPeer(2), Code: code, Name: "Client", Roles: []Role{RoleClient}}
	j.refused(ErrBadCode, &Register{By: testPeer(2), Code: HashCode("guess"), Name: "Client"})
	j.refused(ErrDenied, &Register{By: testPeer(2), Code: code, Name: "Client", Roles: []Role{RoleOperator}})
	j.refused(ErrMalformed, &Register{By: testPeer(2), Code: code, Name: ""})
	first := j.must(reg).Credential
	if first.Peer != testPeer(2) || !first.Has(RoleClient) || first.Has(RoleParticipant) || first.Serial != 1 {
		t.Errorf("credential %+v", first)
	}
	if again := j.must(reg).Credential; !slices.Equal(again.Roles, first.Roles) || again.Serial != first.Serial {
		t.Errorf("again %+v", again)
	}
	j.refused(ErrBadCode, &Register{By: testPeer(3), Code: code, Name: "Client", Roles: []Role{RoleClient}})
	j.refused(ErrConflict, &Register{By: testPeer(2), Code: code, Name: "Other", Roles: []Role{RoleClient}})

	known := HashCode("known") // whom the operator identified is not who they say
	j.must(&Invite{ID: j.id(4), By: testPeer(1), Code: known, Roles: roles, Note: "Ada Lovelace", Expires: testStart + 3600})
	claim := &Register{By: testPeer(4), Code: known, Name: "XenoCorp"}
	if got := j.must(claim).Credential.Subject; got != "Ada Lovelace" {
		t.Errorf("subject %q", got)
	}
	if again := j.must(claim); again.Changed || again.Credential.Subject != "Ada Lovelace" {
		t.Errorf("again %+v", again)
	}

	late := HashCode("late")
	j.must(&Invite{ID: j.id(3), By: testPeer(1), Code: late, Roles: roles, Expires: testStart + 3600})
	j.now = j.now.Add(time.Hour)
	j.refused(ErrBadCode, &Register{By: testPeer(3), Code: late, Name: "Late"})
	if len(j.state.codes) != 0 {
		t.Errorf("%d codes are kept", len(j.state.codes))
	}
}

// id returns the n-th command ID of a test.
func (j *journaled) id(n byte) ID { return ID{0xaa, n} }

func TestRenew(t *testing.T) {
	j := newJournaled(t, 20)
	corp := j.must(&Renew{By: testPeer(1)}).Credential
	if !corp.Has(RoleOperator) || !corp.Has(RoleParticipant) {
		t.Errorf("XenoCorp's own credential: %+v", corp)
	}
	j.refused(ErrUnknownPeer, &Renew{By: testPeer(2)})
	j.join(2, RoleClient)
	early := j.must(&Renew{By: testPeer(2)})
	if early.Changed || early.Credential.Serial != 2 {
		t.Errorf("renewed at once: %+v", early)
	}
	j.now = j.now.Add(201 * 24 * time.Hour)
	late := j.must(&Renew{By: testPeer(2)})
	if !late.Changed || late.Credential.Serial != 3 || late.Credential.Issued != j.now.Unix() {
		t.Errorf("renewed after half of its time: %+v", late)
	}
	j.now = j.now.Add(401 * 24 * time.Hour)
	j.refused(ErrExpired, &Renew{By: testPeer(2)})
	if r := j.must(&Renew{By: testPeer(1)}); !r.Changed {
		t.Error("XenoCorp cannot renew its expired credential")
	}
}

func TestRevoke(t *testing.T) {
	j := newJournaled(t, 20)
	j.join(2, RoleClient)
	j.join(3, RoleServer)
	j.join(4, RoleOperator)
	j.must(&Deposit{ID: j.id(1), By: testPeer(4), Peer: testPeer(2), Amount: 100})
	o := &Order{Network: "test", ID: j.id(2), Client: testPeer(2), Amount: 60, Issued: testStart, Expires: testStart + 86400}
	order := must(Seal(KindOrder, o, testKey(2)))
	j.must(&CreateOrder{By: testPeer(2), Order: order})
	a := testAgreement(j, order, 40)
	env := must(Seal(KindAgreement, a, testKey(3)))
	env.Countersign(testKey(2))
	j.must(&Authorise{By: testPeer(2), Agreement: env})

	j.refused(ErrDenied, &Revoke{ID: j.id(3), By: testPeer(2), Peer: testPeer(3)})
	j.refused(ErrDenied, &Revoke{ID: j.id(3), By: testPeer(4), Peer: testPeer(1)})
	j.refused(ErrUnknownPeer, &Revoke{ID: j.id(3), By: testPeer(4), Peer: testPeer(9)})
	revoke := &Revoke{ID: j.id(3), By: testPeer(4), Peer: testPeer(2)}
	list := j.must(revoke).Revocations
	if list.Seq != 2 || !slices.Equal(list.Serials, []uint64{1}) {
		t.Errorf("list %+v", list)
	}
	if r := j.must(revoke); r.Changed || r.Revocations.Seq != 2 {
		t.Errorf("revoked again: %+v", r)
	}
	if b := j.state.Balances(testPeer(2)); b.Available != 60 || b.Reserved != 0 || b.Held != 40 {
		t.Errorf("balances of the revoked client %+v", b)
	}
	if err := list.Validate(); err != nil {
		t.Error(err)
	}
	j.refused(ErrRevoked, &Renew{By: testPeer(2)})
	o.ID = j.id(4)
	j.refused(ErrRevoked, &CreateOrder{By: testPeer(2), Order: must(Seal(KindOrder, o, testKey(2)))})
	// What was delivered is still paid.
	j.now = j.now.Add(time.Minute)
	r := testReceipt(a, env, time.Minute)
	if got := j.must(&Claim{By: testPeer(3), Receipt: must(Seal(KindReceipt, r, testKey(3)))}); got.Session.Claimed != r.Amount {
		t.Errorf("claimed %+v", got.Session)
	}
	// Later lists forget what has expired anyway; a new code ends the ban.
	j.now = j.now.Add(402 * 24 * time.Hour)
	j.join(2, RoleClient)
	list = j.must(&Revoke{ID: j.id(5), By: testPeer(1), Peer: testPeer(2)}).Revocations
	if list.Seq != 3 || !slices.Equal(list.Serials, []uint64{4}) {
		t.Errorf("list %+v", list)
	}
}

func testAgreement(j *journaled, order *Envelope, most Amount) *Agreement {
	return &Agreement{
		Network: "test", ID: ID{byte(most), 7}, Client: testPeer(2), Server: testPeer(3), Order: LinkTo(order),
		Terms: Terms{Environment: "wasi", CPUs: 1}, Rates: Rates{Session: 3600}, Cap: most,
		Issued: j.now.Unix(), Expires: j.now.Unix() + 3600,
	}
}

func testReceipt(a *Agreement, env *Envelope, run time.Duration) *Receipt {
	u := Usage{RunNanos: uint64(run)}
	return &Receipt{
		Network: "test", Agreement: LinkTo(env), Server: a.Server, Seq: 1, From: a.Issued * 1000,
		To: a.Issued*1000 + run.Milliseconds(), Usage: u, Readings: []Reading{{"ebpf", u}},
		Amount: min(a.Cap, a.Rates.Cost(&a.Terms, &u)),
	}
}

// TestRefusals walks every way in which orders and sessions are refused.
func TestRefusals(t *testing.T) {
	j := newJournaled(t, 20)
	j.join(2, RoleClient)
	j.join(3, RoleServer)
	j.join(4, RoleParticipant)
	j.must(&Deposit{ID: j.id(1), By: testPeer(1), Peer: testPeer(2), Amount: 100})
	j.refused(ErrConflict, &Deposit{ID: j.id(1), By: testPeer(1), Peer: testPeer(2), Amount: 101})
	j.refused(ErrConflict, &Withdraw{ID: j.id(1), By: testPeer(1), Peer: testPeer(2), Amount: 100})
	j.refused(ErrMalformed, &Deposit{ID: j.id(2), By: testPeer(1), Peer: testPeer(2), Amount: -1})
	j.refused(ErrMalformed, &Deposit{By: testPeer(1), Peer: testPeer(2), Amount: 1})
	j.refused(ErrUnknownPeer, &Deposit{ID: j.id(2), By: testPeer(1), Peer: testPeer(9), Amount: 1})
	j.refused(ErrDenied, &Deposit{ID: j.id(2), By: testPeer(2), Peer: testPeer(2), Amount: 1})
	j.refused(ErrFunds, &Withdraw{ID: j.id(2), By: testPeer(1), Peer: testPeer(2), Amount: 101})

	good := Order{
		Network: "test", ID: j.id(3), Client: testPeer(2), Amount: 60, Issued: testStart, Expires: testStart + 7200, MaxCap: 50,
	}
	order := func(spoil func(*Order), signer byte) *CreateOrder {
		o := good
		spoil(&o)
		return &CreateOrder{By: o.Client, Order: must(Seal(KindOrder, &o, testKey(signer)))}
	}
	j.refused(ErrNotSigned, order(func(*Order) {}, 3))
	j.refused(ErrFunds, order(func(o *Order) { o.Amount = 101 }, 2))
	j.refused(ErrWrongNetwork, order(func(o *Order) { o.Network = "live" }, 2))
	j.refused(ErrExpired, order(func(o *Order) { o.Issued, o.Expires = testStart-100, testStart }, 2))
	j.refused(ErrExpired, order(func(o *Order) { o.Issued = testStart + 120 }, 2))
	j.refused(ErrDenied, order(func(o *Order) { o.Client = testPeer(4) }, 4))
	j.refused(ErrUnknownPeer, order(func(o *Order) { o.Client = testPeer(9) }, 9))
	forged := order(func(*Order) {}, 2)
	forged.Order.Signatures[0].Sig[5] ^= 1
	j.refused(ErrBadSignature, forged)
	byOther := order(func(*Order) {}, 2)
	byOther.By = testPeer(4)
	j.refused(ErrDenied, byOther)
	j.refused(ErrMalformed, &CreateOrder{By: testPeer(2)})
	created := order(func(*Order) {}, 2)
	j.must(created)
	j.refused(ErrConflict, order(func(o *Order) { o.Amount = 61 }, 2))
	j.refused(ErrUnknown, &CancelOrder{By: testPeer(4), Order: good.ID})

	base := testAgreement(j, created.Order, 40)
	agree := func(spoil func(*Agreement), signers ...byte) *Authorise {
		a := *base
		spoil(&a)
		e := must(Seal(KindAgreement, &a, testKey(signers[0])))
		for _, n := range signers[1:] {
			e.Countersign(testKey(n))
		}
		return &Authorise{By: a.Client, Agreement: e}
	}
	j.refused(ErrNotSigned, agree(func(*Agreement) {}, 3))
	j.refused(ErrNotSigned, agree(func(*Agreement) {}, 2))
	j.refused(ErrFunds, agree(func(a *Agreement) { a.Cap = 51 }, 3, 2))
	j.refused(ErrUnknown, agree(func(a *Agreement) { a.Order = LinkTo(forged.Order); a.Order.Cid = payloadCID([]byte("x")) }, 3, 2))
	j.refused(ErrUnknownPeer, agree(func(a *Agreement) { a.Server = testPeer(9) }, 9, 2))
	j.refused(ErrDenied, agree(func(a *Agreement) { a.Server = testPeer(4) }, 4, 2))
	j.refused(ErrUnknown, agree(func(a *Agreement) { a.Revision, a.Prev = 1, a.Order }, 3, 2))
	j.refused(ErrWrongNetwork, agree(func(a *Agreement) { a.Network = "live" }, 3, 2))
	auth := agree(func(*Agreement) {}, 3, 2)
	r := j.must(auth)
	if r.Authorization.Hold != 40 || r.Authorization.Expires != base.Expires+900 {
		t.Errorf("authorization %+v", r.Authorization)
	}
	j.refused(ErrConflict, agree(func(a *Agreement) { a.Cap = 41 }, 3, 2))
	j.refused(ErrFunds, agree(func(a *Agreement) { a.ID, a.Cap = j.id(9), 21 }, 3, 2))
	next := func(spoil func(*Agreement)) *Authorise {
		return agree(func(a *Agreement) { a.Revision, a.Prev = 1, LinkTo(auth.Agreement); spoil(a) }, 3, 2)
	}
	j.refused(ErrConflict, next(func(a *Agreement) { a.Rates.Session-- }))
	j.refused(ErrConflict, next(func(a *Agreement) { a.Cap-- }))
	j.refused(ErrConflict, next(func(a *Agreement) { a.Terms.Args = []string{"x"} }))
	amended := next(func(a *Agreement) { a.Cap, a.Expires = 50, a.Expires+60 })
	if r := j.must(amended); r.Authorization.Hold != 50 || r.Authorization.Expires != base.Expires+960 {
		t.Errorf("amended %+v", r.Authorization)
	}
	j.refused(ErrConflict, auth)

	j.now = j.now.Add(10 * time.Minute)
	claim := func(spoil func(*Receipt), by byte, signers ...byte) *Claim {
		r := testReceipt(base, auth.Agreement, 10*time.Second)
		spoil(r)
		e := must(Seal(KindReceipt, r, testKey(signers[0])))
		for _, n := range signers[1:] {
			e.Countersign(testKey(n))
		}
		return &Claim{By: testPeer(by), Receipt: e}
	}
	j.refused(ErrNotSigned, claim(func(*Receipt) {}, 3, 2))
	j.refused(ErrDenied, claim(func(*Receipt) {}, 4, 3, 2))
	j.refused(ErrUnknown, claim(func(r *Receipt) { r.Agreement = Link{payloadCID([]byte("x"))} }, 3, 3, 2))
	j.refused(ErrBadReceipt, claim(func(r *Receipt) { r.Server = testPeer(4) }, 3, 4, 2))
	j.refused(ErrBadReceipt, claim(func(r *Receipt) { r.Amount++ }, 3, 3, 2))
	first := claim(func(*Receipt) {}, 3, 3)
	if r := j.must(first); r.Session.Claimed != 10 || r.Session.Confirmed != 0 {
		t.Errorf("claimed %+v", r.Session)
	}
	j.refused(ErrConflict, claim(func(r *Receipt) { r.Amount-- }, 3, 3))
	both := claim(func(*Receipt) {}, 3, 3, 2)
	if r := j.must(both); !r.Changed || r.Session.Claimed != 10 || r.Session.Confirmed != 10 {
		t.Errorf("countersigned later %+v", r.Session)
	}
	j.refused(ErrDenied, &Release{By: testPeer(2), Session: base.ID})
	j.refused(ErrUnknown, &Release{By: testPeer(3), Session: j.id(77)})
	settled := j.must(&Release{By: testPeer(3), Session: base.ID})
	if s := settled.Settlement; s == nil || s.Paid != 10 || s.Fee != 0 || s.Released != 40 {
		t.Errorf("settlement %+v", s)
	}
	if r := j.must(both); r.Changed || r.Settlement == nil || *r.Settlement != *settled.Settlement {
		t.Errorf("claimed after settlement %+v", r)
	}
	later := claim(func(r *Receipt) { r.Seq, r.Prev = 2, LinkTo(both.Receipt) }, 3, 3)
	j.refused(ErrClosed, later)
	j.refused(ErrClosed, amended)
	j.refused(ErrClosed, auth)

	j.must(&CancelOrder{By: testPeer(2), Order: good.ID})
	j.refused(ErrClosed, agree(func(a *Agreement) { a.ID = j.id(10) }, 3, 2))
	if b := j.state.Balances(testPeer(2)); b.Available != 90 || b.Sum() != 90 {
		t.Errorf("client %+v", b)
	}
	if o, err := j.state.Order(testPeer(2), good.ID); err != nil || !o.Closed || o.Spent != 10 || o.Free != 0 || o.Held != 0 {
		t.Errorf("order %+v, %v", o, err)
	}
}

// TestHoldOutlivesAgreement claims in the grace after an agreement, and lets
// another one run out.
func TestHoldOutlivesAgreement(t *testing.T) {
	for _, late := range []time.Duration{3600*time.Second + 899*time.Second, 3600*time.Second + 900*time.Second} {
		j := newJournaled(t, 100)
		j.join(2, RoleClient)
		j.join(3, RoleServer)
		j.must(&Deposit{ID: j.id(1), By: testPeer(1), Peer: testPeer(2), Amount: 100})
		o := &Order{Network: "test", ID: j.id(2), Client: testPeer(2), Amount: 60, Issued: testStart, Expires: testStart + 600}
		order := must(Seal(KindOrder, o, testKey(2)))
		j.must(&CreateOrder{By: testPeer(2), Order: order})
		a := testAgreement(j, order, 40)
		env := must(Seal(KindAgreement, a, testKey(3)))
		env.Countersign(testKey(2))
		j.must(&Authorise{By: testPeer(2), Agreement: env})
		j.now = j.now.Add(20 * time.Second)
		first := must(Seal(KindReceipt, testReceipt(a, env, 20*time.Second), testKey(3)))
		j.must(&Claim{By: testPeer(3), Receipt: first})

		j.now = time.Unix(testStart, 0).Add(late)
		r := testReceipt(a, env, time.Minute)
		r.Seq, r.Prev, r.Final, r.Reason = 2, LinkTo(first), true, ReasonExpired
		claim := &Claim{By: testPeer(3), Receipt: must(Seal(KindReceipt, r, testKey(3)))}
		if late < 4500*time.Second {
			if got := j.must(claim); got.Settlement == nil || got.Settlement.Paid != 40 || got.Settlement.Fee != 4 {
				t.Errorf("claimed in the grace: %+v", got)
			}
			continue
		}
		j.refused(ErrClosed, claim)
		x, settlement, err := j.state.Session(testPeer(3), a.ID)
		if err != nil || !x.Settled || settlement.Paid != 20 || settlement.Fee != 2 || settlement.Released != 20 {
			t.Errorf("after the grace: %+v, %+v, %v", x, settlement, err)
		}
		if b := j.state.Balances(testPeer(2)); b.Available != 80 || b.Sum() != 80 {
			t.Errorf("client %+v", b)
		}
	}
}

func TestClockGoesBack(t *testing.T) {
	j := newJournaled(t, 20)
	j.join(2, RoleClient)
	j.now = j.now.Add(-time.Hour)
	j.must(&Deposit{ID: j.id(1), By: testPeer(1), Peer: testPeer(2), Amount: 1})
	if got := j.state.Now(); got.Unix() != testStart {
		t.Errorf("time went back to %v", got)
	}
	if !same(j.replay(len(j.journal)), j.state) {
		t.Error("replay: another state")
	}
}
