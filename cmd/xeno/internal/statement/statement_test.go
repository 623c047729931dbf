package statement

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
)

func TestWrite(t *testing.T) {
	ada, bob := dht.PeerID{1}, dht.PeerID{2}
	books := api.Books{Accounts: []api.BookAccount{
		{Name: "b/available", Peer: bob, Subject: "Bob", Kind: "available", Balance: ledger.Unit},
		{Name: "a/available", Peer: ada, Subject: "Ada", Kind: "available", Balance: 5 * ledger.Unit},
		{Name: "a/held", Peer: ada, Subject: "Ada", Kind: "held", Balance: 2 * ledger.Unit},
		{Name: "fee", Kind: "fee", Balance: ledger.Unit / 2},
		{Name: "world", Kind: "world", Balance: -17 * ledger.Unit / 2},
	}}
	var b strings.Builder
	if err := Write(&b, books); err != nil {
		t.Fatal(err)
	}
	want := `OWNER           AVAILABLE  RESERVED  HELD  PENDING  PEER
Ada             5.00       0.00      2.00  0.00     ` + ada.Short() + `
Bob             1.00       0.00      0.00  0.00     ` + bob.Short() + `
XenoCorp: fees  0.50
outside world   -8.50
sum             0.00
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
