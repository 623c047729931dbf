package session

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xenoserver/xeno/ledger"
)

// shortHold is XenoCorp with authorizations that no server takes, since they
// hold too little, and that releases what it holds in time.
type shortHold struct {
	*fakeCorp
	release time.Time
}

func (c *shortHold) Authorise(ctx context.Context, env *ledger.Envelope) (*ledger.Envelope, error) {
	auth, err := c.fakeCorp.Authorise(ctx, env)
	if err != nil {
		return nil, err
	}
	var z ledger.Authorization
	if err := auth.Open(ledger.KindAuthorization, &z); err != nil {
		return nil, err
	}
	z.Hold--
	c.release = time.Unix(z.Expires, 0)
	return ledger.Seal(ledger.KindAuthorization, z, c.key)
}

func (c *shortHold) Settlement(_ context.Context, id ledger.ID) (*ledger.Envelope, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.held[id]
	if h.settlement == nil && !time.Now().Before(c.release) {
		c.free += h.agreement.Cap
		var err error
		h.settlement, err = ledger.Seal(ledger.KindSettlement, ledger.Settlement{
			Network: testNetwork, Agreement: h.link, Released: h.agreement.Cap, Issued: time.Now().Unix(),
		}, c.key)
		if err != nil {
			return nil, err
		}
	}
	return h.settlement, nil
}

// TestRefusedConfirmation has the server refuse what the client confirms: the
// record ends with the settlement by which XenoCorp gives the money back, also
// over a restart of the client.
func TestRefusedConfirmation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		corp := &shortHold{fakeCorp: w.corp}
		_ = w.buyer.Close()
		w.payer = corp
		w.startBuyer()
		req := w.request()
		_, err := w.buyer.Buy(t.Context(), req, nil)
		if r, ok := errors.AsType[*Refusal](err); !ok || r.Code != CodeUnauthorized {
			t.Fatalf("buy: %v, want %s", err, CodeUnauthorized)
		}
		waiting := func() {
			t.Helper()
			time.Sleep(time.Minute)
			in, err := w.buyer.Session(req.Session)
			if err != nil || in.State != StateSettling || in.Settlement != nil || !strings.Contains(in.Detail, "did not take the confirmation") {
				t.Errorf("session %+v, %v; want it to wait for the settlement", in, err)
			}
		}
		waiting()
		if err := w.buyer.Stop(t.Context(), req.Session); err != nil {
			t.Errorf("stop: %v", err)
		}
		_ = w.buyer.Close()
		w.startBuyer()
		waiting()
		in := w.ended(req.Session)
		if in.Settlement == nil || in.Settlement.Released != req.Candidates[0].Cap || in.Settlement.Paid != 0 {
			t.Errorf("settlement %+v, want all of %s released", in.Settlement, req.Candidates[0].Cap)
		}
		if in.Reason != ledger.ReasonFailed || !strings.Contains(in.Detail, "did not take the confirmation") {
			t.Errorf("ended with %s, %q; want why", in.Reason, in.Detail)
		}
		if late := time.Since(corp.release); late > 2*releasePoll {
			t.Errorf("noticed %s after the release", late)
		}
	})
}
