package corp

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/ledger/sqlite"
	"github.com/xenoserver/xeno/wire"
)

func TestConfigNamesTheFieldAtFault(t *testing.T) {
	good := Config{Key: corpKey, Network: "test", Dir: t.TempDir()}
	for field, spoil := range map[string]func(*Config){
		"Key":           func(c *Config) { c.Key = nil },
		"Network":       func(c *Config) { c.Network = "" },
		"Dir":           func(c *Config) { c.Dir = "" },
		"FeePermille":   func(c *Config) { c.FeePermille = 1001 },
		"CredentialTTL": func(c *Config) { c.CredentialTTL = -1 },
	} {
		c := good
		spoil(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

func TestFirstStart(t *testing.T) {
	w := newWorld(t)
	var cred ledger.Credential
	if err := w.corp.Credential().Open(ledger.KindCredential, &cred, w.corp.ID()); err != nil {
		t.Fatal(err)
	}
	if cred.Peer != peerOf(corpKey) || !slices.Equal(cred.Roles, []ledger.Role{ledger.RoleOperator, ledger.RoleParticipant}) ||
		cred.Expires-cred.Issued != int64(DefaultCredentialTTL/time.Second) {
		t.Errorf("own credential %+v", cred)
	}
	before := w.corp.Credential().CID()
	w.restart()
	if w.corp.Credential().CID() != before {
		t.Error("a restart issued another credential")
	}
	w.pass(16 * 24 * time.Hour)
	w.restart()
	if w.corp.Credential().CID() == before {
		t.Error("the own credential was not renewed after half of its time")
	}
}

func TestOneProcessOneNetwork(t *testing.T) {
	w := newWorld(t)
	if _, err := New(w.conf); !errors.Is(err, sqlite.ErrLocked) {
		t.Errorf("a second service: %v", err)
	}
	if err := w.corp.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.corp.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	other := w.conf
	other.Network = "live"
	if _, err := New(other); !errors.Is(err, ledger.ErrConflict) {
		t.Errorf("journal of another network: %v", err)
	}
	other = w.conf
	other.Key = key(9)
	if _, err := New(other); !errors.Is(err, ledger.ErrConflict) {
		t.Errorf("journal of another XenoCorp: %v", err)
	}
	w.conf.FeePermille = 50
	w.start()
}

func TestCallsAfterClose(t *testing.T) {
	w := newWorld(t)
	w.join(clientKey, "Client", ledger.RoleClient)
	client := w.client(clientKey)
	w.fakes.admitted = func(dht.PeerID) bool { return true }
	if err := w.corp.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Account(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if err := w.corp.Err(); err != nil {
		t.Errorf("closed on purpose, but Err is %v", err)
	}
}

func TestRegistration(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	operator, client := w.client(corpKey), w.client(clientKey)
	code, err := operator.Invite(ctx, Invitation{Roles: []ledger.Role{ledger.RoleClient, ledger.RoleServer}, Note: "for a friend"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Renew(ctx); err == nil {
		t.Error("an unregistered peer reached the protocol of members")
	}
	if _, err := client.Register(ctx, "wrong", "Client", nil); !errors.Is(err, ledger.ErrBadCode) {
		t.Errorf("wrong code: %v", err)
	}
	if _, err := client.Register(ctx, code, "Client", []ledger.Role{ledger.RoleOperator}); !errors.Is(err, ledger.ErrDenied) {
		t.Errorf("role beyond the code: %v", err)
	}
	first, err := client.Register(ctx, strings.ToLower(code[:10])+"-"+code[10:], "Client", nil)
	if err != nil {
		t.Fatal(err)
	}
	w.restart()
	again, err := client.Register(ctx, code, "Client", nil)
	if err != nil || string(again.Marshal()) != string(first.Marshal()) {
		t.Errorf("registered again: %v, %v", again, err)
	}
	if _, err := w.client(serverKey).Register(ctx, code, "Server", nil); !errors.Is(err, ledger.ErrBadCode) {
		t.Errorf("a used code: %v", err)
	}
	for range registerAttempts {
		_, err = w.client(serverKey).Register(ctx, "guess", "Server", nil)
	}
	if !errors.Is(err, ErrThrottled) {
		t.Errorf("after %d guesses: %v", registerAttempts, err)
	}
	if _, err := w.client(key(7)).Register(ctx, "guess", "Other", nil); !errors.Is(err, ledger.ErrBadCode) {
		t.Errorf("another peer is throttled too: %v", err)
	}
	w.pass(registerWindow)
	if _, err := w.client(serverKey).Register(ctx, "guess", "Server", nil); !errors.Is(err, ledger.ErrBadCode) {
		t.Errorf("after the window: %v", err)
	}
	if _, err := client.Invite(ctx, Invitation{Roles: []ledger.Role{ledger.RoleOperator}}); !errors.Is(err, ledger.ErrDenied) {
		t.Errorf("a client invites: %v", err)
	}
}

func TestLimiterIsBounded(t *testing.T) {
	l := newLimiter(1, time.Minute, 3)
	now := time.Unix(1000, 0)
	for n := range byte(3) {
		if !l.allow(dht.PeerID{n}, now) || l.allow(dht.PeerID{n}, now) {
			t.Errorf("peer %d", n)
		}
	}
	if l.allow(dht.PeerID{9}, now) {
		t.Error("more peers than are tracked")
	}
	if !l.allow(dht.PeerID{9}, now.Add(time.Minute)) || len(l.seen) != 1 {
		t.Error("the window does not end")
	}
}

func TestRevocation(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.join(clientKey, "Client", ledger.RoleClient)
	w.join(serverKey, "Server", ledger.RoleServer)
	w.join(key(4), "Operator", ledger.RoleOperator)
	operator, server := w.client(key(4)), w.client(serverKey)
	if _, err := operator.Deposit(ctx, NewID(), peerOf(clientKey), 100, "cash"); err != nil {
		t.Fatal(err)
	}
	d := w.deal(60, 40, 1)
	if _, err := w.client(clientKey).CreateOrder(ctx, d.orderEnv); err != nil {
		t.Fatal(err)
	}
	list := func(have uint64) *ledger.Revocations {
		t.Helper()
		e, err := server.Revocations(ctx, have)
		if err != nil {
			t.Fatal(err)
		}
		if e == nil {
			return nil
		}
		doc := new(ledger.Revocations)
		if err := e.Open(ledger.KindRevocations, doc, peerOf(corpKey)); err != nil {
			t.Fatal(err)
		}
		return doc
	}
	first := list(0)
	if first == nil || len(first.Serials) != 0 || list(first.Seq) != nil {
		t.Errorf("first list %+v", first)
	}
	id := NewID()
	e, err := operator.Revoke(ctx, id, peerOf(clientKey), "fraud")
	if err != nil {
		t.Fatal(err)
	}
	second := list(first.Seq)
	if second == nil || second.Seq <= first.Seq || len(second.Serials) != 1 || w.corp.Revocations().CID() != e.CID() {
		t.Errorf("second list %+v", second)
	}
	w.restart()
	if again, err := operator.Revoke(ctx, id, peerOf(clientKey), "fraud"); err != nil || again.CID() != e.CID() {
		t.Errorf("revoked again: %v", err)
	}
	if list(second.Seq) != nil || w.corp.Revocations().CID() != e.CID() {
		t.Error("the restart changed the list")
	}
	w.fakes.admitted = func(dht.PeerID) bool { return true } // before the overlay hears of it
	if _, err := w.client(clientKey).Authorise(ctx, d.env); !errors.Is(err, ledger.ErrRevoked) {
		t.Errorf("authorise: %v", err)
	}
	if o, err := w.client(clientKey).Order(ctx, d.order.ID); err != nil || !o.Closed || o.Free != 0 {
		t.Errorf("order %+v, %v", o, err)
	}
	if _, err := server.Revoke(ctx, NewID(), peerOf(corpKey), ""); !errors.Is(err, ledger.ErrDenied) {
		t.Errorf("a server revokes: %v", err)
	}
}

// TestExpiryByItself leaves everything alone until money has come back.
func TestExpiryByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := (&world{t: t}).begin(time.Now) // that of the bubble
		ctx := t.Context()
		w.join2(t)
		d := w.deal(60, 40, 1)
		if _, err := w.client(clientKey).CreateOrder(ctx, d.orderEnv); err != nil {
			t.Fatal(err)
		}
		if _, err := w.client(clientKey).Authorise(ctx, d.env); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour + DefaultClaimGrace - time.Second)
		if b, err := w.client(clientKey).Account(ctx); err != nil || b.Held != 40 || b.Reserved != 20 {
			t.Errorf("before the expiry: %+v, %v", b, err)
		}
		time.Sleep(3 * time.Second)
		// The journal is read without a command, which would release the hold too.
		entries, err := w.corp.Journal(ctx, 0, 100)
		if err != nil || len(entries) == 0 || entries[len(entries)-1].Kind != ledger.EntryRelease {
			t.Errorf("after the expiry: %+v, %v", entries, err)
		}
		if s, err := w.client(serverKey).Session(ctx, d.agreement.ID); err != nil || !s.Settled || s.Settlement == nil || s.Released != 40 {
			t.Errorf("session %+v, %v", s, err)
		}
		time.Sleep(time.Hour)
		if b, err := w.client(clientKey).Account(ctx); err != nil || b.Available != 100 {
			t.Errorf("after the end of the order: %+v, %v", b, err)
		}
	})
}

// join2 registers client and server, and gives the client 100.
func (w *world) join2(t testing.TB) {
	t.Helper()
	w.join(clientKey, "Client", ledger.RoleClient)
	w.join(serverKey, "Server", ledger.RoleServer)
	if _, err := w.client(corpKey).Deposit(t.Context(), NewID(), peerOf(clientKey), 100, "cash"); err != nil {
		t.Fatal(err)
	}
}

// TestManyAtOnce lets callers race for the money of one order.
func TestManyAtOnce(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.join2(t)
	d := w.deal(100, 7, 1)
	client := w.client(clientKey)
	if _, err := client.CreateOrder(ctx, d.orderEnv); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var won []ledger.ID
	for range 50 {
		a := d.agreement
		a.ID = NewID()
		e := w.seal(ledger.KindAgreement, &a, serverKey, clientKey)
		wg.Go(func() {
			switch _, err := client.Authorise(ctx, e); {
			case err == nil:
				mu.Lock()
				won = append(won, a.ID)
				mu.Unlock()
			case !errors.Is(err, ledger.ErrFunds):
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	if len(won) != 100/7 {
		t.Errorf("%d sessions of 7 on an order of 100", len(won))
	}
	w.restart()
	for _, id := range won {
		if s, err := client.Session(ctx, id); err != nil || s.Hold != 7 {
			t.Errorf("after a restart: %+v, %v", s, err)
		}
	}
	if o, err := client.Order(ctx, d.order.ID); err != nil || o.Free != 2 || o.Held != 98 {
		t.Errorf("order %+v, %v", o, err)
	}
	if st := w.corp.Stats(); st.Served == 0 || st.Refused != 0 {
		t.Errorf("stats after a restart %+v", st)
	}
	orders, err := client.Orders(ctx)
	if err != nil || len(orders) != 1 || orders[0].ID != d.order.ID {
		t.Errorf("orders %+v, %v", orders, err)
	}
	if _, err := w.client(key(8)).Session(ctx, won[0]); err == nil {
		t.Error("a stranger sees a session")
	}
}

// TestMalformedRequests sends what no client sends; each gets a coded refusal.
func TestMalformedRequests(t *testing.T) {
	w := newWorld(t)
	w.join(clientKey, "Client", ledger.RoleClient)
	junk := []byte{1, 2, 3}
	for _, req := range []*wire.CorpRequest{
		{},
		{Call: &wire.CorpRequest_CreateOrder{CreateOrder: &wire.CorpCreateOrder{Order: junk}}},
		{Call: &wire.CorpRequest_Authorise{Authorise: &wire.CorpAuthorise{}}},
		{Call: &wire.CorpRequest_Claim{Claim: &wire.CorpClaim{Receipt: make([]byte, MaxRequest-100)}}},
		{Call: &wire.CorpRequest_Release{Release: &wire.CorpRelease{Session: junk}}},
		{Call: &wire.CorpRequest_ShowSession{ShowSession: &wire.CorpShowSession{Session: junk}}},
		{Call: &wire.CorpRequest_CancelOrder{CancelOrder: &wire.CorpCancelOrder{Id: junk}}},
		{Call: &wire.CorpRequest_ListOrders{ListOrders: &wire.CorpListOrders{Id: junk}}},
		{Call: &wire.CorpRequest_Invite{Invite: &wire.CorpInvite{Id: make([]byte, 16), CodeHash: junk}}},
		{Call: &wire.CorpRequest_Deposit{Deposit: &wire.CorpTransfer{Id: make([]byte, 16), Peer: junk}}},
		{Call: &wire.CorpRequest_Deposit{Deposit: &wire.CorpTransfer{Id: make([]byte, 16), Peer: make([]byte, 32), Amount: -5}}},
		{Call: &wire.CorpRequest_Withdraw{Withdraw: &wire.CorpTransfer{}}},
		{Call: &wire.CorpRequest_Revoke{Revoke: &wire.CorpRevoke{Id: junk}}},
	} {
		b, err := proto.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}
		code(t, w, b, wire.CorpCode_CORP_CODE_MALFORMED)
	}
	code(t, w, []byte{0xff}, wire.CorpCode_CORP_CODE_MALFORMED)
	order := w.seal(ledger.KindOrder, &ledger.Order{}, clientKey)
	order.Signatures[0].Sig[0] ^= 1
	b, err := proto.Marshal(&wire.CorpRequest{Call: &wire.CorpRequest_CreateOrder{CreateOrder: &wire.CorpCreateOrder{Order: order.Marshal()}}})
	if err != nil {
		t.Fatal(err)
	}
	code(t, w, b, wire.CorpCode_CORP_CODE_SIGNATURE)
	b, err = proto.Marshal(&wire.CorpRequest{Call: &wire.CorpRequest_ListJournal{ListJournal: &wire.CorpListJournal{}}})
	if err != nil {
		t.Fatal(err)
	}
	code(t, w, b, wire.CorpCode_CORP_CODE_DENIED)
	resp, err := w.corp.ServeRegister(t.Context(), peerOf(key(9)), b)
	var r wire.CorpResponse
	if err != nil || proto.Unmarshal(resp, &r) != nil || r.GetError().GetCode() != wire.CorpCode_CORP_CODE_MALFORMED {
		t.Errorf("the open protocol serves more than registration: %v, %v", &r, err)
	}
}

// code sends a request as the client and expects it refused with want.
func code(t *testing.T, w *world, request []byte, want wire.CorpCode) {
	t.Helper()
	resp, err := w.corp.Serve(t.Context(), peerOf(clientKey), request)
	if err != nil {
		t.Fatal(err)
	}
	var r wire.CorpResponse
	if err := proto.Unmarshal(resp, &r); err != nil {
		t.Fatal(err)
	}
	if got := r.GetError(); got.GetCode() != want || len(got.GetMessage()) < 20 || !strings.Contains(got.GetMessage(), "; ") {
		t.Errorf("%.60x: got %v, want %v", request, got, want)
	}
}

// TestEveryCodeHasASentinel keeps errors.Is working across the wire.
func TestEveryCodeHasASentinel(t *testing.T) {
	for number, name := range wire.CorpCode_name {
		if number == 0 {
			continue
		}
		found := false
		for _, c := range codes {
			if int32(c.code) == number {
				found = true
				if err := error(&Error{Code: c.code}); c.code != wire.CorpCode_CORP_CODE_SIGNATURE &&
					c.code != wire.CorpCode_CORP_CODE_MALFORMED && !errors.Is(err, c.err) {
					t.Errorf("%s does not match %v", name, c.err)
				}
				break
			}
		}
		if !found {
			t.Errorf("%s has no sentinel", name)
		}
	}
	if got := refusal(errors.New("secret path /var/lib")); strings.Contains(got.GetMessage(), "secret") {
		t.Errorf("a stranger reads %q", got.GetMessage())
	}
}

// TestJournalFailure breaks the journal under the service: nothing may be
// acknowledged that is not durable.
func TestJournalFailure(t *testing.T) {
	w := newWorld(t)
	w.join2(t)
	if _, err := ask(t.Context(), w.corp, func(o *owner) (int, error) { return 0, o.journal.Close() }); err != nil {
		t.Fatal(err)
	}
	w.fakes.admitted = func(dht.PeerID) bool { return true }
	_, err := w.client(corpKey).Deposit(t.Context(), NewID(), peerOf(clientKey), 5, "")
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	<-w.corp.Done()
	if w.corp.Err() == nil {
		t.Error("the service ended without saying why")
	}
	w.restart2()
	if b, err := w.client(clientKey).Account(t.Context()); err != nil || b.Available != 100 {
		t.Errorf("after the restart: %+v, %v", b, err)
	}
}

// restart2 starts after a service that ended by itself.
func (w *world) restart2() {
	w.t.Helper()
	w.corp.Close()
	w.start()
}
