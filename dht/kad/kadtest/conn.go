package kadtest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
)

// backlog is how many streams wait to be accepted.
const backlog = 16

var (
	errConnClosed   = errors.New("kadtest: connection closed")
	errStreamClosed = errors.New("kadtest: stream closed")
)

// A memConn is one end of a connection in memory.
type memConn struct {
	t                     *memTransport
	localID, remoteID     peer.ID
	remoteKey             crypto.PubKey
	localAddr, remoteAddr ma.Multiaddr
	delay                 time.Duration // one way
	scope                 network.ConnManagementScope
	other                 *memConn
	accept                chan *memStream
	closed                chan struct{}
	once                  sync.Once

	mu      sync.Mutex // guards the following
	streams map[*memStream]struct{}
}

// connect returns the two ends of a new connection.
func connect(local, remote *memTransport, localAddr, remoteAddr ma.Multiaddr, delay time.Duration) (a, b *memConn) {
	end := func(t, other *memTransport, la, ra ma.Multiaddr) *memConn {
		return &memConn{
			t: t, localID: t.id, remoteID: other.id, remoteKey: other.key, localAddr: la, remoteAddr: ra, delay: delay,
			accept: make(chan *memStream, backlog), closed: make(chan struct{}), streams: make(map[*memStream]struct{}),
		}
	}
	a, b = end(local, remote, localAddr, remoteAddr), end(remote, local, remoteAddr, localAddr)
	a.other, b.other = b, a
	return a, b
}

// lost tells whether what is sent now gets lost.
func (c *memConn) lost() bool { return c.t.fabric.cutOff(c.localID, c.remoteID) }

func (c *memConn) forget(s *memStream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, s)
}

func (c *memConn) shut(err error) {
	c.once.Do(func() {
		close(c.closed)
		c.mu.Lock()
		streams := c.streams
		c.streams = make(map[*memStream]struct{})
		c.mu.Unlock()
		for s := range streams {
			s.in.reset(err)
			s.out.reset(err)
		}
		if c.scope != nil {
			c.scope.Done()
		}
		c.t.fabric.remove(c)
	})
}

// Close implements transport.CapableConn.
func (c *memConn) Close() error { return c.CloseWithError(0) }

// CloseWithError implements transport.CapableConn.
func (c *memConn) CloseWithError(code network.ConnErrorCode) error {
	c.shut(&network.ConnError{ErrorCode: code})
	if !c.lost() {
		c.other.shut(&network.ConnError{ErrorCode: code, Remote: true})
	}
	return nil
}

// IsClosed implements transport.CapableConn.
func (c *memConn) IsClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// As implements transport.CapableConn.
func (c *memConn) As(any) bool { return false }

// OpenStream implements transport.CapableConn.
func (c *memConn) OpenStream(ctx context.Context) (network.MuxedStream, error) {
	if c.IsClosed() {
		return nil, errConnClosed
	}
	there, back := &pipe{}, &pipe{}
	local := &memStream{c: c, in: back, out: there}
	remote := &memStream{c: c.other, in: there, out: back}
	for _, s := range []*memStream{local, remote} {
		s.c.mu.Lock()
		s.c.streams[s] = struct{}{}
		s.c.mu.Unlock()
	}
	if c.lost() {
		return local, nil
	}
	select {
	case c.other.accept <- remote:
		return local, nil
	case <-c.closed:
		return nil, errConnClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// AcceptStream implements transport.CapableConn. Only the stream's bytes are
// delayed.
func (c *memConn) AcceptStream() (network.MuxedStream, error) {
	select {
	case s := <-c.accept:
		return s, nil
	case <-c.closed:
		return nil, errConnClosed
	}
}

// LocalPeer implements network.ConnSecurity.
func (c *memConn) LocalPeer() peer.ID { return c.localID }

// RemotePeer implements network.ConnSecurity.
func (c *memConn) RemotePeer() peer.ID { return c.remoteID }

// RemotePublicKey implements network.ConnSecurity.
func (c *memConn) RemotePublicKey() crypto.PubKey { return c.remoteKey }

// LocalMultiaddr implements network.ConnMultiaddrs.
func (c *memConn) LocalMultiaddr() ma.Multiaddr { return c.localAddr }

// RemoteMultiaddr implements network.ConnMultiaddrs.
func (c *memConn) RemoteMultiaddr() ma.Multiaddr { return c.remoteAddr }

// Scope implements network.ConnScoper.
func (c *memConn) Scope() network.ConnScope { return c.scope }

// Transport implements transport.CapableConn.
func (c *memConn) Transport() transport.Transport { return c.t }

// ConnState implements network.ConnSecurity.
func (c *memConn) ConnState() network.ConnectionState {
	return network.ConnectionState{Transport: "memory", StreamMultiplexer: "/memory", Security: "/memory"}
}

// A memStream is one end of a stream.
type memStream struct {
	c       *memConn
	in, out *pipe
}

// Read implements network.MuxedStream.
func (s *memStream) Read(b []byte) (int, error) { return s.in.read(b) }

// Write implements network.MuxedStream.
func (s *memStream) Write(b []byte) (int, error) { return s.out.write(b, s.c.delay, s.c.lost) }

// Close implements network.MuxedStream.
func (s *memStream) Close() error {
	s.out.closeWrite()
	s.in.reset(errStreamClosed)
	s.c.forget(s)
	return nil
}

// CloseWrite implements network.MuxedStream.
func (s *memStream) CloseWrite() error {
	s.out.closeWrite()
	return nil
}

// CloseRead implements network.MuxedStream.
func (s *memStream) CloseRead() error {
	s.in.reset(errStreamClosed)
	return nil
}

// Reset implements network.MuxedStream.
func (s *memStream) Reset() error { return s.ResetWithError(0) }

// ResetWithError implements network.MuxedStream.
func (s *memStream) ResetWithError(code network.StreamErrorCode) error {
	s.out.reset(&network.StreamError{ErrorCode: code, Remote: true})
	s.in.reset(&network.StreamError{ErrorCode: code})
	s.c.forget(s)
	return nil
}

// SetDeadline implements network.MuxedStream.
func (s *memStream) SetDeadline(t time.Time) error {
	s.in.setReadDeadline(t)
	s.out.setWriteDeadline(t)
	return nil
}

// SetReadDeadline implements network.MuxedStream.
func (s *memStream) SetReadDeadline(t time.Time) error {
	s.in.setReadDeadline(t)
	return nil
}

// SetWriteDeadline implements network.MuxedStream.
func (s *memStream) SetWriteDeadline(t time.Time) error {
	s.out.setWriteDeadline(t)
	return nil
}
