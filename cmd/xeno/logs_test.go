package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
	"github.com/xenoserver/xeno/node/api/apitest"
)

// cancelAt is a writer that ends a context when it is written to.
type cancelAt struct {
	bytes.Buffer
	cancel context.CancelFunc
}

func (c *cancelAt) Write(b []byte) (int, error) {
	c.cancel()
	return c.Buffer.Write(b)
}

// TestFollowInterrupted interrupts the following of a session that runs on.
func TestFollowInterrupted(t *testing.T) {
	fake := apitest.New()
	fake.Hold = true
	home := filepath.Join(t.TempDir(), "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(home, api.SocketName)
	l, err := api.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	server := api.Serve(l, fake, slog.New(slog.DiscardHandler))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := fake.CreateOrder(ctx, api.OrderRequest{Amount: 5 * ledger.Unit}); err != nil {
		t.Fatal(err)
	}
	s, err := fake.Run(ctx, api.RunRequest{Session: ledger.ID{1}, Cap: ledger.Unit, Terms: api.Terms{Environment: "wasi"}}, func(api.RunEvent) {})
	if err != nil {
		t.Fatal(err)
	}
	out := &cancelAt{cancel: cancel}
	f := &follower{app: &app{stdout: out, stderr: out}, client: api.NewClient(socket), id: s.ID, limit: 100}
	err = f.run(ctx)
	if !errors.Is(err, context.Canceled) || exitCode(err) != exitInterrupted || out.String() != "hello from the fake\n" {
		t.Errorf("got %v after %q; want that it was interrupted after the line", err, out.String())
	}
}

func TestOverlap(t *testing.T) {
	for _, tt := range []struct {
		before, now string
		want        int
	}{
		{"", "", 0},
		{"", "abc", 0},
		{"abc", "", 0},
		{"abc", "abc", 3},
		{"abc", "abcdef", 3},
		{"abc", "bcd", 2},
		{"abcdef", "def", 3},
		{"abcdef", "fgh", 1},
		{"abc", "xyz", 0},
		{"aaaa", "aaab", 3},
		{"abab", "ababab", 4},
	} {
		if got := overlap([]byte(tt.before), []byte(tt.now)); got != tt.want {
			t.Errorf("%q then %q: %d known, want %d", tt.before, tt.now, got, tt.want)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 { // against every length tried out
		before, now := make([]byte, r.IntN(12)), make([]byte, r.IntN(12))
		for _, b := range [][]byte{before, now} {
			for i := range b {
				b[i] = 'a' + byte(r.IntN(2))
			}
		}
		want := min(len(before), len(now))
		for !bytes.Equal(before[len(before)-want:], now[:want]) {
			want--
		}
		if got := overlap(before, now); got != want {
			t.Errorf("%q then %q: %d known, want %d", before, now, got, want)
		}
	}
}

// TestFresh follows an output through a window smaller than it.
func TestFresh(t *testing.T) {
	f := &follower{limit: 4}
	var shown, before []byte
	for _, now := range []string{"", "one\ntwo\n", "one\ntwo\nthree\n", "two\nthree\nfour\n", "", "four\nfive\n"} {
		fresh, lost := f.fresh(before, []byte(now))
		if lost {
			t.Errorf("lost before %q", now)
		}
		shown = append(shown, fresh...)
		f.begun = true
		if now != "" {
			before = []byte(now)
		}
	}
	if want := "one\ntwo\nthree\nfour\nfive\n"; string(shown) != want {
		t.Errorf("showed %q, want %q", shown, want)
	}
	if fresh, lost := f.fresh(before, []byte("ten\n")); !lost || string(fresh) != "ten\n" {
		t.Errorf("after a gap: %q, lost %t", fresh, lost)
	}
	late := &follower{limit: 4}
	if fresh, _ := late.fresh(nil, []byte("one\ntwo\n")); string(fresh) != "two\n" {
		t.Errorf("began with %q, want the newest 4 bytes", fresh)
	}
}
