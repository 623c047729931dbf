// Package apitest has a backend in memory for tests of what speaks to the
// local API. It does no cryptography and has no network, but keeps money and
// sessions consistent, so that a client's mistakes show.
package apitest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
)

// Epoch is what the fake's clock shows: documents of tests are reproducible.
var Epoch = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)

// A Backend is an api.Backend in memory. Its exported fields are set before
// use.
type Backend struct {
	// Operate makes it the network's XenoCorp.
	Operate bool
	// Dial answers Connect; nil refuses.
	Dial func(ctx context.Context, id ledger.ID, port int) (net.Conn, error)
	// HostKey is the agreed host key of every session.
	HostKey string
	// Hold keeps WASI sessions running until they are stopped.
	Hold bool
	// Lines is how many lines a held session writes, one for each call of Logs;
	// then it ends. 0: it writes one line and goes on.
	Lines int

	mu       sync.Mutex
	cred     *api.Credential
	orders   []api.Order
	sessions []api.Session
	objects  map[string][]byte
	journal  []api.Entry
	credit   ledger.Amount
	invites  map[string]api.Invitation
	commands int
	written  int // lines of the held session
}

var _ api.Backend = (*Backend)(nil)

// Peer returns a made-up identity.
func Peer(name string) dht.PeerID { return sha256.Sum256([]byte(name)) }

// ID returns a made-up ID.
func ID(name string) ledger.ID {
	sum := sha256.Sum256([]byte(name))
	return ledger.ID(sum[:16])
}

// New returns a registered client's backend with 100 units of credit.
func New() *Backend {
	return &Backend{
		cred:    credential("ada", ledger.RoleParticipant, ledger.RoleClient),
		credit:  100 * ledger.Unit,
		objects: map[string][]byte{},
		invites: map[string]api.Invitation{},
	}
}

// Unregistered returns a backend that knows one invitation code.
func Unregistered(code string) *Backend {
	b := New()
	b.cred = nil
	b.invites[code] = api.Invitation{Code: code, Subject: "Ada Lovelace", Roles: []ledger.Role{ledger.RoleClient}}
	return b
}

func credential(subject string, roles ...ledger.Role) *api.Credential {
	return &api.Credential{Serial: 7, Peer: Peer("self"), Subject: subject, Roles: roles, Issued: Epoch, Expires: Epoch.AddDate(1, 0, 0)}
}

// Status implements api.Participant.
func (b *Backend) Status(context.Context) (api.Status, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return api.Status{
		ID: Peer("self"), Name: "ada", Version: "test", Network: "testnet", Currency: "XEN",
		XenoCorp: Peer("corp"), IsXenoCorp: b.Operate, Ready: b.cred != nil, Started: Epoch,
		Addrs: []string{"/ip4/127.0.0.1/udp/4001/quic-v1/p2p/" + Peer("self").String()}, Credential: b.cred,
		Peers:      []api.Peer{{ID: Peer("corp"), Direction: "outbound", RTTMillis: 1.5}},
		Coordinate: api.Coordinate{Vec: []float64{0, 0}, Height: 0.001, Error: 1},
	}, nil
}

// Register implements api.Participant.
func (b *Backend) Register(_ context.Context, req api.RegisterRequest) (api.Credential, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	inv, ok := b.invites[req.Code]
	if !ok {
		return api.Credential{}, api.Errorf(api.CodeRefused, "invitation code is unknown or used").WithHint("ask the operator for a new one")
	}
	delete(b.invites, req.Code)
	b.cred = credential(inv.Subject, inv.Roles...)
	return *b.cred, nil
}

// Metrics implements api.Participant.
func (b *Backend) Metrics() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "xeno_peers 1\n")
	})
}

// Search implements api.Market. A query that holds "??" does not compile, one
// that holds "none" matches nothing.
func (b *Backend) Search(_ context.Context, req api.SearchRequest) (api.SearchAnswer, error) {
	if i := strings.Index(req.Query, "??"); i >= 0 {
		return api.SearchAnswer{}, api.Errorf(api.CodeQuery, "1:%d: syntax error", i+1)
	}
	answer := api.SearchAnswer{Complete: true, Requests: 4, Millis: 2.5}
	if strings.Contains(req.Query, "none") {
		return answer, nil
	}
	for i, name := range []string{"cambridge", "zurich", "oslo"} {
		if i >= req.Limit {
			break
		}
		answer.Results = append(answer.Results, api.Result{
			Server: Peer(name), Name: name, Country: "GB", Place: name, Environments: []string{"wasi", "linux"},
			Free:  api.Capacity{CPUs: 4 + i, MemoryBytes: 8 << 30, DiskBytes: 64 << 30},
			Rates: rates(i), RTTMillis: float64(i) + 0.5,
		})
	}
	n := len(answer.Results)
	answer.Estimated, answer.Low, answer.High, answer.Confidence = n, n, n, 0.95
	if req.Count {
		answer.Results, answer.High, answer.Complete = nil, n+2, false
	}
	if req.Explain {
		answer.Plan = &api.Plan{Tree: "price_hour", Cells: 3, Leaves: 2, Lookups: 1, Expected: []api.TreeCost{{Tree: "price_hour", Cells: 2.5}, {Tree: "server", Cells: 9}}}
		answer.Conditions = []api.Condition{{Text: req.Query, Excluded: 1}}
		answer.Excluded = []api.Exclusion{{Server: Peer("perth"), Name: "perth", Condition: req.Query, Reason: "place is perth"}}
	}
	return answer, nil
}

// SearchAll implements api.Market, with the servers of Search and the same
// special queries. One that holds "break" fails after the first server.
func (b *Backend) SearchAll(ctx context.Context, req api.SearchRequest, found func(api.Result)) (api.SearchAnswer, error) {
	if err := req.CheckAll(); err != nil {
		return api.SearchAnswer{}, err
	}
	req.Limit = 100
	answer, err := b.Search(ctx, req)
	for i, r := range answer.Results {
		if i == 1 && strings.Contains(req.Query, "break") {
			return api.SearchAnswer{}, api.Errorf(api.CodeUnavailable, "the network is gone")
		}
		found(r)
	}
	answer.Results, answer.Completeness = nil, 1
	return answer, err
}

// Place implements api.Market, with the servers of Search and the same special
// queries.
func (b *Backend) Place(ctx context.Context, req api.PlaceRequest) (api.PlaceAnswer, error) {
	answer := api.PlaceAnswer{Minimised: "price", Optimal: true, Complete: true, Candidates: 3, Queries: len(req.Groups), Requests: 9, Millis: 7.5, LatencyMillis: 12}
	for _, g := range req.Groups {
		found, err := b.Search(ctx, api.SearchRequest{Query: g.Query, Limit: g.Count})
		if err != nil {
			return api.PlaceAnswer{}, err
		}
		if len(found.Results) < g.Count {
			return api.PlaceAnswer{}, api.Errorf(api.CodeNoMatch, "no placement: %d machines in %s: %d servers fit", g.Count, g.Name, len(found.Results))
		}
		for _, r := range found.Results {
			answer.Machines = append(answer.Machines, api.PlacedMachine{Group: g.Name, Server: r})
			answer.Price += r.Rates.Session
		}
	}
	answer.Cost = float64(answer.Price) / float64(ledger.Unit)
	answer.Floor = answer.Cost
	return answer, nil
}

func rates(i int) api.Rates {
	return api.Rates{Session: ledger.Unit / 10, CPU: ledger.Amount(i+1) * ledger.Unit, Memory: ledger.Unit / 100, Network: ledger.Unit / 50}
}

// Account implements api.Market.
func (b *Backend) Account(context.Context) (api.Account, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.accountLocked(), nil
}

func (b *Backend) accountLocked() api.Account {
	a := api.Account{Peer: Peer("self"), Subject: "ada", Available: b.credit}
	for _, o := range b.orders {
		a.Reserved += o.Free
		a.Held += o.Held
	}
	return a
}

// CreateOrder implements api.Market.
func (b *Backend) CreateOrder(_ context.Context, req api.OrderRequest) (api.Order, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cred == nil {
		return api.Order{}, api.Errorf(api.CodeNotRegistered, "this daemon is not registered").WithHint("run xeno register CODE")
	}
	if req.ID.IsZero() {
		req.ID = b.drawLocked()
	}
	if i := slices.IndexFunc(b.orders, func(o api.Order) bool { return o.ID == req.ID }); i >= 0 {
		return b.orders[i], nil
	}
	if req.Amount > b.credit {
		return api.Order{}, api.Errorf(api.CodeFunds, "%s available, %s needed", b.credit, req.Amount).WithHint("ask the operator to deposit more")
	}
	if req.TTLSeconds == 0 {
		req.TTLSeconds = 24 * 3600
	}
	b.credit -= req.Amount
	o := api.Order{
		ID: req.ID, CID: "bafyorder", State: "open", Amount: req.Amount, Free: req.Amount, MaxCap: req.MaxCap,
		Servers: req.Servers, Created: Epoch, Expires: Epoch.Add(time.Duration(req.TTLSeconds) * time.Second),
	}
	b.orders = append([]api.Order{o}, b.orders...)
	return o, nil
}

func (b *Backend) drawLocked() ledger.ID {
	b.commands++
	return ID(fmt.Sprint("command ", b.commands))
}

// Orders implements api.Market.
func (b *Backend) Orders(context.Context) ([]api.Order, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.orders), nil
}

// CancelOrder implements api.Market.
func (b *Backend) CancelOrder(_ context.Context, id ledger.ID) (api.Order, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.orders {
		if o := &b.orders[i]; o.ID == id {
			b.credit += o.Free
			o.Free, o.State = 0, "cancelled"
			return *o, nil
		}
	}
	return api.Order{}, api.Errorf(api.CodeNotFound, "no order %s", id)
}

// StoreAdd implements api.Storage.
func (b *Backend) StoreAdd(_ context.Context, name string, r io.Reader) (api.Object, error) {
	content, err := io.ReadAll(r)
	if err != nil {
		return api.Object{}, err
	}
	sum := sha256.Sum256(content)
	cid := "bafy" + hex.EncodeToString(sum[:8])
	b.mu.Lock()
	defer b.mu.Unlock()
	b.objects[cid] = content
	return api.Object{CID: cid, Name: name, SizeBytes: uint64(len(content))}, nil
}

// StoreAddPath implements api.Storage. A directory is as good as empty.
func (b *Backend) StoreAddPath(ctx context.Context, path string) (api.Object, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return api.Object{}, api.Errorf(api.CodeNotFound, "%v", err)
	case err != nil:
		return api.Object{}, err
	case info.IsDir():
		return b.StoreAdd(ctx, filepath.Base(path), strings.NewReader(path))
	}
	f, err := os.Open(path)
	if err != nil {
		return api.Object{}, err
	}
	defer f.Close()
	return b.StoreAdd(ctx, filepath.Base(path), f)
}

// StoreGet implements api.Storage.
func (b *Backend) StoreGet(_ context.Context, cid string) (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	content, ok := b.objects[cid]
	if !ok {
		return nil, api.Errorf(api.CodeNotFound, "nobody has %s", cid)
	}
	return io.NopCloser(bytes.NewReader(content)), nil
}
