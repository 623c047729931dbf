package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
)

const (
	credentialFile  = "credential"
	revocationsFile = "revocations"
	// maxKnownCredentials bounds the peers whose credential is remembered.
	maxKnownCredentials = 20_000
	// clockSkew is how much later than ours an issuer's clock may be.
	clockSkew = time.Minute
)

// Errors of admission.
var (
	ErrNoCredential = errors.New("node: no credential shown; register with the network's XenoCorp first")
	ErrRevoked      = errors.New("node: credential was revoked")
)

// credentials keeps this node's credential, those that peers showed, and the
// newest list of revocations. It is the gate of the overlay.
type credentials struct {
	home    string
	network string
	corp    dht.PeerID
	self    dht.PeerID
	clock   func() time.Time

	mu      sync.RWMutex // guards the following
	own     []byte       // envelope; nil while unregistered
	ownDoc  *ledger.Credential
	peers   map[dht.PeerID]*ledger.Credential
	revoked ledger.Revocations
}

func openCredentials(home string, n *Network, self dht.PeerID, clock func() time.Time) (*credentials, error) {
	c := &credentials{
		home: home, network: n.Name, corp: n.XenoCorp, self: self, clock: clock,
		peers: make(map[dht.PeerID]*ledger.Credential),
	}
	if b, err := c.read(revocationsFile); err != nil {
		return nil, err
	} else if b != nil {
		if _, err := c.takeRevocations(b); err != nil {
			return nil, fmt.Errorf("node: %s: %w", filepath.Join(home, revocationsFile), err)
		}
	}
	b, err := c.read(credentialFile)
	if err != nil || b == nil {
		return c, err
	}
	doc, err := c.verify(self, b)
	switch {
	case err == nil || errors.Is(err, ledger.ErrExpired) || errors.Is(err, ErrRevoked):
		c.own, c.ownDoc = b, doc // others will say no; the user sees why
	default:
		return nil, fmt.Errorf("node: %s: %w (delete it and register again)", filepath.Join(home, credentialFile), err)
	}
	return c, nil
}

func (c *credentials) read(name string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(c.home, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && len(b) > ledger.MaxEnvelope {
		err = fmt.Errorf("%s has %d bytes, limit %d", name, len(b), ledger.MaxEnvelope)
	}
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	return b, nil
}

// verify opens a credential envelope for peer. The document is returned with
// ErrExpired and ErrRevoked too.
func (c *credentials) verify(peer dht.PeerID, sealed []byte) (*ledger.Credential, error) {
	if len(sealed) == 0 {
		return nil, ErrNoCredential
	}
	env, err := ledger.UnmarshalEnvelope(sealed)
	if err != nil {
		return nil, err
	}
	doc := new(ledger.Credential)
	if err := env.Open(ledger.KindCredential, doc, c.corp); err != nil {
		return nil, err
	}
	if doc.Network != c.network {
		return nil, fmt.Errorf("%w: credential of %q, this is %q", ledger.ErrWrongNetwork, doc.Network, c.network)
	}
	if doc.Peer != peer {
		return nil, fmt.Errorf("%w: credential of %s", ledger.ErrDenied, doc.Peer)
	}
	if err := doc.CheckTime(c.clock(), clockSkew); err != nil {
		return doc, err
	}
	c.mu.RLock()
	_, revoked := slices.BinarySearch(c.revoked.Serials, doc.Serial)
	c.mu.RUnlock()
	if revoked {
		return doc, ErrRevoked
	}
	return doc, nil
}

// credential returns the own envelope, for Gate.
func (c *credentials) credential() []byte {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.own
}

// Own returns the own credential, nil while unregistered.
func (c *credentials) Own() *ledger.Credential {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.ownDoc
}

// admit decides about a peer by the credential it showed, for Gate.
func (c *credentials) admit(peer dht.PeerID, sealed []byte) (time.Time, error) {
	doc, err := c.verify(peer, sealed)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		delete(c.peers, peer)
		return time.Time{}, err
	}
	if len(c.peers) >= maxKnownCredentials {
		for id, known := range c.peers { // any that is over; else any
			delete(c.peers, id)
			if c.clock().Unix() >= known.Expires || len(c.peers) < maxKnownCredentials {
				break
			}
		}
	}
	c.peers[peer] = doc
	return time.Unix(doc.Expires, 0), nil
}

// Of returns the credential that an admitted peer showed.
func (c *credentials) Of(peer dht.PeerID) (*ledger.Credential, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if peer == c.self && c.ownDoc != nil {
		return c.ownDoc, true
	}
	doc, ok := c.peers[peer]
	return doc, ok
}

// vouch verifies the credential that came with an ad, for the index.
func (c *credentials) vouch(server dht.PeerID, sealed []byte) (string, error) {
	doc, err := c.verify(server, sealed)
	if err != nil {
		return "", err
	}
	if !doc.Has(ledger.RoleServer) {
		return "", fmt.Errorf("%w: %s is not a server", ledger.ErrDenied, server)
	}
	return doc.Subject, nil
}

// take stores a new credential of this node.
func (c *credentials) take(env *ledger.Envelope) (*ledger.Credential, error) {
	b := env.Marshal()
	doc, err := c.verify(c.self, b)
	if err != nil {
		return nil, fmt.Errorf("node: credential from XenoCorp: %w", err)
	}
	if err := writeFile(filepath.Join(c.home, credentialFile), b, 0o600); err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.own, c.ownDoc = b, doc
	return doc, nil
}

// takeRevocations accepts a newer list; it reports whether it was newer.
func (c *credentials) takeRevocations(sealed []byte) (bool, error) {
	env, err := ledger.UnmarshalEnvelope(sealed)
	if err != nil {
		return false, err
	}
	var list ledger.Revocations
	if err := env.Open(ledger.KindRevocations, &list, c.corp); err != nil {
		return false, err
	}
	if list.Network != c.network {
		return false, ledger.ErrWrongNetwork
	}
	if !slices.IsSorted(list.Serials) {
		return false, fmt.Errorf("%w: revocations out of order", ledger.ErrMalformed)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if list.Seq <= c.revoked.Seq {
		return false, nil
	}
	if err := writeFile(filepath.Join(c.home, revocationsFile), sealed, 0o600); err != nil {
		return false, fmt.Errorf("node: %w", err)
	}
	c.revoked = list
	return true, nil
}

func (c *credentials) revocationSeq() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.revoked.Seq
}

// keepCurrent asks XenoCorp for revocations and renews the own credential
// before it expires, until ctx ends.
func (n *Node) keepCurrent(ctx context.Context) {
	tick := time.NewTicker(time.Duration(n.cfg.Network.Revocations))
	defer tick.Stop()
	for {
		if n.creds.Own() != nil {
			n.pullRevocations(ctx)
			n.renewCredential(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-n.registered:
		}
	}
}

// pullRevocations asks XenoCorp, and any peers where it does not answer.
func (n *Node) pullRevocations(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	env, err := n.corpClient.Revocations(ctx, n.creds.revocationSeq())
	if err != nil {
		n.log.Info("ask for revocations", slog.Any("err", err))
		n.pullRevocationsFromPeers(ctx)
		return
	}
	if env != nil {
		n.takeRevocations(env.Marshal())
	}
}

func (n *Node) takeRevocations(sealed []byte) {
	newer, err := n.creds.takeRevocations(sealed)
	if err != nil {
		n.log.Warn("list of revocations", slog.Any("err", err))
	}
	if newer {
		n.log.Info("revocations", slog.Uint64("seq", n.creds.revocationSeq()))
		n.overlay.Readmit()
	}
}

// renewCredential asks for a new credential when a third of its time is left.
func (n *Node) renewCredential(ctx context.Context) {
	own := n.creds.Own()
	if n.corp != nil { // XenoCorp renews its own
		if env := n.corp.Credential(); !bytes.Equal(env.Marshal(), n.creds.credential()) {
			if _, err := n.creds.take(env); err != nil {
				n.log.Error("own credential", slog.Any("err", err))
			}
			n.overlay.Reannounce()
		}
		return
	}
	left := time.Until(time.Unix(own.Expires, 0))
	if left > time.Duration(own.Expires-own.Issued)*time.Second/3 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	env, err := n.corpClient.Renew(ctx)
	if err == nil {
		_, err = n.creds.take(env)
	}
	if err != nil {
		n.log.Warn("renew credential", slog.Any("err", err), slog.Duration("left", left))
		return
	}
	n.overlay.Reannounce()
}
