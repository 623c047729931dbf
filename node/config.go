package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/pelletier/go-toml/v2"

	"github.com/xenoserver/xeno/ledger"
)

// ConfigFile is the name of the daemon's configuration in a home directory.
const ConfigFile = "node.toml"

// A Config says what a participant is. The fields with toml names are those of
// node.toml.
type Config struct {
	// Home is the directory that holds identity and state, mode 0700.
	Home string `toml:"-"`
	// Network is the network to take part in.
	Network Network `toml:"-"`
	// Logger takes what the node reports; nil discards it.
	Logger *slog.Logger `toml:"-"`
	// Transport replaces the sockets of the overlay, for tests.
	Transport func() []libp2p.Option `toml:"-"`
	// Executable is the program that runs a WASI module in a process of its
	// own when it is started as wasi.MaybeRun expects; empty: this program.
	Executable string `toml:"-"`
	// Version is told to other participants and users.
	Version string `toml:"-"`

	// Name is a label for people; empty: the host's name.
	Name string `toml:"name"`
	// Listen are multiaddrs; empty: loopback alone, QUIC and TCP, any port. A
	// public address is never taken unless it is written here.
	Listen []string `toml:"listen"`
	// Bootstrap are further addresses to join by.
	Bootstrap []string `toml:"bootstrap,omitempty"`
	// Overlay switches what depends on the surroundings.
	Overlay OverlayConfig `toml:"overlay"`
	// Store bounds XenoStore on this machine.
	Store StoreConfig `toml:"store"`
	// Log says how the daemon logs.
	Log LogConfig `toml:"log"`
	// MetricsListen is a TCP address for Prometheus; empty: metrics are on the
	// local API alone. Give a loopback address.
	MetricsListen string `toml:"metrics_listen,omitempty"`
	// Server makes the participant a XenoServer.
	Server *ServerConfig `toml:"server,omitempty"`
	// Corp makes the participant the network's XenoCorp; its identity must be
	// the one that the network file names.
	Corp *CorpConfig `toml:"corp,omitempty"`
}

// An OverlayConfig switches parts of the overlay.
type OverlayConfig struct {
	MDNS      bool `toml:"mdns"`       // find participants on the LAN
	Relay     bool `toml:"relay"`      // be reached through relays, and relay for others
	HolePunch bool `toml:"hole_punch"` // through NATs, with Relay
	AutoNAT   bool `toml:"autonat"`    // find out whether it can be reached
}

// A StoreConfig bounds XenoStore.
type StoreConfig struct {
	// Quota is the most disk that blocks take; zero: 8 GiB.
	Quota Bytes `toml:"quota"`
}

// A LogConfig says how the daemon logs.
type LogConfig struct {
	Level  string `toml:"level"`  // debug, info, warn, error; empty: info
	Format string `toml:"format"` // text or json; empty: text
}

// A ServerConfig says what a XenoServer offers.
type ServerConfig struct {
	// Environments are the kinds to offer: wasi, linux; empty: all that this
	// machine can run.
	Environments []string `toml:"environments,omitempty"`
	// Accelerator of virtual machines: auto, kvm, tcg; empty: auto.
	Accelerator string `toml:"accelerator,omitempty"`
	// Country (ISO 3166), Region, City and the place in degrees are claims of
	// the owner.
	Country   string  `toml:"country,omitempty"`
	Region    string  `toml:"region,omitempty"`
	City      string  `toml:"city,omitempty"`
	Latitude  float64 `toml:"latitude,omitempty"`
	Longitude float64 `toml:"longitude,omitempty"`
	// CPUs that may be sold; zero: those of the machine.
	CPUs int `toml:"cpus"`
	// Memory that may be sold; zero: half of the machine's.
	Memory Bytes `toml:"memory"`
	// Disk that may be sold; zero: a quarter of what is free.
	Disk Bytes `toml:"disk"`
	// NetworkRate that may be sold, bytes a second each way; zero: 100 MB/s.
	NetworkRate Bytes `toml:"network_rate"`
	// Sessions at once; zero: 64.
	Sessions int `toml:"sessions"`
	// Rates are the prices.
	Rates RatesConfig `toml:"rates"`
	// ReceiptInterval is the time between receipts; zero: 10 s.
	ReceiptInterval Duration `toml:"receipt_interval"`
	// EndSessions stops running sessions when the daemon ends, instead of
	// leaving them for its next start.
	EndSessions bool `toml:"end_sessions,omitempty"`
}

// A RatesConfig is a price list in units of the network's currency.
type RatesConfig struct {
	Session Money `toml:"session"` // an hour of running
	CPU     Money `toml:"cpu"`     // an hour of CPU time
	Memory  Money `toml:"memory"`  // a GiB for an hour
	Disk    Money `toml:"disk"`    // a GiB for an hour
	Network Money `toml:"network"` // a GiB sent or received
}

func (r RatesConfig) rates() ledger.Rates {
	return ledger.Rates{
		Session: ledger.Amount(r.Session), CPU: ledger.Amount(r.CPU), Memory: ledger.Amount(r.Memory),
		Disk: ledger.Amount(r.Disk), Network: ledger.Amount(r.Network),
	}
}

// A CorpConfig says how XenoCorp works.
type CorpConfig struct {
	// FeePermille is what XenoCorp keeps of every payment, in parts per 1,000.
	FeePermille int `toml:"fee_permille"`
	// CredentialTTL is how long credentials hold; zero: 30 days.
	CredentialTTL Duration `toml:"credential_ttl"`
	// ClaimGrace is how long after the end of an agreement its server may still
	// claim; then what is held for it returns to the client. Zero: 15 minutes.
	// Shorter frees clients' money sooner when a server vanishes, longer lets a
	// server be repaired before it loses what it earned since its last claim.
	ClaimGrace Duration `toml:"claim_grace,omitempty"`
}

// Money is an amount written as text, such as "0.02".
type Money ledger.Amount

// MarshalText implements encoding.TextMarshaler.
func (m Money) MarshalText() ([]byte, error) { return []byte(ledger.Amount(m).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *Money) UnmarshalText(b []byte) error {
	a, err := ledger.ParseAmount(string(b))
	if err == nil && a < 0 {
		err = fmt.Errorf("%w: %s is negative", ledger.ErrBadAmount, b)
	}
	*m = Money(a)
	return err
}

// Bytes is a size written as text, such as "4GiB"; without a unit, bytes.
type Bytes uint64

var byteUnits = []struct {
	name  string
	bytes uint64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1}, {"", 1}}

// UnmarshalText implements encoding.TextUnmarshaler.
func (v *Bytes) UnmarshalText(b []byte) error {
	text := strings.TrimSpace(string(b))
	for _, u := range byteUnits {
		num, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(num), 10, 64)
		if err != nil || n > 1<<60/u.bytes {
			break
		}
		*v = Bytes(n * u.bytes)
		return nil
	}
	return fmt.Errorf("%q is not a size such as \"4GiB\"", b)
}

// MarshalText implements encoding.TextMarshaler.
func (v Bytes) MarshalText() ([]byte, error) {
	for _, u := range byteUnits[:4] {
		if v >= Bytes(u.bytes) && uint64(v)%u.bytes == 0 {
			return fmt.Appendf(nil, "%d%s", uint64(v)/u.bytes, u.name), nil
		}
	}
	return fmt.Appendf(nil, "%dB", uint64(v)), nil
}

// LoadConfig reads node.toml and network.toml of a home directory, strictly.
// The error wraps ErrConfig.
func LoadConfig(home string) (Config, error) {
	path := filepath.Join(home, ConfigFile)
	b, err := readConfig(path)
	if err != nil {
		return Config{}, err
	}
	var c Config
	if err := decodeTOML(b, &c); err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	c.Home = home
	if c.Network, err = LoadNetwork(home); err != nil {
		return Config{}, err
	}
	if err := c.validate(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// validate fills the defaults and names the field at fault.
func (c *Config) validate() error {
	if c.Home == "" {
		return fmt.Errorf("%w: Home is empty", ErrConfig)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Version == "" {
		c.Version = "xeno/0"
	}
	if c.Name == "" {
		c.Name, _ = os.Hostname()
	}
	if len(c.Name) > 60 {
		return fmt.Errorf("%w: name has %d bytes, at most 60", ErrConfig, len(c.Name))
	}
	if len(c.Listen) == 0 {
		c.Listen = []string{"/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"}
	}
	if err := c.checkAddresses(); err != nil {
		return err
	}
	if c.Store.Quota == 0 {
		c.Store.Quota = 8 << 30
	}
	if _, err := c.Log.level(); err != nil {
		return err
	}
	if f := c.Log.Format; f != "" && f != "text" && f != "json" {
		return fmt.Errorf("%w: log.format %q: text or json", ErrConfig, f)
	}
	if c.MetricsListen != "" {
		if _, _, err := net.SplitHostPort(c.MetricsListen); err != nil {
			return fmt.Errorf("%w: metrics_listen: %w", ErrConfig, err)
		}
	}
	if err := c.Server.validate(); err != nil {
		return err
	}
	if k := c.Corp; k != nil && (k.FeePermille < 0 || k.FeePermille > 500) {
		return fmt.Errorf("%w: corp.fee_permille %d: 0 to 500", ErrConfig, k.FeePermille)
	}
	if k := c.Corp; k != nil && k.ClaimGrace != 0 && (time.Duration(k.ClaimGrace) < time.Second || time.Duration(k.ClaimGrace) > maxClaimGrace) {
		return fmt.Errorf("%w: corp.claim_grace %s: 1s to %s", ErrConfig, time.Duration(k.ClaimGrace), maxClaimGrace)
	}
	return c.Network.validate()
}

// maxClaimGrace bounds how long a client's money is bound by a server that is
// gone.
const maxClaimGrace = 7 * 24 * time.Hour

func (s *ServerConfig) validate() error {
	if s == nil {
		return nil
	}
	if s.Sessions == 0 {
		s.Sessions = 64
	}
	if s.NetworkRate == 0 {
		s.NetworkRate = 100e6
	}
	if s.ReceiptInterval == 0 {
		s.ReceiptInterval = Duration(10 * time.Second)
	}
	switch {
	case s.CPUs < 0 || s.CPUs > 4096:
		return fmt.Errorf("%w: server.cpus %d: 1 to 4096, or 0 for those of the machine", ErrConfig, s.CPUs)
	case s.Sessions < 1 || s.Sessions > 1024:
		return fmt.Errorf("%w: server.sessions %d: 1 to 1024", ErrConfig, s.Sessions)
	case s.Latitude < -90 || s.Latitude > 90 || s.Longitude < -180 || s.Longitude > 180:
		return fmt.Errorf("%w: server.latitude %g, longitude %g: not a place in degrees", ErrConfig, s.Latitude, s.Longitude)
	case s.Country != "" && (len(s.Country) != 2 || strings.ToUpper(s.Country) != s.Country):
		return fmt.Errorf("%w: server.country %.20q: an ISO 3166 code such as DE", ErrConfig, s.Country)
	case time.Duration(s.ReceiptInterval) < 500*time.Millisecond || time.Duration(s.ReceiptInterval) > time.Hour:
		return fmt.Errorf("%w: server.receipt_interval %s: 500ms to 1h", ErrConfig, time.Duration(s.ReceiptInterval))
	}
	for _, e := range s.Environments {
		if e != "wasi" && e != "linux" {
			return fmt.Errorf("%w: server.environments: unknown kind %.40q (wasi, linux)", ErrConfig, e)
		}
	}
	switch s.Accelerator {
	case "", "auto", "kvm", "tcg":
	default:
		return fmt.Errorf("%w: server.accelerator %.20q: auto, kvm or tcg", ErrConfig, s.Accelerator)
	}
	return nil
}

func (l LogConfig) level() (slog.Level, error) {
	var level slog.Level
	if l.Level == "" {
		return level, nil
	}
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		return level, fmt.Errorf("%w: log.level %.20q: debug, info, warn or error", ErrConfig, l.Level)
	}
	return level, nil
}

// NewLogger returns the logger that the configuration asks for, to standard error.
func (l LogConfig) NewLogger() (*slog.Logger, error) {
	level, err := l.level()
	if err != nil {
		return nil, err
	}
	opts := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts)), nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts)), nil
}

// Save writes node.toml into the home directory.
func (c Config) Save() error {
	b, err := toml.Marshal(c)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if err := writeFile(filepath.Join(c.Home, ConfigFile), b, 0o644); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return nil
}

var errHomeInUse = errors.New("it holds a participant already")
