package kad

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/libp2p/go-libp2p/core/network"
	"google.golang.org/protobuf/proto"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/wire"
)

const (
	helloProtocol = "/xeno/hello/1"
	// protocolVersion is what this program speaks. History: 1, the first.
	protocolVersion = 1
	// minVersion is the oldest that it understands.
	minVersion = 1
	// agentName is what peers see of the program.
	agentName = "xeno/1"
)

// ownHello returns what we say of ourselves.
func (o *Overlay) ownHello() *wire.Hello {
	return &wire.Hello{
		Network:    o.cfg.Network,
		Version:    protocolVersion,
		UnixMillis: time.Now().UnixMilli(),
		Credential: o.cfg.Gate.Credential(),
		Agent:      agentName,
	}
}

// judge returns the verdict on what a peer says of itself.
func (o *Overlay) judge(id dht.PeerID, hello *wire.Hello) verdict {
	now := time.Now()
	v := verdict{credential: hello.GetCredential(), agent: clip(hello.GetAgent(), maxAgent)}
	if err := checkHello(hello, o.cfg.Network, now); err != nil {
		v.refusal = fmt.Errorf("%w: %w", ErrNotAdmitted, err)
		return v
	}
	until, err := o.cfg.Gate.Admit(id, v.credential)
	switch {
	case err != nil:
		v.refusal = fmt.Errorf("%w: %w", ErrNotAdmitted, err)
	case !now.Before(until):
		v.refusal = fmt.Errorf("%w: credential expired at %s: renew it", ErrNotAdmitted, until.UTC().Format(time.RFC3339))
	}
	v.until = until
	return v
}

// checkHello returns why a hello is refused whatever its credential.
func checkHello(hello *wire.Hello, networkName string, now time.Time) error {
	if got := hello.GetNetwork(); got != networkName {
		return fmt.Errorf("this is network %q, not %q: use the right network file", networkName, clip(got, 64))
	}
	if got := hello.GetVersion(); got < minVersion {
		return fmt.Errorf("protocol version %d is too old, at least %d is needed: update the program", got, minVersion)
	}
	skew := time.UnixMilli(hello.GetUnixMillis()).Sub(now)
	if skew > maxSkew || skew < -maxSkew {
		way := "ahead of"
		if skew < 0 {
			way, skew = "behind", -skew
		}
		return fmt.Errorf("your clock is %v %s mine, at most %v is allowed: set the clock", skew.Round(time.Second), way, maxSkew)
	}
	return nil
}

// reason is what a refused peer is told.
func (v verdict) reason() string {
	if v.refusal == nil {
		return ""
	}
	text := strings.TrimPrefix(v.refusal.Error(), ErrNotAdmitted.Error()+": ")
	return clip(text, maxReason)
}

// clip shortens a text that others wrote to at most n bytes of valid UTF-8,
// without control characters.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return -1
		}
		return r
	}, s)
}

// greet says hello on a connection, as its dialer or again with a new
// credential, and records both verdicts.
func (o *Overlay) greet(ctx context.Context, id dht.PeerID, conn network.Conn) {
	ctx, cancel := context.WithTimeout(network.WithAllowLimitedConn(ctx, "hello"), helloTimeout)
	defer cancel()
	if err := o.exchange(ctx, id, conn); err != nil {
		o.log.DebugContext(ctx, "hello failed", logPeer(id), logErr(err))
		o.gate.abandon(id, fmt.Errorf("%w: hello: %w", ErrNotAdmitted, err))
		if !o.gate.admitted(id, time.Now()) {
			_ = conn.Close() // the next dial may fare better
		}
	}
}

func (o *Overlay) exchange(ctx context.Context, id dht.PeerID, conn network.Conn) error {
	s, err := openOn(ctx, conn, helloProtocol)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	own, err := proto.Marshal(o.ownHello())
	if err != nil {
		return reset(s, err)
	}
	sent := time.Now()
	if _, err := s.Write(appendFrame(nil, nil, own)); err != nil {
		return reset(s, err)
	}
	r := frameReader(s)
	b, err := readFrame(r, maxHello, s.Scope())
	if err != nil {
		return reset(s, streamError(err))
	}
	o.latency.measured(id, time.Since(sent))
	reply, err := decodeHelloReply(b)
	if err != nil {
		return reset(s, err)
	}
	v := o.judge(id, reply.GetHello())
	o.heard(id, reply.GetRefused())
	o.settle(id, v)
	last, err := proto.Marshal(&wire.HelloReply{Refused: v.reason()})
	if err != nil {
		return reset(s, err)
	}
	if _, err := s.Write(appendFrame(nil, nil, last)); err != nil {
		return nil // the verdicts stand, whether the peer hears ours or not
	}
	_ = s.Close()
	return nil
}

// serveHello answers a hello.
func (o *Overlay) serveHello(s network.Stream) {
	id, err := fromPeer(s.Conn().RemotePeer())
	if err != nil || !o.hellos.acquire(id) {
		_ = s.ResetWithError(network.StreamRateLimited)
		return
	}
	defer o.hellos.release(id)
	if err := o.answerHello(id, s); err != nil {
		o.log.Debug("hello refused or broken", logPeer(id), logErr(err))
		o.gate.abandon(id, fmt.Errorf("%w: hello: %w", ErrNotAdmitted, err))
		o.kick()
		_ = s.Reset()
	}
}

func (o *Overlay) answerHello(id dht.PeerID, s network.Stream) error {
	if err := s.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return err
	}
	if err := s.Scope().SetService("xeno.hello"); err != nil {
		return err
	}
	r := frameReader(s)
	b, err := readFrame(r, maxHello, s.Scope())
	if err != nil {
		return err
	}
	hello, err := decodeHello(b)
	if err != nil {
		return err
	}
	v := o.judge(id, hello)
	o.settle(id, v) // before the reply: streams may follow it at once
	reply, err := proto.Marshal(&wire.HelloReply{Hello: o.ownHello(), Refused: v.reason()})
	if err != nil {
		return err
	}
	if _, err := s.Write(appendFrame(nil, nil, reply)); err != nil {
		return err
	}
	b, err = readFrame(r, maxHello, s.Scope())
	if err != nil {
		return err
	}
	last, err := decodeHelloReply(b)
	if err != nil {
		return err
	}
	o.heard(id, last.GetRefused())
	_ = s.Close() // the asker may be gone already
	return nil
}

// heard records the peer's verdict on us.
func (o *Overlay) heard(id dht.PeerID, refusedBy string) {
	o.gate.refused(id, refusedBy)
	if refusedBy != "" {
		o.log.Info("peer refuses this node", logPeer(id), logReason(refusedBy))
	}
}

// settle records our verdict on the peer and acts on it.
func (o *Overlay) settle(id dht.PeerID, v verdict) {
	entered := o.gate.settle(id, v, time.Now())
	switch {
	case entered:
		o.welcome(id)
	case v.refusal != nil:
		o.log.Debug("peer is not admitted", logPeer(id), logErr(v.refusal))
		o.evict(id)
	}
	o.kick()
}

// decodeHello reads a hello; its content is judged elsewhere.
func decodeHello(b []byte) (*wire.Hello, error) {
	var hello wire.Hello
	if err := proto.Unmarshal(b, &hello); err != nil {
		return nil, fmt.Errorf("kad: hello: %w", err)
	}
	return &hello, nil
}

// decodeHelloReply reads the answer to a hello. The reason of a refusal comes
// back fit to be shown.
func decodeHelloReply(b []byte) (*wire.HelloReply, error) {
	var reply wire.HelloReply
	if err := proto.Unmarshal(b, &reply); err != nil {
		return nil, fmt.Errorf("kad: hello reply: %w", err)
	}
	if reply.Refused != "" {
		if reply.Refused = clip(reply.Refused, maxReason); reply.Refused == "" {
			return nil, errors.New("kad: hello reply: unreadable reason")
		}
	}
	return &reply, nil
}
