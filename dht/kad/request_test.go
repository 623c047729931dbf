package kad_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/dht/kad"
	"github.com/xenoserver/xeno/dht/kad/kadtest"
)

// TestSlowAnswer: contexts end requests, the default deadline too.
func TestSlowAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		hosts := kadtest.Cluster(t, 2, kadtest.WithSetup(func(_ int, o *kad.Overlay) {
			o.Handle("/test/hang/1", 100, func(ctx context.Context, _ dht.PeerID, _ []byte) ([]byte, error) {
				select {
				case <-ctx.Done():
				case <-hang:
				}
				return nil, ctx.Err()
			})
		}))
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		if _, err := hosts[0].Request(ctx, hosts[1].Contact(), "/test/hang/1", nil, 10); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("took %v", took)
		}
		began = time.Now()
		if _, err := hosts[0].Request(t.Context(), hosts[1].Contact(), "/test/hang/1", nil, 10); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("took %v without a deadline", took)
		}

		var wg sync.WaitGroup
		var mu sync.Mutex
		busy := 0
		for range 80 {
			wg.Go(func() {
				_, err := hosts[0].Request(t.Context(), hosts[1].Contact(), "/test/hang/1", nil, 10)
				mu.Lock()
				defer mu.Unlock()
				if errors.Is(err, kad.ErrBusy) {
					busy++
				} else if err != nil {
					t.Errorf("error %v", err)
				}
			})
		}
		synctest.Wait()
		close(hang)
		wg.Wait()
		if busy < 16 {
			t.Errorf("%d of 80 requests at once were refused", busy)
		}
		if _, err := hosts[0].Request(t.Context(), hosts[1].Contact(), "/test/hang/1", nil, 10); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// TestCloseUnderLoad: Close ends what is under way, and waits.
func TestCloseUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		entered := make(chan struct{}, 2)
		hosts := kadtest.Cluster(t, 3, kadtest.WithLatency(time.Millisecond), kadtest.WithSetup(func(_ int, o *kad.Overlay) {
			o.Handle("/test/hang/1", 100, func(ctx context.Context, _ dht.PeerID, _ []byte) ([]byte, error) {
				entered <- struct{}{}
				<-ctx.Done()
				return nil, ctx.Err()
			})
			o.HandleStream("/test/stream/1", func(_ context.Context, _ dht.PeerID, s net.Conn) {
				entered <- struct{}{}
				_, _ = io.Copy(io.Discard, s)
			})
		}))
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := hosts[0].Request(t.Context(), hosts[1].Contact(), "/test/hang/1", nil, 10); err == nil {
				t.Error("request answered")
			}
		})
		wg.Go(func() {
			s, err := hosts[0].OpenStream(t.Context(), hosts[1].Contact(), "/test/stream/1")
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = s.Write([]byte("x"))
			if _, err := s.Read(make([]byte, 1)); err == nil {
				t.Error("stream answered")
			}
			_ = s.Close()
		})
		<-entered
		<-entered
		kadtest.Kill(t, hosts[1])
		kadtest.Kill(t, hosts[1])
		wg.Wait()
		if _, err := hosts[1].Request(t.Context(), hosts[0].Contact(), "/test/hang/1", nil, 10); !errors.Is(err, kad.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		if err := hosts[1].Bootstrap(t.Context()); !errors.Is(err, kad.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// TestStream echoes through a stream both ways, and half-closes it.
func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hosts := kadtest.Cluster(t, 2, kadtest.WithLatency(5*time.Millisecond), kadtest.WithSetup(func(_ int, o *kad.Overlay) {
			o.HandleStream("/test/stream/1", func(_ context.Context, from dht.PeerID, s net.Conn) {
				_, _ = io.Copy(s, io.MultiReader(strings.NewReader(from.Short()), s))
			})
		}))
		s, err := hosts[0].OpenStream(t.Context(), hosts[1].Contact(), "/test/stream/1")
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Repeat("abcdefgh", 100_000)
		go func() {
			_, _ = io.WriteString(s, text)
			_ = s.(*kad.Stream).CloseWrite()
		}()
		got, err := io.ReadAll(s)
		if err != nil || string(got) != hosts[0].ID().Short()+text {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if s.LocalAddr().String() == "" || s.RemoteAddr().String() == "" {
			t.Error("no addresses")
		}
		_ = s.Close()
		s, err = hosts[0].OpenStream(t.Context(), hosts[1].Contact(), "/test/none/1")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = s.Write([]byte("x"))
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, kad.ErrNoProtocol) {
			t.Errorf("stream of an unknown protocol: %v", err)
		}
		_ = s.Close()
	})
}

// TestProviders: members store each other's provider records, by kad-dht and
// by the raw message that TestStranger tries in vain; values nobody takes.
func TestProviders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hosts := kadtest.Cluster(t, 30, kadtest.WithLatency(5*time.Millisecond))
		mh, err := multihash.Sum([]byte("block"), multihash.SHA2_256, -1)
		if err != nil {
			t.Fatal(err)
		}
		block := cid.NewCidV1(cid.Raw, mh)
		if err := hosts[3].ContentRouting().Provide(t.Context(), block, true); err != nil {
			t.Fatal(err)
		}
		for _, h := range hosts {
			found := 0
			for p := range h.ContentRouting().FindProvidersAsync(t.Context(), block, 1) {
				found++
				if p.ID != kad.ToPeer(hosts[3].ID()) {
					t.Errorf("found %s", p.ID)
				}
			}
			if found != 1 {
				t.Errorf("%s found %d providers", h.ID().Short(), found)
			}
		}
		intrude(t, hosts[7], hosts[8], mh)
		time.Sleep(time.Second)
		providers, err := hosts[8].DHT().ProviderStore().GetProviders(t.Context(), mh)
		if err != nil {
			t.Fatal(err)
		}
		stored := false
		for _, p := range providers {
			stored = stored || p.ID == kad.ToPeer(hosts[7].ID())
		}
		if !stored {
			t.Error("a member's raw record was not stored")
		}
		if err := hosts[3].DHT().PutValue(t.Context(), "/pk/x", []byte("x")); err == nil {
			t.Error("a value was stored")
		}
	})
}
