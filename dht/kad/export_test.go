package kad

import (
	"bufio"
	"io"

	kaddht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"

	"github.com/xenoserver/xeno/dht"
)

// Base returns the host without the gate, for intruders.
func (o *Overlay) Base() host.Host { return o.base }

// DHT returns the kad-dht.
func (o *Overlay) DHT() *kaddht.IpfsDHT { return o.dht }

// Routing returns the members of the routing table.
func (o *Overlay) Routing() []dht.PeerID {
	var ids []dht.PeerID
	for _, p := range o.dht.RoutingTable().ListPeers() {
		if id, err := fromPeer(p); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// Strangers returns how many connected peers are not admitted.
func (o *Overlay) Strangers() int {
	o.gate.mu.Lock()
	defer o.gate.mu.Unlock()
	n := 0
	for _, s := range o.gate.sessions {
		if !s.admitted {
			n++
		}
	}
	if n != o.gate.strangers {
		panic("kad: strangers miscounted")
	}
	return n
}

// The insides that tests call by name.
var (
	ToPeer             = toPeer
	AppendFrame        = appendFrame
	DecodeHello        = decodeHello
	DecodeHelloReply   = decodeHelloReply
	CheckHello         = checkHello
	DecodeOverlayReply = decodeOverlayReply
	DecodeOverlay      = decodeOverlayRequest
	ToAddrInfo         = toAddrInfo
	Lazily             = func(s network.Stream, proto string) (network.Stream, error) { return lazily(s, proto) }
)

// ReadFrame reads one frame without a resource scope.
func ReadFrame(r io.Reader, limit int) ([]byte, error) {
	return readFrame(bufio.NewReaderSize(r, 16), limit, nil)
}

// Limits that tests refer to.
const (
	MaxHello       = maxHello
	StrangerGrace  = strangerGrace
	RegistrarGrace = registrarGrace
	HelloTimeout   = helloTimeout
	WarmInterval   = warmInterval
	MaxStrangers   = maxStrangers
	HelloProtocol  = helloProtocol
)
