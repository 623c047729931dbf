package corp

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad"
	"github.com/xenoserver/xeno/dht/kad/kadtest"
	"github.com/xenoserver/xeno/ledger"
)

// TestOverReal lets hosts of the real overlay, gated by the credentials of
// this XenoCorp, join by registration alone: host 0 is XenoCorp, host 1 a
// client, host 2 stays a stranger.
func TestOverReal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		service, err := New(Config{Key: kadtest.Key(0), Network: "test", Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		defer service.Close()
		own := [3]*ledger.Envelope{service.Credential()}
		fabric := kadtest.NewFabric(nil)
		var hosts [3]*kad.Overlay
		for i := range hosts {
			cfg := kadtest.Config(fabric, i, fabric.Addr())
			cfg.Registrar = i == 0
			cfg.Gate = kad.Gate{
				Credential: func() []byte {
					if own[i] == nil {
						return nil
					}
					return own[i].Marshal()
				},
				Admit: func(peer dht.PeerID, credential []byte) (time.Time, error) {
					e, err := ledger.UnmarshalEnvelope(credential)
					if err != nil {
						return time.Time{}, err
					}
					var c ledger.Credential
					if err := e.Open(ledger.KindCredential, &c, service.ID()); err != nil {
						return time.Time{}, err
					}
					if c.Peer != peer {
						return time.Time{}, errors.New("credential of another peer")
					}
					return time.Unix(c.Expires, 0), c.CheckTime(time.Now(), ledger.MaxSkew)
				},
			}
			hosts[i] = kadtest.Start(t, cfg)
			if i == 0 {
				service.Attach(hosts[0])
			}
			if err := hosts[i].Bootstrap(ctx); err != nil {
				t.Fatal(err)
			}
		}
		operator := NewClient(hosts[0], hosts[0].Contact())
		client := NewClient(hosts[1], hosts[0].Contact())
		stranger := NewClient(hosts[2], hosts[0].Contact())

		code, err := operator.Invite(ctx, Invitation{Roles: []ledger.Role{ledger.RoleClient}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Account(ctx); err == nil {
			t.Error("the protocol of members answers before registration")
		}
		if own[1], err = client.Register(ctx, code, "Client", nil); err != nil {
			t.Fatal(err)
		}
		hosts[1].Reannounce()
		if err := hosts[1].Connect(ctx, hosts[0].Contact()); err != nil {
			t.Fatal(err)
		}
		if _, err := operator.Deposit(ctx, NewID(), hosts[1].ID(), 100, "cash"); err != nil {
			t.Fatal(err)
		}
		if b, err := client.Account(ctx); err != nil || b.Available != 100 || b.Name != "Client" {
			t.Errorf("account %+v, %v", b, err)
		}
		if _, err := client.Accounts(ctx); !errors.Is(err, ledger.ErrDenied) {
			t.Errorf("a client lists accounts: %v", err)
		}
		if _, err := stranger.Register(ctx, "guess", "Stranger", nil); !errors.Is(err, ledger.ErrBadCode) {
			t.Errorf("a stranger registers: %v", err)
		}
		if _, err := stranger.Account(ctx); err == nil {
			t.Error("a stranger is served on the protocol of members")
		}
	})
}
