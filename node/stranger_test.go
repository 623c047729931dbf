package node_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node"
	"github.com/xenoserver/xeno/node/api"
)

// knows tells whether n has an admitted connection to id.
func knows(t *testing.T, n *node.Node, id dht.PeerID) bool {
	t.Helper()
	st, err := n.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range st.Peers {
		if p.ID == id {
			return true
		}
	}
	return false
}

// eventually fails the test unless done within limit.
func eventually(t *testing.T, limit time.Duration, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// excluded checks that a node gets nothing from the network: no search, no
// money, no session, no admitted connection.
func excluded(t *testing.T, stranger *node.Node, members ...*node.Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if found, err := stranger.Search(ctx, api.SearchRequest{}); err == nil && len(found.Results) > 0 {
		t.Errorf("a stranger found %+v", found)
	}
	if a, err := stranger.Account(ctx); err == nil {
		t.Errorf("a stranger has the account %+v", a)
	}
	if _, err := stranger.CreateOrder(ctx, api.OrderRequest{Amount: ledger.Unit}); err == nil {
		t.Error("a stranger created an order")
	}
	_, err := stranger.Run(ctx, api.RunRequest{Terms: api.Terms{Environment: "wasi", Image: testImageCID}}, func(api.RunEvent) {})
	if err == nil {
		t.Error("a stranger opened a session")
	}
	for i, m := range members {
		if knows(t, m, stranger.ID()) {
			t.Errorf("member %d admits the stranger", i)
		}
	}
}

const testImageCID = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"

func TestStrangerWithoutCredential(t *testing.T) {
	nw := newNetwork(t)
	server := nw.join(serverConfig("server", 2, "0.5"), ledger.RoleServer)
	cfg, err := node.Init(node.Config{Home: filepath.Join(nw.dir, "stranger"), Name: "stranger", Network: nw.file, Bootstrap: server.Addrs()})
	if err != nil {
		t.Fatal(err)
	}
	_ = cfg
	stranger := nw.start("stranger")
	excluded(t, stranger, nw.corp, server)
	if _, err := stranger.Search(t.Context(), api.SearchRequest{}); api.CodeOf(err) != api.CodeNotRegistered || !strings.Contains(err.Error(), "xeno register") {
		t.Errorf("error %v, want %s with what to do", err, api.CodeNotRegistered)
	}
}

func TestStrangerOfAnotherNetwork(t *testing.T) {
	here, there := newNetwork(t), newNetwork(t)
	server := here.join(serverConfig("server", 2, "0.5"), ledger.RoleServer)
	member := there.join(node.Config{Name: "member", Bootstrap: append(server.Addrs(), here.corp.Addrs()...)}, ledger.RoleClient)
	if knows(t, server, member.ID()) || knows(t, here.corp, member.ID()) {
		t.Error("a member of another network is admitted")
	}
	if knows(t, member, server.ID()) {
		t.Error("it admits a server of this network")
	}
}

func TestRevocation(t *testing.T) {
	nw := newNetwork(t)
	server := nw.join(serverConfig("server", 2, "0.5"), ledger.RoleServer)
	client := nw.join(node.Config{Name: "client"}, ledger.RoleClient)
	waitForServers(t, client, 1)
	eventually(t, 10*time.Second, "server and client know each other", func() bool { return knows(t, server, client.ID()) })
	if _, err := nw.corp.Revoke(t.Context(), api.RevokeRequest{Peer: client.ID(), Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	// The promise is 60 s with an interval of 20 s; this network asks each second.
	eventually(t, 3*time.Second, "everybody drops the revoked", func() bool {
		return !knows(t, server, client.ID()) && !knows(t, nw.corp, client.ID())
	})
	excluded(t, client, nw.corp, server)
}
