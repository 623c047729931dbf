package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/xenoserver/xeno/hypervisor"
)

// format is the version of Manifest. History: 1, the first.
const format = 1

// A Manifest describes an image.
type Manifest struct {
	Format int             `json:"format"` // 1
	Kind   hypervisor.Kind `json:"kind"`   // linux
	Arch   string          `json:"arch"`   // GOARCH: amd64
	Kernel string          `json:"kernel"` // release, as uname -r prints it
	Port   uint16          `json:"port"`   // of the SSH server
	Files  []File          `json:"files"`  // vmlinuz, initrd
}

// A File is a part of an image.
type File struct {
	Name   string `json:"name"`   // without a directory
	Size   int64  `json:"size"`   // bytes
	SHA256 string `json:"sha256"` // hexadecimal
}

// ParseManifest reads a manifest. Unknown fields, formats and files are
// errors; all wrap ErrBadImage.
func ParseManifest(data []byte) (Manifest, error) {
	if len(data) > maxManifestBytes {
		return Manifest{}, fmt.Errorf("image: manifest of %d bytes, at most %d: %w", len(data), maxManifestBytes, ErrBadImage)
	}
	var m Manifest
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return Manifest{}, fmt.Errorf("image: manifest: %w: %w", ErrBadImage, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return Manifest{}, fmt.Errorf("image: manifest: data after its end: %w", ErrBadImage)
	}
	return m, m.validate()
}

func (m Manifest) validate() error {
	switch {
	case m.Format != format:
		return fmt.Errorf("image: manifest format %d, not %d: %w", m.Format, format, ErrBadImage)
	case m.Kind != hypervisor.KindLinux:
		return fmt.Errorf("image: kind %q, not %q: %w", m.Kind, hypervisor.KindLinux, ErrBadImage)
	case m.Arch == "" || m.Kernel == "" || m.Port == 0:
		return fmt.Errorf("image: manifest lacks arch, kernel or port: %w", ErrBadImage)
	case len(m.Files) != 2 || m.Files[0].Name != KernelName || m.Files[1].Name != InitrdName:
		return fmt.Errorf("image: files are not %s and %s: %w", KernelName, InitrdName, ErrBadImage)
	}
	for _, f := range m.Files {
		sum, err := hex.DecodeString(f.SHA256)
		if err != nil || len(sum) != sha256.Size || f.Size <= 0 || f.Size > maxFileBytes {
			return fmt.Errorf("image: %s has a bad size or digest: %w", f.Name, ErrBadImage)
		}
	}
	return nil
}

// Open reads the manifest of the image in dir and checks every file against
// it. It costs one pass over the files.
func Open(dir string) (Manifest, error) {
	data, err := readBounded(filepath.Join(dir, ManifestName), maxManifestBytes)
	if err != nil {
		return Manifest{}, err
	}
	m, err := ParseManifest(data)
	if err != nil {
		return Manifest{}, err
	}
	for _, want := range m.Files {
		got, err := measure(dir, want.Name)
		if err != nil {
			return Manifest{}, err
		}
		if got != want {
			return Manifest{}, fmt.Errorf("image: %s is not what the manifest says (fetch the image again): %w", want.Name, ErrBadImage)
		}
	}
	return m, nil
}

// Digest names the image: the SHA-256 of its files' digests.
func (m Manifest) Digest() string {
	h := sha256.New()
	for _, f := range m.Files {
		fmt.Fprintf(h, "%s %d %s\n", f.Name, f.Size, f.SHA256)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func measure(dir, name string) (File, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return File{}, fmt.Errorf("image: %w: %w", ErrBadImage, err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return File{}, fmt.Errorf("image: read %s: %w", name, err)
	}
	return File{Name: name, Size: n, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}

// readBounded reads a file of at most limit bytes.
func readBounded(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("image: %w: %w", ErrBadImage, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("image: read %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("image: %s has more than %d bytes: %w", name, limit, ErrBadImage)
	}
	return data, nil
}
