package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/node/index"
	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/search/cel"
)

// hostTimeout bounds the search for one host that a query names.
const hostTimeout = 5 * time.Second

// hosts resolves the operands of rtt(): this node ("me"), a peer by its ID or a
// multiaddress that ends with it, or a server by its advertised name. The
// coordinate of a peer that is not connected is the one it advertises.
func (n *Node) hosts(ctx context.Context) cel.Resolver {
	return func(name string) (dht.Coordinate, error) {
		ctx, cancel := context.WithTimeout(ctx, hostTimeout)
		defer cancel()
		if name == "me" {
			return n.overlay.Coordinate(), nil
		}
		text := name
		if at := strings.LastIndex(name, "/p2p/"); at >= 0 && strings.HasPrefix(name, "/") {
			text = name[at+len("/p2p/"):]
		}
		id, err := dht.ParsePeerID(text)
		if err == nil {
			return n.peerCoordinate(ctx, id)
		}
		if text != name || strings.HasPrefix(name, "/") {
			return dht.Coordinate{}, fmt.Errorf("%q does not end with /p2p/ and a peer ID", name)
		}
		return n.serverCoordinate(ctx, name)
	}
}

// peerCoordinate returns the network coordinate of a peer.
func (n *Node) peerCoordinate(ctx context.Context, id dht.PeerID) (dht.Coordinate, error) {
	if id == n.id {
		return n.overlay.Coordinate(), nil
	}
	for _, p := range n.overlay.Peers() {
		if p.ID == id {
			return p.Coordinate, nil
		}
	}
	if ad, err := n.index.Lookup(ctx, id); err == nil {
		if c, ok := adValue(ad.Ad, search.DimCoordinate).Coordinate(); ok {
			return c, nil
		}
	}
	return dht.Coordinate{}, fmt.Errorf("the network coordinate of %s is neither known here nor advertised; connect to it first", id)
}

// serverCoordinate returns the network coordinate of the one server of a name.
func (n *Node) serverCoordinate(ctx context.Context, name string) (dht.Coordinate, error) {
	if name == "" {
		return dht.Coordinate{}, fmt.Errorf(`the host has no name; write "me", a peer ID or the name of a server`)
	}
	q := search.Query{Where: search.And{
		search.Compare{Dim: "name", Op: search.OpEqual, Value: search.Text(name)}, search.Has{Dim: search.DimCoordinate},
	}, Limit: 2}
	if err := n.schema.Check(q); err != nil {
		return dht.Coordinate{}, fmt.Errorf(`%q is neither "me" nor a peer ID`, name)
	}
	answer, err := n.index.Search(ctx, q, index.Options{Unverified: true})
	switch {
	case err != nil:
		return dht.Coordinate{}, err
	case len(answer.Results) == 0:
		return dht.Coordinate{}, fmt.Errorf(`%q is neither "me" nor a peer ID, and no server of that name was found`, name)
	case len(answer.Results) > 1:
		return dht.Coordinate{}, fmt.Errorf("several servers are called %q; write the peer ID", name)
	}
	c, _ := adValue(answer.Results[0].Signed.Ad, search.DimCoordinate).Coordinate()
	return c, nil
}
