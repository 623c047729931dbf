package index

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/xenoserver/xeno/search"
)

// An opener verifies ads, and remembers which it verified: the same ad comes
// from several holders and trees. Credentials are vouched for every time, so
// that a revocation counts at once.
type opener struct {
	schema  *search.Schema
	network string
	vouch   search.Vouch

	mu   sync.Mutex // guards the following
	ads  map[[sha256.Size]byte]*search.Signed
	ring [][sha256.Size]byte // keys of ads in the order they came
	next int
}

func newOpener(cfg Config) *opener {
	return &opener{
		schema: cfg.Schema, network: cfg.Network, vouch: cfg.Vouch,
		ads: make(map[[sha256.Size]byte]*search.Signed), ring: make([][sha256.Size]byte, maxVerifiedAds),
	}
}

// open returns the ad in a marshalled envelope, if it holds now.
func (o *opener) open(envelope []byte) (*search.Signed, error) {
	now := time.Now()
	sum := sha256.Sum256(envelope)
	o.mu.Lock()
	ad := o.ads[sum]
	o.mu.Unlock()
	if ad != nil && now.Before(ad.Ad.ExpiresAt()) {
		if _, err := o.vouch(ad.Ad.Server, ad.Ad.Credential); err != nil {
			return nil, err
		}
		return ad, nil
	}
	ad, err := o.schema.Open(envelope, o.network, now, o.vouch)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.ads, o.ring[o.next])
	o.ring[o.next] = sum
	o.next = (o.next + 1) % len(o.ring)
	o.ads[sum] = ad
	return ad, nil
}
