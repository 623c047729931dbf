package session

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad"
	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/ledger"
)

// An Overlay is what this package needs of kad.Overlay.
type Overlay interface {
	ID() dht.PeerID
	Find(ctx context.Context, id dht.PeerID) (dht.Contact, error)
	Handle(protocol string, limit int, h kad.Handler)
	HandleStream(protocol string, h func(ctx context.Context, from dht.PeerID, s net.Conn))
	Request(ctx context.Context, to dht.Contact, protocol string, request []byte, limit int) ([]byte, error)
	OpenStream(ctx context.Context, to dht.Contact, protocol string) (net.Conn, error)
}

// A Claimer presents receipts to XenoCorp.
type Claimer interface {
	// Claim returns the settlement of a final receipt, nil for another one.
	// A refusal that no retry changes wraps ErrClaimRefused.
	Claim(ctx context.Context, receipt *ledger.Envelope) (*ledger.Envelope, error)
	// Settlement returns XenoCorp's final word on a session, nil while there
	// is none.
	Settlement(ctx context.Context, id ledger.ID) (*ledger.Envelope, error)
}

// ErrClaimRefused reports a claim that XenoCorp will not pay, ever.
var ErrClaimRefused = errors.New("session: claim refused by XenoCorp")

// Images makes the content of a CID local: a file for a WASI module, a
// directory for a Linux image.
type Images interface {
	Fetch(ctx context.Context, kind hypervisor.Kind, root cid.Cid) (path string, err error)
}

// A HostConfig says what a XenoServer offers and what it is made of.
type HostConfig struct {
	Key     ed25519.PrivateKey
	Network string
	Corp    dht.PeerID // whose authorizations count
	Dir     string     // state, created with mode 0700

	Overlay Overlay
	Claimer Claimer
	Images  Images
	// Drivers runs each kind of environment that is offered.
	Drivers map[hypervisor.Kind]hypervisor.Driver
	// Meter is the first reading of a receipt; nil leaves the driver's own
	// counters alone.
	Meter hypervisor.Meter
	// Probe returns nil once the environment answers from outside. It is
	// asked repeatedly until StartTimeout.
	Probe func(ctx context.Context, in hypervisor.Instance) error

	Capacity Capacity
	Rates    ledger.Rates
	// Credential returns what a connected peer showed.
	Credential func(dht.PeerID) (*ledger.Credential, bool)
	// Changed is called, without locks held, when free capacity changed.
	Changed func()

	// ReceiptInterval is the time between receipts; zero means 10 s. Shorter
	// costs a signature and a sync to disk more often, longer leaves more to
	// lose with a machine.
	ReceiptInterval time.Duration
	// StartTimeout bounds fetching the image, launch and probe; zero: 3 min.
	StartTimeout time.Duration
	// EndOnClose stops every session when the host closes, instead of
	// leaving environments running for the next start to adopt.
	EndOnClose bool

	Logger *slog.Logger
	Clock  func() time.Time
}

func (c *HostConfig) validate() error {
	switch {
	case len(c.Key) != ed25519.PrivateKeySize:
		return errors.New("session: host needs Key")
	case c.Network == "" || c.Corp.IsZero() || c.Dir == "":
		return errors.New("session: host needs Network, Corp and Dir")
	case c.Overlay == nil || c.Claimer == nil || c.Images == nil || c.Credential == nil || c.Probe == nil:
		return errors.New("session: host needs Overlay, Claimer, Images, Credential and Probe")
	}
	if c.ReceiptInterval == 0 {
		c.ReceiptInterval = 10 * time.Second
	}
	if c.StartTimeout == 0 {
		c.StartTimeout = 3 * time.Minute
	}
	if c.Changed == nil {
		c.Changed = func() {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return nil
}

// A Host carries out the sessions that a XenoServer sold. All methods may be
// called at once.
type Host struct {
	cfg      HostConfig
	id       dht.PeerID
	records  *records[hostedRecord]
	receipts string // directory of receipt logs

	ctx    context.Context //nolint:containedctx // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex // guards the following
	sessions map[ledger.ID]*hosted
	draining bool
	closed   bool
}

// NewHost opens the state directory, adopts the sessions in it, and answers
// on the overlay from then on. Environments that no session knows are left
// alone and logged.
func NewHost(cfg HostConfig) (*Host, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	recs, err := openRecords[hostedRecord](filepath.Join(cfg.Dir, "hosted"))
	if err != nil {
		return nil, err
	}
	loaded, err := recs.load()
	if err != nil {
		return nil, err
	}
	h := &Host{
		cfg: cfg, id: cfg.Overlay.ID(), records: recs,
		receipts: filepath.Join(cfg.Dir, "receipts"),
		sessions: make(map[ledger.ID]*hosted),
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	for id, rec := range loaded {
		s, err := h.adopt(id, rec)
		if err != nil {
			h.cancel()
			return nil, err
		}
		h.sessions[id] = s
	}
	h.quarantine()
	for _, s := range h.sessions {
		h.carry(s)
	}
	cfg.Overlay.Handle(Protocol, maxRequest, h.handle)
	cfg.Overlay.HandleStream(ForwardProtocol, h.forward)
	h.wg.Go(h.sweep)
	return h, nil
}

// adopt rebuilds a session from its record.
func (h *Host) adopt(id ledger.ID, rec hostedRecord) (*hosted, error) {
	log, err := openReceiptLog(h.receipts, id)
	if err != nil {
		return nil, err
	}
	s := &hosted{id: id, rec: rec, log: log, changed: make(chan struct{}), stop: make(chan struct{})}
	env, err := ledger.UnmarshalEnvelope(rec.Agreement)
	if err == nil {
		err = env.Open(ledger.KindAgreement, &s.agreement, h.id)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrRecord, id, err)
	}
	s.link, s.client, s.takes = ledger.LinkTo(env), s.agreement.Client, capacityOf(&s.agreement.Terms)
	return s, nil
}

// quarantine logs environments in the drivers' directories that no session
// knows. They are not killed: what is not recognised may be somebody's work.
func (h *Host) quarantine() {
	for _, d := range h.cfg.Drivers {
		list, err := d.List(h.ctx)
		if err != nil {
			h.cfg.Logger.Error("environments that cannot be read", slog.String("driver", d.Name()), slog.Any("err", err))
		}
		for _, in := range list {
			id, err := ledger.ParseID(in.ID)
			if s := h.sessions[id]; err == nil && s != nil && s.rec.State != StateEnded {
				continue
			}
			if in.State == hypervisor.StateExited {
				if err := d.Remove(h.ctx, in.ID); err != nil {
					h.cfg.Logger.Warn("remove ended environment", slog.String("environment", in.ID), slog.Any("err", err))
				}
				continue
			}
			h.cfg.Logger.Error("environment without a session left running: stop it by hand if it is not yours",
				slog.String("environment", in.ID), slog.Int("pid", in.PID))
		}
	}
}

// Close stops answering and waits for what is under way. Environments go on
// unless EndOnClose is set. It is idempotent.
func (h *Host) Close() error {
	h.mu.Lock()
	first := !h.closed
	h.closed, h.draining = true, true
	h.mu.Unlock()
	if first && h.cfg.EndOnClose {
		h.endAll()
	}
	h.cancel()
	h.wg.Wait()
	return nil
}

// endAll asks every session to end and waits, bounded, until the environments
// are gone and the final receipts are on disk.
func (h *Host) endAll() {
	deadline := time.NewTimer(2*stopGrace + 10*time.Second)
	defer deadline.Stop()
	for _, s := range h.all() {
		s.requestStop(ledger.ReasonEvicted)
	}
	for _, s := range h.all() {
		for changed := s.changes(); s.alive(); changed = s.changes() {
			select {
			case <-changed:
			case <-deadline.C:
				return
			}
		}
	}
}

// Drain makes the host refuse new sessions, or take them again.
func (h *Host) Drain(on bool) {
	h.mu.Lock()
	h.draining = on
	h.mu.Unlock()
	h.cfg.Changed()
}

// Free returns what is neither held nor used.
func (h *Host) Free() Capacity {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.freeLocked()
}

func (h *Host) freeLocked() Capacity {
	if h.draining {
		return Capacity{}
	}
	var used Capacity
	for _, s := range h.sessions {
		if s.holds() {
			used = used.plus(s.takes)
		}
	}
	return h.cfg.Capacity.minus(used)
}

// Hosted describes every session of the host, for its operator.
func (h *Host) Hosted() []Info {
	var out []Info
	for _, s := range h.all() {
		out = append(out, s.info())
	}
	return out
}

// Session describes one session, for the operator.
func (h *Host) Session(id ledger.ID) (Info, bool) {
	h.mu.Lock()
	s := h.sessions[id]
	h.mu.Unlock()
	if s == nil {
		return Info{}, false
	}
	return s.info(), true
}

// Receipts returns receipts of a session, oldest first, from after on.
func (h *Host) Receipts(id ledger.ID, after uint64) ([]*ledger.Envelope, error) {
	h.mu.Lock()
	s := h.sessions[id]
	h.mu.Unlock()
	if s == nil {
		return nil, fmt.Errorf("%w: %s", ErrUnknown, id)
	}
	return s.log.page(after, maxReceiptPage)
}

// Evict ends a session on behalf of the operator and waits until its
// environment is gone and the final receipt sealed.
func (h *Host) Evict(ctx context.Context, id ledger.ID) (Info, error) {
	h.mu.Lock()
	s := h.sessions[id]
	h.mu.Unlock()
	if s == nil {
		return Info{}, fmt.Errorf("%w: %s", ErrUnknown, id)
	}
	s.requestStop(ledger.ReasonEvicted)
	for changed := s.changes(); s.alive(); changed = s.changes() {
		select {
		case <-changed:
		case <-ctx.Done():
			return s.info(), ctx.Err()
		}
	}
	return s.info(), nil
}

func (h *Host) all() []*hosted {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]*hosted, 0, len(h.sessions))
	for _, s := range h.sessions {
		out = append(out, s)
	}
	return out
}

// get returns the session if it belongs to client.
func (h *Host) get(id ledger.ID, client dht.PeerID) (*hosted, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.sessions[id]
	if s == nil || s.client != client {
		return nil, refuse(CodeUnknown, "no session %s of yours on this server", id)
	}
	return s, nil
}

// sweep drops proposals that were not confirmed in time, and old records.
func (h *Host) sweep() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-tick.C:
		}
		now := h.cfg.Clock()
		changed := false
		for _, s := range h.all() {
			if s.lapsed(now) {
				changed = h.drop(s) || changed
			}
		}
		if changed {
			h.cfg.Changed()
		}
	}
}

// drop forgets a session unless it was confirmed meanwhile.
func (h *Host) drop(s *hosted) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sessions[s.id] != s || !s.lapsed(h.cfg.Clock()) {
		return false
	}
	if err := errors.Join(h.records.remove(s.id), s.log.remove()); err != nil {
		h.cfg.Logger.Warn("forget session", slog.String("session", s.id.String()), slog.Any("err", err))
		return false
	}
	delete(h.sessions, s.id)
	return true
}
