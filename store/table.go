package store

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// ErrFull reports a quota that is used up: of the table, of an owner or of
// the participant that brought the record.
var ErrFull = errors.New("store: quota is used up")

// A Table is what one holder keeps: the newest version of each name that was
// brought to it, until it expires. It is a machine for one goroutine: time
// comes in, nothing goes out but results.
//
// Laws: the Seq that Get returns for a name never falls while any version that
// the table accepted could still be valid; counts equal what is kept.
type Table struct {
	limits  TableLimits
	slots   map[slotKey]*slot
	bytes   int
	owners  map[dht.PeerID]int
	carrier map[dht.PeerID]int
}

type slotKey struct {
	owner dht.PeerID
	label string
}

// A slot outlives its record until every version that it ever held would have
// expired, so that an older one with a longer life cannot come back.
type slot struct {
	record  *Record
	carrier dht.PeerID
	until   int64 // Unix seconds: greatest Expires seen
}

// NewTable returns an empty table.
func NewTable(limits TableLimits) *Table {
	return &Table{
		limits:  limits.withDefaults(),
		slots:   make(map[slotKey]*slot),
		owners:  make(map[dht.PeerID]int),
		carrier: make(map[dht.PeerID]int),
	}
}

// Put takes a verified record that carrier brought and that builds on version
// base, which is below r.Seq: on condition that no version above base is
// there. A record that is there already is accepted again. The error wraps ErrConflict, and Newest tells
// which version stands in the way, or ErrFull; the table is then unchanged.
func (t *Table) Put(now time.Time, r *Record, base uint64, carrier dht.PeerID) error {
	k := slotKey{r.Owner, r.Label}
	s := t.slots[k]
	if s != nil {
		return t.replace(s, r, base)
	}
	if len(t.slots) >= t.limits.Names || t.bytes+len(r.Bytes) > t.limits.Bytes ||
		t.owners[r.Owner] >= t.limits.PerOwner || t.carrier[carrier] >= t.limits.PerCarrier {
		t.Expire(now)
	}
	switch {
	case t.owners[r.Owner] >= t.limits.PerOwner:
		return fmt.Errorf("%w: %d names of %s, let some expire", ErrFull, t.limits.PerOwner, r.Owner)
	case t.carrier[carrier] >= t.limits.PerCarrier:
		return fmt.Errorf("%w: %d names brought by %s, let some expire", ErrFull, t.limits.PerCarrier, carrier)
	case len(t.slots) >= t.limits.Names || t.bytes+len(r.Bytes) > t.limits.Bytes:
		return fmt.Errorf("%w: this holder keeps %d names already", ErrFull, len(t.slots))
	}
	t.slots[k] = &slot{record: r, carrier: carrier, until: r.Expires}
	t.bytes += len(r.Bytes)
	t.owners[r.Owner]++
	t.carrier[carrier]++
	return nil
}

// replace puts r into its slot, if it is newer. Of two with one Seq the first
// that came stays: that is what makes a write of a majority exclusive.
func (t *Table) replace(s *slot, r *Record, base uint64) error {
	if r.Same(s.record) {
		return nil
	}
	if s.record.Seq > min(base, r.Seq-1) {
		return fmt.Errorf("%w: %q is at version %d, above %d", ErrConflict, r.Label, s.record.Seq, min(base, r.Seq-1))
	}
	if grown := t.bytes - len(s.record.Bytes) + len(r.Bytes); grown > t.limits.Bytes {
		return fmt.Errorf("%w: this holder keeps %d bytes already", ErrFull, t.bytes)
	}
	t.bytes += len(r.Bytes) - len(s.record.Bytes)
	s.record, s.until = r, max(s.until, r.Expires)
	return nil
}

// Get returns the newest version of a name, nil if there is none that holds
// at now.
func (t *Table) Get(now time.Time, owner dht.PeerID, label string) *Record {
	s := t.slots[slotKey{owner, label}]
	if s == nil || s.record.Expires <= now.Unix() {
		return nil
	}
	return s.record
}

// Newest returns the newest version that the table remembers, even expired.
func (t *Table) Newest(owner dht.PeerID, label string) *Record {
	if s := t.slots[slotKey{owner, label}]; s != nil {
		return s.record
	}
	return nil
}

// Expire drops what has expired at now and returns how many names that were.
// It looks at every name: call it every minute or so.
func (t *Table) Expire(now time.Time) int {
	n := 0
	for k, s := range t.slots {
		if s.until > now.Unix() {
			continue
		}
		delete(t.slots, k)
		t.bytes -= len(s.record.Bytes)
		decrement(t.owners, k.owner)
		decrement(t.carrier, s.carrier)
		n++
	}
	return n
}

func decrement(m map[dht.PeerID]int, id dht.PeerID) {
	if m[id]--; m[id] == 0 {
		delete(m, id)
	}
}

// TableStats counts what a table keeps.
type TableStats struct {
	Names  int
	Bytes  int
	Owners int
}

// Stats returns the present counts.
func (t *Table) Stats() TableStats {
	return TableStats{Names: len(t.slots), Bytes: t.bytes, Owners: len(t.owners)}
}

// check returns an error if the table breaks one of its laws.
func (t *Table) check() error {
	size, owners, carriers := 0, map[dht.PeerID]int{}, map[dht.PeerID]int{}
	for k, s := range t.slots {
		size += len(s.record.Bytes)
		owners[k.owner]++
		carriers[s.carrier]++
		switch {
		case s.record.Owner != k.owner || s.record.Label != k.label:
			return fmt.Errorf("slot of %s %q holds %s %q", k.owner, k.label, s.record.Owner, s.record.Label)
		case s.until < s.record.Expires:
			return fmt.Errorf("slot of %q ends before its record", k.label)
		case owners[k.owner] > t.limits.PerOwner || carriers[s.carrier] > t.limits.PerCarrier:
			return fmt.Errorf("quota exceeded by %s", k.owner)
		case owners[k.owner] > t.owners[k.owner] || carriers[s.carrier] > t.carrier[s.carrier]:
			return fmt.Errorf("%s has more names than counted", k.owner)
		}
	}
	if size != t.bytes || len(owners) != len(t.owners) || len(carriers) != len(t.carrier) {
		return fmt.Errorf("kept %d bytes of %d owners, counted %d of %d", size, len(owners), t.bytes, len(t.owners))
	}
	if len(t.slots) > t.limits.Names || t.bytes > t.limits.Bytes {
		return fmt.Errorf("limits exceeded: %d names, %d bytes", len(t.slots), t.bytes)
	}
	return nil
}

// All yields every record with who brought it, expired ones included, in the
// order of owners and labels.
func (t *Table) All() iter.Seq2[*Record, dht.PeerID] {
	return func(yield func(*Record, dht.PeerID) bool) {
		keys := slices.SortedFunc(maps.Keys(t.slots), func(a, b slotKey) int {
			return cmp.Or(bytes.Compare(a.owner[:], b.owner[:]), strings.Compare(a.label, b.label))
		})
		for _, k := range keys {
			if s := t.slots[k]; !yield(s.record, s.carrier) {
				return
			}
		}
	}
}
