package corp

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/ledger/sqlite"
)

// An owner is what one goroutine alone may touch.
type owner struct {
	state   *ledger.State
	journal *sqlite.Journal
	failed  error // why the journal could not be written
	closed  error // what closing it said

	sealedSerial uint64 // of XenoCorp's own credential, as published
	sealedList   uint64 // of the revocations, as published
}

// A call is a command, or a query, on its way through the owner.
type call struct {
	cmd   ledger.Command
	query func(*owner) (any, error)
	reply chan outcome // takes one
}

// An outcome is what a call achieved.
type outcome struct {
	result ledger.Result // of a command
	value  any           // of a query
	err    error
}

func newCall(cmd ledger.Command, query func(*owner) (any, error)) *call {
	return &call{cmd: cmd, query: query, reply: make(chan outcome, 1)}
}

// command carries out a command. When it returns, its effect is durable.
func (s *Service) command(ctx context.Context, cmd ledger.Command) (ledger.Result, error) {
	if err := ledger.Verify(cmd); err != nil {
		return ledger.Result{}, err
	}
	out := s.submit(ctx, newCall(cmd, nil))
	return out.result, out.err
}

// ask runs a function that only reads. What it read is durable when ask
// returns without an error.
func ask[T any](ctx context.Context, s *Service, read func(*owner) (T, error)) (T, error) {
	out := s.submit(ctx, newCall(nil, func(o *owner) (any, error) { return read(o) }))
	value, _ := out.value.(T)
	return value, out.err
}

func (s *Service) submit(ctx context.Context, c *call) outcome {
	select {
	case s.calls <- c:
	case <-s.done:
		return outcome{err: ErrUnavailable}
	case <-ctx.Done():
		return outcome{err: fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))}
	}
	select {
	case out := <-c.reply:
		return out
	case <-s.done:
		select {
		case out := <-c.reply: // answered at the last moment
			return out
		default:
			return outcome{err: ErrUnavailable}
		}
	case <-ctx.Done():
		return outcome{err: fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))}
	}
}

// run owns state and journal until Close, or until the journal fails.
func (s *Service) run() {
	defer close(s.done)
	defer func() { s.closed = s.journal.Close() }()
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	group := make([]*call, 0, maxGroup)
	for idle := true; s.failed == nil; {
		group = group[:0]
		select {
		case <-s.stop:
			return
		case <-ticker.C:
			group = append(group, newCall(&ledger.Renew{By: s.self}, nil))
			if idle {
				group = append(group, newCall(nil, checkpoint))
			}
			idle = true
		case c := <-s.calls:
			group, idle = append(group, c), false
		}
		s.commit(s.gather(group))
	}
	s.conf.Logger.Error("xenocorp stops: its journal cannot be written", slog.Any("error", s.failed))
}

// checkpoint shortens the journal's log in a second in which nobody called.
func checkpoint(o *owner) (any, error) { return nil, o.journal.Checkpoint(context.Background()) }

// gather adds the calls that wait already: all of them become durable with one
// write to the disk.
func (s *Service) gather(group []*call) []*call {
	for len(group) < maxGroup {
		select {
		case c := <-s.calls:
			group = append(group, c)
		default:
			return group
		}
	}
	return group
}

// commit applies a group of calls in order, makes the changes durable, and
// only then answers. If that fails no call is answered but with
// ErrUnavailable, and the service ends: its state is ahead of the journal.
func (s *Service) commit(group []*call) {
	outcomes := make([]outcome, len(group))
	var records []ledger.Record
	var now time.Time // one for what is due and for the command after it
	apply := func(cmd ledger.Command) (ledger.Result, error) {
		result, entries, err := s.state.Apply(now, cmd)
		if err == nil && result.Changed {
			records = append(records, ledger.Record{
				Seq: s.journal.Seq() + uint64(len(records)) + 1, Time: s.state.Now().UnixNano(), Command: cmd, Entries: entries,
			})
		}
		return result, err
	}
	for i, c := range group {
		now = s.conf.Clock()
		if err := s.expire(now, apply); err != nil {
			outcomes[i].err = err
			continue
		}
		if c.cmd != nil {
			outcomes[i].result, outcomes[i].err = apply(c.cmd)
		} else {
			outcomes[i].value, outcomes[i].err = c.query(&s.owner)
		}
	}
	err := s.journal.Append(context.Background(), records)
	if err == nil {
		err = s.publish()
	}
	if err != nil {
		s.failed = err
	}
	s.groups.Add(1)
	s.records.Add(uint64(len(records)))
	for i, c := range group {
		if s.failed != nil {
			outcomes[i] = outcome{err: fmt.Errorf("%w: %w", ErrUnavailable, s.failed)}
		}
		c.reply <- outcomes[i]
	}
}

// expire carries out what is due by time, before the next command. Every tick
// does at least one thing, so the loop ends.
func (s *Service) expire(now time.Time, apply func(ledger.Command) (ledger.Result, error)) error {
	for {
		due, ok := s.state.NextExpiry()
		if !ok || s.state.Config().Network == "" || due.After(now) {
			return nil
		}
		if result, err := apply(&ledger.Tick{}); err != nil || !result.Changed {
			return err
		}
	}
}

// publish seals XenoCorp's own credential and the list of revocations anew
// where they changed.
func (s *Service) publish() error {
	if cred, _, err := s.state.Member(s.self); err == nil && cred.Serial != s.sealedSerial {
		e, err := ledger.Seal(ledger.KindCredential, &cred, s.conf.Key)
		if err != nil {
			return err
		}
		s.credential.Store(e)
		s.sealedSerial = cred.Serial
	}
	if list := s.state.Revocations(); list.Seq != s.sealedList {
		e, err := ledger.Seal(ledger.KindRevocations, list, s.conf.Key)
		if err != nil {
			return err
		}
		s.revocations.Store(e)
		s.sealedList = list.Seq
	}
	return nil
}
