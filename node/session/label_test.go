package session

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/xenoserver/xeno/ledger"
)

// TestLabel keeps what the chosen server called itself, over a restart, and
// reads records that lack it.
func TestLabel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		req := w.request()
		req.Candidates[0].Label = Label{Name: "ox\x1b[2J\nford", City: strings.Repeat("ö", 100), Country: "GB"}
		other := req.Candidates[0]
		other.Server, other.Label = peerOf(testKey(9)), Label{Name: "nowhere"}
		req.Candidates = append(req.Candidates, other)
		want := Label{Name: "ox[2Jford", City: strings.Repeat("ö", maxLabel/2), Country: "GB"}
		if in := w.buy(req); in.Label != want {
			t.Errorf("label %+v, want %+v", in.Label, want)
		}
		path := w.buyer.records.path(req.Session)
		restart := func() Info {
			w.startBuyer()
			in, err := w.buyer.Session(ledger.ID{7})
			if err != nil {
				t.Fatal(err)
			}
			return in
		}
		_ = w.buyer.Close()
		if in := restart(); in.Label != want {
			t.Errorf("label %+v after a restart, want %+v", in.Label, want)
		}
		_ = w.buyer.Close()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		before, _, ok := strings.Cut(string(b), `,"label":`)
		if !ok {
			t.Fatalf("the label is not the last of %s", b)
		}
		if err := os.WriteFile(path, []byte(before+"}}"), 0o600); err != nil {
			t.Fatal(err)
		}
		if in := restart(); in.Label != (Label{}) || in.State != StateRunning {
			t.Errorf("read %+v from a record without a label", in)
		}
		if err := w.buyer.Stop(t.Context(), req.Session); err != nil {
			t.Fatal(err)
		}
		w.ended(req.Session)
	})
}
