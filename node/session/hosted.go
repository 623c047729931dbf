package session

import (
	"sync"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/wire"
)

// A State is how far a session is.
type State string

// The states, in order. A proposal that lapses is forgotten; everything else
// ends as StateEnded.
const (
	StateProposed State = "proposed" // resources held, waiting for the confirmation
	StateStarting State = "starting" // authorised; image, launch, probe
	StateRunning  State = "running"  // seen to work from outside
	StateEnding   State = "ending"   // being stopped
	StateSettling State = "settling" // final receipt sealed, not yet settled by XenoCorp
	StateEnded    State = "ended"
)

// An Info describes a session to either side.
type Info struct {
	ID         ledger.ID
	State      State
	Peer       dht.PeerID // the other side
	Agreement  ledger.Agreement
	Link       ledger.Link // to the newest revision of it
	Started    time.Time   // zero before it runs
	Ended      time.Time   // zero until it ends
	Reason     ledger.Reason
	Detail     string
	ExitCode   int
	Usage      ledger.Usage
	Readings   []ledger.Reading
	Amount     ledger.Amount
	Receipts   uint64 // sequence number of the newest
	Settlement *ledger.Settlement
	Label      Label // of the server, where it was bought
}

// hostedRecord is what a host keeps of a session on disk.
type hostedRecord struct {
	State         State            `json:"state"`
	Proposal      [32]byte         `json:"proposal"`      // SHA-256 of what was asked
	Proposed      int64            `json:"proposed_ms"`   // Unix milliseconds
	Agreement     []byte           `json:"agreement"`     // envelope, the revision in force
	Amendment     []byte           `json:"amendment"`     // envelope, next revision not yet confirmed
	Authorization []byte           `json:"authorization"` // envelope
	HostKey       []byte           `json:"host_key"`      // PEM
	Base          []ledger.Reading `json:"base"`          // what the meters said when it began to run
	Started       int64            `json:"started_ms"`
	Ended         int64            `json:"ended_ms"`
	Reason        ledger.Reason    `json:"reason"`
	Detail        string           `json:"detail"`
	ExitCode      int              `json:"exit_code"`
	Stdout        []byte           `json:"stdout"` // newest output, once ended
	Stderr        []byte           `json:"stderr"`
	Settlement    []byte           `json:"settlement"` // envelope
}

// A hosted is one session of a Host.
type hosted struct {
	id     ledger.ID
	client dht.PeerID
	takes  Capacity
	log    *receiptLog
	stop   chan struct{} // closed by requestStop

	mu        sync.Mutex // guards the following
	rec       hostedRecord
	agreement ledger.Agreement // the revision in force
	link      ledger.Link      // to it
	why       ledger.Reason    // of the requested stop
	changed   chan struct{}    // closed and replaced at every change of state
	carried   bool             // a goroutine carries it
	forwards  int
	readings  []ledger.Reading // newest, the billed one first
}

func (s *hosted) state() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec.State
}

func (s *hosted) changes() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// holds tells whether the session takes resources.
func (s *hosted) holds() bool {
	switch s.state() {
	case StateProposed, StateStarting, StateRunning, StateEnding:
		return true
	default:
		return false
	}
}

// alive tells whether an environment may exist.
func (s *hosted) alive() bool {
	switch s.state() {
	case StateStarting, StateRunning, StateEnding:
		return true
	default:
		return false
	}
}

// lapsed tells whether the session can be forgotten.
func (s *hosted) lapsed(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.rec.State {
	case StateProposed:
		return now.After(time.UnixMilli(s.rec.Proposed).Add(HoldTime)) || now.Unix() >= s.agreement.Expires
	case StateEnded:
		return now.After(time.UnixMilli(s.rec.Ended).Add(keepEnded))
	default:
		return false
	}
}

// requestStop asks the carrier to end the session; the first reason counts.
func (s *hosted) requestStop(why ledger.Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why == "" {
		s.why = why
		close(s.stop)
	}
}

// terms returns the agreement in force and the link to it.
func (s *hosted) terms() (ledger.Agreement, ledger.Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.agreement, s.link
}

// update changes the record under the lock, saves it, and tells waiters.
func (h *Host) update(s *hosted, change func(*hostedRecord)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return h.updateLocked(s, change)
}

func (h *Host) updateLocked(s *hosted, change func(*hostedRecord)) error {
	next := s.rec
	change(&next)
	if err := h.records.save(s.id, next); err != nil {
		return err
	}
	s.rec = next
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

func (s *hosted) info() Info {
	newest := s.log.newest()
	s.mu.Lock()
	defer s.mu.Unlock()
	in := Info{
		ID: s.id, State: s.rec.State, Peer: s.agreement.Client, Agreement: s.agreement, Link: s.link,
		Started: fromMillis(s.rec.Started), Ended: fromMillis(s.rec.Ended),
		Reason: s.rec.Reason, Detail: s.rec.Detail, ExitCode: s.rec.ExitCode,
		Usage: newest.receipt.Usage, Readings: newest.receipt.Readings, Amount: newest.receipt.Amount,
		Receipts: newest.receipt.Seq, Settlement: openSettlement(s.rec.Settlement),
	}
	if len(s.readings) > 0 && !newest.receipt.Final {
		in.Readings, in.Usage = s.readings, s.readings[0].Usage
		in.Amount = min(s.agreement.Rates.Cost(&s.agreement.Terms, &in.Usage), s.agreement.Cap)
	}
	return in
}

func (s *hosted) status() *wire.SessionStatus {
	in := s.info()
	return &wire.SessionStatus{
		State: string(in.State), Reason: string(in.Reason), Detail: in.Detail, ExitCode: int32(in.ExitCode), //nolint:gosec // exit codes are small
		StartedMs: toMillis(in.Started), EndedMs: toMillis(in.Ended), Amount: int64(in.Amount),
		RunNs: in.Usage.RunNanos, CpuNs: in.Usage.CPUNanos, RxBytes: in.Usage.RxBytes, TxBytes: in.Usage.TxBytes,
	}
}

// openSettlement decodes a settlement that was verified when it was stored.
func openSettlement(b []byte) *ledger.Settlement {
	if len(b) == 0 {
		return nil
	}
	env, err := ledger.UnmarshalEnvelope(b)
	if err != nil {
		return nil
	}
	var st ledger.Settlement
	if env.Open(ledger.KindSettlement, &st) != nil {
		return nil
	}
	return &st
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

func toMillis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
