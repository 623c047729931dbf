package node_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xenoserver/xeno/hypervisor/process"
	"github.com/xenoserver/xeno/hypervisor/wasi"
	"github.com/xenoserver/xeno/hypervisor/wasi/demo"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node"
	"github.com/xenoserver/xeno/node/api"
)

func TestMain(m *testing.M) {
	process.MaybeRun()
	wasi.MaybeRun()
	os.Exit(m.Run())
}

// A network is XenoCorp and other nodes on loopback, as a user would set it up.
type network struct {
	t    *testing.T
	dir  string
	file node.Network
	corp *node.Node
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	nw := &network{t: t, dir: t.TempDir()}
	cfg, err := node.Init(node.Config{
		Home: filepath.Join(nw.dir, "corp"), Name: "corp", Corp: &node.CorpConfig{FeePermille: 10},
		Network: node.Network{Name: "test", Renew: node.Duration(2 * time.Second), Revocations: node.Duration(time.Second)},
	})
	if err != nil {
		t.Fatal(err)
	}
	nw.file = cfg.Network
	nw.corp = nw.start("corp")
	return nw
}

// start runs the node of a home directory until the test ends.
func (nw *network) start(name string) *node.Node {
	nw.t.Helper()
	cfg, err := node.LoadConfig(filepath.Join(nw.dir, name))
	if err != nil {
		nw.t.Fatal(err)
	}
	cfg.Logger = slog.New(slog.NewTextHandler(testWriter{nw.t, name}, &slog.HandlerOptions{Level: logLevel()}))
	n, err := node.New(nw.t.Context(), cfg)
	if err != nil {
		nw.t.Fatalf("%s: %v", name, err)
	}
	nw.t.Cleanup(func() {
		if err := n.Close(); err != nil {
			nw.t.Errorf("close %s: %v", name, err)
		}
	})
	return n
}

type testWriter struct {
	t    *testing.T
	name string
}

func (w testWriter) Write(b []byte) (int, error) {
	if os.Getenv("XENO_TEST_LOG") != "" {
		w.t.Logf("%s: %s", w.name, bytes.TrimSpace(b))
	}
	return len(b), nil
}

// join makes a node, starts and registers it, and waits until it is ready.
func (nw *network) join(cfg node.Config, roles ...ledger.Role) *node.Node {
	nw.t.Helper()
	cfg.Home, cfg.Network = filepath.Join(nw.dir, cfg.Name), nw.file
	if _, err := node.Init(cfg); err != nil {
		nw.t.Fatal(err)
	}
	n := nw.start(cfg.Name)
	ctx, cancel := context.WithTimeout(nw.t.Context(), time.Minute)
	defer cancel()
	inv, err := nw.corp.Invite(ctx, api.InviteRequest{Subject: cfg.Name, Roles: append(roles, ledger.RoleParticipant)})
	if err != nil {
		nw.t.Fatal(err)
	}
	if _, err := n.Register(ctx, api.RegisterRequest{Code: inv.Code, Name: cfg.Name}); err != nil {
		nw.t.Fatal(err)
	}
	for !n.Ready() {
		select {
		case <-ctx.Done():
			nw.t.Fatalf("%s did not join", cfg.Name)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return n
}

func serverConfig(name string, cpus int, price string) node.Config {
	var m node.Money
	if err := m.UnmarshalText([]byte(price)); err != nil {
		panic(err)
	}
	return node.Config{Name: name, Server: &node.ServerConfig{
		Environments: []string{"wasi"}, CPUs: cpus, Memory: 1 << 30, Disk: 1 << 30, Country: "NO", City: "Oslo",
		Rates: node.RatesConfig{Session: m, CPU: 2 * m}, ReceiptInterval: node.Duration(time.Second),
	}}
}

// TestFlow leases a WASI environment from the cheaper of two servers, and
// balances the books.
func TestFlow(t *testing.T) {
	nw := newNetwork(t)
	cheap := nw.join(serverConfig("cheap", 2, "0.5"), ledger.RoleServer)
	nw.join(serverConfig("dear", 4, "5"), ledger.RoleServer)
	client := nw.join(node.Config{Name: "client"}, ledger.RoleClient)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if _, err := nw.corp.Deposit(ctx, api.DepositRequest{Peer: client.ID(), Amount: 10 * ledger.Unit}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CreateOrder(ctx, api.OrderRequest{Amount: 5 * ledger.Unit}); err != nil {
		t.Fatal(err)
	}
	image, err := client.StoreAdd(ctx, "primes", bytes.NewReader(demo.Module()))
	if err != nil {
		t.Fatal(err)
	}
	waitForServers(t, client, 2)
	found, err := client.Search(ctx, api.SearchRequest{Query: `price_hour <= 1.0`, Explain: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(found.Results) != 1 || found.Results[0].Server != cheap.ID() || len(found.Excluded) != 1 {
		t.Errorf("found %+v, want the cheap server, and the dear one excluded", found)
	}
	counted, err := client.Search(ctx, api.SearchRequest{Query: `price_hour <= 1.0`, Count: true})
	if err != nil || counted.Estimated != 1 || counted.Low != 1 || counted.High != 1 || len(counted.Results) != 0 {
		t.Errorf("counted %+v, %v, want the cheap server", counted, err)
	}
	findAll(t, client, 2)
	s, err := client.Run(ctx, api.RunRequest{
		Query: `price_hour <= 1.0`, Terms: api.Terms{Environment: "wasi", Image: image.CID, Args: []string{demo.DefaultArg}},
	}, func(e api.RunEvent) { t.Logf("%s %s", e.Stage, e.Message) })
	if err != nil {
		t.Fatal(err)
	}
	s = waitSettled(t, client, s.ID)
	if s.ServerName != "cheap" || s.ServerPlace != "Oslo" || s.ServerCountry != "NO" {
		t.Errorf("server is called %q, in %q, %q", s.ServerName, s.ServerPlace, s.ServerCountry)
	}
	logs, err := client.Logs(ctx, s.ID, 1<<16)
	if err != nil || !strings.Contains(string(logs.Stdout), demo.DefaultAnswer) {
		t.Errorf("output %q, %v; want %q", logs.Stdout, err, demo.DefaultAnswer)
	}
	if s.Settlement == nil || s.Settlement.Paid == 0 {
		t.Errorf("settlement %+v, want something paid", s.Settlement)
	}
	receipts, err := client.Receipts(ctx, s.ID)
	if err != nil || len(receipts) == 0 || !receipts[len(receipts)-1].Countersigned {
		t.Errorf("receipts %+v, %v; want the last one countersigned", receipts, err)
	}
	t.Logf("usage %+v", receipts[len(receipts)-1].Readings)
	books, err := nw.corp.Accounts(ctx)
	if err != nil || books.Sum != 0 {
		t.Errorf("books sum to %s, %v", books.Sum, err)
	}
	account, err := cheap.Account(ctx)
	if err != nil || account.Available+s.Settlement.Fee != s.Settlement.Paid {
		t.Errorf("server has %+v, %v; want %s less the fee of %s", account, err, s.Settlement.Paid, s.Settlement.Fee)
	}
}

// findAll finds every server that has a price, of which there are so many, and
// none with too few messages.
func findAll(t *testing.T, n *node.Node, want int) {
	t.Helper()
	names := make(map[string]bool)
	answer, err := n.SearchAll(t.Context(), api.SearchRequest{Query: `has(price_hour)`}, func(r api.Result) { names[r.Name] = true })
	if err != nil || len(names) != want || !answer.Complete || answer.Completeness != 1 || answer.Incomplete != "" {
		t.Errorf("found all of %v, %+v, %v, want %d", names, answer, err, want)
	}
	for _, bad := range []api.SearchRequest{{Limit: 1}, {Budget: -1}} {
		if _, err := n.SearchAll(t.Context(), bad, nil); api.CodeOf(err) != api.CodeBadRequest {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	answer, err = n.SearchAll(t.Context(), api.SearchRequest{Budget: 1}, func(r api.Result) { t.Errorf("one message found %s", r.Name) })
	if err != nil || answer.Complete || !strings.Contains(answer.Incomplete, "budget") {
		t.Errorf("with one message: %+v, %v", answer, err)
	}
}

func waitForServers(t *testing.T, n *node.Node, want int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		found, err := n.Search(t.Context(), api.SearchRequest{})
		if err == nil && len(found.Results) == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("found %+v, %v; want %d servers", found, err, want)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func waitSettled(t *testing.T, n *node.Node, id ledger.ID) api.Session {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		s, err := n.Session(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if s.State.Over() {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("session is %s: %s", s.State, s.Error)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestRegister checks the money and identity part alone.
func TestRegister(t *testing.T) {
	nw := newNetwork(t)
	client := nw.join(node.Config{Name: "client"}, ledger.RoleClient)
	ctx := t.Context()
	if _, err := nw.corp.Deposit(ctx, api.DepositRequest{Peer: client.ID(), Amount: 10 * ledger.Unit}); err != nil {
		t.Fatal(err)
	}
	order, err := client.CreateOrder(ctx, api.OrderRequest{Amount: 4 * ledger.Unit})
	if err != nil {
		t.Fatal(err)
	}
	again, err := client.CreateOrder(ctx, api.OrderRequest{ID: order.ID, Amount: 4 * ledger.Unit})
	if err != nil || again.ID != order.ID {
		t.Errorf("repeated order: %+v, %v", again, err)
	}
	account, err := client.Account(ctx)
	if err != nil || account.Available != 6*ledger.Unit || account.Reserved != 4*ledger.Unit {
		t.Errorf("account %+v, %v; want 6 available, 4 reserved", account, err)
	}
	if _, err := client.CreateOrder(ctx, api.OrderRequest{Amount: 7 * ledger.Unit}); api.CodeOf(err) != api.CodeFunds {
		t.Errorf("overspent: %v, want %s", err, api.CodeFunds)
	}
	if _, err := client.Register(ctx, api.RegisterRequest{Code: "WRONG"}); err == nil {
		t.Error("registered with a wrong code")
	}
	if _, err := client.Invite(ctx, api.InviteRequest{Subject: "me"}); api.CodeOf(err) != api.CodeNotOperator {
		t.Errorf("a client invites: %v, want %s", err, api.CodeNotOperator)
	}
	if _, err := client.CancelOrder(ctx, order.ID); err != nil {
		t.Error(err)
	}
	books, err := nw.corp.Accounts(ctx)
	if err != nil || books.Sum != 0 {
		t.Errorf("books %+v, %v", books, err)
	}
}

func logLevel() slog.Level {
	if os.Getenv("XENO_TEST_LOG") == "debug" {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}
