package node_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node"
	"github.com/xenoserver/xeno/node/api"
)

// TestBadOrders names orders that no session can draw on: each is refused with
// what to do before any server gets a proposal.
func TestBadOrders(t *testing.T) {
	nw := newNetwork(t)
	server := nw.join(serverConfig("server", 2, "0.5"), ledger.RoleServer)
	client := nw.join(node.Config{Name: "client"}, ledger.RoleClient)
	other := nw.join(node.Config{Name: "other"}, ledger.RoleClient)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	order := func(n *node.Node, req api.OrderRequest) ledger.ID {
		t.Helper()
		if _, err := nw.corp.Deposit(ctx, api.DepositRequest{Peer: n.ID(), Amount: req.Amount}); err != nil {
			t.Fatal(err)
		}
		o, err := n.CreateOrder(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		return o.ID
	}
	closed := order(client, api.OrderRequest{Amount: ledger.Unit})
	if _, err := client.CancelOrder(ctx, closed); err != nil {
		t.Fatal(err)
	}
	strange := order(other, api.OrderRequest{Amount: ledger.Unit})
	copied := order(other, api.OrderRequest{Amount: ledger.Unit})
	b, err := os.ReadFile(filepath.Join(nw.dir, "other", "orders", copied.String()))
	if err == nil {
		err = os.WriteFile(filepath.Join(nw.dir, "client", "orders", copied.String()), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	lost := nw.forgeOrder("client", client)
	small := order(client, api.OrderRequest{Amount: ledger.Unit / 1000})
	narrow := order(client, api.OrderRequest{Amount: ledger.Unit, MaxCap: ledger.Unit / 1000})
	elsewhere := order(client, api.OrderRequest{Amount: ledger.Unit, Servers: []dht.PeerID{other.ID()}})
	good := order(client, api.OrderRequest{Amount: ledger.Unit})
	junk, err := client.StoreAdd(ctx, "junk", bytes.NewReader([]byte("not a module")))
	if err != nil {
		t.Fatal(err)
	}
	waitForServers(t, client, 1)
	for _, tt := range []struct {
		name  string
		order ledger.ID
		want  api.Code
		text  string
	}{
		{"unknown", ledger.ID{9}, api.CodeNotFound, "on this node"},
		{"closed", closed, api.CodeConflict, "is closed"},
		{"somebody else's", strange, api.CodeNotFound, "on this node"},
		{"somebody else's, copied", copied, api.CodeForbidden, "not this node's own"},
		{"never registered", lost, api.CodeNotFound, "XenoCorp does not know"},
		{"too small", small, api.CodeFunds, "needs"},
		{"too small a cap", narrow, api.CodeFunds, "needs"},
		{"for another server", elsewhere, api.CodeNoMatch, "other servers"},
		{"good", good, api.CodeRefused, "never ran"}, // what it runs is junk
	} {
		proposed := false
		_, err := client.Run(ctx, api.RunRequest{
			Order: tt.order, Server: server.ID(), Terms: api.Terms{Environment: "wasi", Image: junk.CID},
		}, func(e api.RunEvent) { proposed = proposed || e.Stage == api.StageProposing })
		if api.CodeOf(err) != tt.want || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v (%s), want %s and %q", tt.name, err, api.CodeOf(err), tt.want, tt.text)
		}
		if proposed != (tt.order == good) {
			t.Errorf("%s: proposed is %v", tt.name, proposed)
		}
	}
}

// forgeOrder puts a well signed order that XenoCorp never saw into a home.
func (nw *network) forgeOrder(name string, n *node.Node) ledger.ID {
	nw.t.Helper()
	home, id := filepath.Join(nw.dir, name), ledger.ID{7}
	key, err := node.LoadIdentity(home)
	if err != nil {
		nw.t.Fatal(err)
	}
	now := time.Now()
	env, err := ledger.Seal(ledger.KindOrder, ledger.Order{
		Network: nw.file.Name, ID: id, Client: n.ID(), Amount: ledger.Unit, Issued: now.Unix(), Expires: now.Add(time.Hour).Unix(),
	}, key)
	if err == nil {
		err = os.WriteFile(filepath.Join(home, "orders", id.String()), env.Marshal(), 0o600)
	}
	if err != nil {
		nw.t.Fatal(err)
	}
	return id
}
