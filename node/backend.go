package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
)

// Node is the backend of its local API.
var _ api.Backend = (*Node)(nil)

// Status implements api.Participant.
func (n *Node) Status(context.Context) (api.Status, error) {
	network := n.cfg.Network
	st := api.Status{
		ID: n.id, Name: n.cfg.Name, Version: n.cfg.Version,
		Network: network.Name, Currency: network.Currency, XenoCorp: network.XenoCorp, IsXenoCorp: n.corp != nil,
		Ready: n.Ready(), Started: n.started, Addrs: n.overlay.Addrs(),
	}
	if own := n.creds.Own(); own != nil {
		c := credentialOf(own)
		st.Credential = &c
	}
	c := n.overlay.Coordinate()
	st.Coordinate = api.Coordinate{Vec: c.Vec[:], Height: c.Height, Error: c.Error}
	for _, p := range n.overlay.Peers() {
		dir := "inbound"
		if p.Outbound {
			dir = "outbound"
		}
		st.Peers = append(st.Peers, api.Peer{ID: p.ID, Addrs: p.Addrs, Direction: dir, RTTMillis: float64(p.RTT) / float64(time.Millisecond)})
	}
	if n.server != nil {
		st.Server = n.server.status()
	}
	return st, nil
}

func credentialOf(c *ledger.Credential) api.Credential {
	return api.Credential{
		Serial: c.Serial, Peer: c.Peer, Subject: c.Subject, Roles: c.Roles,
		Issued: time.Unix(c.Issued, 0).UTC(), Expires: time.Unix(c.Expires, 0).UTC(),
	}
}

// Register implements api.Participant.
func (n *Node) Register(ctx context.Context, req api.RegisterRequest) (api.Credential, error) {
	if req.Code == "" {
		return api.Credential{}, api.Errorf(api.CodeBadRequest, "code is empty").WithHint("ask the operator of XenoCorp for an invitation code")
	}
	name := req.Name
	if name == "" {
		name = n.cfg.Name
	}
	env, err := n.corpClient.Register(ctx, req.Code, name, nil)
	if err != nil {
		return api.Credential{}, apiError(err)
	}
	doc, err := n.creds.take(env)
	if err != nil {
		return api.Credential{}, err
	}
	n.overlay.Reannounce()
	select {
	case n.registered <- struct{}{}:
	default:
	}
	return credentialOf(doc), nil
}

// own returns the own credential or says how to get one.
func (n *Node) own() (*ledger.Credential, error) {
	own := n.creds.Own()
	if own == nil {
		return nil, api.Errorf(api.CodeNotRegistered, "this node has no credential").WithHint("xeno register CODE, with an invitation code from the operator of XenoCorp")
	}
	if err := own.CheckTime(time.Now(), clockSkew); err != nil {
		return nil, api.Errorf(api.CodeNotRegistered, "the credential does not hold: %v", err).WithHint("register again with a new invitation code, and check the clock")
	}
	return own, nil
}

// ordersDir keeps the signed orders of this client, which proposals carry.
const ordersDir = "orders"

// defaultOrderTTL is how long an order holds that says nothing.
const defaultOrderTTL = 24 * time.Hour

// CreateOrder implements api.Market.
func (n *Node) CreateOrder(ctx context.Context, req api.OrderRequest) (api.Order, error) {
	if _, err := n.own(); err != nil {
		return api.Order{}, err
	}
	if req.ID.IsZero() {
		_, _ = rand.Read(req.ID[:]) // never fails
	}
	ttl := time.Duration(req.TTLSeconds) * time.Second
	switch {
	case req.TTLSeconds == 0:
		ttl = defaultOrderTTL
	case req.TTLSeconds < 0 || req.TTLSeconds > int64((366*24*time.Hour)/time.Second):
		return api.Order{}, api.Errorf(api.CodeBadRequest, "ttl_seconds %d: between 1 and a year", req.TTLSeconds)
	}
	if req.Amount <= 0 || req.Amount > ledger.MaxAmount {
		return api.Order{}, api.Errorf(api.CodeBadRequest, "amount %s: more than 0, at most %s", req.Amount, ledger.MaxAmount)
	}
	env, err := n.orderEnvelope(req.ID)
	if err != nil {
		return api.Order{}, err
	}
	if env == nil { // a repetition sends the very same bytes
		now := time.Now()
		env, err = ledger.Seal(ledger.KindOrder, ledger.Order{
			Network: n.cfg.Network.Name, ID: req.ID, Client: n.id, Amount: req.Amount, MaxCap: req.MaxCap,
			Issued: now.Unix(), Expires: now.Add(ttl).Unix(), Servers: req.Servers,
		}, n.key)
		if err != nil {
			return api.Order{}, err
		}
		if err := n.saveOrder(req.ID, env); err != nil {
			return api.Order{}, err
		}
	} else if err := n.sameOrder(env, &req); err != nil {
		return api.Order{}, err
	}
	st, err := n.corpClient.CreateOrder(ctx, env)
	if err != nil {
		return api.Order{}, apiError(err)
	}
	return n.order(st), nil
}

// sameOrder refuses an idempotency key that stands for another order.
func (n *Node) sameOrder(env *ledger.Envelope, req *api.OrderRequest) error {
	var doc ledger.Order
	if err := env.Open(ledger.KindOrder, &doc, n.id); err != nil {
		return err
	}
	if doc.Amount != req.Amount || doc.MaxCap != req.MaxCap || !slices.Equal(doc.Servers, req.Servers) {
		return api.Errorf(api.CodeConflict, "id %s is that of another order, over %s", req.ID, doc.Amount).WithHint("take a new id for a new order")
	}
	return nil
}

func (n *Node) orderPath(id ledger.ID) string {
	return filepath.Join(n.cfg.Home, ordersDir, id.String())
}

func (n *Node) saveOrder(id ledger.ID, env *ledger.Envelope) error {
	if err := os.MkdirAll(filepath.Join(n.cfg.Home, ordersDir), 0o700); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	return writeFile(n.orderPath(id), env.Marshal(), 0o600)
}

// orderEnvelope returns the signed order of this client, nil if there is none.
func (n *Node) orderEnvelope(id ledger.ID) (*ledger.Envelope, error) {
	b, err := n.creds.read(filepath.Join(ordersDir, id.String()))
	if err != nil || b == nil {
		return nil, err
	}
	return ledger.UnmarshalEnvelope(b)
}

func (n *Node) order(st ledger.OrderStatus) api.Order {
	o := api.Order{
		ID: st.ID, State: "open", Amount: st.Amount, Held: st.Held, Spent: st.Spent, Free: st.Free, MaxCap: st.MaxCap,
		Created: st.Issued, Expires: st.Expires, Servers: []dht.PeerID{},
	}
	if st.Link.Defined() {
		o.CID = st.Link.String()
	}
	if st.Closed {
		o.State, o.Free = "closed", 0
	}
	if env, err := n.orderEnvelope(st.ID); err == nil && env != nil {
		var doc ledger.Order
		if env.Open(ledger.KindOrder, &doc, n.id) == nil && doc.Servers != nil {
			o.Servers = doc.Servers
		}
	}
	return o
}

// Orders implements api.Market.
func (n *Node) Orders(ctx context.Context) ([]api.Order, error) {
	if _, err := n.own(); err != nil {
		return nil, err
	}
	list, err := n.corpClient.Orders(ctx)
	if err != nil {
		return nil, apiError(err)
	}
	out := make([]api.Order, len(list))
	for i, st := range list {
		out[i] = n.order(st)
	}
	return out, nil
}

// CancelOrder implements api.Market.
func (n *Node) CancelOrder(ctx context.Context, id ledger.ID) (api.Order, error) {
	st, err := n.corpClient.CancelOrder(ctx, id)
	if err != nil {
		return api.Order{}, apiError(err)
	}
	return n.order(st), nil
}

// Account implements api.Market.
func (n *Node) Account(ctx context.Context) (api.Account, error) {
	if _, err := n.own(); err != nil {
		return api.Account{}, err
	}
	b, err := n.corpClient.Account(ctx)
	if err != nil {
		return api.Account{}, apiError(err)
	}
	return accountOf(b), nil
}

func accountOf(b ledger.Balances) api.Account {
	return api.Account{
		Peer: b.Peer, Subject: b.Name, Available: b.Available, Reserved: b.Reserved, Held: b.Held, Pending: b.Pending,
	}
}

// apiError gives errors of the services a code of the API.
func apiError(err error) error {
	var coded *api.Error
	if err == nil || errors.As(err, &coded) {
		return err
	}
	for _, m := range apiCodes {
		if !errors.Is(err, m.err) {
			continue
		}
		if m.code == api.CodeUnavailable || m.code == api.CodeTimeout {
			return fallbackError(err) // knows more
		}
		return api.Errorf(m.code, "%s", oneLine(err))
	}
	return fallbackError(err)
}
