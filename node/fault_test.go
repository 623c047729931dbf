package node_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node"
	"github.com/xenoserver/xeno/node/api"
)

// TestInitWritesNothing gives Init what makes no participant.
func TestInitWritesNothing(t *testing.T) {
	corp := &node.CorpConfig{}
	network := node.Network{Name: "n"}
	for want, cfg := range map[string]node.Config{
		"listen":               {Corp: corp, Network: network, Listen: []string{"nonsense"}},
		"out of range":         {Corp: corp, Network: network, Listen: []string{"/ip4/127.0.0.1/udp/99999/quic-v1"}},
		"corp.fee_permille":    {Corp: &node.CorpConfig{FeePermille: 900}, Network: network},
		"server.country":       {Corp: corp, Network: network, Server: &node.ServerConfig{Country: "norway"}},
		"xenocorp is missing":  {Network: network},
		"1 to 40":              {Corp: corp, Network: node.Network{Name: "Bad Name"}},
		"server.latitude 200,": {Corp: corp, Network: network, Server: &node.ServerConfig{Latitude: 200}},
	} {
		cfg.Home = filepath.Join(t.TempDir(), "home")
		if _, err := node.Init(cfg); !errors.Is(err, node.ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
		if _, err := os.Stat(cfg.Home); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a home was made (%v)", want, err)
		}
	}
}

// TestBadRuns asks for what cannot run, and for what runs already: each is
// refused with its code, and no money stays held.
func TestBadRuns(t *testing.T) {
	nw := newNetwork(t)
	nw.join(serverConfig("server", 2, "0.5"), ledger.RoleServer)
	client := nw.join(node.Config{Name: "client"}, ledger.RoleClient)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if _, err := nw.corp.Deposit(ctx, api.DepositRequest{Peer: client.ID(), Amount: 10 * ledger.Unit}); err != nil {
		t.Fatal(err)
	}
	order, err := client.CreateOrder(ctx, api.OrderRequest{Amount: 5 * ledger.Unit})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CreateOrder(ctx, api.OrderRequest{ID: order.ID, Amount: 6 * ledger.Unit}); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("another order with the same ID: %v, want %s", err, api.CodeConflict)
	}
	junk, err := client.StoreAdd(ctx, "junk", bytes.NewReader([]byte("not a module")))
	if err != nil {
		t.Fatal(err)
	}
	empty, err := client.StoreAdd(ctx, "empty", bytes.NewReader(nil))
	if err != nil {
		t.Fatal(err)
	}
	waitForServers(t, client, 1)
	run := func(req api.RunRequest, image string, args ...string) error {
		req.Terms = api.Terms{Environment: "wasi", Image: image, Args: args}
		_, err := client.Run(ctx, req, func(api.RunEvent) {})
		return err
	}
	id := ledger.ID{1}
	for _, tt := range []struct {
		name, text string
		err        error
		want       api.Code
	}{
		{"no module", "start: the image is not a WebAssembly module", run(api.RunRequest{Session: id}, junk.CID), api.CodeRefused},
		{"the same again", "", run(api.RunRequest{Session: id}, junk.CID), ""},
		{"another by the same ID", "something else", run(api.RunRequest{Session: id}, junk.CID, "x"), api.CodeConflict},
		{"empty module", "never ran", run(api.RunRequest{}, empty.CID), api.CodeRefused},
		{"bad query", "line 1, column 7", run(api.RunRequest{Query: "nope ??"}, junk.CID), api.CodeQuery},
		{"too dear", "xeno order create", run(api.RunRequest{Cap: 50 * ledger.Unit}, junk.CID), api.CodeFunds},
		{"no such server", "no server fits", run(api.RunRequest{Query: `country == "XX"`}, junk.CID), api.CodeNoMatch},
	} {
		if got := api.CodeOf(tt.err); tt.err != nil && got != tt.want || (tt.err == nil) != (tt.want == "") {
			t.Errorf("%s: %v (%s), want %s", tt.name, tt.err, got, tt.want)
		} else if tt.err != nil && !strings.Contains(tt.err.Error(), tt.text) {
			t.Errorf("%s: %v, want %q", tt.name, tt.err, tt.text)
		} else if tt.err != nil && strings.Contains(tt.err.Error(), nw.dir) {
			t.Errorf("%s: %v has a path of the server", tt.name, tt.err)
		}
	}
	eventually(t, 30*time.Second, "all money is back in the order", func() bool {
		a, err := client.Account(ctx)
		return err == nil && a.Held == 0 && a.Reserved == 5*ledger.Unit
	})
}

// TestWithoutXenoCorp goes on without XenoCorp where that is possible, and
// says so where it is not.
func TestWithoutXenoCorp(t *testing.T) {
	nw := newNetwork(t)
	client := nw.join(node.Config{Name: "client"}, ledger.RoleClient)
	if err := nw.corp.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := client.Account(ctx)
	if api.CodeOf(err) != api.CodeUnavailable || !strings.Contains(err.Error(), "try again") || strings.Contains(err.Error(), "\n") {
		t.Errorf("account: %v (%s), want %s in one line, with what to do", err, api.CodeOf(err), api.CodeUnavailable)
	}
	if _, err := client.Sessions(ctx); err != nil {
		t.Errorf("sessions: %v", err)
	}
}
