package session

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/wire"
)

// The states that only the buying side tells apart.
const (
	StateAgreed     State = "agreed"     // signed by both, not yet authorised
	StateAuthorised State = "authorised" // money held, not yet confirmed to the server
)

// A Payer is XenoCorp for the buying side.
type Payer interface {
	// Authorise holds the cap of an agreement and returns the authorization.
	Authorise(ctx context.Context, agreement *ledger.Envelope) (*ledger.Envelope, error)
	// Settlement returns XenoCorp's final word on a session, nil while there
	// is none. The error wraps ledger.ErrUnknown when it was never authorised.
	Settlement(ctx context.Context, id ledger.ID) (*ledger.Envelope, error)
}

// A BuyerConfig says who buys.
type BuyerConfig struct {
	Key     ed25519.PrivateKey
	Network string
	Corp    dht.PeerID
	Dir     string
	Overlay Overlay
	Payer   Payer
	// ClaimGrace is how long after an agreement's expiry XenoCorp still takes
	// the server's claims; zero: 1 h. Then the hold is released by itself.
	ClaimGrace time.Duration
	Logger     *slog.Logger
	Clock      func() time.Time
}

func (c *BuyerConfig) validate() error {
	if len(c.Key) != ed25519.PrivateKeySize || c.Network == "" || c.Corp.IsZero() || c.Dir == "" || c.Overlay == nil || c.Payer == nil {
		return errors.New("session: buyer needs Key, Network, Corp, Dir, Overlay and Payer")
	}
	if c.ClaimGrace == 0 {
		c.ClaimGrace = time.Hour
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return nil
}

// A Buyer keeps the sessions that a client bought, and countersigns their
// receipts. All methods may be called at once.
type Buyer struct {
	cfg      BuyerConfig
	id       dht.PeerID
	records  *records[boughtRecord]
	receipts string

	ctx    context.Context //nolint:containedctx // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex // guards the following
	sessions map[ledger.ID]*bought
	buying   map[ledger.ID]*purchase
}

// boughtRecord is what a buyer keeps of a session on disk.
type boughtRecord struct {
	State         State         `json:"state"`
	Revisions     [][]byte      `json:"revisions"`     // agreement envelopes, signed by both, oldest first
	Authorization []byte        `json:"authorization"` // of the newest revision; empty before
	Created       int64         `json:"created_ms"`
	Status        boughtStatus  `json:"status"`
	Reason        ledger.Reason `json:"reason"`
	Detail        string        `json:"detail"`
	Settlement    []byte        `json:"settlement"`
	Refused       bool          `json:"refused,omitempty"` // the server did not take the confirmation
	Label         Label         `json:"label,omitzero"`    // zero in records of earlier programs
}

// boughtStatus is the newest word of the server.
type boughtStatus struct {
	Started  int64        `json:"started_ms"`
	Ended    int64        `json:"ended_ms"`
	ExitCode int          `json:"exit_code"`
	Usage    ledger.Usage `json:"usage"`
}

// A bought is one session of a Buyer.
type bought struct {
	id     ledger.ID
	server dht.PeerID
	log    *receiptLog

	mu        sync.Mutex // guards the following
	rec       boughtRecord
	agreement ledger.Agreement // newest revision
	links     []ledger.Link    // of all revisions
	changed   chan struct{}
	followed  bool
}

// NewBuyer opens the state directory, goes on with the sessions in it, and
// answers receipts on the overlay from then on.
func NewBuyer(cfg BuyerConfig) (*Buyer, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	recs, err := openRecords[boughtRecord](filepath.Join(cfg.Dir, "bought"))
	if err != nil {
		return nil, err
	}
	loaded, err := recs.load()
	if err != nil {
		return nil, err
	}
	b := &Buyer{
		cfg: cfg, id: cfg.Overlay.ID(), records: recs, receipts: filepath.Join(cfg.Dir, "countersigned"),
		sessions: make(map[ledger.ID]*bought), buying: make(map[ledger.ID]*purchase),
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	for id, rec := range loaded {
		s, err := b.adopt(id, rec)
		if err != nil {
			b.cancel()
			return nil, err
		}
		b.sessions[id] = s
	}
	cfg.Overlay.Handle(ReceiptProtocol, maxRequest, b.handleReceipt)
	return b, nil
}

// Start goes on with the sessions of earlier runs. It is called once the
// overlay has joined the network.
func (b *Buyer) Start() {
	for _, s := range b.all() {
		b.follow(s)
	}
}

func (b *Buyer) adopt(id ledger.ID, rec boughtRecord) (*bought, error) {
	log, err := openReceiptLog(b.receipts, id)
	if err != nil {
		return nil, err
	}
	s := &bought{id: id, rec: rec, log: log, changed: make(chan struct{})}
	if len(rec.Revisions) == 0 {
		return nil, fmt.Errorf("%w: %s without an agreement", ErrRecord, id)
	}
	for _, sealed := range rec.Revisions {
		env, err := ledger.UnmarshalEnvelope(sealed)
		if err == nil {
			err = env.Open(ledger.KindAgreement, &s.agreement, b.id)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrRecord, id, err)
		}
		s.links = append(s.links, ledger.LinkTo(env))
	}
	s.server = s.agreement.Server
	return s, nil
}

// Close stops following the sessions; they go on at their servers. It is
// idempotent.
func (b *Buyer) Close() error {
	b.cancel()
	b.wg.Wait()
	return nil
}

func (b *Buyer) all() []*bought {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]*bought, 0, len(b.sessions))
	for _, s := range b.sessions {
		out = append(out, s)
	}
	return out
}

func (b *Buyer) get(id ledger.ID) (*bought, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.sessions[id]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("%w: %s", ErrUnknown, id)
}

// Sessions describes everything bought that is still on record.
func (b *Buyer) Sessions() []Info {
	var out []Info
	for _, s := range b.all() {
		out = append(out, s.info())
	}
	return out
}

// Session describes one. The error wraps ErrUnknown.
func (b *Buyer) Session(id ledger.ID) (Info, error) {
	s, err := b.get(id)
	if err != nil {
		return Info{}, err
	}
	return s.info(), nil
}

// Receipts returns the receipts of a session, oldest first, at most
// maxReceiptPage from after on.
func (b *Buyer) Receipts(id ledger.ID, after uint64) ([]*ledger.Envelope, error) {
	s, err := b.get(id)
	if err != nil {
		return nil, err
	}
	return s.log.page(after, maxReceiptPage)
}

// Wait returns when the session is in one of the states, or past them all.
func (b *Buyer) Wait(ctx context.Context, id ledger.ID, states ...State) (Info, error) {
	s, err := b.get(id)
	if err != nil {
		return Info{}, err
	}
	for {
		s.mu.Lock()
		changed, now := s.changed, s.rec.State
		s.mu.Unlock()
		if now == StateEnded {
			return s.info(), nil
		}
		if slices.Contains(states, now) {
			return s.info(), nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return s.info(), ctx.Err()
		case <-b.ctx.Done():
			return s.info(), errors.New("session: the node is shutting down")
		}
	}
}

func (b *Buyer) update(s *bought, change func(*boughtRecord)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.rec
	change(&next)
	if err := b.records.save(s.id, next); err != nil {
		return err
	}
	s.rec = next
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

func (s *bought) info() Info {
	newest := s.log.newest()
	s.mu.Lock()
	defer s.mu.Unlock()
	in := Info{
		ID: s.id, State: s.rec.State, Peer: s.server, Agreement: s.agreement, Link: s.links[len(s.links)-1],
		Started: fromMillis(s.rec.Status.Started), Ended: fromMillis(s.rec.Status.Ended),
		Reason: s.rec.Reason, Detail: s.rec.Detail, ExitCode: s.rec.Status.ExitCode,
		Usage: newest.receipt.Usage, Readings: newest.receipt.Readings, Amount: newest.receipt.Amount,
		Receipts: newest.receipt.Seq, Settlement: openSettlement(s.rec.Settlement), Label: s.rec.Label,
	}
	if in.Usage == (ledger.Usage{}) && s.rec.State == StateRunning {
		in.Usage = s.rec.Status.Usage
		in.Amount = min(s.agreement.Rates.Cost(&s.agreement.Terms, &in.Usage), s.agreement.Cap)
	}
	return in
}

// ask makes one request of a session's server.
func (b *Buyer) ask(ctx context.Context, server dht.PeerID, req *wire.SessionRequest) (*wire.SessionResponse, error) {
	to, err := b.cfg.Overlay.Find(ctx, server)
	if err != nil {
		return nil, fmt.Errorf("find server %s: %w", server.Short(), err)
	}
	return b.askAt(ctx, to, req)
}

func (b *Buyer) askAt(ctx context.Context, to dht.Contact, req *wire.SessionRequest) (*wire.SessionResponse, error) {
	body, err := proto.Marshal(req)
	if err != nil {
		return nil, err
	}
	body, err = b.cfg.Overlay.Request(ctx, to, Protocol, body, maxResponse)
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", to.ID.Short(), err)
	}
	resp := new(wire.SessionResponse)
	if err := proto.Unmarshal(body, resp); err != nil {
		return nil, fmt.Errorf("server %s: %w", to.ID.Short(), err)
	}
	if resp.GetRefusal() != nil {
		return nil, refusalFromWire(resp.GetRefusal())
	}
	return resp, nil
}

// Logs returns the newest limit bytes of each output stream.
func (b *Buyer) Logs(ctx context.Context, id ledger.ID, limit int) (stdout, stderr []byte, err error) {
	s, err := b.get(id)
	if err != nil {
		return nil, nil, err
	}
	resp, err := b.ask(ctx, s.server, &wire.SessionRequest{Call: &wire.SessionRequest_Logs{
		Logs: &wire.SessionLogsQuery{Id: id[:], Limit: uint32(min(max(limit, 0), maxLogs))},
	}})
	if err != nil {
		return nil, nil, err
	}
	return resp.GetStdout(), resp.GetStderr(), nil
}

// Stop asks the server to end the session and returns at once; Wait for
// StateEnded to see it settled. Stopping what has ended is no error.
func (b *Buyer) Stop(ctx context.Context, id ledger.ID) error {
	s, err := b.get(id)
	if err != nil {
		return err
	}
	if state := s.info().State; state == StateEnded || state == StateSettling {
		return nil
	}
	_, err = b.ask(ctx, s.server, &wire.SessionRequest{Call: &wire.SessionRequest_Stop{Stop: &wire.SessionQuery{Id: id[:]}}})
	return err
}
