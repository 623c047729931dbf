package search

import (
	"maps"
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// Versions are what the copies of a cell should have, and since which version:
// who has one of them is told what came after it.
type versions struct {
	version  uint64
	urgent   uint64              // the last version without which an ad is not found
	base     uint64              // the oldest version that what follows tells of
	keep     time.Duration       // how long it is known that an ad is gone
	leases   []mirrorLease       // ascending by hash
	children map[int]mirrorChild // by slot
}

// newVersions begins at the time, so that versions grow over restarts too.
func newVersions(now time.Time, keep time.Duration) versions {
	v := uint64(now.UnixMilli())
	return versions{version: v, base: v, keep: keep, children: make(map[int]mirrorChild)}
}

// A mirrorLease is an ad as mirrors should have it.
type mirrorLease struct {
	hash    Hash
	ad      *Signed // nil: gone
	version uint64
	at      time.Time // of that version
}

// A mirrorChild is a child as mirrors should have it.
type mirrorChild struct {
	child   Child
	version uint64
	bare    bool
}

// record gives what changed of the ads, ascending by hash, a version.
func (t *versions) record(now time.Time, ads []*Signed) {
	old, merged := t.leases, make([]mirrorLease, 0, len(ads))
	for _, ad := range ads {
		for ; len(old) > 0 && old[0].hash.Compare(ad.hash) < 0; old = old[1:] {
			merged = t.bury(now, merged, old[0])
		}
		at := mirrorLease{hash: ad.hash}
		if len(old) > 0 && old[0].hash == ad.hash {
			at, old = old[0], old[1:]
		}
		if at.ad == nil || at.ad.Ad.Seq != ad.Ad.Seq {
			fresh := at.ad == nil
			t.version++
			at.ad, at.version, at.at = ad, t.version, now
			if fresh {
				t.urgent = t.version
			}
		}
		merged = append(merged, at)
	}
	for ; len(old) > 0; old = old[1:] {
		merged = t.bury(now, merged, old[0])
	}
	t.leases = merged
}

// bury keeps that an ad is gone until every copy has been told, or must begin
// anew.
func (t *versions) bury(now time.Time, list []mirrorLease, l mirrorLease) []mirrorLease {
	if l.ad != nil {
		t.version++
		return append(list, mirrorLease{hash: l.hash, version: t.version, at: now})
	}
	if now.Sub(l.at) < t.keep {
		return append(list, l)
	}
	t.base = max(t.base, l.version)
	return list
}

// recordChildren gives each child that changed a version, and each that is none
// any more.
func (t *versions) recordChildren(list []Child) {
	listed := make(map[int]bool, len(list))
	for _, child := range list {
		listed[child.Index] = true
		at, known := t.children[child.Index]
		if known && !at.bare && at.child.sameAs(child) {
			continue
		}
		t.version++
		if !known || at.bare || !at.child.Summary.Covers(child.Summary) {
			t.urgent = t.version
		}
		t.children[child.Index] = mirrorChild{child: child, version: t.version}
	}
	bare := 0
	for _, slot := range slices.Sorted(maps.Keys(t.children)) {
		at := t.children[slot]
		switch {
		case listed[slot]:
		case at.bare:
			bare++
		default:
			t.version++
			t.children[slot] = mirrorChild{version: t.version, bare: true}
		}
	}
	if bare > maxListed {
		t.forgetBare()
	}
}

// forgetBare forgets what is no child any more: who was not told of one of them
// begins anew.
func (t *versions) forgetBare() {
	for slot, at := range t.children {
		if at.bare {
			t.base = max(t.base, at.version)
			delete(t.children, slot)
		}
	}
}

// sameAs tells whether mirrors need not be told of a child again.
func (c Child) sameAs(d Child) bool {
	return c.Summary.Count == d.Summary.Count && c.Summary.equal(d.Summary) &&
		slices.EqualFunc(c.Holders, d.Holders, func(a, b dht.Contact) bool { return a.ID == b.ID }) &&
		slices.EqualFunc(c.Mirrors.List, d.Mirrors.List, func(a, b Mirror) bool { return a.ID == b.ID && a.Of == b.Of })
}

// bytes is about what a child takes in a message.
func (c Child) bytes() int {
	size := 8*len(c.Summary.Occupancy) + BallBytes*len(c.Summary.Balls) + bytesOf(c.Holders)
	for _, m := range c.Mirrors.List {
		size += contactBytes(m.Contact)
	}
	return size
}

// update returns what a copy of a version lacks, as much as fits.
func (t *versions) update(from uint64) MirrorUpdate {
	if from < t.base || from > t.version {
		from = 0
	}
	type part struct {
		version uint64
		lease   *mirrorLease
		slot    int
	}
	var parts []part
	for i := range t.leases {
		if l := &t.leases[i]; l.version > from && (l.ad != nil || from > 0) {
			parts = append(parts, part{version: l.version, lease: l})
		}
	}
	for slot, at := range t.children {
		if at.version > from && (!at.bare || from > 0) {
			parts = append(parts, part{version: at.version, slot: slot})
		}
	}
	slices.SortFunc(parts, func(a, b part) int {
		if a.version < b.version {
			return -1
		}
		return 1
	})
	u := MirrorUpdate{From: from, To: t.version, Whole: true}
	size := 0
	for i, p := range parts {
		switch {
		case p.lease == nil && t.children[p.slot].bare:
			u.Bare = append(u.Bare, p.slot)
		case p.lease == nil:
			child := t.children[p.slot].child
			u.Children = append(u.Children, child)
			size += child.bytes()
		case p.lease.ad == nil:
			u.Gone = append(u.Gone, p.lease.hash)
			size += len(p.lease.hash) + 2
		default:
			u.Ads = append(u.Ads, p.lease.ad)
			size += p.lease.ad.size
		}
		if size >= maxUpdateBytes && i+1 < len(parts) {
			u.To, u.Whole = p.version, false
			break
		}
	}
	return u
}
