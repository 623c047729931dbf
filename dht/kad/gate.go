package kad

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// A session is what the gate knows about a connected peer.
type session struct {
	conns     int
	ready     chan struct{} // closed when we judged it, or could not
	settled   bool          // ready is closed
	heard     chan struct{} // closed when it judged us, or the connection broke
	told      bool          // heard is closed
	stranger  time.Time     // since when it is connected without being admitted
	admitted  bool
	reshown   bool // kad-dht was told about it a second time
	until     time.Time
	shown     []byte // the credential it showed
	agent     string
	refusal   error  // why we do not admit it, nil before the first verdict
	refusedBy string // why it does not admit us, "" if it does or did not say
}

// A gate is the table of connected peers and of who among them is admitted.
// A peer is admitted from a good hello until its credential expires, it shows
// a worse one, or its last connection closes.
type gate struct {
	grace        time.Duration // for connections to peers that are not admitted
	maxStrangers int

	mu        sync.Mutex // guards the following
	sessions  map[dht.PeerID]*session
	positions map[dht.Position]dht.PeerID // of sessions
	strangers int                         // sessions that are not admitted
}

func newGate(registrar bool) *gate {
	g := &gate{grace: strangerGrace, maxStrangers: maxStrangers, sessions: make(map[dht.PeerID]*session), positions: make(map[dht.Position]dht.PeerID)}
	if registrar {
		g.grace, g.maxStrangers = registrarGrace, maxRegistrants
	}
	return g
}

// sessionLocked returns the peer's session, a new one if need be.
func (g *gate) sessionLocked(id dht.PeerID, now time.Time) *session {
	s := g.sessions[id]
	if s == nil {
		s = &session{ready: make(chan struct{}), heard: make(chan struct{}), stranger: now}
		g.sessions[id] = s
		g.positions[id.Position()] = id
		g.strangers++
	}
	return s
}

// connected counts a new connection. It returns false when it should be
// closed, because too many strangers are connected.
func (g *gate) connected(id dht.PeerID, inbound bool, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.sessionLocked(id, now)
	s.conns++
	return s.admitted || !inbound || g.strangers <= g.maxStrangers
}

// disconnected counts a connection less and tells whether it was the last.
func (g *gate) disconnected(id dht.PeerID) (last bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.sessions[id]
	if s == nil {
		return false
	}
	if s.conns--; s.conns > 0 {
		return false
	}
	g.dropLocked(id, s)
	return true
}

// dropLocked forgets a session and lets those go that wait for its hello.
func (g *gate) dropLocked(id dht.PeerID, s *session) {
	if !s.admitted {
		g.strangers--
	}
	s.admitted = false
	if s.refusal == nil {
		s.refusal = fmt.Errorf("%w: connection closed before the hello", ErrUnreachable)
	}
	s.settleLocked()
	s.toldLocked()
	delete(g.sessions, id)
	delete(g.positions, id.Position())
}

func (s *session) settleLocked() {
	if !s.settled {
		s.settled = true
		close(s.ready)
	}
}

func (s *session) toldLocked() {
	if !s.told {
		s.told = true
		close(s.heard)
	}
}

// A verdict is the outcome of a hello as we see it.
type verdict struct {
	until      time.Time
	credential []byte
	agent      string
	refusal    error // nil: admitted
}

// settle records a verdict and tells whether the peer is admitted now and
// was not before. A verdict about a peer that is gone changes nothing.
func (g *gate) settle(id dht.PeerID, v verdict, now time.Time) (entered bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.sessions[id]
	if s == nil {
		return false
	}
	s.refusal, s.until, s.shown, s.agent = v.refusal, v.until, v.credential, v.agent
	entered = v.refusal == nil && !s.admitted
	g.setAdmittedLocked(s, v.refusal == nil, now)
	s.settleLocked()
	return entered
}

// abandon records that a hello failed without a verdict. It leaves a peer
// that is admitted over another connection alone.
func (g *gate) abandon(id dht.PeerID, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.sessions[id]; s != nil && !s.settled {
		s.refusal = err
		s.settleLocked()
	}
}

// refused records the peer's verdict on us; "" is consent.
func (g *gate) refused(id dht.PeerID, reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.sessions[id]; s != nil {
		s.refusedBy = reason
		s.toldLocked()
	}
}

func (g *gate) setAdmittedLocked(s *session, admitted bool, now time.Time) {
	switch {
	case admitted && !s.admitted:
		g.strangers--
	case !admitted && s.admitted:
		g.strangers++
		s.stranger = now
	}
	s.admitted = admitted
	s.reshown = s.reshown && admitted
}

// reshow returns true once for each admission.
func (g *gate) reshow(id dht.PeerID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.sessions[id]
	if s == nil || !s.admitted || s.reshown {
		return false
	}
	s.reshown = true
	return true
}

// admitted tells whether the peer is admitted at this moment.
func (g *gate) admitted(id dht.PeerID, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.sessions[id]
	return s != nil && s.admitted && now.Before(s.until)
}

// wait returns nil as soon as the peer is admitted, and an error that wraps
// ErrNotAdmitted once it is refused, ErrUnreachable when it is not connected,
// or the context's. It waits no longer than helloTimeout for a hello.
func (g *gate) wait(ctx context.Context, id dht.PeerID) error {
	g.mu.Lock()
	s := g.sessions[id]
	if s == nil {
		g.mu.Unlock()
		return fmt.Errorf("%w: not connected", ErrUnreachable)
	}
	g.mu.Unlock()
	if err := await(ctx, s.ready); err != nil {
		return err
	}
	return g.verdictOn(s)
}

// consent returns nil if the peer admits this node, as far as it said within
// helloTimeout, else an error that wraps ErrRefused and tells why.
func (g *gate) consent(ctx context.Context, id dht.PeerID) error {
	g.mu.Lock()
	s := g.sessions[id]
	if s == nil {
		g.mu.Unlock()
		return fmt.Errorf("%w: not connected any more", ErrUnreachable)
	}
	g.mu.Unlock()
	if err := await(ctx, s.heard); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.refusedBy != "" {
		return fmt.Errorf("%w: %s", ErrRefused, s.refusedBy)
	}
	return nil
}

// await waits for a part of the hello.
func await(ctx context.Context, ch <-chan struct{}) error {
	select {
	case <-ch:
		return nil
	default:
	}
	timer := time.NewTimer(helloTimeout)
	defer timer.Stop()
	select {
	case <-ch:
		return nil
	case <-timer.C:
		return fmt.Errorf("%w: no hello within %v", ErrNotAdmitted, helloTimeout)
	case <-ctx.Done():
		return fmt.Errorf("wait for its hello: %w", ctx.Err())
	}
}

func (g *gate) verdictOn(s *session) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case s.admitted && time.Now().Before(s.until):
		return nil
	case s.admitted:
		return fmt.Errorf("%w: credential expired at %s", ErrNotAdmitted, s.until.UTC().Format(time.RFC3339))
	default:
		return s.refusal
	}
}

// A shown credential is what Readmit checks again.
type shown struct {
	id         dht.PeerID
	credential []byte
	agent      string
}

// members returns the admitted peers with what they showed.
func (g *gate) members() []shown {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]shown, 0, len(g.sessions))
	for id, s := range g.sessions {
		if s.admitted {
			all = append(all, shown{id: id, credential: s.shown, agent: s.agent})
		}
	}
	return all
}

// count returns how many connected peers are admitted and how many are not.
func (g *gate) count() (peers, strangers int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.sessions) - g.strangers, g.strangers
}

// connectedPeers returns all sessions, admitted or not.
func (g *gate) connectedPeers() []dht.PeerID {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]dht.PeerID, 0, len(g.sessions))
	for id := range g.sessions {
		all = append(all, id)
	}
	return all
}

// at returns the admitted peer with that position, if there is one.
func (g *gate) at(p dht.Position) (id dht.PeerID, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	id, ok = g.positions[p]
	return id, ok && g.sessions[id].admitted
}

// welcome tells whether some admitted peer admits this node, as far as it
// said.
func (g *gate) welcome() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.sessions {
		if s.admitted && s.refusedBy == "" {
			return true
		}
	}
	return false
}

// describe returns until when the peer is admitted and its program, false
// if it is not.
func (g *gate) describe(id dht.PeerID) (until time.Time, agent string, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.sessions[id]
	if s == nil || !s.admitted {
		return time.Time{}, "", false
	}
	return s.until, s.agent, true
}

// sweep finds whose credential expired at now (they are not admitted any
// more) and which strangers' grace is over, and when to look again.
func (g *gate) sweep(now time.Time) (expired, overdue []dht.PeerID, next time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	next = now.Add(g.grace)
	for id, s := range g.sessions {
		if s.admitted && !now.Before(s.until) {
			s.refusal = fmt.Errorf("%w: credential expired at %s", ErrNotAdmitted, s.until.UTC().Format(time.RFC3339))
			g.setAdmittedLocked(s, false, now)
			expired = append(expired, id)
		}
		due := s.until
		if !s.admitted {
			if due = s.stranger.Add(g.grace); !now.Before(due) {
				overdue = append(overdue, id)
				continue
			}
		}
		if due.Before(next) {
			next = due
		}
	}
	return expired, overdue, next
}
