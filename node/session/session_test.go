package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/ledger"
)

func TestProgramEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		in := w.buy(w.request())
		if in.State != StateRunning {
			t.Fatalf("state %s, want running", in.State)
		}
		time.Sleep(36 * time.Second)
		w.driver.exit(in.ID.String(), 3)
		in = w.ended(in.ID)
		if in.Reason != ledger.ReasonDone || in.ExitCode != 3 {
			t.Errorf("reason %s, exit code %d; want done, 3", in.Reason, in.ExitCode)
		}
		// An hour costs 1 for running and 2 for the CPU: 36 s are 1 % of 3.
		if got, want := w.corp.earned, 3*ledger.Unit/100; max(got-want, want-got) > want/50 {
			t.Errorf("earned %s, want about %s", got, want)
		}
		if w.corp.unsigned != 0 {
			t.Errorf("%d claims without the client's signature", w.corp.unsigned)
		}
		if in.Receipts < 4 {
			t.Errorf("%d receipts in 36 s, want one each 10 s and the final one", in.Receipts)
		}
		if stdout, _, err := w.buyer.Logs(t.Context(), in.ID, 100); err != nil || !strings.HasPrefix(string(stdout), "output") {
			t.Errorf("logs after the end: %q, %v", stdout, err)
		}
	})
}

func TestClientStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		in := w.buy(w.request())
		time.Sleep(time.Minute)
		if err := w.buyer.Stop(t.Context(), in.ID); err != nil {
			t.Fatal(err)
		}
		if in = w.ended(in.ID); in.Reason != ledger.ReasonStopped {
			t.Errorf("reason %s, want stopped", in.Reason)
		}
		if err := w.buyer.Stop(t.Context(), in.ID); err != nil {
			t.Errorf("stopping what has ended: %v", err)
		}
	})
}

func TestExpiresAndExhausts(t *testing.T) {
	for _, tt := range []struct {
		name     string
		duration time.Duration
		limit    ledger.Amount
		want     ledger.Reason
	}{
		{"expiry", 2 * time.Minute, 10 * ledger.Unit, ledger.ReasonExpired},
		{"cap", 2 * time.Hour, 3 * ledger.Unit / 100, ledger.ReasonExhausted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				req := w.request()
				req.Duration, req.Candidates[0].Cap = tt.duration, tt.limit
				in := w.ended(w.buy(req).ID)
				if in.Reason != tt.want {
					t.Errorf("reason %s, want %s", in.Reason, tt.want)
				}
				if in.Amount > tt.limit {
					t.Errorf("billed %s over the cap %s", in.Amount, tt.limit)
				}
			})
		})
	}
}

func TestExtend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		req := w.request()
		req.Duration = time.Minute
		in := w.buy(req)
		time.Sleep(30 * time.Second)
		longer, err := w.buyer.Extend(t.Context(), in.ID, 10*time.Minute, ledger.Unit)
		if err != nil {
			t.Fatal(err)
		}
		if longer.Agreement.Revision != 1 || longer.Agreement.Cap != 11*ledger.Unit {
			t.Errorf("revision %d with cap %s, want 1 with 11", longer.Agreement.Revision, longer.Agreement.Cap)
		}
		time.Sleep(5 * time.Minute)
		if now, _ := w.buyer.Session(in.ID); now.State != StateRunning {
			t.Fatalf("state %s after the first expiry, want running", now.State)
		}
		in = w.ended(in.ID)
		if run := time.Duration(in.Usage.RunNanos); run < 10*time.Minute || run > 12*time.Minute { //nolint:gosec // small
			t.Errorf("ran %s, want about 11 minutes", run)
		}
	})
}

func TestFailedStartCostsNothing(t *testing.T) {
	secret := errors.New("open /srv/secret: input/output error")
	for name, tt := range map[string]struct {
		breakIt func(*HostConfig, *fakeDriver)
		told    string
	}{
		"image":  {func(c *HostConfig, _ *fakeDriver) { c.Images = fakeImages{secret} }, "fetch image " + testImage().String() + ": a fault of the server"},
		"launch": {func(_ *HostConfig, d *fakeDriver) { d.failStart = secret }, "start: a fault of the server"},
		"module": {func(_ *HostConfig, d *fakeDriver) { d.failStart = hypervisor.Explain("bad module", secret) }, "start: bad module"},
		"driver": {func(_ *HostConfig, d *fakeDriver) {
			d.failStart = fmt.Errorf("%w: %w", hypervisor.ErrNotSupported, secret)
		}, "start: the server lacks what it takes"},
		"probe": {func(c *HostConfig, _ *fakeDriver) {
			c.Probe = func(context.Context, hypervisor.Instance) error { return secret }
		}, "start: it did not answer from outside"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				_ = w.host.Close()
				var log strings.Builder
				w.changeHost = func(c *HostConfig) {
					c.Logger = slog.New(slog.NewTextHandler(&log, nil))
					tt.breakIt(c, w.driver)
				}
				w.startHost()
				_, err := w.buyer.Buy(t.Context(), w.request(), nil)
				if err == nil || !strings.Contains(err.Error(), "never ran") || !strings.Contains(err.Error(), tt.told) {
					t.Errorf("buy: %v, want that it never ran, and %q", err, tt.told)
				}
				w.ended(ledger.ID{7})
				_ = w.host.Close() // the last to write the log
				if err != nil && strings.Contains(err.Error(), "secret") || !strings.Contains(log.String(), secret.Error()) {
					t.Errorf("told %v, logged %q; the cause is for the log alone", err, log.String())
				}
				if w.corp.earned != 0 {
					t.Errorf("earned %s for nothing", w.corp.earned)
				}
			})
		})
	}
}

// TestDamagedEnvironment: a session whose environment cannot be read ends no
// other one, and is not taken for one whose environment is gone.
func TestDamagedEnvironment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		in := w.buy(w.request())
		for _, damaged := range [][]string{{"other", ledger.ID{9}.String()}, {in.ID.String()}, nil} {
			w.driver.damage(damaged...)
			time.Sleep(25 * time.Second)
			if now, _ := w.buyer.Session(in.ID); now.State != StateRunning {
				t.Errorf("state %s while %v cannot be read, want running", now.State, damaged)
			}
		}
		w.driver.damage(in.ID.String())
		if err := w.buyer.Stop(t.Context(), in.ID); err != nil {
			t.Error(err)
		}
		if w.ended(in.ID); w.driver.running() != 0 {
			t.Errorf("%d run on after the end", w.driver.running())
		}
	})
}

func TestHostRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		in := w.buy(w.request())
		time.Sleep(25 * time.Second)
		w.wires.setCut(peerOf(w.serverKey), true)
		_ = w.host.Close() // environments go on
		if w.driver.running() != 1 {
			t.Fatal("closing the host ended the environment")
		}
		time.Sleep(30 * time.Second)
		w.startHost()
		w.wires.setCut(peerOf(w.serverKey), false)
		time.Sleep(30 * time.Second)
		if now, _ := w.buyer.Session(in.ID); now.State != StateRunning {
			t.Fatalf("state %s after the restart, want running", now.State)
		}
		if w.driver.starts != 1 {
			t.Errorf("started %d times", w.driver.starts)
		}
		if err := w.buyer.Stop(t.Context(), in.ID); err != nil {
			t.Fatal(err)
		}
		in = w.ended(in.ID)
		if run := time.Duration(in.Usage.RunNanos); run < 84*time.Second || run > 88*time.Second { //nolint:gosec // small
			t.Errorf("billed %s of running, want 85 s", run)
		}
	})
}

func TestClientVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		req := w.request()
		req.Duration = 2 * time.Minute
		in := w.buy(req)
		time.Sleep(5 * time.Second)
		w.wires.setCut(peerOf(w.clientKey), true)
		_ = w.buyer.Close()
		time.Sleep(10 * time.Minute)
		if hosted, _ := w.host.Session(in.ID); hosted.State != StateEnded {
			t.Fatalf("state at the server %s, want ended", hosted.State)
		}
		w.balanced()
		if w.corp.earned == 0 || w.corp.unsigned == 0 {
			t.Errorf("earned %s with %d claims unsigned, want some of both", w.corp.earned, w.corp.unsigned)
		}
		w.startBuyer()
		w.wires.setCut(peerOf(w.clientKey), false)
		if in = w.ended(in.ID); in.Settlement == nil {
			t.Error("the client does not know the settlement")
		}
	})
}

func TestXenoCorpDownAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		in := w.buy(w.request())
		time.Sleep(20 * time.Second)
		w.corp.setDown(true)
		w.driver.exit(in.ID.String(), 0)
		time.Sleep(5 * time.Minute)
		if hosted, _ := w.host.Session(in.ID); hosted.State != StateSettling {
			t.Errorf("state %s while XenoCorp is down, want settling", hosted.State)
		}
		w.corp.setDown(false)
		w.ended(in.ID)
	})
}

func TestXenoCorpDownAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.corp.setDown(true)
		if _, err := w.buyer.Buy(t.Context(), w.request(), nil); !errors.Is(err, errDown) {
			t.Fatalf("buy: %v, want %v", err, errDown)
		}
		time.Sleep(2 * HoldTime)
		w.corp.setDown(false)
		in := w.ended(ledger.ID{7})
		if w.driver.starts != 0 || in.Settlement != nil {
			t.Errorf("started %d times, settlement %v; want nothing", w.driver.starts, in.Settlement)
		}
	})
}

// TestConfirmedLate has the client's confirmation arrive after the hold of the
// resources is over: the money that XenoCorp holds must come back.
func TestConfirmedLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		_, err := w.buyer.Buy(t.Context(), w.cutAfterAuthorise(), nil)
		if err == nil {
			t.Fatal("bought over a cut wire")
		}
		time.Sleep(3 * HoldTime)
		w.wires.setCut(peerOf(w.serverKey), false)
		w.ended(ledger.ID{7})
		if w.driver.starts != 0 || w.corp.earned != 0 {
			t.Errorf("started %d times, earned %s; want nothing", w.driver.starts, w.corp.earned)
		}
	})
}

// cutAfterAuthorise returns a request whose server is cut off once XenoCorp
// has authorised.
func (w *world) cutAfterAuthorise() BuyRequest {
	w.buyer.cfg.Payer = cutter{w}
	return w.request()
}

type cutter struct{ w *world }

func (c cutter) Authorise(ctx context.Context, env *ledger.Envelope) (*ledger.Envelope, error) {
	c.w.wires.setCut(peerOf(c.w.serverKey), true)
	return c.w.corp.Authorise(ctx, env)
}

func (c cutter) Settlement(ctx context.Context, id ledger.ID) (*ledger.Envelope, error) {
	return c.w.corp.Settlement(ctx, id)
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for _, tt := range []struct {
			name   string
			change func(*BuyRequest)
			code   Code
		}{
			{"too many CPUs", func(r *BuyRequest) { r.Terms.CPUs, r.Terms.CPUShare = 5, 5000 }, CodeCapacity},
			{"too much memory", func(r *BuyRequest) { r.Terms.MemoryBytes = 5 << 30 }, CodeCapacity},
			{"no such environment", func(r *BuyRequest) { r.Terms.Environment = "vax" }, CodeEnvironment},
			{"no image", func(r *BuyRequest) { r.Terms.Image = ledger.Link{} }, CodeTerms},
			{"share above the CPUs", func(r *BuyRequest) { r.Terms.CPUShare = 2000 }, CodeTerms},
			{"too long", func(r *BuyRequest) { r.Duration = 400 * 24 * time.Hour }, CodeTerms},
			{"cap above the order", func(r *BuyRequest) { r.Candidates[0].Cap = 51 * ledger.Unit }, CodeOrder},
			{"no cap", func(r *BuyRequest) { r.Candidates[0].Cap = 0 }, CodeOrder},
			{"host key", func(r *BuyRequest) { r.Terms.HostKey = "ssh-ed25519 AAAA" }, CodeMalformed},
		} {
			req := w.request()
			tt.change(&req)
			_, err := w.buyer.Buy(t.Context(), req, nil)
			var r *Refusal
			if !errors.As(err, &r) || r.Code != tt.code || !errors.Is(err, ErrNoServer) {
				t.Errorf("%s: %v, want a refusal %s", tt.name, err, tt.code)
			}
		}
		synctest.Wait()
		w.balanced()
	})
}

func TestHoldLapses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.corp.free = 0 // XenoCorp will not authorise
		if _, err := w.buyer.Buy(t.Context(), w.request(), nil); !errors.Is(err, ledger.ErrFunds) {
			t.Fatalf("buy: %v, want %v", err, ledger.ErrFunds)
		}
		if w.host.Free() == w.serverCapacity {
			t.Error("the proposal holds nothing")
		}
		time.Sleep(HoldTime + 3*time.Second)
		if w.host.Free() != w.serverCapacity {
			t.Error("the hold did not lapse")
		}
	})
}

// TestPriceRise has a server ask for more than it advertised.
func TestPriceRise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		req := w.request()
		req.Candidates[0].Rates.CPU--
		if _, err := w.buyer.Buy(t.Context(), req, nil); !errors.Is(err, ErrNoServer) || !strings.Contains(err.Error(), "prices") {
			t.Errorf("buy: %v, want that the prices are above the advertised", err)
		}
	})
}

// TestIdempotent repeats a purchase, at once and later.
func TestIdempotent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		results := make(chan error, 5)
		for range cap(results) {
			go func() {
				_, err := w.buyer.Buy(t.Context(), w.request(), nil)
				results <- err
			}()
		}
		for range cap(results) {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		w.buy(w.request())
		if w.driver.starts != 1 {
			t.Errorf("started %d times", w.driver.starts)
		}
		if err := w.buyer.Stop(t.Context(), ledger.ID{7}); err != nil {
			t.Fatal(err)
		}
		w.ended(ledger.ID{7})
	})
}

// TestGreedyMeter has a driver report more CPU time than was agreed.
func TestGreedyMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.driver.factor = 8
		in := w.buy(w.request())
		time.Sleep(time.Minute)
		w.driver.exit(in.ID.String(), 0)
		in = w.ended(in.ID)
		if in.Usage.CPUNanos > in.Usage.RunNanos+uint64(allowance+attendInterval) || w.corp.unsigned != 0 {
			t.Errorf("billed %d ns of CPU in %d ns, %d claims unsigned", in.Usage.CPUNanos, in.Usage.RunNanos, w.corp.unsigned)
		}
	})
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.Drain(true)
		var r *Refusal
		if _, err := w.buyer.Buy(t.Context(), w.request(), nil); !errors.As(err, &r) || r.Code != CodeDraining {
			t.Errorf("buy: %v, want %s", err, CodeDraining)
		}
	})
}
