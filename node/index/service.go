// Package index is the search service of a participant: it keeps the cells
// that the participant is close to, publishes the ad of its own XenoServer,
// and answers queries, over /xeno/search/1. What it decides, package search
// decided; here are the clocks, the goroutines and the messages.
package index

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/wire"
)

// Protocol is the protocol of the search service.
const Protocol = "/xeno/search/1"

// Errors of the service.
var (
	// ErrNotFound reports a server without a current ad.
	ErrNotFound = errors.New("index: no such server is advertised")
	// ErrClosed reports a service that was closed.
	ErrClosed = errors.New("index: closed")
	// ErrSchema reports a participant with another search schema.
	ErrSchema = errors.New("index: another search schema: compare the network files")
)

// An Overlay is what the service needs of the network; *kad.Overlay is one.
type Overlay interface {
	ID() dht.PeerID
	Contact() dht.Contact
	Handle(protocol string, limit int, h kad.Handler)
	Request(ctx context.Context, to dht.Contact, protocol string, request []byte, limit int) ([]byte, error)
	Closest(ctx context.Context, key dht.Key, n int) ([]dht.Contact, error)
	RTT(id dht.PeerID) (time.Duration, bool)
	Neighbours(n int) []dht.Contact
	Near(n int) []dht.Contact
}

// Config configures a Service. Overlay, Schema, Network and Vouch must be given.
type Config struct {
	Overlay Overlay
	Schema  *search.Schema
	Network string
	// Vouch verifies the credential that came with an ad.
	Vouch search.Vouch
	// Ad returns this participant's ad as of now; nil, or an error, where it
	// has none. It is called for every renewal, after Changed, and when
	// somebody verifies a result; not more often than every 200 ms for that.
	Ad func() (*search.Signed, error)
	// Renew is how often half of the leases are renewed; 0 means 60 s. An ad is
	// forgotten 2 to 5 × Renew after its server vanished; holders with another
	// setting forget earlier or later.
	Renew time.Duration
	// MaxBytes bounds the ads held for others; 0 means 64 MiB.
	MaxBytes int
	// MaxPerPublisher bounds the leases of one participant here; 0 means 4,096.
	MaxPerPublisher int
	// LeafAds is how many ads a cell holds before it is divided; 0 means 1,024.
	// All participants of a network should have the same. Fewer lets a small
	// network have cells at several levels.
	LeafAds int
	Logger  *slog.Logger // nil: nobody
}

// A Service is the search service. All methods may be called at once.
type Service struct {
	cfg     Config
	overlay Overlay
	schema  *search.Schema
	log     *slog.Logger
	located *locator
	opened  *opener
	pushes  chan search.SendPush
	updates chan search.SendMirror
	handoff chan search.HolderEffect // SendReconcile, SendFetch, SendGather
	changed chan struct{}            // one element: the own ad changed
	calls   chan struct{}            // one element for each request of a publisher under way

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	startup sync.Once
	closing sync.Once

	holderMu sync.Mutex // guards the following
	holder   *search.Holder

	mu         sync.Mutex // guards the following
	publishers map[dht.PeerID]*publisher
	placed     chan struct{} // closed, and made anew, when a publisher's inPlace changes
	closed     bool
	glimpses   map[search.CellID]glimpse
	directory  search.Directory
	sample     search.Sample
	sampledAt  time.Time
	own        *search.Signed
	ownAt      time.Time
	stats      Stats
}

// Stats count what the service did.
type Stats struct {
	Holder    search.HolderStats
	Searches  uint64 // queries answered for this participant
	Requests  uint64 // messages sent
	Ads       int    // published from here
	Refused   uint64 // requests of others that were malformed or not allowed
	Published uint64 // publish messages sent
}

// New returns a service that holds cells for others at once, and begins to
// publish and to send summaries up with Start. It must be called before the
// overlay joins its network.
func New(cfg Config) (*Service, error) {
	switch {
	case cfg.Overlay == nil:
		return nil, errors.New("index: Config.Overlay is missing")
	case cfg.Schema == nil:
		return nil, errors.New("index: Config.Schema is missing")
	case cfg.Network == "":
		return nil, errors.New("index: Config.Network is missing")
	case cfg.Vouch == nil:
		return nil, errors.New("index: Config.Vouch is missing")
	case cfg.Renew < 0:
		return nil, fmt.Errorf("index: Config.Renew is %s, expected a positive duration", cfg.Renew)
	}
	cfg.Renew = cmp.Or(cfg.Renew, 60*time.Second)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Service{
		cfg: cfg, overlay: cfg.Overlay, schema: cfg.Schema, log: cfg.Logger,
		opened: newOpener(cfg), pushes: make(chan search.SendPush, search.MaxPushes), updates: make(chan search.SendMirror, search.MaxUpdates),
		handoff: make(chan search.HolderEffect, search.MaxHandoffs), changed: make(chan struct{}, 1),
		calls: make(chan struct{}, search.MaxCalls), ctx: ctx, cancel: cancel,
		holder: search.NewHolder(cfg.Schema, search.HolderConfig{
			Self: cfg.Overlay.ID(), Lease: search.LeaseRounds * cfg.Renew, PushEvery: cfg.Renew, MaxBytes: cfg.MaxBytes, MaxPerPublisher: cfg.MaxPerPublisher,
			LeafAds: cfg.LeafAds,
		}),
		placed: make(chan struct{}), publishers: make(map[dht.PeerID]*publisher), glimpses: make(map[search.CellID]glimpse),
	}
	s.located = newLocator(cfg.Overlay)
	s.overlay.Handle(Protocol, maxRequest, s.serve)
	return s, nil
}

// Start begins to publish and to keep cells. Calls after the first do nothing.
func (s *Service) Start() {
	s.startup.Do(func() {
		s.spawn(s.keep)
		s.spawn(s.reconcile)
		s.spawn(s.handOff)
		for range search.PushWorkers {
			s.spawn(s.push)
		}
		for range search.UpdateWorkers {
			s.spawn(s.update)
		}
		if s.cfg.Ad != nil {
			s.spawn(s.advertiseOwn)
		}
	})
}

// spawn runs f until Close, unless that was called already.
func (s *Service) spawn(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.wg.Go(f)
	}
}

// Close withdraws the ads published from here, stops everything and waits. It
// is idempotent and takes at most about two seconds.
func (s *Service) Close() error {
	s.closing.Do(func() {
		s.withdrawAll()
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.cancel()
	})
	s.wg.Wait()
	return nil
}

// Stats returns the counts.
func (s *Service) Stats() Stats {
	s.mu.Lock()
	out := s.stats
	out.Ads = len(s.publishers)
	s.mu.Unlock()
	s.holderMu.Lock()
	out.Holder = s.holder.Stats()
	s.holderMu.Unlock()
	return out
}

// count changes the counts.
func (s *Service) count(change func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
}

// call sends one message and reads the answer into reply.
func (s *Service) call(ctx context.Context, to dht.Contact, req *wire.SearchRequest, reply proto.Message) error {
	req.Schema = s.schema.Fingerprint()
	b, err := proto.Marshal(req)
	if err != nil {
		return fmt.Errorf("index: encode request: %w", err)
	}
	s.count(func(st *Stats) { st.Requests++ })
	answer, err := s.overlay.Request(ctx, to, Protocol, b, maxReply)
	if err != nil {
		if errors.Is(err, kad.ErrUnreachable) {
			s.located.forget(to.ID)
		}
		return err
	}
	if err := proto.Unmarshal(answer, reply); err != nil {
		return fmt.Errorf("%w: %w", errMessage, err)
	}
	return nil
}
