// Package kad carries package dht over libp2p.
package kad

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"net"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/routing"

	"github.com/xenoserver/xeno/dht"
)

// Config says what an Overlay is.
type Config struct {
	Key                             ed25519.PrivateKey
	Listen                          []string
	Bootstrap                       []string
	Network                         string
	Gate                            Gate
	Server                          bool
	MDNS, Relay, HolePunch, AutoNAT bool
	Logger                          *slog.Logger
	Transport                       func() []libp2p.Option
	Registrar                       bool
	Datastore                       ds.Batching
}

// A Gate decides who is admitted.
type Gate struct {
	Credential func() []byte
	Admit      func(peer dht.PeerID, credential []byte) (until time.Time, err error)
}

// A Handler answers one request.
type Handler func(ctx context.Context, from dht.PeerID, request []byte) (response []byte, err error)

// A RemoteError is what the other side's handler returned.
type RemoteError struct{ Message string }

// Error implements error.
func (e *RemoteError) Error() string { return e.Message }

// PeerInfo describes a connected, admitted peer.
type PeerInfo struct {
	dht.Contact
	Outbound   bool
	RTT        time.Duration
	Coordinate dht.Coordinate
	Agent      string
	Until      time.Time
}

// Overlay is one participant's place in the network.
type Overlay struct{ self dht.Contact }

var errClosed = errors.New("kad: closed")

// New starts a host.
func New(ctx context.Context, cfg Config) (*Overlay, error) { return nil, errClosed }

func (o *Overlay) ID() dht.PeerID                                   { return o.self.ID }
func (o *Overlay) Addrs() []string                                  { return o.self.FullAddrs() }
func (o *Overlay) Contact() dht.Contact                             { return o.self }
func (o *Overlay) Close() error                                     { return nil }
func (o *Overlay) Connect(ctx context.Context, c dht.Contact) error { return errClosed }
func (o *Overlay) Closest(ctx context.Context, key dht.Key, n int) ([]dht.Contact, error) {
	return nil, errClosed
}
func (o *Overlay) Find(ctx context.Context, id dht.PeerID) (dht.Contact, error) {
	return dht.Contact{}, errClosed
}
func (o *Overlay) Handle(protocol string, limit int, h Handler)     {}
func (o *Overlay) HandleOpen(protocol string, limit int, h Handler) {}
func (o *Overlay) Request(ctx context.Context, to dht.Contact, protocol string, request []byte, limit int) ([]byte, error) {
	return nil, errClosed
}
func (o *Overlay) HandleStream(protocol string, h func(ctx context.Context, from dht.PeerID, s net.Conn)) {
}
func (o *Overlay) OpenStream(ctx context.Context, to dht.Contact, protocol string) (net.Conn, error) {
	return nil, errClosed
}
func (o *Overlay) Bootstrap(ctx context.Context) error     { return errClosed }
func (o *Overlay) Peers() []PeerInfo                       { return nil }
func (o *Overlay) Readmit()                                {}
func (o *Overlay) Reannounce()                             {}
func (o *Overlay) Coordinate() dht.Coordinate              { return dht.Coordinate{} }
func (o *Overlay) RTT(id dht.PeerID) (time.Duration, bool) { return 0, false }
func (o *Overlay) Host() host.Host                         { return nil }
func (o *Overlay) ContentRouting() routing.ContentRouting  { return nil }
