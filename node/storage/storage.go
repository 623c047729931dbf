// Package storage is the XenoStore service of a participant: it adds content
// and announces it, fetches content by its hash from whoever has it, keeps
// materialised images for environments, and publishes, resolves and holds
// signed mutable names (protocol /xeno/store/1).
//
// Content travels over bitswap under the network's own protocol prefix. The
// overlay's host is gated, so that peers without a credential are neither
// asked nor served.
package storage

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ipfs/boxo/bitswap"
	"github.com/ipfs/boxo/bitswap/client"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/routing"

	"github.com/xenoserver/xeno/dht/kad"
	"github.com/xenoserver/xeno/store"
	"github.com/xenoserver/xeno/store/blocks"
)

// Sentinels that callers decide by.
var (
	// ErrUnavailable reports content that nobody reachable has sent in time.
	ErrUnavailable = errors.New("content is not available")
	// ErrNoQuorum reports that too few holders of a name answered.
	ErrNoQuorum = errors.New("too few holders of the name answer")
	// ErrStale reports that all holders that answer know only older versions
	// than one this participant was told of.
	ErrStale = errors.New("holders of the name know only an older version")
)

// Config says where the service keeps its files and how much.
type Config struct {
	Overlay *kad.Overlay       // not bootstrapped yet: New registers handlers
	Key     ed25519.PrivateKey // the overlay's identity; owns the published names
	Network string             // name of the network, in names and protocol IDs
	Dir     string             // holds blocks, images and names; created, 0755, since environments read the images

	// MaxBytes bounds the block store: what was added and what passed by.
	// 0 means 10 GiB.
	MaxBytes int64
	// MaxImages bounds the materialised files in bytes. 0 means 20 GiB.
	// Images take room twice, here and as cached blocks.
	MaxImages int64
	// Stall is how long a fetch waits for the next block before it gives up.
	// 0 means 30 s. Shorter tells sooner that nobody has it; longer suits
	// slow lines.
	Stall time.Duration
	// NameLife is how long a published name lives without being renewed, which
	// happens four times in it. 0 means 48 h; the most is 7 days. Longer
	// survives a longer absence of the owner, and burdens its holders as long.
	NameLife time.Duration
	// Logger receives what an operator may want to know; nil means nobody.
	Logger *slog.Logger
}

func (c *Config) validate() error {
	switch {
	case c.Overlay == nil:
		return errors.New("storage: config: no Overlay")
	case len(c.Key) != ed25519.PrivateKeySize:
		return errors.New("storage: config: no Key")
	case c.Network == "":
		return errors.New("storage: config: no Network")
	case c.Dir == "":
		return errors.New("storage: config: no Dir")
	case c.MaxBytes < 0 || c.MaxImages < 0 || c.Stall < 0:
		return errors.New("storage: config: MaxBytes, MaxImages and Stall must not be negative")
	}
	if c.NameLife == 0 {
		c.NameLife = defaultNameLife
	}
	if c.NameLife < minNameLife || c.NameLife > store.MaxLife {
		return fmt.Errorf("storage: config: NameLife %v, allowed are %v to %v", c.NameLife, minNameLife, store.MaxLife)
	}
	if c.MaxImages == 0 {
		c.MaxImages = defaultMaxImages
	}
	if c.Stall == 0 {
		c.Stall = defaultStall
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// A Service is the XenoStore of one participant. All methods may be called at
// once, after Start.
type Service struct {
	*content
	names *names

	cancel context.CancelFunc
	loops  sync.WaitGroup
	once   sync.Once
}

// New opens the stores in cfg.Dir and registers the handlers with the
// overlay, which must not be bootstrapped before. The error wraps
// blocks.ErrLocked if another process uses the directory.
func New(ctx context.Context, cfg Config) (*Service, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c, err := newContent(ctx, contentConfig{
		dir: cfg.Dir, maxBytes: cfg.MaxBytes, maxImages: cfg.MaxImages, stall: cfg.Stall, log: cfg.Logger,
		host: cfg.Overlay.Host(), routing: cfg.Overlay.ContentRouting(), prefix: protocol.ID("/xeno/" + cfg.Network),
	})
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	n, err := newNames(ctx, namesConfig{
		net: cfg.Overlay, key: cfg.Key, network: cfg.Network, life: cfg.NameLife,
		dir: filepath.Join(cfg.Dir, "names"), log: cfg.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("storage: %w", errors.Join(err, c.close()))
	}
	cfg.Overlay.Handle(Protocol, maxRequest, n.handle)
	return &Service{content: c, names: n}, nil
}

// Start begins announcing and renewing, once the overlay is bootstrapped.
func (s *Service) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.loops.Go(func() { s.repair(ctx); s.provider.run(ctx, s.roots) })
	s.loops.Go(func() { s.names.run(ctx) })
}

// Close ends what is under way, and closes the stores. Close the overlay
// afterwards. It may be called twice.
func (s *Service) Close() error {
	var err error
	s.once.Do(func() {
		if s.cancel != nil {
			s.cancel()
		}
		s.loops.Wait()
		err = errors.Join(s.names.close(), s.close())
	})
	return err
}

// Stats counts what the service keeps and moved.
type Stats struct {
	Blocks         blocks.Stats
	Names          store.TableStats // held for others
	ImageBytes     int64
	BytesSent      uint64 // over bitswap
	BytesReceived  uint64
	DuplicateBytes uint64 // of BytesReceived, blocks that came twice
}

// Stats returns the present counts.
func (s *Service) Stats() Stats {
	st := Stats{Blocks: s.blocks.Stats(), Names: s.names.stats(), ImageBytes: s.images.size()}
	if b, err := s.exchange.Stat(); err == nil {
		st.BytesSent, st.BytesReceived, st.DuplicateBytes = b.DataSent, b.DataReceived, b.DupDataReceived
	}
	return st
}

// content is the part of the service that deals with content.
type content struct {
	blocks   *blocks.Store
	exchange *bitswap.Bitswap
	images   *images
	provider *provider
	stall    time.Duration
	log      *slog.Logger
	stop     context.CancelFunc
}

type contentConfig struct {
	dir       string
	maxBytes  int64
	maxImages int64
	stall     time.Duration
	log       *slog.Logger
	host      host.Host
	routing   routing.ContentRouting
	prefix    protocol.ID
}

func newContent(ctx context.Context, cfg contentConfig) (*content, error) {
	if err := os.MkdirAll(cfg.dir, 0o755); err != nil { //nolint:gosec // environments read the images in it
		return nil, err
	}
	bs, err := blocks.Open(ctx, blocks.Config{Dir: filepath.Join(cfg.dir, "blocks"), MaxBytes: cfg.maxBytes})
	if err != nil {
		return nil, err
	}
	im, err := newImages(filepath.Join(cfg.dir, "images"), cfg.maxImages)
	if err != nil {
		return nil, errors.Join(err, bs.Close())
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	net := bsnet.NewFromIpfsHost(cfg.host, bsnet.Prefix(cfg.prefix), bsnet.SupportedProtocols([]protocol.ID{bsnet.ProtocolBitswap}))
	return &content{
		blocks: bs,
		exchange: bitswap.New(life, net, cfg.routing, bs,
			bitswap.ProviderSearchDelay(bitswapProviderDelay),
			bitswap.WithClientOption(client.BroadcastControlMaxRandomPeers(bitswapAsk)),
			bitswap.WithClientOption(client.BroadcastControlMaxPeers(bitswapAskMost)),
			bitswap.MaxOutstandingBytesPerPeer(bitswapOutstanding),
			bitswap.MaxQueuedWantlistEntriesPerPeer(bitswapWantlist),
			bitswap.WithoutDuplicatedBlockStats(),
		),
		images: im, provider: newProvider(cfg.routing, cfg.log), stall: cfg.stall, log: cfg.log, stop: stop,
	}, nil
}

func (c *content) close() error {
	err := c.exchange.Close()
	c.stop()
	return errors.Join(err, c.blocks.Close())
}

// Add stores what r yields as a file, pins it under name and announces it.
// The error wraps blocks.ErrFull if there is no room.
func (c *content) Add(ctx context.Context, name string, r io.Reader) (blocks.Added, error) {
	a, err := c.blocks.Add(ctx, name, r)
	return c.added(a, err)
}

// AddPath stores a file or directory, pins it under its base name and
// announces it. The error wraps blocks.ErrFull if there is no room.
func (c *content) AddPath(ctx context.Context, path string) (blocks.Added, error) {
	a, err := c.blocks.AddPath(ctx, path)
	return c.added(a, err)
}

func (c *content) added(a blocks.Added, err error) (blocks.Added, error) {
	if err != nil {
		return blocks.Added{}, fmt.Errorf("storage: %w", err)
	}
	c.provider.announce(a.Ref)
	return a, nil
}

// Pins lists what was added, oldest first.
func (c *content) Pins() []blocks.Pin { return c.blocks.Pins() }

// Unpin lets added content be collected. The error wraps blocks.ErrNotPinned.
func (c *content) Unpin(ref store.Ref) error { return c.blocks.Unpin(ref) }

// roots lists what is to be announced: what was added, and the images that
// are here whole.
func (c *content) roots() []store.Ref {
	var refs []store.Ref
	for _, p := range c.blocks.Pins() {
		refs = append(refs, p.Ref)
	}
	for _, ref := range c.images.refs() {
		// Without its root, the rest cannot be served either.
		if ok, err := c.blocks.Has(context.Background(), ref.CID()); err == nil && ok {
			refs = append(refs, ref)
		}
	}
	return refs
}
