package node

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/xenoserver/xeno/dht"
)

// identityFile is the name of the private key in a home directory.
const identityFile = "identity.pem"

const identityPEM = "PRIVATE KEY"

// ErrIdentity reports a private key that cannot be used.
var ErrIdentity = errors.New("node: identity")

// LoadIdentity reads the private key of a home directory. It refuses a file
// that others may read. The error wraps fs.ErrNotExist or ErrIdentity.
func LoadIdentity(home string) (ed25519.PrivateKey, error) {
	path := filepath.Join(home, identityFile)
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w; restore it from a backup, or make a new participant with xeno init", ErrIdentity, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s may be read by others (mode %#o); run: chmod 600 %s", ErrIdentity, path, info.Mode().Perm(), path)
	}
	if info.Size() > 4096 {
		return nil, fmt.Errorf("%w: %s is too large for a key", ErrIdentity, path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	key, err := parseIdentity(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

func parseIdentity(b []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != identityPEM {
		return nil, fmt.Errorf("%w: no %q block in PEM; restore the file from a backup", ErrIdentity, identityPEM)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	priv, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: it is a %T, not an Ed25519 key", ErrIdentity, key)
	}
	return priv, nil
}

// createIdentity draws a key and writes it with mode 0600; an existing one is
// kept and returned.
func createIdentity(home string) (ed25519.PrivateKey, error) {
	key, err := LoadIdentity(home)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	_, key, err = ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	b := pem.EncodeToMemory(&pem.Block{Type: identityPEM, Bytes: der})
	if err := writeFile(filepath.Join(home, identityFile), b, 0o600); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	return key, nil
}

func idOf(key ed25519.PrivateKey) dht.PeerID {
	return dht.PeerIDFromKey(key.Public().(ed25519.PublicKey))
}

// writeFile replaces path with b, synced, so that a crash leaves the old or
// the new content.
func writeFile(path string, b []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
