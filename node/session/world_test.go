package session

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad"
	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/ledger"
)

const testNetwork = "test"

var errUnreachable = errors.New("unreachable")

// A wire joins overlays in memory. A node can be cut off.
type wires struct {
	mu       sync.Mutex
	overlays map[dht.PeerID]*fakeOverlay
	cut      map[dht.PeerID]bool
}

type fakeOverlay struct {
	id       dht.PeerID
	wires    *wires
	mu       sync.Mutex
	handlers map[string]kad.Handler
	streams  map[string]func(context.Context, dht.PeerID, net.Conn)
}

func (w *wires) join(id dht.PeerID) *fakeOverlay {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := &fakeOverlay{id: id, wires: w, handlers: map[string]kad.Handler{}, streams: map[string]func(context.Context, dht.PeerID, net.Conn){}}
	w.overlays[id] = o
	return o
}

func (w *wires) reach(from, to dht.PeerID) (*fakeOverlay, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut[from] || w.cut[to] || w.overlays[to] == nil {
		return nil, errUnreachable
	}
	return w.overlays[to], nil
}

func (w *wires) setCut(id dht.PeerID, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[id] = cut
}

func (o *fakeOverlay) ID() dht.PeerID { return o.id }
func (o *fakeOverlay) Find(_ context.Context, id dht.PeerID) (dht.Contact, error) {
	return dht.Contact{ID: id}, nil
}

func (o *fakeOverlay) Handle(protocol string, _ int, h kad.Handler) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.handlers[protocol] = h
}

func (o *fakeOverlay) HandleStream(protocol string, h func(context.Context, dht.PeerID, net.Conn)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.streams[protocol] = h
}

func (o *fakeOverlay) Request(ctx context.Context, to dht.Contact, protocol string, request []byte, limit int) ([]byte, error) {
	other, err := o.wires.reach(o.id, to.ID)
	if err != nil {
		return nil, err
	}
	other.mu.Lock()
	h := other.handlers[protocol]
	other.mu.Unlock()
	if h == nil {
		return nil, errUnreachable
	}
	b, err := h(ctx, o.id, request)
	if len(b) > limit {
		return nil, fmt.Errorf("response of %d bytes, limit %d", len(b), limit)
	}
	return b, err
}

func (o *fakeOverlay) OpenStream(_ context.Context, to dht.Contact, protocol string) (net.Conn, error) {
	other, err := o.wires.reach(o.id, to.ID)
	if err != nil {
		return nil, err
	}
	a, b := net.Pipe()
	go other.streams[protocol](context.Background(), o.id, b)
	return a, nil
}

// fakeCorp authorises and settles as XenoCorp does, for one client account.
type fakeCorp struct {
	key ed25519.PrivateKey

	mu       sync.Mutex
	down     bool
	free     ledger.Amount
	earned   ledger.Amount
	held     map[ledger.ID]*held
	unsigned int // claims without the client's signature
}

type held struct {
	agreement  ledger.Agreement
	link       ledger.Link
	last       *ledger.Receipt
	lastLink   ledger.Link
	settlement *ledger.Envelope
}

var errDown = errors.New("XenoCorp is down")

func (c *fakeCorp) Authorise(_ context.Context, env *ledger.Envelope) (*ledger.Envelope, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return nil, errDown
	}
	var a ledger.Agreement
	if err := env.Open(ledger.KindAgreement, &a); err != nil {
		return nil, err
	}
	if err := env.Verify(ledger.KindAgreement, a.Client, a.Server); err != nil {
		return nil, err
	}
	before := ledger.Amount(0)
	if h := c.held[a.ID]; h != nil {
		before = h.agreement.Cap
		if h.link == ledger.LinkTo(env) {
			before = a.Cap
		} else if a.Revision != h.agreement.Revision+1 {
			return nil, ledger.ErrConflict
		}
	}
	if c.free < a.Cap-before {
		return nil, ledger.ErrFunds
	}
	c.free -= a.Cap - before
	if c.held[a.ID] == nil {
		c.held[a.ID] = &held{}
	}
	h := c.held[a.ID]
	h.agreement, h.link = a, ledger.LinkTo(env)
	return ledger.Seal(ledger.KindAuthorization, ledger.Authorization{
		Network: testNetwork, Agreement: h.link, Hold: a.Cap, Issued: time.Now().Unix(), Expires: a.Expires + 3600,
	}, c.key)
}

func (c *fakeCorp) Claim(_ context.Context, env *ledger.Envelope) (*ledger.Envelope, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return nil, errDown
	}
	var r ledger.Receipt
	if err := env.Open(ledger.KindReceipt, &r); err != nil {
		return nil, err
	}
	for _, h := range c.held {
		if r.Agreement != h.link && r.Server != h.agreement.Server {
			continue
		}
		if h.settlement != nil {
			return h.settlement, nil
		}
		if err := r.Check(time.Now(), &h.agreement, h.last, h.lastLink); err != nil && (h.last == nil || r.Seq != h.last.Seq) {
			return nil, fmt.Errorf("%w: %w", ErrClaimRefused, err)
		}
		if !env.SignedBy(h.agreement.Client) {
			c.unsigned++
		}
		h.last, h.lastLink = &r, ledger.LinkTo(env)
		if !r.Final {
			return nil, nil
		}
		c.earned += r.Amount
		c.free += h.agreement.Cap - r.Amount
		var err error
		h.settlement, err = ledger.Seal(ledger.KindSettlement, ledger.Settlement{
			Network: testNetwork, Agreement: r.Agreement, Paid: r.Amount, Released: h.agreement.Cap - r.Amount, Issued: time.Now().Unix(),
		}, c.key)
		return h.settlement, err
	}
	return nil, fmt.Errorf("%w: %w", ErrClaimRefused, ledger.ErrUnknown)
}

func (c *fakeCorp) Settlement(_ context.Context, id ledger.ID) (*ledger.Envelope, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return nil, errDown
	}
	h := c.held[id]
	if h == nil {
		return nil, ledger.ErrUnknown
	}
	return h.settlement, nil
}

func (c *fakeCorp) setDown(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
}

// fakeDriver runs environments that use one CPU fully. It outlives hosts.
type fakeDriver struct {
	mu        sync.Mutex
	instances map[string]*hypervisor.Instance
	ended     map[string]time.Time
	failStart error
	damaged   hypervisor.DamagedError
	factor    float64 // CPU seconds a second
	starts    int
}

func newFakeDriver() *fakeDriver {
	return &fakeDriver{instances: map[string]*hypervisor.Instance{}, ended: map[string]time.Time{}, factor: 1}
}

func (d *fakeDriver) Name() string { return "fake" }

func (d *fakeDriver) Start(_ context.Context, spec hypervisor.Spec) (hypervisor.Instance, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := spec.Validate(); err != nil {
		return hypervisor.Instance{}, err
	}
	if d.failStart != nil {
		return hypervisor.Instance{}, d.failStart
	}
	if d.instances[spec.ID] != nil {
		return hypervisor.Instance{}, hypervisor.ErrExists
	}
	d.starts++
	in := &hypervisor.Instance{ID: spec.ID, Kind: spec.Kind, Driver: "fake", State: hypervisor.StateRunning, PID: 1, Started: time.Now(), Guest: netip.MustParseAddr("127.0.0.1")}
	d.instances[spec.ID] = in
	return *in, nil
}

func (d *fakeDriver) List(context.Context) ([]hypervisor.Instance, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []hypervisor.Instance
	for _, in := range d.instances {
		if d.damaged[in.ID] == nil {
			out = append(out, *in)
		}
	}
	return out, d.damaged.OrNil()
}

// damage lets instances be unreadable from now on, and the others no more.
func (d *fakeDriver) damage(ids ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.damaged = make(hypervisor.DamagedError)
	for _, id := range ids {
		d.damaged[id] = errors.New("damaged")
	}
}

func (d *fakeDriver) exit(id string, code int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if in := d.instances[id]; in != nil && in.State != hypervisor.StateExited {
		in.State, in.ExitCode = hypervisor.StateExited, code
		d.ended[id] = time.Now()
	}
}

func (d *fakeDriver) Stop(_ context.Context, id string, _ time.Duration) error {
	d.exit(id, -1)
	return nil
}

func (d *fakeDriver) Remove(_ context.Context, id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.instances, id)
	return nil
}

func (d *fakeDriver) Usage(_ context.Context, id string) (hypervisor.Usage, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	in := d.instances[id]
	if in == nil {
		return hypervisor.Usage{}, hypervisor.ErrNotFound
	}
	end := time.Now()
	if t, ok := d.ended[id]; ok {
		end = t
	}
	run := end.Sub(in.Started)
	return hypervisor.Usage{Source: "fake", Run: run, CPU: time.Duration(float64(run) * d.factor)}, nil
}

func (d *fakeDriver) Logs(_ context.Context, id string, _ int) (stdout, stderr []byte, err error) {
	return []byte("output of " + id), nil, nil
}

func (d *fakeDriver) running() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, in := range d.instances {
		if in.State != hypervisor.StateExited {
			n++
		}
	}
	return n
}

type fakeImages struct{ err error }

func (f fakeImages) Fetch(context.Context, hypervisor.Kind, cid.Cid) (string, error) {
	return "/images/x", f.err
}

// A world is one client, one server and XenoCorp.
type world struct {
	t              testing.TB
	wires          *wires
	corp           *fakeCorp
	driver         *fakeDriver
	clientKey      ed25519.PrivateKey
	serverKey      ed25519.PrivateKey
	dir            string
	host           *Host
	buyer          *Buyer
	rates          ledger.Rates
	order          *ledger.Envelope
	changeHost     func(*HostConfig)
	payer          Payer // of the client; nil: corp
	serverCapacity Capacity
}

func testKey(n byte) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = n
	return ed25519.NewKeyFromSeed(seed)
}

func peerOf(key ed25519.PrivateKey) dht.PeerID {
	return dht.PeerIDFromKey(key.Public().(ed25519.PublicKey))
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{}
	w.init(t)
	return w
}

func (w *world) init(t testing.TB) {
	t.Helper()
	*w = world{
		t: t, wires: &wires{overlays: map[dht.PeerID]*fakeOverlay{}, cut: map[dht.PeerID]bool{}}, driver: newFakeDriver(),
		clientKey: testKey(1), serverKey: testKey(2), dir: t.TempDir(),
		corp:           &fakeCorp{key: testKey(3), free: 100 * ledger.Unit, held: map[ledger.ID]*held{}},
		rates:          ledger.Rates{Session: ledger.Unit, CPU: 2 * ledger.Unit},
		serverCapacity: Capacity{CPUs: 4, CPUShare: 4000, MemoryBytes: 4 << 30, DiskBytes: 10 << 30, Sessions: 10},
	}
	var err error
	w.order, err = ledger.Seal(ledger.KindOrder, ledger.Order{
		Network: testNetwork, ID: ledger.ID{9}, Client: peerOf(w.clientKey), Amount: 50 * ledger.Unit,
		Issued: time.Now().Unix(), Expires: time.Now().Add(24 * time.Hour).Unix(),
	}, w.clientKey)
	if err != nil {
		t.Fatal(err)
	}
	w.startHost()
	w.startBuyer()
	t.Cleanup(func() {
		_ = w.host.Close()
		_ = w.buyer.Close()
	})
}

func (w *world) startHost() {
	w.t.Helper()
	cfg := HostConfig{
		Key: w.serverKey, Network: testNetwork, Corp: peerOf(w.corp.key), Dir: filepath.Join(w.dir, "server"),
		Overlay: w.wires.join(peerOf(w.serverKey)), Claimer: w.corp, Images: fakeImages{},
		Drivers:  map[hypervisor.Kind]hypervisor.Driver{hypervisor.KindWASI: w.driver},
		Probe:    func(context.Context, hypervisor.Instance) error { return nil },
		Capacity: w.serverCapacity, Rates: w.rates,
		Credential: func(id dht.PeerID) (*ledger.Credential, bool) {
			return &ledger.Credential{Peer: id, Roles: []ledger.Role{ledger.RoleClient}}, id == peerOf(w.clientKey)
		},
	}
	if w.changeHost != nil {
		w.changeHost(&cfg)
	}
	var err error
	if w.host, err = NewHost(cfg); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) startBuyer() {
	w.t.Helper()
	payer := w.payer
	if payer == nil {
		payer = w.corp
	}
	var err error
	w.buyer, err = NewBuyer(BuyerConfig{
		Key: w.clientKey, Network: testNetwork, Corp: peerOf(w.corp.key), Dir: filepath.Join(w.dir, "client"),
		Overlay: w.wires.join(peerOf(w.clientKey)), Payer: payer,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.buyer.Start()
}

func testImage() ledger.Link {
	sum, err := multihash.Sum([]byte("image"), multihash.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	return ledger.Link{Cid: cid.NewCidV1(cid.Raw, sum)}
}

func (w *world) request() BuyRequest {
	terms := ledger.Terms{Environment: "wasi", Image: testImage(), CPUs: 1, CPUShare: 1000, MemoryBytes: 64 << 20, DiskBytes: 1 << 20}
	return BuyRequest{
		Session: ledger.ID{7}, Order: w.order, Terms: terms, Duration: time.Hour,
		Candidates: []Candidate{{Server: peerOf(w.serverKey), Cap: 10 * ledger.Unit, Rates: w.rates}},
	}
}

// buy buys and fails the test if that fails.
func (w *world) buy(req BuyRequest) Info {
	w.t.Helper()
	in, err := w.buyer.Buy(w.t.Context(), req, nil)
	if err != nil {
		w.t.Fatalf("buy: %v", err)
	}
	return in
}

// ended waits for the settlement and checks that no money is lost, nothing
// runs and nothing is held.
func (w *world) ended(id ledger.ID) Info {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 48*time.Hour)
	defer cancel()
	in, err := w.buyer.Wait(ctx, id, StateEnded)
	if err != nil {
		w.t.Fatalf("wait: %v (state %s: %s)", err, in.State, in.Detail)
	}
	w.balanced()
	return in
}

func (w *world) balanced() {
	w.t.Helper()
	w.corp.mu.Lock()
	defer w.corp.mu.Unlock()
	if sum := w.corp.free + w.corp.earned; sum != 100*ledger.Unit {
		w.t.Errorf("free %s + earned %s = %s, want 100", w.corp.free, w.corp.earned, sum)
	}
	if n := w.driver.running(); n != 0 {
		w.t.Errorf("%d environments left running", n)
	}
	if free := w.host.Free(); free != w.serverCapacity {
		w.t.Errorf("free capacity %v, want all of %v", free, w.serverCapacity)
	}
}
