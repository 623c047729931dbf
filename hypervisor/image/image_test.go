package image

import (
	"bytes"
	"debug/buildinfo"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/image/internal/guestbuild"
	"github.com/xenoserver/xeno/internal/testenv"
)

// TestInitIsReproducible builds the guest's init from its source and compares
// it with the one that is committed. After a change: go generate.
func TestInitIsReproducible(t *testing.T) {
	committed, err := EmbeddedInit()
	if err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.Read(bytes.NewReader(committed))
	if err != nil {
		t.Fatal(err)
	}
	if info.GoVersion != runtime.Version() {
		t.Logf("committed init is of %s, this is %s: not comparable", info.GoVersion, runtime.Version())
		return
	}
	fresh, err := guestbuild.Build()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(fresh, committed) {
		t.Errorf("the committed init (%d bytes) is not what its source gives (%d bytes): run go generate ./hypervisor/image", len(committed), len(fresh))
	}
}

// build builds an image of what the machine has.
func build(t *testing.T) (string, Manifest) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "image")
	m, err := Build(t.Context(), Options{Out: dir})
	testenv.Require(t, "qemu", err)
	return dir, m
}

func TestBuildIsDeterministic(t *testing.T) {
	a, first := build(t)
	b, second := build(t)
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("two builds differ:\n%s", diff)
	}
	for _, name := range []string{ManifestName, KernelName, InitrdName} {
		x, err := os.ReadFile(filepath.Join(a, name))
		if err != nil {
			t.Fatal(err)
		}
		y, err := os.ReadFile(filepath.Join(b, name))
		if err != nil || !bytes.Equal(x, y) {
			t.Errorf("%s differs, %v", name, err)
		}
	}
	opened, err := Open(a)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, opened); diff != "" {
		t.Errorf("manifest (-built +opened):\n%s", diff)
	}
	if first.Digest() != second.Digest() || len(first.Digest()) != 64 {
		t.Errorf("digests %s, %s", first.Digest(), second.Digest())
	}
}

func TestOpenFindsDamage(t *testing.T) {
	dir, _ := build(t)
	name := filepath.Join(dir, InitrdName)
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for what, edit := range map[string][]byte{
		"flipped bit": append([]byte{data[0] ^ 1}, data[1:]...), "cut": data[:len(data)-1], "longer": append(bytes.Clone(data), 0),
	} {
		if err := os.WriteFile(name, edit, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); !errors.Is(err, ErrBadImage) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); !errors.Is(err, ErrBadImage) {
		t.Errorf("missing: %v", err)
	}
}

// TestInitrd reads the archive back.
func TestInitrd(t *testing.T) {
	in := inputs{
		init: []byte("init"), busybox: []byte("busybox"), applets: []string{"bin/sh", "usr/bin/wc"},
		modules: []module{{"virtio_ring", []byte("ring")}, {"virtio", []byte("v")}}, zstd: true,
	}
	packed, err := in.initrd()
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	r := cpio.NewReader(z)
	dirs := map[string]bool{".": true}
	got := make(map[string]string)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !dirs[filepath.Dir(h.Name)] {
			t.Errorf("%s comes before its directory", h.Name)
		}
		if h.Mode.IsDir() {
			dirs[h.Name] = true
			continue
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = string(data) + h.Linkname
		if !h.ModTime.IsZero() && h.ModTime.Unix() != 0 || h.Uid != 0 || h.Guid != 0 {
			t.Errorf("%s has a time or an owner: %+v", h.Name, h)
		}
	}
	delete(got, "etc/passwd")
	delete(got, "etc/group")
	delete(got, "etc/profile")
	want := map[string]string{
		"init": "init", "bin/busybox": "busybox", "bin/sh": "/bin/busybox", "usr/bin/wc": "/bin/busybox",
		"lib/modules/boot/00-virtio_ring.ko": "ring", "lib/modules/boot/01-virtio.ko": "v",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestBadInputs(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("no kernel ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{
		"no output":      {},
		"no such kernel": {Out: dir, Kernel: filepath.Join(dir, "none")},
		"not a kernel":   {Out: dir, Kernel: text},
	} {
		if _, err := Build(t.Context(), o); err == nil || name != "no output" && !errors.Is(err, ErrBadImage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := newestKernel(dir); !errors.Is(err, hypervisor.ErrNotSupported) || !strings.Contains(err.Error(), "apt install") {
		t.Errorf("no kernels: %v", err)
	}
	if _, err := readStatic(text); !errors.Is(err, ErrBadImage) {
		t.Errorf("text as busybox: %v", err)
	}
}

func TestCompareVersions(t *testing.T) {
	sorted := []string{"vmlinuz-5.10.0-1", "vmlinuz-6.1.0-9-cloud", "vmlinuz-6.1.0-56-cloud", "vmlinuz-6.1.0-056-cloud-a", "vmlinuz-6.12.1"}
	for i := range sorted[1:] {
		if compareVersions(sorted[i], sorted[i+1]) >= 0 || compareVersions(sorted[i+1], sorted[i]) <= 0 {
			t.Errorf("%s is not before %s", sorted[i], sorted[i+1])
		}
	}
}

func TestModuleOrder(t *testing.T) {
	tree := parseDepends([]byte("k/virtio_net.ko.xz: k/net_failover.ko.xz k/failover.ko.xz k/virtio.ko.xz k/virtio_ring.ko.xz\n" +
		"k/virtio-rng.ko.xz: k/virtio.ko.xz k/virtio_ring.ko.xz\nk/virtio.ko.xz: k/virtio_ring.ko.xz\nk/virtio_ring.ko.xz:\nnonsense\n"))
	paths, err := tree.order("virtio_rng", nil)
	if err != nil {
		t.Fatal(err)
	}
	if paths, err = tree.order("virtio_net", paths); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range paths {
		got = append(got, moduleName(p))
	}
	want := []string{"virtio_ring", "virtio", "virtio_rng", "failover", "net_failover", "virtio_net"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if _, err := tree.order("nonsense", nil); !errors.Is(err, errNoModule) {
		t.Errorf("unknown module: %v", err)
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"format":1,"kind":"linux","arch":"amd64","kernel":"6.1.0","port":22,"files":[` +
		`{"name":"vmlinuz","size":3,"sha256":"` + strings.Repeat("ab", 32) + `"},{"name":"initrd","size":4,"sha256":"` + strings.Repeat("cd", 32) + `"}]}`))
	f.Add([]byte(`{"format":1,"files":[{"name":"../vmlinuz"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseManifest(data)
		if err != nil {
			if !errors.Is(err, ErrBadImage) {
				t.Fatalf("unwrapped %v", err)
			}
			return
		}
		if m.Files[0].Name != KernelName || m.Files[1].Name != InitrdName || m.Files[0].Size <= 0 || m.Port == 0 {
			t.Fatalf("accepted %+v", m)
		}
	})
}

func FuzzKernel(f *testing.F) {
	good := make([]byte, 0x1000)
	copy(good[0x202:], "HdrS")
	good[0x20f] = 0x02
	copy(good[0x400:], "6.1.0-56-cloud-amd64 (x) #1\x00")
	f.Add(good)
	f.Add([]byte("MZ"))
	f.Fuzz(func(t *testing.T, data []byte) {
		version, err := kernelVersion(data)
		if err == nil && (version == "" || strings.ContainsAny(version, "/ ")) {
			t.Fatalf("accepted version %q", version)
		}
	})
}
