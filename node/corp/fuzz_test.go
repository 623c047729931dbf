package corp

import (
	"context"
	"crypto/ed25519"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/wire"
)

func FuzzServe(f *testing.F) {
	conf := Config{Key: corpKey, Network: "test", Dir: filepath.Join(f.TempDir(), "corp"), Clock: func() time.Time { return time.Unix(1_800_000_000, 0) }}
	s, err := New(conf)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	seal := func(kind ledger.Kind, doc any, k ed25519.PrivateKey) []byte {
		e, err := ledger.Seal(kind, doc, k)
		if err != nil {
			f.Fatal(err)
		}
		return e.Marshal()
	}
	id := make([]byte, 16)
	for _, req := range []*wire.CorpRequest{
		{Call: &wire.CorpRequest_Register{Register: &wire.CorpRegister{Code: "x", Name: "n", Roles: []string{"client"}}}},
		{Call: &wire.CorpRequest_Renew{Renew: &wire.CorpRenew{}}},
		{Call: &wire.CorpRequest_CreateOrder{CreateOrder: &wire.CorpCreateOrder{Order: seal(ledger.KindOrder, &ledger.Order{}, clientKey)}}},
		{Call: &wire.CorpRequest_Authorise{Authorise: &wire.CorpAuthorise{Agreement: seal(ledger.KindAgreement, &ledger.Agreement{}, serverKey)}}},
		{Call: &wire.CorpRequest_Claim{Claim: &wire.CorpClaim{Receipt: seal(ledger.KindReceipt, &ledger.Receipt{}, serverKey)}}},
		{Call: &wire.CorpRequest_Release{Release: &wire.CorpRelease{Session: id}}},
		{Call: &wire.CorpRequest_ListJournal{ListJournal: &wire.CorpListJournal{After: 1, Limit: 5}}},
		{Call: &wire.CorpRequest_Deposit{Deposit: &wire.CorpTransfer{Id: id, Peer: make([]byte, 32), Amount: 5}}},
		{Call: &wire.CorpRequest_Invite{Invite: &wire.CorpInvite{Id: id, CodeHash: make([]byte, 32), Roles: []string{"client"}}}},
		{Call: &wire.CorpRequest_ListAccounts{ListAccounts: &wire.CorpListAccounts{}}},
	} {
		b, err := proto.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		for _, from := range []dht.PeerID{peerOf(clientKey), peerOf(corpKey)} {
			for _, serve := range []func(context.Context, dht.PeerID, []byte) ([]byte, error){s.Serve, s.ServeRegister} {
				b, err := serve(t.Context(), from, request)
				if err != nil {
					t.Fatal(err)
				}
				if err := proto.Unmarshal(b, new(wire.CorpResponse)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := ask(t.Context(), s, func(o *owner) (int, error) { return 0, o.state.Check() }); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzResponse gives a client what a hostile XenoCorp may answer.
func FuzzResponse(f *testing.F) {
	for _, resp := range []*wire.CorpResponse{
		{Error: &wire.CorpError{Code: 3, Message: "m"}},
		{Result: &wire.CorpResponse_Orders{Orders: &wire.CorpOrders{Orders: []*wire.CorpOrder{{Id: make([]byte, 16)}}}}},
		{Result: &wire.CorpResponse_Session{Session: &wire.CorpSession{Id: make([]byte, 16)}}},
		{Result: &wire.CorpResponse_Accounts{Accounts: &wire.CorpAccounts{Peers: []*wire.CorpBalances{{Peer: make([]byte, 32)}}}}},
		{Result: &wire.CorpResponse_Journal{Journal: &wire.CorpJournal{Entries: []*wire.CorpEntry{{Ref: make([]byte, 16)}}}}},
		{Result: &wire.CorpResponse_Document{Document: &wire.CorpDocument{}}},
	} {
		b, err := proto.Marshal(resp)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, response []byte) {
		c, ctx := NewClient(answer(response), dht.Contact{ID: peerOf(corpKey)}), t.Context()
		_, _ = c.Register(ctx, "code", "name", nil)
		_, _ = c.Orders(ctx)
		_, _ = c.Order(ctx, ledger.ID{})
		_, _ = c.Session(ctx, ledger.ID{})
		_, _ = c.Account(ctx)
		_, _ = c.Accounts(ctx)
		_, _ = c.Journal(ctx, 0, 5)
		_, _ = c.Revocations(ctx, 0)
	})
}

// answer is a Requester that always answers the same.
type answer []byte

func (a answer) Request(context.Context, dht.Contact, string, []byte, int) ([]byte, error) {
	return a, nil
}
