package corp

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/ledger/sqlite"
)

// Config says how a XenoCorp does business.
type Config struct {
	// Key is XenoCorp's identity, the root of trust of its network.
	Key ed25519.PrivateKey
	// Network is the name in the network file.
	Network string
	// Dir holds the journal, ledger.db. It is created with mode 0700.
	Dir string
	// FeePermille is what XenoCorp keeps of every 1000 paid: 0 to 1000.
	FeePermille uint32
	// CredentialTTL is how long credentials hold. Zero: DefaultCredentialTTL.
	// Shorter means that less depends on revocations, and more renewals.
	CredentialTTL time.Duration
	// ClaimGrace is how long a hold outlives its agreement, so that a server
	// can still claim. Zero: DefaultClaimGrace. Longer binds clients' money longer.
	ClaimGrace time.Duration
	// Clock tells the time. Nil: time.Now.
	Clock func() time.Time
	// Logger gets what an operator should know. Nil: nobody does.
	Logger *slog.Logger
}

// validate fills in the defaults and names the field at fault.
func (c *Config) validate() error {
	switch {
	case len(c.Key) != ed25519.PrivateKeySize:
		return errors.New("corp: Config.Key is not an Ed25519 private key")
	case c.Network == "":
		return errors.New("corp: Config.Network is empty")
	case c.Dir == "":
		return errors.New("corp: Config.Dir is empty")
	case c.FeePermille > 1000:
		return fmt.Errorf("corp: Config.FeePermille is %d, more than 1000", c.FeePermille)
	case c.CredentialTTL < 0 || c.ClaimGrace < 0:
		return errors.New("corp: Config.CredentialTTL and Config.ClaimGrace must not be negative")
	}
	if c.CredentialTTL == 0 {
		c.CredentialTTL = DefaultCredentialTTL
	}
	if c.ClaimGrace == 0 {
		c.ClaimGrace = DefaultClaimGrace
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// A Service is one XenoCorp: the ledger, its journal, and the answers to calls.
// One goroutine owns state and journal; it commits calls in groups, and
// answers none before it is durable. All methods may be called at once.
type Service struct {
	conf     Config
	self     dht.PeerID
	attempts *limiter

	calls chan *call    // to the owner
	stop  chan struct{} // closed by Close
	done  chan struct{} // closed by the owner when it is through
	once  sync.Once

	credential  atomic.Pointer[ledger.Envelope]
	revocations atomic.Pointer[ledger.Envelope]

	served, refused, groups, records atomic.Uint64 // as in Stats

	owner // owned by the goroutine of run
}

// New opens the journal in conf.Dir, replays and checks it, and starts the
// service. At the first start the journal is created, and XenoCorp issues its
// own credential. Errors wrap sqlite.ErrLocked, sqlite.ErrNewer,
// sqlite.ErrCorrupt.
func New(conf Config) (*Service, error) {
	if err := conf.validate(); err != nil {
		return nil, err
	}
	s := &Service{
		conf:     conf,
		self:     dht.PeerIDFromKey(conf.Key.Public().(ed25519.PublicKey)),
		attempts: newLimiter(registerAttempts, registerWindow, maxTracked),
		calls:    make(chan *call, maxGroup),
		stop:     make(chan struct{}),
		done:     make(chan struct{}),
		owner:    owner{state: ledger.NewState()},
	}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("corp: %w", err)
	}
	go s.run()
	return s, nil
}

// load opens and replays the journal and brings the ledger up to date.
func (s *Service) load() error {
	if err := os.MkdirAll(s.conf.Dir, 0o700); err != nil {
		return err
	}
	journal, err := sqlite.Open(context.Background(), filepath.Join(s.conf.Dir, "ledger.db"), s.replay)
	if err != nil {
		return err
	}
	s.journal = journal
	if err := s.state.Check(); err != nil {
		return errors.Join(fmt.Errorf("%w: %w", sqlite.ErrCorrupt, err), journal.Close())
	}
	group := []*call{
		newCall(&ledger.Configure{
			Network: s.conf.Network, Corp: s.self, FeePermille: s.conf.FeePermille,
			ClaimGrace:    int64(s.conf.ClaimGrace / time.Second),
			CredentialTTL: int64(s.conf.CredentialTTL / time.Second),
		}, nil),
		newCall(&ledger.Renew{By: s.self}, nil),
	}
	s.commit(group)
	for _, c := range group {
		if out := <-c.reply; out.err != nil {
			return errors.Join(out.err, journal.Close())
		}
	}
	return nil
}

// replay applies one record of the journal and compares what it makes.
func (s *Service) replay(r ledger.Record) error {
	result, entries, err := s.state.Apply(time.Unix(0, r.Time), r.Command)
	if err != nil {
		return fmt.Errorf("%w: %w", sqlite.ErrCorrupt, err)
	}
	if !result.Changed || !slices.Equal(entries, r.Entries) {
		return fmt.Errorf("%w: the command does not make the entries recorded with it", sqlite.ErrCorrupt)
	}
	return nil
}

// An Overlay lets protocols be served; kad.Overlay is one.
type Overlay interface {
	// Handle serves admitted peers alone.
	Handle(protocol string, limit int, h kad.Handler)
	// HandleOpen serves everybody.
	HandleOpen(protocol string, limit int, h kad.Handler)
}

// Attach registers the protocols on the overlay, before it bootstraps.
func (s *Service) Attach(overlay Overlay) {
	overlay.Handle(Protocol, MaxRequest, s.Serve)
	overlay.HandleOpen(ProtocolRegister, MaxRegister, s.ServeRegister)
}

// Close stops the service and releases the journal. Calls that were not
// answered may have been carried out or not, as after a crash. It is idempotent.
func (s *Service) Close() error {
	s.once.Do(func() { close(s.stop) })
	<-s.done
	return s.closed
}

// Done is closed when the service has ended: after Close, or because the
// journal could not be written, which Err then tells.
func (s *Service) Done() <-chan struct{} { return s.done }

// Err returns why the service ended by itself; nil while it runs.
func (s *Service) Err() error {
	select {
	case <-s.done:
		return s.failed
	default:
		return nil
	}
}

// ID returns XenoCorp's identity.
func (s *Service) ID() dht.PeerID { return s.self }

// Credential returns XenoCorp's own credential.
func (s *Service) Credential() *ledger.Envelope { return s.credential.Load() }

// Revocations returns the newest signed list of revoked credentials.
func (s *Service) Revocations() *ledger.Envelope { return s.revocations.Load() }

// Stats are counts since the start of the service.
type Stats struct {
	Served  uint64 // calls answered, refusals included
	Refused uint64 // of these
	Groups  uint64 // writes to the disk, at most
	Records uint64 // commands that changed the ledger
}

// Stats returns the counts so far.
func (s *Service) Stats() Stats {
	return Stats{Served: s.served.Load(), Refused: s.refused.Load(), Groups: s.groups.Load(), Records: s.records.Load()}
}

// Accounts returns all accounts.
func (s *Service) Accounts(ctx context.Context) (ledger.Accounts, error) {
	return ask(ctx, s, func(o *owner) (ledger.Accounts, error) { return o.state.Accounts(), nil })
}

// Journal returns the entries numbered above after, in order, at most limit.
func (s *Service) Journal(ctx context.Context, after uint64, limit int) ([]ledger.Entry, error) {
	return ask(ctx, s, func(o *owner) ([]ledger.Entry, error) {
		return o.journal.Entries(ctx, after, min(max(limit, 0), MaxEntriesListed))
	})
}
