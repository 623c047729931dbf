package node_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node"
	"github.com/xenoserver/xeno/node/api"
)

// Two participants in one program: the XenoCorp of a new network, and a client
// that registers with it and gets money.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "xeno")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	founded, err := node.Init(node.Config{
		Home: filepath.Join(dir, "corp"), Corp: &node.CorpConfig{}, Network: node.Network{Name: "example"},
	})
	if err != nil {
		panic(err)
	}
	corp, err := node.New(ctx, founded)
	if err != nil {
		panic(err)
	}
	defer corp.Close()

	cfg, err := node.Init(node.Config{Home: filepath.Join(dir, "client"), Network: founded.Network})
	if err != nil {
		panic(err)
	}
	client, err := node.New(ctx, cfg)
	if err != nil {
		panic(err)
	}
	defer client.Close()

	invitation, err := corp.Invite(ctx, api.InviteRequest{Subject: "Ada"})
	if err != nil {
		panic(err)
	}
	credential, err := client.Register(ctx, api.RegisterRequest{Code: invitation.Code, Name: "Ada"})
	if err != nil {
		panic(err)
	}
	if _, err := corp.Deposit(ctx, api.DepositRequest{Peer: client.ID(), Amount: 5 * ledger.Unit}); err != nil {
		panic(err)
	}
	account, err := client.Account(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Println(credential.Subject, credential.Roles, account.Available)
	// Output: Ada [participant client] 5.00
}
