package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/store"
	"github.com/xenoserver/xeno/wire"
)

// majority is how many of n holders a read or a write must reach, so that
// any two of them meet in one holder.
func majority(n int) int { return n/2 + 1 }

// An answer is what one holder says.
type answer struct {
	from   dht.Contact
	status wire.StoreStatus
	record *store.Record // verified, of the name asked for, maybe expired; nil if it has none
	msg    string
	err    error // it did not answer, or nonsense
}

// ask sends req to all and collects answers: all of them, or those that came
// until a while after a majority had answered.
func (n *names) ask(ctx context.Context, to []dht.Contact, req *wire.StoreRequest, owner dht.PeerID, label string) []answer {
	raw, err := proto.Marshal(req)
	if err != nil {
		return nil
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithTimeout(ctx, holderTimeout)
	defer cancel()
	ch := make(chan answer, len(to))
	for _, c := range to {
		wg.Go(func() { ch <- n.askOne(ctx, c, raw, owner, label) })
	}
	var answers []answer
	var late <-chan time.Time
	good := 0
	for range to {
		select {
		case a := <-ch:
			answers = append(answers, a)
			if a.err == nil {
				good++
			}
			if good == majority(len(to)) && late == nil {
				timer := time.NewTimer(lateAnswers)
				defer timer.Stop()
				late = timer.C
			}
		case <-late:
			return answers
		}
	}
	return answers
}

func (n *names) askOne(ctx context.Context, to dht.Contact, raw []byte, owner dht.PeerID, label string) answer {
	a := answer{from: to}
	b, err := n.net.Request(ctx, to, Protocol, raw, maxResponse)
	if err != nil {
		a.err = err
		return a
	}
	var resp wire.StoreResponse
	if err := proto.Unmarshal(b, &resp); err != nil {
		a.err = fmt.Errorf("malformed answer of %s", to.ID)
		return a
	}
	a.status, a.msg = resp.GetStatus(), resp.GetMessage()
	if len(resp.GetRecord()) > 0 {
		r, err := store.DecodeName(resp.GetRecord(), n.network)
		if err != nil || r.Owner != owner || r.Label != label {
			a.err = fmt.Errorf("%s answers with a record that does not verify", to.ID)
			return a
		}
		a.record = r
	}
	return a
}

// A view is what the holders of a name say together.
type view struct {
	holders []dht.Contact
	answers []answer
	newest  *store.Record // that holds; nil if nobody has one
	good    int           // answers
	seq     uint64        // of the newest version, even expired
}

// read asks the holders of a name. The error wraps ErrNoQuorum if fewer than a
// majority answered.
func (n *names) read(ctx context.Context, owner dht.PeerID, label string, count int) (*view, error) {
	to, err := n.net.Closest(ctx, store.NameKey(owner, label), count)
	if err != nil {
		return nil, fmt.Errorf("find holders: %w", err)
	}
	if len(to) == 0 {
		return nil, fmt.Errorf("%w: nobody is near", ErrNoQuorum)
	}
	req := &wire.StoreRequest{Op: &wire.StoreRequest_Get{Get: &wire.StoreGet{Owner: owner[:], Label: label}}}
	v := &view{holders: to, answers: n.ask(ctx, to, req, owner, label)}
	now := time.Now()
	var errs []error
	for _, a := range v.answers {
		if a.err != nil {
			errs = append(errs, a.err)
			continue
		}
		v.good++
		if a.record != nil {
			v.seq = max(v.seq, a.record.Seq)
			if a.record.Expires > now.Unix() && a.record.Newer(v.newest) {
				v.newest = a.record
			}
		}
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if v.good < majority(len(to)) {
		return nil, fmt.Errorf("%w: %d of %d: %w", ErrNoQuorum, v.good, len(to), errors.Join(errs...))
	}
	return v, nil
}

// write brings r, which builds on base, to the holders and counts those that have it afterwards.
// newer is the greatest version that stood in the way, 0 if none did.
func (n *names) write(ctx context.Context, to []dht.Contact, r *store.Record, base uint64) (have int, newer uint64, why error) {
	req := &wire.StoreRequest{Op: &wire.StoreRequest_Put{Put: &wire.StorePut{Record: r.Bytes, Base: &base}}}
	var errs []error
	for _, a := range n.ask(ctx, to, req, r.Owner, r.Label) {
		switch {
		case a.err != nil:
			errs = append(errs, a.err)
		case a.status == wire.StoreStatus_STORE_STATUS_OK:
			have++
		case a.status == wire.StoreStatus_STORE_STATUS_CONFLICT && a.record != nil && a.record.Seq > base:
			newer = max(newer, a.record.Seq)
		default:
			errs = append(errs, fmt.Errorf("%s: %.*q", a.from.ID, maxMessage, a.msg))
		}
	}
	return have, newer, errors.Join(errs...)
}

// resolve reads a name, looks wider if the holders know less than what was
// told, and makes sure that a majority has what it returns, so that no later
// reader finds less.
func (n *names) resolve(ctx context.Context, owner dht.PeerID, label string, told uint64) (*store.Record, error) {
	if err := store.CheckLabel(label); err != nil {
		return nil, err
	}
	n.mu.Lock()
	told = max(told, n.seen.get(owner, label, time.Now()))
	n.mu.Unlock()
	var v *view
	for _, count := range []int{holders, 2 * holders} {
		var err error
		if v, err = n.read(ctx, owner, label, count); err != nil {
			return nil, err
		}
		if v.newest != nil && v.newest.Seq >= told || told == 0 {
			break
		}
	}
	switch {
	case v.newest == nil && told == 0:
		return nil, store.ErrNoName
	case v.newest == nil || v.newest.Seq < told:
		return nil, fmt.Errorf("%w than %d: try again when more participants are online", ErrStale, told)
	}
	n.mu.Lock()
	n.seen.put(v.newest)
	n.mu.Unlock()
	if err := n.writeBack(ctx, v); err != nil {
		return nil, err
	}
	return v.newest, nil
}

// writeBack brings the newest version to the nearest holders that lack it,
// when fewer than a majority have it.
func (n *names) writeBack(ctx context.Context, v *view) error {
	near := v.holders[:min(len(v.holders), holders)]
	has := make(map[dht.PeerID]bool)
	for _, a := range v.answers {
		has[a.from.ID] = a.err == nil && v.newest.Same(a.record)
	}
	have := 0
	var lack []dht.Contact
	for _, c := range near {
		if has[c.ID] {
			have++
		} else {
			lack = append(lack, c)
		}
	}
	if len(lack) == 0 {
		return nil
	}
	more, newer, why := n.write(ctx, lack, v.newest, v.newest.Seq-1)
	if have+more >= majority(len(near)) || newer > 0 { // newer: somebody just published
		return nil
	}
	return fmt.Errorf("%w: %d of %d took version %d: %w", ErrNoQuorum, have+more, len(near), v.newest.Seq, why)
}

// publish makes a version that builds on base, or on the newest if base is
// nil.
func (n *names) publish(ctx context.Context, label string, value Value, base *uint64) (uint64, error) {
	seq, err := n.tryPublish(ctx, label, value, base)
	if err != nil {
		return 0, fmt.Errorf("storage: publish %s: %w", label, err)
	}
	return seq, nil
}

func (n *names) tryPublish(ctx context.Context, label string, value Value, base *uint64) (uint64, error) {
	n.publishing.Lock()
	defer n.publishing.Unlock()
	if err := n.mayOwn(label); err != nil {
		return 0, err
	}
	v, err := n.read(ctx, n.self, label, holders)
	if err != nil {
		return 0, err
	}
	n.mu.Lock()
	newest := max(v.seq, n.seen.get(n.self, label, time.Now()))
	n.mu.Unlock()
	tried, err := n.loadTried(label)
	if err != nil {
		return 0, err
	}
	for range publishTries {
		if base != nil && *base != newest {
			return 0, fmt.Errorf("%w: %d, not %d", store.ErrConflict, newest, *base)
		}
		// A number that was tried is not used again: it may have got somewhere.
		r, err := n.seal(label, max(newest, tried)+1, value, time.Now())
		if err != nil {
			return 0, err
		}
		if err := n.try(r); err != nil {
			return 0, err
		}
		have, newer, why := n.write(ctx, v.holders, r, newest)
		if have >= majority(len(v.holders)) {
			return r.Seq, n.published(r, v.holders)
		}
		if newer == 0 {
			return 0, fmt.Errorf("%w: %d of %d took version %d: %w", ErrNoQuorum, have, len(v.holders), r.Seq, errors.Join(why, context.Cause(ctx)))
		}
		newest, tried = max(newest, newer), r.Seq
	}
	return 0, fmt.Errorf("%w: somebody else with this key publishes all the time", store.ErrConflict)
}
