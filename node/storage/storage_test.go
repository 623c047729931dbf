package storage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/xenoserver/xeno/dht/kad"
	"github.com/xenoserver/xeno/dht/kad/kadtest"
	"github.com/xenoserver/xeno/store"
	"github.com/xenoserver/xeno/store/blocks"
)

// A world is a cluster with a storage service on every host.
type world struct {
	hosts    []*kad.Overlay
	services []*Service
	dirs     []string
}

// newWorld starts n hosts. change may alter a service's configuration.
func newWorld(t testing.TB, n int, change func(i int, cfg *Config), opts ...kadtest.Option) *world {
	t.Helper()
	w := &world{services: make([]*Service, n), dirs: make([]string, n)}
	opts = append(opts, kadtest.WithSetup(func(i int, o *kad.Overlay) {
		w.dirs[i] = t.TempDir()
		cfg := Config{Overlay: o, Key: kadtest.Key(i), Network: kadtest.Network, Dir: w.dirs[i], Stall: 20 * time.Second}
		if change != nil {
			change(i, &cfg)
		}
		s, err := New(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		w.services[i] = s
		t.Cleanup(func() { w.close(t, i) })
	}))
	w.hosts = kadtest.Cluster(t, n, opts...)
	for _, s := range w.services {
		s.Start()
	}
	return w
}

func (w *world) close(t testing.TB, i int) {
	if err := w.services[i].Close(); err != nil {
		t.Errorf("close service %d: %v", i, err)
	}
}

// kill ends a host with its service.
func (w *world) kill(t testing.TB, i int) {
	t.Helper()
	w.close(t, i)
	kadtest.Kill(t, w.hosts[i])
}

// content returns n bytes that depend on seed alone.
func testContent(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func (w *world) add(t testing.TB, i int, b []byte) store.Ref {
	t.Helper()
	a, err := w.services[i].Add(t.Context(), "image", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return a.Ref
}

func TestFetchFromWhoeverHasIt(t *testing.T) {
	w := newWorld(t, 12, nil)
	want := testContent(1, 5<<20+3)
	ref := w.add(t, 11, want)
	var last int64
	path, err := w.services[3].Fetch(t.Context(), ref, func(done int64) { last = done })
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("fetched %d bytes, %v", len(got), err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != 0o444 {
		t.Errorf("mode %v, %v, want a read-only regular file", info.Mode(), err)
	}
	if last != int64(len(want)) {
		t.Errorf("progress ended at %d of %d", last, len(want))
	}
	// Who has fetched it has it: the first one may go.
	w.kill(t, 11)
	dest := filepath.Join(t.TempDir(), "copy")
	if _, err := w.services[7].Get(t.Context(), ref, dest, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(dest); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	again, err := w.services[3].Fetch(t.Context(), ref, nil)
	if err != nil || again != path {
		t.Errorf("second fetch: %s, %v, want %s", again, err, path)
	}
	r := w.services[5].Open(t.Context(), ref)
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
}

// TestFetchFromFar: the two are not connected, and find each other by the
// provider record.
func TestFetchFromFar(t *testing.T) {
	w := newWorld(t, 12, nil)
	want := testContent(2, 1<<20)
	ref := w.add(t, 11, want)
	far := 3
	if err := w.hosts[far].Host().Network().ClosePeer(w.hosts[11].Host().ID()); err != nil {
		t.Fatal(err)
	}
	path, err := w.services[far].Fetch(t.Context(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("fetched %d bytes, %v", len(got), err)
	}
}

func TestNobodyHasIt(t *testing.T) {
	const stall = time.Second
	w := newWorld(t, 4, func(_ int, cfg *Config) { cfg.Stall = stall })
	ref, err := store.ParseRef("bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, err = w.services[0].Fetch(t.Context(), ref, nil)
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("fetch: %v, want ErrUnavailable", err)
	}
	if took := time.Since(began); took > 5*stall {
		t.Errorf("it took %v to say so", took)
	}
	if err != nil && !strings.Contains(err.Error(), "xeno store add") {
		t.Errorf("%v does not tell what to do", err)
	}
	if _, err := w.services[0].Get(t.Context(), ref, filepath.Join(t.TempDir(), "x"), nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("get: %v, want ErrUnavailable", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.services[0].Fetch(ctx, ref, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled fetch: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(w.dirs[0], "images", ".*"))
	if err != nil || len(left) != 0 {
		t.Errorf("failed fetches left %v, %v", left, err)
	}
}

// TestProviderDies kills one of two providers after the first bytes have
// arrived.
func TestProviderDies(t *testing.T) {
	w := newWorld(t, 6, nil)
	want := testContent(3, 24<<20)
	ref := w.add(t, 4, want)
	w.add(t, 5, want)
	died := make(chan struct{})
	var once bool
	path, err := w.services[0].Fetch(t.Context(), ref, func(done int64) {
		if !once && done >= 2<<20 {
			once = true
			go func() { defer close(died); w.kill(t, 4) }()
		}
	})
	<-died
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("fetched %d bytes, %v", len(got), err)
	}
}

// TestDamagedProvider: blocks that are damaged on a provider's disk are never
// served, come from another, and are an error where there is no other.
func TestDamagedProvider(t *testing.T) {
	w := newWorld(t, 5, func(_ int, cfg *Config) { cfg.Stall = 3 * time.Second })
	want := testContent(4, 4<<20)
	ref := w.add(t, 3, want)
	damaged := 0
	err := filepath.WalkDir(filepath.Join(w.dirs[3], "blocks", "blocks"), func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".data") {
			b, rerr := os.ReadFile(path)
			if rerr != nil {
				return rerr
			}
			if len(b) == 1<<20 {
				b[77] ^= 1
				damaged++
				return os.WriteFile(path, b, 0o600)
			}
		}
		return err
	})
	if err != nil || damaged != 4 {
		t.Fatalf("damaged %d blocks, %v", damaged, err)
	}
	if _, err := w.services[0].Fetch(t.Context(), ref, nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("fetch from a damaged provider: %v, want ErrUnavailable", err)
	}
	w.add(t, 4, want)
	path, err := w.services[0].Fetch(t.Context(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("fetched %d bytes, %v", len(got), err)
	}
}

// TestRepair: pinned blocks that were lost are fetched when the daemon starts.
func TestRepair(t *testing.T) {
	var lost store.Ref
	root := t.TempDir()
	want := testContent(5, 3<<20)
	s, err := blocks.Open(t.Context(), blocks.Config{Dir: filepath.Join(root, "blocks")})
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.Add(t.Context(), "x", bytes.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	lost = a.Ref
	if err := errors.Join(s.DeleteBlock(t.Context(), lost.CID()), s.Close()); err != nil {
		t.Fatal(err)
	}
	full := t.TempDir()
	if s, err = blocks.Open(t.Context(), blocks.Config{Dir: filepath.Join(full, "blocks")}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Add(t.Context(), "x", bytes.NewReader(want)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, 3, func(i int, cfg *Config) {
		switch i {
		case 0:
			cfg.Dir = full
		case 2:
			cfg.Dir = root
		}
	})
	w.services[2].repair(t.Context()) // Start does it too, sooner or later
	if _, err := blocks.Copy(t.Context(), io.Discard, w.services[2].blocks.Local(), lost, 1<<30); err != nil {
		t.Errorf("after the repair: %v", err)
	}
}

func TestImagesLimit(t *testing.T) {
	w := newWorld(t, 1, func(_ int, cfg *Config) { cfg.MaxImages = 3 << 20 })
	s := w.services[0]
	a, b := w.add(t, 0, testContent(6, 2<<20)), w.add(t, 0, testContent(7, 2<<20))
	pathA, err := s.Fetch(t.Context(), a, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Fetch(t.Context(), b, nil); !errors.Is(err, blocks.ErrFull) {
		t.Errorf("second image while the first was just handed out: %v, want ErrFull", err)
	}
	s.images.mu.Lock()
	s.images.files[a].used = time.Now().Add(-2 * imageGrace)
	s.images.mu.Unlock()
	if _, err := s.Fetch(t.Context(), b, nil); err != nil {
		t.Errorf("second image when the first is old: %v", err)
	}
	if _, err := os.Stat(pathA); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the first image is still there: %v", err)
	}
	if got := s.images.size(); got != 2<<20 {
		t.Errorf("images take %d bytes", got)
	}
	large := w.add(t, 0, testContent(8, 4<<20))
	if _, err := s.Fetch(t.Context(), large, nil); !errors.Is(err, blocks.ErrTooLarge) {
		t.Errorf("image above the limit: %v, want ErrTooLarge", err)
	}
	if _, err := s.Fetch(t.Context(), b, nil); err != nil {
		t.Error(err)
	}
}

func TestFetchOfDirectory(t *testing.T) {
	w := newWorld(t, 2, nil)
	dir := t.TempDir()
	for name, text := range map[string]string{"f": "x", "empty": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a, err := w.services[0].AddPath(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.services[1].Fetch(t.Context(), a.Ref, nil); !errors.Is(err, blocks.ErrNotFile) {
		t.Errorf("fetch of a directory: %v, want ErrNotFile", err)
	}
	path, err := w.services[1].FetchDir(t.Context(), a.Ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(path, "f")); err != nil || string(got) != "x" {
		t.Errorf("fetched %q, %v", got, err)
	}
	if info, err := os.Stat(filepath.Join(path, "empty")); err != nil || info.Size() != 0 {
		t.Errorf("the empty file: %v, %v", info, err)
	}
	if _, err := w.services[1].Fetch(t.Context(), a.Ref, nil); !errors.Is(err, blocks.ErrNotFile) {
		t.Errorf("fetch as a file of a directory that is there: %v, want ErrNotFile", err)
	}
	if _, err := w.services[1].FetchDir(t.Context(), w.add(t, 0, []byte("y")), nil); !errors.Is(err, blocks.ErrNotDir) {
		t.Errorf("fetch as a directory of a file: %v, want ErrNotDir", err)
	}
	dest := filepath.Join(t.TempDir(), "d")
	if _, err := w.services[1].Get(t.Context(), a.Ref, dest, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dest, "f")); err != nil || string(got) != "x" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestChangedImage: a file that was changed from outside is made again.
func TestChangedImage(t *testing.T) {
	w := newWorld(t, 1, nil)
	want := testContent(9, 1<<20)
	ref := w.add(t, 0, want)
	path, err := w.services[0].Fetch(t.Context(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func() error{
		"removed":   func() error { return os.Remove(path) },
		"truncated": func() error { return errors.Join(os.Chmod(path, 0o600), os.Truncate(path, 10)) },
		"replaced by a link": func() error {
			return errors.Join(os.Remove(path), os.Symlink("/etc/hostname", path))
		},
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if _, err := w.services[0].Fetch(t.Context(), ref, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

// TestConcurrentFetch: many callers share one download, and the one who began
// it may go.
func TestConcurrentFetch(t *testing.T) {
	w := newWorld(t, 2, nil)
	ref := w.add(t, 0, testContent(10, 8<<20))
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error, 8)
	for i := range 8 {
		go func() {
			c := t.Context()
			if i == 0 {
				c = ctx
			}
			_, err := w.services[1].Fetch(c, ref, nil)
			if i == 0 && errors.Is(err, context.Canceled) {
				err = nil
			}
			errs <- err
		}()
	}
	cancel()
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got := w.services[1].Stats().BytesReceived; got > 12<<20 {
		t.Errorf("%d bytes came for a file of 8 MiB", got)
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
