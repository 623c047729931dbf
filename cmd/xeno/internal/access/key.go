// Package access opens environments: with the client's ssh key, through the
// overlay, to the host key that the agreement names.
package access

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// keyFile is the name of the client's ssh key in a home directory.
const keyFile = "ssh_key"

// A Key opens the environments that were leased with it.
type Key struct{ ssh.Signer }

// Authorized returns the key as a line of authorized_keys.
func (k Key) Authorized() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.PublicKey())))
}

// ClientKey reads the client's key of a home directory. It is made, mode 0600,
// when it is first needed.
func ClientKey(home string) (Key, error) {
	path := filepath.Join(home, keyFile)
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		if err := createKey(path); err != nil && !errors.Is(err, os.ErrExist) {
			return Key{}, fmt.Errorf("make the ssh key: %w", err)
		}
		info, err = os.Stat(path)
	}
	if err != nil {
		return Key{}, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return Key{}, fmt.Errorf("%s is open to others (mode %#o); run: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Key{}, err
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return Key{}, fmt.Errorf("%s: %w", path, err)
	}
	return Key{signer}, nil
}

// createKey writes a new key. The error wraps os.ErrExist where one is.
func createKey(path string) error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(key, "xeno client")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), keyFile+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(pem.EncodeToMemory(block))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Link(f.Name(), path) // whole, and never over another
	}
	return errors.Join(err, os.Remove(f.Name()))
}
