package storage

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/xenoserver/xeno/dht/kad/kadtest"
)

// TestNameLives lets one and a half lives of names pass: they outlive it
// because their owner renews them, and end when he retracts them.
func TestNameLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 5, func(_ int, cfg *Config) { cfg.NameLife = 20 * time.Minute }, kadtest.WithLatency(10*time.Millisecond))
		ctx := t.Context()
		owner := w.hosts[1].ID()
		for _, label := range []string{"kept", "left"} {
			if _, err := w.services[1].Publish(ctx, label, inline(label)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.services[1].Retract("left"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Minute) // of the bubble
		for i, s := range w.services {
			if r, err := s.Resolve(ctx, owner, "kept"); err != nil || string(r.Inline) != "kept" || r.Seq < 4 {
				t.Errorf("host %d resolves the renewed name to %+v, %v", i, r, err)
			}
			if r, err := s.Resolve(ctx, owner, "left"); err == nil {
				t.Errorf("host %d resolves the retracted name to %+v", i, r)
			}
		}
		if st := w.services[0].Stats().Names; st.Names > 1 {
			t.Errorf("%d names are held, one has expired", st.Names)
		}
		if _, err := w.services[1].PublishOn(ctx, "left", 1, inline("again")); err == nil {
			t.Error("an expired version counts as newest")
		}
		if seq, err := w.services[1].Publish(ctx, "left", inline("again")); err != nil || seq != 2 {
			t.Errorf("published again: version %d, %v, want 2", seq, err)
		}
	})
}
