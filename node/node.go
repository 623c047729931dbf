package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/corp"
	"github.com/xenoserver/xeno/node/index"
	"github.com/xenoserver/xeno/node/session"
	"github.com/xenoserver/xeno/node/storage"
	"github.com/xenoserver/xeno/search"
)

// A Node is one participant. All methods may be called at once.
type Node struct {
	cfg     Config
	key     ed25519.PrivateKey
	id      dht.PeerID
	log     *slog.Logger
	started time.Time
	schema  *search.Schema
	creds   *credentials

	overlay    *kad.Overlay
	corp       *corp.Service // nil but on XenoCorp
	corpClient *corp.Client
	index      *index.Service
	storage    *storage.Service
	buyer      *session.Buyer
	server     *server // nil unless the participant is a XenoServer
	metrics    *prometheus.Registry

	ready      atomic.Bool
	registered chan struct{} // one element after every registration
	cancel     context.CancelFunc
	wg         sync.WaitGroup
	closeOnce  sync.Once
	closeErr   error
}

// New starts the participant of a home directory. It returns as soon as the
// services are up; joining the network goes on in the background and is tried
// again until Close, so that a node starts without its network too. ctx bounds
// New alone.
func New(ctx context.Context, cfg Config) (*Node, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	key, err := LoadIdentity(cfg.Home)
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, key: key, id: idOf(key), log: cfg.Logger, started: time.Now(),
		schema: search.DefaultSchema(), registered: make(chan struct{}, 1), metrics: prometheus.NewRegistry(),
	}
	if err := n.compose(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	run, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	n.wg.Go(func() { n.join(run) })
	n.wg.Go(func() { n.keepCurrent(run) })
	n.collectMetrics()
	return n, nil
}

// compose builds the services from the ground up. What it has built when it
// fails, Close takes down.
func (n *Node) compose(ctx context.Context) (err error) {
	cfg, network := n.cfg, n.cfg.Network
	if n.creds, err = openCredentials(cfg.Home, &network, n.id, time.Now); err != nil {
		return err
	}
	if cfg.Corp != nil {
		if err := n.openCorp(); err != nil {
			return err
		}
	}
	n.overlay, err = kad.New(ctx, kad.Config{
		Key: n.key, Listen: cfg.Listen, Bootstrap: slices.Concat(network.Bootstrap, cfg.Bootstrap),
		Network: network.Name, Server: true, Registrar: cfg.Corp != nil,
		MDNS: cfg.Overlay.MDNS, Relay: cfg.Overlay.Relay, HolePunch: cfg.Overlay.HolePunch, AutoNAT: cfg.Overlay.AutoNAT,
		Gate:   kad.Gate{Credential: n.creds.credential, Admit: n.creds.admit},
		Logger: n.log, Transport: cfg.Transport,
	})
	if err != nil {
		return cfg.listenError(err)
	}
	n.overlay.Handle(revocationsProtocol, 64, n.handleRevocations)
	if n.corp != nil {
		n.corp.Attach(n.overlay)
	}
	n.corpClient = corp.NewClient(n.overlay, network.corp())
	n.storage, err = storage.New(ctx, storage.Config{
		Overlay: n.overlay, Key: n.key, Network: network.Name, Dir: filepath.Join(cfg.Home, "store"),
		MaxBytes: int64(cfg.Store.Quota), Logger: n.log, //nolint:gosec // bounded by Bytes
	})
	if err != nil {
		return err
	}
	n.buyer, err = session.NewBuyer(session.BuyerConfig{
		Key: n.key, Network: network.Name, Corp: network.XenoCorp, Dir: filepath.Join(cfg.Home, "sessions"),
		Overlay: n.overlay, Payer: payer{n.corpClient}, Logger: n.log,
	})
	if err != nil {
		return err
	}
	if cfg.Server != nil {
		if n.server, err = newServer(ctx, n); err != nil {
			return err
		}
	}
	n.index, err = index.New(index.Config{
		Overlay: n.overlay, Schema: n.schema, Network: network.Name, Vouch: n.creds.vouch,
		Ad: n.currentAd, Renew: time.Duration(network.Renew), Logger: n.log,
	})
	return err
}

func (n *Node) openCorp() error {
	if n.id != n.cfg.Network.XenoCorp {
		return fmt.Errorf("%w: this identity (%s) is not the XenoCorp that the network file names (%s)", ErrConfig, n.id, n.cfg.Network.XenoCorp)
	}
	var err error
	n.corp, err = corp.New(corp.Config{
		Key: n.key, Network: n.cfg.Network.Name, Dir: filepath.Join(n.cfg.Home, "corp"),
		FeePermille:   uint32(n.cfg.Corp.FeePermille), //nolint:gosec // validated
		CredentialTTL: time.Duration(n.cfg.Corp.CredentialTTL), ClaimGrace: time.Duration(n.cfg.Corp.ClaimGrace), Logger: n.log,
	})
	if err != nil {
		return err
	}
	_, err = n.creds.take(n.corp.Credential())
	return err
}

// joinRetry is the pause between attempts to join.
const joinRetry = 2 * time.Second

// join enters the network as soon as there is a credential, and then starts
// what needs it.
func (n *Node) join(ctx context.Context) {
	for ctx.Err() == nil {
		if n.creds.Own() != nil {
			err := n.overlay.Bootstrap(ctx)
			if err == nil {
				break
			}
			if ctx.Err() == nil {
				n.log.Warn("join the network", slog.Any("err", err))
			}
		}
		select {
		case <-ctx.Done():
		case <-n.registered:
		case <-time.After(joinRetry):
		}
	}
	if ctx.Err() != nil {
		return
	}
	n.storage.Start()
	n.index.Start()
	n.buyer.Start()
	n.ready.Store(true)
	n.log.Info("joined", slog.String("network", n.cfg.Network.Name), slog.String("id", n.id.String()))
}

// ID is the participant's identity.
func (n *Node) ID() dht.PeerID { return n.id }

// Addrs are the multiaddrs, with /p2p/, that the participant listens on.
func (n *Node) Addrs() []string { return n.overlay.Addrs() }

// Ready tells whether the participant has joined its network.
func (n *Node) Ready() bool { return n.ready.Load() }

// Done is closed when the node cannot go on, because XenoCorp's journal can no
// longer be written; Err tells why then. Nobody but XenoCorp ends by itself:
// for others it is nil.
func (n *Node) Done() <-chan struct{} {
	if n.corp == nil {
		return nil
	}
	return n.corp.Done()
}

// Err tells why the node ended by itself; nil while it runs.
func (n *Node) Err() error {
	if n.corp == nil {
		return nil
	}
	return n.corp.Err()
}

// Metrics serves Prometheus metrics.
func (n *Node) Metrics() http.Handler { return metricsHandler(n.metrics) }

// Close stops everything in the order opposite to New. Environments of a
// XenoServer go on unless its configuration ends them. It is idempotent.
func (n *Node) Close() error {
	n.closeOnce.Do(func() {
		var errs []error
		if n.server != nil {
			errs = append(errs, n.server.Close())
		}
		if n.cancel != nil {
			n.cancel()
		}
		n.wg.Wait()
		if n.index != nil {
			errs = append(errs, n.index.Close())
		}
		if n.buyer != nil {
			errs = append(errs, n.buyer.Close())
		}
		if n.storage != nil {
			errs = append(errs, n.storage.Close())
		}
		if n.overlay != nil {
			errs = append(errs, n.overlay.Close())
		}
		if n.corp != nil {
			errs = append(errs, n.corp.Close())
		}
		n.closeErr = errors.Join(errs...)
	})
	return n.closeErr
}

// payer is XenoCorp for the buying side.
type payer struct{ *corp.Client }

// Settlement implements session.Payer and session.Claimer.
func (p payer) Settlement(ctx context.Context, id ledger.ID) (*ledger.Envelope, error) {
	res, err := p.Session(ctx, id)
	return res.Settlement, err
}

// claimer is XenoCorp for the selling side.
type claimer struct{ payer }

// Claim implements session.Claimer.
func (c claimer) Claim(ctx context.Context, receipt *ledger.Envelope) (*ledger.Envelope, error) {
	res, err := c.Client.Claim(ctx, receipt)
	var refused *corp.Error
	if errors.As(err, &refused) && !errors.Is(err, corp.ErrUnavailable) && !errors.Is(err, corp.ErrThrottled) {
		return nil, fmt.Errorf("%w: %w", session.ErrClaimRefused, err)
	}
	return res.Settlement, err
}

// executable returns the program to start children with.
func (c *Config) executable() (string, error) {
	if c.Executable != "" {
		return c.Executable, nil
	}
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("node: find this program: %w", err)
	}
	return path, nil
}
