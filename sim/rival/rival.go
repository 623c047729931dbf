package rival

import (
	"errors"
	"fmt"
	"strings"

	"github.com/xenoserver/xeno/sim/trial"
)

// ErrUnknown reports a name that no rival has.
var ErrUnknown = errors.New("rival: unknown algorithm")

// Names returns what New makes, in the order of tables.
func Names() []string {
	return []string{"kademlia", "bloom", "walk", "pht", "kdtree", "cid", "crawl", "central", "central3"}
}

// A Publisher is an algorithm that can say what it costs a server to keep its
// ad where it is found. All rivals are.
type Publisher interface {
	// RefreshMessages is how many messages one renewal of one ad takes, over
	// contacts that are known, without lookups.
	RefreshMessages() float64
}

// New returns the algorithm of that name over an index of its own. The error
// wraps ErrUnknown.
func New(name string, world trial.World) (trial.Algorithm, error) {
	return NewIndex(world).New(name, world)
}

// New returns the algorithm of that name. world must be of the same market and
// the same identities as the index. The error wraps ErrUnknown.
func (x *Index) New(name string, world trial.World) (trial.Algorithm, error) {
	base := base{name: name, index: x, world: world}
	switch name {
	case "kademlia":
		return &kademlia{base}, nil
	case "bloom":
		return &bloom{base}, nil
	case "walk":
		return &walk{base}, nil
	case "pht":
		return &pht{base}, nil
	case "kdtree":
		return &kdSearch{base}, nil
	case "cid":
		return &cid{base}, nil
	case "crawl":
		return &crawl{base}, nil
	case "central":
		return newCentral(base, 1), nil
	case "central3":
		return newCentral(base, 3), nil
	default:
		return nil, fmt.Errorf("%w %.40q: choose one of %s", ErrUnknown, name, strings.Join(Names(), ", "))
	}
}

// base is what all rivals have.
type base struct {
	name  string
	index *Index
	world trial.World
}

// Name implements trial.Algorithm.
func (b *base) Name() string { return b.name }
