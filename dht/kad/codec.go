package kad

import (
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/proto"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/wire"
)

// toPeer returns id as libp2p writes it.
func toPeer(id dht.PeerID) peer.ID { return peer.ID(id.Bytes()) }

// fromPeer returns the identity behind a libp2p peer ID, if it is an Ed25519
// key's.
func fromPeer(p peer.ID) (dht.PeerID, error) { return dht.PeerIDFromBytes([]byte(p)) }

// toAddrInfo reads the addresses of a contact.
func toAddrInfo(c dht.Contact) (peer.AddrInfo, error) {
	if err := c.Check(); err != nil {
		return peer.AddrInfo{}, err
	}
	info := peer.AddrInfo{ID: toPeer(c.ID)}
	for _, s := range c.Addrs {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			return peer.AddrInfo{}, fmt.Errorf("address %q: %w: %w", s, dht.ErrBadContact, err)
		}
		info.Addrs = append(info.Addrs, a)
	}
	return info, nil
}

// toContact is the inverse; it leaves out addresses beyond the limits.
func toContact(id dht.PeerID, addrs []ma.Multiaddr) dht.Contact {
	c := dht.Contact{ID: id}
	for _, a := range addrs {
		if len(a) == 0 || len(c.Addrs) == dht.MaxAddrs {
			continue
		}
		if s := a.String(); len(s) <= dht.MaxAddrBytes {
			c.Addrs = append(c.Addrs, s)
		}
	}
	return c
}

func coordinateToWire(c dht.Coordinate) *wire.OverlayCoordinate {
	return &wire.OverlayCoordinate{Vec: c.Vec[:], Error: c.Error, Adjustment: c.Adjustment, Height: c.Height}
}

func coordinateFromWire(w *wire.OverlayCoordinate) (dht.Coordinate, error) {
	if len(w.GetVec()) != dht.CoordinateDims {
		return dht.Coordinate{}, fmt.Errorf("%d dimensions: %w", len(w.GetVec()), dht.ErrBadCoordinate)
	}
	c := dht.Coordinate{Error: w.GetError(), Adjustment: w.GetAdjustment(), Height: w.GetHeight()}
	copy(c.Vec[:], w.GetVec())
	return c, c.Check()
}

func contactToWire(id dht.PeerID, addrs []ma.Multiaddr) *wire.OverlayContact {
	w := &wire.OverlayContact{PeerId: id.Bytes()}
	for _, a := range addrs[:min(len(addrs), dht.MaxAddrs)] {
		w.Addrs = append(w.Addrs, a.Bytes())
	}
	return w
}

// contactFromWire reads a contact; addresses that cannot be read are left
// out, since a newer peer may know transports that we do not.
func contactFromWire(w *wire.OverlayContact) (dht.Contact, error) {
	id, err := dht.PeerIDFromBytes(w.GetPeerId())
	if err != nil {
		return dht.Contact{}, err
	}
	var addrs []ma.Multiaddr
	for _, b := range w.GetAddrs()[:min(len(w.GetAddrs()), dht.MaxAddrs)] {
		if len(b) > dht.MaxAddrBytes {
			continue
		}
		if a, err := ma.NewMultiaddrBytes(b); err == nil {
			addrs = append(addrs, a)
		}
	}
	return toContact(id, addrs), nil
}

// decodeOverlayReply reads an answer of /xeno/overlay/1: at most dht.K
// contacts, and the coordinate if it is a sensible one.
func decodeOverlayReply(b []byte) (contacts []dht.Contact, at dht.Coordinate, hasAt bool, err error) {
	var reply wire.OverlayReply
	if err := proto.Unmarshal(b, &reply); err != nil {
		return nil, at, false, fmt.Errorf("kad: overlay reply: %w", err)
	}
	for _, w := range reply.GetContacts()[:min(len(reply.GetContacts()), dht.K)] {
		c, err := contactFromWire(w)
		if err != nil {
			return nil, at, false, fmt.Errorf("kad: overlay reply: %w", err)
		}
		contacts = append(contacts, c)
	}
	at, err = coordinateFromWire(reply.GetCoordinate())
	return contacts, at, err == nil, nil
}

// decodeOverlayRequest reads a request of /xeno/overlay/1.
func decodeOverlayRequest(b []byte) (*wire.OverlayRequest, error) {
	var request wire.OverlayRequest
	if err := proto.Unmarshal(b, &request); err != nil {
		return nil, fmt.Errorf("kad: overlay request: %w", err)
	}
	if n := len(request.GetTarget()); n != 0 && n != len(dht.Position{}) {
		return nil, fmt.Errorf("kad: overlay request: target of %d bytes", n)
	}
	return &request, nil
}
