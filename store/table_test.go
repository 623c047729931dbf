package store

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/ledger"
)

// record seals a version of the name label of the owner with that seed.
func record(t interface{ Fatal(...any) }, seed byte, label string, seq uint64, issued, expires time.Time, value string) *Record {
	key := testKey(seed)
	n := Name{
		Network: "test", Owner: idOf(key), Label: label, Seq: seq, Value: []byte(value),
		Issued: issued.Unix(), Expires: expires.Unix(),
	}
	env, err := ledger.Seal(ledger.KindName, n, key)
	if err != nil {
		t.Fatal(err)
	}
	r, err := DecodeName(env.Marshal(), "test")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTableCompareAndSwap(t *testing.T) {
	tab := NewTable(TableLimits{})
	carrier := idOf(testKey(9))
	put := func(seq, base uint64, value string) error {
		return tab.Put(now, record(t, 1, "a", seq, now, now.Add(time.Hour), value), base, carrier)
	}
	for _, tc := range []struct {
		seq, base uint64
		value     string
		want      error
		newest    uint64
	}{
		{1, 0, "x", nil, 1},
		{1, 0, "x", nil, 1},          // again
		{1, 0, "y", ErrConflict, 1},  // the same number for something else
		{2, 0, "y", ErrConflict, 1},  // built on nothing
		{2, 1, "y", nil, 2},          //
		{1, 0, "x", ErrConflict, 2},  // older
		{7, 1, "z", ErrConflict, 2},  // a jump, built on what is no longer newest
		{7, 6, "z", nil, 7},          // a jump
		{8, 99, "z", nil, 8},         // base above the version means below it
		{8, 99, "w", ErrConflict, 8}, //
	} {
		if err := put(tc.seq, tc.base, tc.value); !errors.Is(err, tc.want) {
			t.Errorf("put %d on %d: %v, want %v", tc.seq, tc.base, err, tc.want)
		}
		if got := tab.Get(now, idOf(testKey(1)), "a"); got == nil || got.Seq != tc.newest {
			t.Errorf("after put %d: %+v, want version %d", tc.seq, got, tc.newest)
		}
	}
	if err := tab.check(); err != nil {
		t.Error(err)
	}
}

// TestTableKeepsTombstone: a long-lived old version cannot come back after a
// short-lived new one has expired.
func TestTableKeepsTombstone(t *testing.T) {
	tab := NewTable(TableLimits{})
	owner, carrier := idOf(testKey(1)), idOf(testKey(9))
	old := record(t, 1, "a", 1, now, now.Add(48*time.Hour), "old")
	short := record(t, 1, "a", 2, now, now.Add(time.Hour), "new")
	for _, r := range []*Record{old, short} {
		if err := tab.Put(now, r, r.Seq-1, carrier); err != nil {
			t.Fatal(err)
		}
	}
	later := now.Add(2 * time.Hour)
	if n := tab.Expire(later); n != 0 {
		t.Errorf("%d names dropped while an old version would hold", n)
	}
	if r := tab.Get(later, owner, "a"); r != nil {
		t.Errorf("expired version %d is returned", r.Seq)
	}
	if err := tab.Put(later, old, 0, carrier); !errors.Is(err, ErrConflict) {
		t.Errorf("old version: %v, want ErrConflict", err)
	}
	if r := tab.Newest(owner, "a"); r == nil || r.Seq != 2 {
		t.Errorf("newest is %+v, want version 2", r)
	}
	if n := tab.Expire(now.Add(49 * time.Hour)); n != 1 || tab.Stats() != (TableStats{}) {
		t.Errorf("%d dropped, left %+v", n, tab.Stats())
	}
}

func TestTableQuotas(t *testing.T) {
	at := func(seed byte, label string, carrier byte, tab *Table, when time.Time) error {
		return tab.Put(when, record(t, seed, label, 1, when, when.Add(time.Hour), "v"), 0, idOf(testKey(carrier)))
	}
	t.Run("owner", func(t *testing.T) {
		tab := NewTable(TableLimits{PerOwner: 2})
		for i, want := range []error{nil, nil, ErrFull} {
			if err := at(1, fmt.Sprint(i), byte(10+i), tab, now); !errors.Is(err, want) {
				t.Errorf("name %d: %v, want %v", i, err, want)
			}
		}
		if err := at(1, "later", 10, tab, now.Add(2*time.Hour)); err != nil {
			t.Errorf("after the others expired: %v", err)
		}
	})
	t.Run("carrier", func(t *testing.T) {
		tab := NewTable(TableLimits{PerCarrier: 2})
		for i, want := range []error{nil, nil, ErrFull} {
			if err := at(byte(20+i), "a", 10, tab, now); !errors.Is(err, want) {
				t.Errorf("name %d: %v, want %v", i, err, want)
			}
		}
		if err := at(30, "a", 11, tab, now); err != nil {
			t.Errorf("another carrier: %v", err)
		}
	})
	t.Run("all", func(t *testing.T) {
		tab := NewTable(TableLimits{Names: 2})
		for i, want := range []error{nil, nil, ErrFull} {
			if err := at(byte(20+i), "a", byte(20+i), tab, now); !errors.Is(err, want) {
				t.Errorf("name %d: %v, want %v", i, err, want)
			}
		}
	})
	t.Run("bytes", func(t *testing.T) {
		r := record(t, 1, "a", 1, now, now.Add(time.Hour), "v")
		tab := NewTable(TableLimits{Bytes: len(r.Bytes)})
		if err := tab.Put(now, r, 0, r.Owner); err != nil {
			t.Fatal(err)
		}
		grown := record(t, 1, "a", 2, now, now.Add(time.Hour), "a longer value")
		if err := tab.Put(now, grown, 1, r.Owner); !errors.Is(err, ErrFull) {
			t.Errorf("longer version: %v, want ErrFull", err)
		}
		if got := tab.Get(now, r.Owner, "a"); got != r {
			t.Errorf("after a refusal %+v, want the old version", got)
		}
	})
}

// TestTableAgainstModel drives a table and a plain list of everything that was
// accepted with the same random operations.
func TestTableAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tab := NewTable(TableLimits{Names: 8, Bytes: 2000, PerOwner: 3, PerCarrier: 4})
		var accepted []*Record // in order
		clock := now
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			clock = clock.Add(time.Duration(rapid.IntRange(0, 900).Draw(t, "seconds")) * time.Second)
			life := time.Duration(rapid.IntRange(1, 3600).Draw(t, "life")) * time.Second
			seq := rapid.Uint64Range(1, 6).Draw(t, "seq")
			r := record(t, byte(rapid.IntRange(1, 4).Draw(t, "owner")), rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "label"),
				seq, clock, clock.Add(life), rapid.SampledFrom([]string{"x", "y"}).Draw(t, "value"))
			before := tab.Get(clock, r.Owner, r.Label)
			err := tab.Put(clock, r, rapid.Uint64Range(0, 6).Draw(t, "base"), idOf(testKey(byte(rapid.IntRange(10, 12).Draw(t, "carrier")))))
			if err == nil {
				accepted = append(accepted, r)
			} else if after := tab.Get(clock, r.Owner, r.Label); after != before {
				t.Fatalf("refused, and yet changed: %v", err)
			}
			if rapid.IntRange(0, 9).Draw(t, "expire") == 0 {
				tab.Expire(clock)
			}
			if err := tab.check(); err != nil {
				t.Fatal(err)
			}
			compare(t, tab, accepted, clock)
		}
	})
}

// compare checks every name against what was accepted of it: what is returned
// is the newest of all versions that could still be valid, if it is valid.
func compare(t *rapid.T, tab *Table, accepted []*Record, clock time.Time) {
	for seed := byte(1); seed <= 4; seed++ {
		for _, label := range []string{"a", "b", "c", "d"} {
			owner := idOf(testKey(seed))
			got := tab.Get(clock, owner, label)
			valid := slices.DeleteFunc(slices.Clone(accepted), func(r *Record) bool {
				return r.Owner != owner || r.Label != label || r.Expires <= clock.Unix()
			})
			for _, r := range valid {
				if got != nil && got.Seq < r.Seq {
					t.Fatalf("%s %s: version %d returned, %d is newer", owner.Short(), label, got.Seq, r.Seq)
				}
			}
			if len(valid) > 0 && tab.Newest(owner, label) == nil {
				t.Fatalf("%s %s was forgotten while version %d holds", owner.Short(), label, valid[0].Seq)
			}
		}
	}
}

// TestNewerIsStrictOrder checks the law of Record.Newer.
func TestNewerIsStrictOrder(t *testing.T) {
	var all []*Record
	for seq := uint64(1); seq <= 3; seq++ {
		for _, v := range []string{"a", "b", "c"} {
			all = append(all, record(t, 1, "n", seq, now, now.Add(time.Hour), v))
		}
	}
	for _, a := range all {
		if !a.Newer(nil) || a.Newer(a) {
			t.Error("a record must be newer than none and not than itself")
		}
		for _, b := range all {
			if a != b && a.Newer(b) == b.Newer(a) {
				t.Errorf("%d and %d are both or neither newer", a.Seq, b.Seq)
			}
			for _, c := range all {
				if a.Newer(b) && b.Newer(c) && !a.Newer(c) {
					t.Error("not transitive")
				}
			}
		}
	}
}

func TestTableAll(t *testing.T) {
	tab := NewTable(TableLimits{})
	want := map[string]dht.PeerID{}
	for i := range 5 {
		r := record(t, byte(i+1), "a", 1, now, now.Add(time.Hour), "v")
		if err := tab.Put(now, r, 0, idOf(testKey(byte(i+10)))); err != nil {
			t.Fatal(err)
		}
		want[r.Owner.String()] = idOf(testKey(byte(i + 10)))
	}
	var order []string
	for r, carrier := range tab.All() {
		order = append(order, string(r.Owner[:]))
		if want[r.Owner.String()] != carrier {
			t.Errorf("%s was brought by %s", r.Owner, carrier)
		}
	}
	if len(order) != 5 || !slices.IsSorted(order) {
		t.Errorf("%d records, sorted %v", len(order), slices.IsSorted(order))
	}
}
