package storage

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/store"
	"github.com/xenoserver/xeno/wire"
)

// Protocol is the protocol of names. Requests are wire.StoreRequest.
const Protocol = "/xeno/store/1"

// An overlay is what names need of kad.Overlay.
type overlay interface {
	ID() dht.PeerID
	Closest(ctx context.Context, key dht.Key, n int) ([]dht.Contact, error)
	Request(ctx context.Context, to dht.Contact, protocol string, request []byte, limit int) ([]byte, error)
}

// A Value is what a name says: a few bytes, or a link to content.
type Value struct {
	Inline []byte    // at most store.MaxValue bytes; empty where Ref is set
	Ref    store.Ref //
}

// A Resolved is a version of a name.
type Resolved struct {
	Value
	Seq     uint64
	Issued  time.Time
	Expires time.Time
}

type namesConfig struct {
	net     overlay
	key     ed25519.PrivateKey
	network string
	life    time.Duration
	dir     string
	log     *slog.Logger
}

// names publishes, resolves and holds.
type names struct {
	namesConfig
	self dht.PeerID

	publishing sync.Mutex // one publish of this participant at a time

	mu    sync.Mutex // guards the following
	table *store.Table
	dirty bool                           // table changed since it was saved
	own   map[string]*store.Record       // by label, what is renewed
	homes map[string]map[dht.PeerID]bool // by label, who has the version in own
	tried map[string]uint64              // by label, the newest own version that may have got out
	seen  *seen
}

// newNames loads what was saved in cfg.dir.
func newNames(ctx context.Context, cfg namesConfig) (*names, error) {
	n := &names{
		namesConfig: cfg, self: cfg.net.ID(),
		table: store.NewTable(store.TableLimits{}), own: make(map[string]*store.Record), homes: make(map[string]map[dht.PeerID]bool), tried: make(map[string]uint64), seen: newSeen(),
	}
	if err := os.MkdirAll(n.ownDir(), 0o700); err != nil {
		return nil, err
	}
	if err := n.loadOwn(); err != nil {
		return nil, err
	}
	return n, n.loadTable(ctx, time.Now())
}

func (n *names) ownDir() string { return filepath.Join(n.dir, "own") }

// handle answers one request, as a holder.
func (n *names) handle(_ context.Context, from dht.PeerID, request []byte) ([]byte, error) {
	var req wire.StoreRequest
	if err := proto.Unmarshal(request, &req); err != nil {
		return nil, errors.New("malformed request")
	}
	var resp *wire.StoreResponse
	switch op := req.GetOp().(type) {
	case *wire.StoreRequest_Put:
		resp = n.put(from, op.Put, time.Now())
	case *wire.StoreRequest_Get:
		resp = n.get(op.Get, time.Now())
	default:
		return nil, errors.New("unknown request")
	}
	if len(resp.GetMessage()) > maxMessage {
		resp.Message = resp.GetMessage()[:maxMessage]
	}
	return proto.Marshal(resp)
}

// put keeps a record that from brought.
func (n *names) put(from dht.PeerID, req *wire.StorePut, now time.Time) *wire.StoreResponse {
	r, err := store.OpenName(req.GetRecord(), n.network, now)
	if err != nil {
		return &wire.StoreResponse{Status: wire.StoreStatus_STORE_STATUS_REFUSED, Message: err.Error()}
	}
	base := r.Seq - 1
	if req.Base != nil {
		base = req.GetBase()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	err = n.table.Put(now, r, base, from)
	resp := &wire.StoreResponse{Status: wire.StoreStatus_STORE_STATUS_OK}
	switch {
	case errors.Is(err, store.ErrConflict):
		resp.Status, resp.Message = wire.StoreStatus_STORE_STATUS_CONFLICT, err.Error()
		resp.Record = n.table.Newest(r.Owner, r.Label).Bytes
	case err != nil:
		resp.Status, resp.Message = wire.StoreStatus_STORE_STATUS_FULL, err.Error()
	default:
		n.dirty = true
	}
	return resp
}

// get answers with the newest version that is remembered, even an expired
// one: an owner that lost its files then knows where to go on.
func (n *names) get(req *wire.StoreGet, now time.Time) *wire.StoreResponse {
	if len(req.GetOwner()) != len(dht.PeerID{}) || store.CheckLabel(req.GetLabel()) != nil {
		return &wire.StoreResponse{Status: wire.StoreStatus_STORE_STATUS_REFUSED, Message: "malformed owner or label"}
	}
	owner := dht.PeerID(req.GetOwner())
	n.mu.Lock()
	defer n.mu.Unlock()
	resp := &wire.StoreResponse{Status: wire.StoreStatus_STORE_STATUS_NOT_FOUND}
	if r := n.table.Newest(owner, req.GetLabel()); r != nil {
		resp.Record = r.Bytes
	}
	if n.table.Get(now, owner, req.GetLabel()) != nil {
		resp.Status = wire.StoreStatus_STORE_STATUS_OK
	}
	return resp
}

// Publish makes value the newest version of this participant's name label,
// at a majority of its holders, and renews it until Retract. It builds on
// whatever version is newest. It returns the new version's number. Errors
// wrap store.ErrBadName, or ErrNoQuorum: the version may then have reached
// some holders, and the next publish builds on it.
func (s *Service) Publish(ctx context.Context, label string, value Value) (uint64, error) {
	return s.names.publish(ctx, label, value, nil)
}

// PublishOn is Publish on condition that base is the newest version, 0 if
// there is none. Otherwise the error wraps store.ErrConflict: of several that
// build on one version at most one succeeds.
func (s *Service) PublishOn(ctx context.Context, label string, base uint64, value Value) (uint64, error) {
	return s.names.publish(ctx, label, value, &base)
}

// Retract stops renewing label: its holders drop it when it expires.
func (s *Service) Retract(label string) error { return s.names.retract(label) }

// Resolve returns the newest version of a name, read from a majority of its
// holders. Errors wrap store.ErrNoName, ErrNoQuorum, or ErrStale where this
// participant was told of a newer version than the holders know.
func (s *Service) Resolve(ctx context.Context, owner dht.PeerID, label string) (Resolved, error) {
	return s.ResolveSince(ctx, owner, label, 0)
}

// ResolveSince is Resolve for a reader that was told of version seq by other
// means: an older one is ErrStale.
func (s *Service) ResolveSince(ctx context.Context, owner dht.PeerID, label string, seq uint64) (Resolved, error) {
	r, err := s.names.resolve(ctx, owner, label, seq)
	if err != nil {
		return Resolved{}, fmt.Errorf("storage: resolve %s of %s: %w", label, owner, err)
	}
	v, err := valueOf(r)
	return Resolved{Value: v, Seq: r.Seq, Issued: time.Unix(r.Issued, 0), Expires: time.Unix(r.Expires, 0)}, err
}

func (n *names) stats() store.TableStats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.table.Stats()
}

// run renews own names and keeps the table, until ctx ends.
func (n *names) run(ctx context.Context) {
	renew := time.NewTicker(n.life / renewals)
	defer renew.Stop()
	tick := time.NewTicker(tableInterval)
	defer tick.Stop()
	n.renewAll(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-renew.C:
			n.renewAll(ctx)
		case now := <-tick.C:
			n.settle(ctx)
			n.mu.Lock()
			if n.table.Expire(now) > 0 {
				n.dirty = true
			}
			n.mu.Unlock()
			if err := n.saveTable(); err != nil {
				n.log.LogAttrs(ctx, slog.LevelError, "could not save held names: is the disk full?", slog.Any("error", err))
			}
		}
	}
}

// renewAll publishes the own names again, with a new life. A name that
// another holder of the key has changed meanwhile is theirs to renew.
func (n *names) renewAll(ctx context.Context) {
	n.mu.Lock()
	all := slices.Collect(maps.Values(n.own))
	n.mu.Unlock()
	for _, r := range all {
		v, err := valueOf(r)
		if err == nil {
			_, err = n.publish(ctx, r.Label, v, &r.Seq)
		}
		if errors.Is(err, store.ErrConflict) {
			err = n.retract(r.Label)
		}
		if err != nil && ctx.Err() == nil {
			n.log.LogAttrs(ctx, slog.LevelWarn, "could not renew a name", slog.String("label", r.Label), slog.Any("error", err))
		}
	}
}

func valueOf(r *store.Record) (Value, error) {
	v := Value{Inline: r.Value}
	var err error
	if r.Link.Defined() {
		v.Ref, err = store.RefOf(r.Link.Cid)
	}
	return v, err
}

// close saves the table.
func (n *names) close() error { return n.saveTable() }

// seal makes a version of an own name.
func (n *names) seal(label string, seq uint64, v Value, now time.Time) (*store.Record, error) {
	name := store.Name{
		Network: n.network, Owner: n.self, Label: label, Seq: seq, Value: v.Inline,
		Issued: now.Unix(), Expires: now.Add(n.life).Unix(),
	}
	if !v.Ref.IsZero() {
		name.Link = ledger.Link{Cid: v.Ref.CID()}
	}
	env, err := store.SealName(name, n.key)
	if err != nil {
		return nil, err
	}
	return store.DecodeName(env.Marshal(), n.network)
}
