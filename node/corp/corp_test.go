package corp

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad"
	"github.com/xenoserver/xeno/ledger"
)

// A world is a XenoCorp with callers around it, in one process.
type world struct {
	t     testing.TB
	conf  Config
	mu    sync.Mutex // guards now
	now   time.Time
	corp  *Service
	fakes *fakeOverlay

	crashing bool // after every call
}

// A fakeOverlay hands requests to the handlers that were registered, and
// asserts that they are used as kad.Overlay allows.
type fakeOverlay struct {
	t        testing.TB
	admitted func(dht.PeerID) bool
	mu       sync.Mutex // guards the following
	handlers map[string]handler
}

type handler struct {
	open  bool
	limit int
	h     kad.Handler
}

func (o *fakeOverlay) Handle(protocol string, limit int, h kad.Handler) {
	o.register(protocol, handler{false, limit, h})
}

func (o *fakeOverlay) HandleOpen(protocol string, limit int, h kad.Handler) {
	o.register(protocol, handler{true, limit, h})
}

func (o *fakeOverlay) register(protocol string, h handler) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, twice := o.handlers[protocol]; twice {
		o.t.Errorf("%s is registered twice", protocol)
	}
	if h.limit <= 0 || h.h == nil {
		o.t.Errorf("%s is registered with limit %d and handler %v", protocol, h.limit, h.h != nil)
	}
	o.handlers[protocol] = h
}

// A caller is one peer's end of the fake overlay, across restarts of XenoCorp.
type caller struct {
	w    *world
	self dht.PeerID
}

func (c caller) Request(ctx context.Context, _ dht.Contact, protocol string, request []byte, limit int) ([]byte, error) {
	o := c.w.fakes
	o.mu.Lock()
	h, ok := o.handlers[protocol]
	o.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("protocol %s is not served", protocol)
	}
	if !h.open && !o.admitted(c.self) {
		return nil, fmt.Errorf("%s is not admitted to %s", c.self.Short(), protocol)
	}
	if len(request) > h.limit {
		o.t.Errorf("request of %d bytes on %s, limit %d", len(request), protocol, h.limit)
	}
	response, err := h.h(ctx, c.self, request)
	if err != nil {
		return nil, &kad.RemoteError{Message: err.Error()}
	}
	if c.w.crashing {
		c.w.crash()
	}
	if len(response) > limit {
		o.t.Errorf("response of %d bytes on %s, limit %d", len(response), protocol, limit)
	}
	return response, nil
}

func key(n byte) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = n
	return ed25519.NewKeyFromSeed(seed)
}

func peerOf(k ed25519.PrivateKey) dht.PeerID {
	return dht.PeerIDFromKey(k.Public().(ed25519.PublicKey))
}

var (
	corpKey   = key(1)
	clientKey = key(2)
	serverKey = key(3)
)

// newWorld starts one whose clock only pass moves.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, now: time.Unix(1_800_000_000, 0)}
	return w.begin(func() time.Time {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.now
	})
}

func (w *world) begin(clock func() time.Time) *world {
	t := w.t
	t.Helper()
	w.conf = Config{Key: corpKey, Network: "test", Dir: t.TempDir(), FeePermille: 20, Clock: clock}
	w.start()
	t.Cleanup(func() { w.corp.Close() })
	return w
}

func (w *world) start() {
	w.t.Helper()
	s, err := New(w.conf)
	if err != nil {
		w.t.Fatal(err)
	}
	w.corp = s
	w.fakes = &fakeOverlay{t: w.t, handlers: make(map[string]handler), admitted: func(p dht.PeerID) bool {
		_, err := ask(context.Background(), s, func(o *owner) (ledger.Credential, error) {
			cred, revoked, err := o.state.Member(p)
			if revoked {
				err = ledger.ErrRevoked
			}
			return cred, err
		})
		return err == nil
	}}
	s.Attach(w.fakes)
}

// restart is a XenoCorp that died and came back.
func (w *world) restart() {
	w.t.Helper()
	if err := w.corp.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.start()
}

// crash copies the journal as it stands on the disk, as if the machine had died
// now, and compares what a service makes of it with the one that lives on.
func (w *world) crash() {
	w.t.Helper()
	conf := w.conf
	conf.Dir = w.t.TempDir()
	for _, name := range []string{"ledger.db", "ledger.db-wal"} {
		b, err := os.ReadFile(filepath.Join(w.conf.Dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(conf.Dir, name), b, 0o600)
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	s, err := New(conf)
	if err != nil {
		w.t.Fatal(err)
	}
	defer s.Close()
	got, err := s.Accounts(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	want, err := w.corp.Accounts(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("accounts after a crash (-live +restarted):\n%s", diff)
	}
	if s.Credential().CID() != w.corp.Credential().CID() || s.Revocations().CID() != w.corp.Revocations().CID() {
		w.t.Error("a crash changed the own credential or the revocations")
	}
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	w.now = w.now.Add(d)
	w.mu.Unlock()
}

func (w *world) client(k ed25519.PrivateKey) *Client {
	return NewClient(caller{w, peerOf(k)}, dht.Contact{ID: peerOf(corpKey)})
}

// join registers k in roles.
func (w *world) join(k ed25519.PrivateKey, name string, roles ...ledger.Role) {
	w.t.Helper()
	ctx := context.Background()
	code, err := w.client(corpKey).Invite(ctx, Invitation{Roles: roles})
	if err != nil {
		w.t.Fatal(err)
	}
	e, err := w.client(k).Register(ctx, code, name, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	var cred ledger.Credential
	if err := e.Open(ledger.KindCredential, &cred, peerOf(corpKey)); err != nil {
		w.t.Fatal(err)
	}
	if cred.Peer != peerOf(k) || cred.Subject != name || cred.CheckTime(w.conf.Clock(), 0) != nil {
		w.t.Fatalf("credential %+v", cred)
	}
}

// deal is everything up to an authorised session.
type deal struct {
	order     ledger.Order
	orderEnv  *ledger.Envelope
	agreement ledger.Agreement
	env       *ledger.Envelope
}

func (w *world) deal(amount, most ledger.Amount, hours int64) *deal {
	w.t.Helper()
	d := new(deal)
	now := w.conf.Clock().Unix()
	d.order = ledger.Order{
		Network: "test", ID: NewID(), Client: peerOf(clientKey), Amount: amount, Issued: now, Expires: now + 3600*hours*2,
	}
	d.orderEnv = w.seal(ledger.KindOrder, &d.order, clientKey)
	d.agreement = ledger.Agreement{
		Network: "test", ID: NewID(), Client: peerOf(clientKey), Server: peerOf(serverKey), Order: ledger.LinkTo(d.orderEnv),
		Terms: ledger.Terms{Environment: "wasi", CPUs: 1, CPUShare: 1000, MemoryBytes: 1 << 30, NetworkRate: 1 << 20},
		Rates: ledger.Rates{Session: ledger.Unit, CPU: ledger.Unit, Memory: ledger.Unit},
		Cap:   most, Issued: now, Expires: now + 3600*hours,
	}
	d.env = w.seal(ledger.KindAgreement, &d.agreement, serverKey, clientKey)
	return d
}

func (w *world) seal(kind ledger.Kind, doc any, keys ...ed25519.PrivateKey) *ledger.Envelope {
	w.t.Helper()
	e, err := ledger.Seal(kind, doc, keys[0])
	if err != nil {
		w.t.Fatal(err)
	}
	for _, k := range keys[1:] {
		e.Countersign(k)
	}
	return e
}

// receipt is the one after prev, run after the start of the agreement.
func (d *deal) receipt(run time.Duration, prev *ledger.Envelope, seq uint64, final bool) *ledger.Receipt {
	usage := ledger.Usage{RunNanos: uint64(run), CPUNanos: uint64(run / 2)}
	r := &ledger.Receipt{
		Network: "test", Agreement: ledger.LinkTo(d.env), Server: d.agreement.Server, Seq: seq,
		From: d.agreement.Issued * 1000, To: d.agreement.Issued*1000 + run.Milliseconds(), Usage: usage,
		Readings: []ledger.Reading{{Source: "rusage", Usage: usage}},
		Amount:   min(d.agreement.Rates.Cost(&d.agreement.Terms, &usage), d.agreement.Cap), Final: final,
	}
	if prev != nil {
		r.Prev = ledger.LinkTo(prev)
	}
	if final {
		r.Reason = ledger.ReasonDone
	}
	return r
}

func TestMainJob(t *testing.T) {
	w := newWorld(t)
	w.crashing = true
	ctx := context.Background()
	w.join(clientKey, "Client & Sons", ledger.RoleClient, ledger.RoleParticipant)
	w.join(serverKey, "Server Ltd", ledger.RoleServer, ledger.RoleParticipant)
	client, server, operator := w.client(clientKey), w.client(serverKey), w.client(corpKey)

	if _, err := operator.Deposit(ctx, NewID(), peerOf(clientKey), 100*ledger.Unit, "cash"); err != nil {
		t.Fatal(err)
	}
	d := w.deal(50*ledger.Unit, 20*ledger.Unit, 10)
	w.restart()
	order, err := client.CreateOrder(ctx, d.orderEnv)
	if err != nil || order.Free != 50*ledger.Unit {
		t.Fatal(order, err)
	}
	e, err := client.Authorise(ctx, d.env)
	if err != nil {
		t.Fatal(err)
	}
	var auth ledger.Authorization
	if err := e.Open(ledger.KindAuthorization, &auth, peerOf(corpKey)); err != nil {
		t.Fatal(err)
	}
	if auth.Hold != 20*ledger.Unit || auth.Agreement != ledger.LinkTo(d.env) {
		t.Errorf("authorization %+v", auth)
	}
	w.restart()
	if again, err := client.Authorise(ctx, d.env); err != nil || again.CID() != e.CID() {
		t.Errorf("authorised again: %v, %v", again, err)
	}

	w.pass(time.Hour)
	first := w.seal(ledger.KindReceipt, d.receipt(time.Hour, nil, 1, false), serverKey, clientKey)
	got, err := server.Claim(ctx, first)
	if err != nil || got.Claimed != 2500*ledger.Unit/1000 || got.Confirmed != got.Claimed || got.Settled {
		t.Fatalf("%+v %v", got, err)
	}
	w.pass(time.Hour)
	w.restart()
	final := w.seal(ledger.KindReceipt, d.receipt(2*time.Hour, first, 2, true), serverKey)
	got, err = server.Claim(ctx, final)
	if err != nil || got.Claimed != 5*ledger.Unit || !got.Settled || got.Settlement == nil {
		t.Fatalf("%+v %v", got, err)
	}
	var settlement ledger.Settlement
	if err := got.Settlement.Open(ledger.KindSettlement, &settlement, peerOf(corpKey)); err != nil {
		t.Fatal(err)
	}
	if settlement.Paid != 5*ledger.Unit || settlement.Fee != ledger.Unit/10 || settlement.Released != 15*ledger.Unit {
		t.Errorf("settlement %+v", settlement)
	}
	if _, err := client.CancelOrder(ctx, d.order.ID); err != nil {
		t.Fatal(err)
	}
	accounts, err := operator.Accounts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if accounts.Sum() != 0 || accounts.Fee != ledger.Unit/10 || accounts.External != -100*ledger.Unit {
		t.Errorf("accounts %+v", accounts)
	}
	if b, err := client.Account(ctx); err != nil || b.Available != 95*ledger.Unit || b.Sum() != b.Available {
		t.Errorf("client %+v %v", b, err)
	}
	if b, err := server.Account(ctx); err != nil || b.Available != 49*ledger.Unit/10 || b.Sum() != b.Available {
		t.Errorf("server %+v %v", b, err)
	}
	entries, err := operator.Journal(ctx, 0, 100)
	if err != nil || len(entries) != 9 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
	if _, err := client.Accounts(ctx); !errors.Is(err, ledger.ErrDenied) {
		t.Errorf("a client lists all accounts: %v", err)
	}
}
