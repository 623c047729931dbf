package storage

import (
	"bufio"
	"bytes"
	"container/list"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/store"
)

// mayOwn checks the limit of own names.
func (n *names) mayOwn(label string) error {
	if err := store.CheckLabel(label); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.own[label] == nil && len(n.own) >= maxOwn {
		return fmt.Errorf("%w: %d own names, retract one", store.ErrFull, maxOwn)
	}
	return nil
}

// ownPath returns the file of an own name. Labels of up to 128 bytes have at
// most 256 hexadecimal digits, too many for a file: the key has 64.
func (n *names) ownPath(label string) string {
	return filepath.Join(n.ownDir(), store.NameKey(n.self, label).String())
}

// triedSuffix marks the file that holds the number of the newest version
// tried, as text, beside the record that is renewed.
const triedSuffix = ".tried"

// try notes that r is about to get out.
func (n *names) try(r *store.Record) error {
	if err := writeFile(n.ownPath(r.Label)+triedSuffix, strconv.AppendUint(nil, r.Seq, 10)); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tried[r.Label] = r.Seq
	return nil
}

// published remembers an own version and where it went, to renew it.
func (n *names) published(r *store.Record, at []dht.Contact) error {
	if err := writeFile(n.ownPath(r.Label), r.Bytes); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.own[r.Label] = r
	n.homes[r.Label] = ids(at)
	n.seen.put(r)
	return nil
}

func ids(contacts []dht.Contact) map[dht.PeerID]bool {
	m := make(map[dht.PeerID]bool, len(contacts))
	for _, c := range contacts {
		m[c.ID] = true
	}
	return m
}

// settle brings the own names to participants that have become closest since
// they were published: those who joined, and those who stepped in for others.
func (n *names) settle(ctx context.Context) {
	n.mu.Lock()
	all := slices.Collect(maps.Values(n.own))
	n.mu.Unlock()
	for _, r := range all {
		to, err := n.net.Closest(ctx, r.Key(), holders)
		if err != nil {
			continue // offline: the next round tries again
		}
		n.mu.Lock()
		home := n.homes[r.Label]
		n.mu.Unlock()
		to = slices.DeleteFunc(to, func(c dht.Contact) bool { return home[c.ID] })
		if len(to) == 0 {
			continue
		}
		if have, _, _ := n.write(ctx, to, r, r.Seq-1); have < len(to) {
			continue
		}
		n.mu.Lock()
		if n.own[r.Label] == r {
			home = maps.Clone(home) // others may read the old one
			if home == nil {
				home = make(map[dht.PeerID]bool)
			}
			maps.Copy(home, ids(to))
			n.homes[r.Label] = home
		}
		n.mu.Unlock()
	}
}

func (n *names) retract(label string) error {
	n.publishing.Lock()
	defer n.publishing.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.own[label] == nil {
		return fmt.Errorf("storage: retract %q: %w", label, store.ErrNoName)
	}
	if err := os.Remove(n.ownPath(label)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("storage: retract %q: %w", label, err)
	}
	delete(n.own, label)
	delete(n.homes, label)
	return nil
}

func (n *names) loadOwn() error {
	entries, err := os.ReadDir(n.ownDir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(n.ownDir(), e.Name())
		if strings.HasPrefix(e.Name(), tempPrefix) {
			if err := os.Remove(path); err != nil {
				return err
			}
			continue
		}
		if strings.HasSuffix(e.Name(), triedSuffix) {
			continue
		}
		b, err := readFile(path, store.MaxRecord)
		if err != nil {
			return err
		}
		r, err := store.DecodeName(b, n.network)
		if err != nil || r.Owner != n.self || len(n.own) >= maxOwn {
			return errors.Join(fmt.Errorf("%s is not a name of %s: remove it", path, n.self), err)
		}
		n.own[r.Label] = r
	}
	return nil
}

// loadTried returns the newest version of label that was tried, also in an
// earlier life of the daemon.
func (n *names) loadTried(label string) (uint64, error) {
	n.mu.Lock()
	seq, ok := n.tried[label]
	n.mu.Unlock()
	if ok {
		return seq, nil
	}
	path := n.ownPath(label) + triedSuffix
	b, err := readFile(path, 20)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if seq, err = strconv.ParseUint(string(b), 10, 64); err != nil {
		return 0, fmt.Errorf("%s is damaged: remove it", path)
	}
	return seq, nil
}

// tableMagic begins a saved table. After it, for each record: the carrier's
// 32 bytes, the record's length as 4 bytes big-endian, the record.
const tableMagic = "xeno-names-1\n"

func (n *names) tablePath() string { return filepath.Join(n.dir, "held") }

// saveTable writes the table to disk, if it changed.
func (n *names) saveTable() error {
	n.mu.Lock()
	if !n.dirty {
		n.mu.Unlock()
		return nil
	}
	n.dirty = false
	b := encodeTable(n.table)
	n.mu.Unlock()
	err := writeFile(n.tablePath(), b)
	if err != nil {
		n.mu.Lock()
		n.dirty = true
		n.mu.Unlock()
	}
	return err
}

func encodeTable(t *store.Table) []byte {
	b := []byte(tableMagic)
	for r, carrier := range t.All() {
		b = append(b, carrier[:]...)
		b = binary.BigEndian.AppendUint32(b, uint32(len(r.Bytes)))
		b = append(b, r.Bytes...)
	}
	return b
}

// loadTable reads the saved table. A damaged one is not an error: it is set
// aside, since other holders have the same names.
func (n *names) loadTable(ctx context.Context, now time.Time) error {
	b, err := readFile(n.tablePath(), maxTableFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := decodeTable(n.table, b, n.network, now); err != nil {
		n.log.LogAttrs(ctx, slog.LevelWarn, "held names are damaged: starting with those before the damage", slog.Any("error", err))
		return os.Rename(n.tablePath(), n.tablePath()+".damaged")
	}
	return nil
}

var errTable = errors.New("malformed table of names")

// decodeTable puts what b holds into t, as far as it still holds at now.
func decodeTable(t *store.Table, b []byte, network string, now time.Time) error {
	r := bufio.NewReader(bytes.NewReader(b))
	magic := make([]byte, len(tableMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != tableMagic {
		return errTable
	}
	for {
		var head [36]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return errTable
		}
		size := binary.BigEndian.Uint32(head[32:])
		if size > store.MaxRecord {
			return errTable
		}
		record := make([]byte, size)
		if _, err := io.ReadFull(r, record); err != nil {
			return errTable
		}
		rec, err := store.DecodeName(record, network)
		if err != nil {
			return errors.Join(errTable, err)
		}
		if rec.Expires > now.Unix() {
			if err := t.Put(now, rec, rec.Seq-1, dht.PeerID(head[:32])); err != nil {
				return err
			}
		}
	}
}

const tempPrefix = ".tmp-"

// writeFile replaces a file so that after a crash the old or the new one is
// there, whole.
func writeFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), tempPrefix+"*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// readFile reads a file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return b, nil
}

// seen remembers the newest version that this participant was told of, for a
// bounded number of names.
type seen struct {
	byName map[dht.Key]*list.Element
	order  *list.List // of seenName, most recently told first
}

type seenName struct {
	key     dht.Key
	seq     uint64
	expires int64
}

func newSeen() *seen { return &seen{byName: make(map[dht.Key]*list.Element), order: list.New()} }

// get returns the newest version told that still holds at now, or 0.
func (s *seen) get(owner dht.PeerID, label string, now time.Time) uint64 {
	el := s.byName[store.NameKey(owner, label)]
	if el == nil || el.Value.(seenName).expires <= now.Unix() {
		return 0
	}
	return el.Value.(seenName).seq
}

func (s *seen) put(r *store.Record) {
	key := r.Key()
	next := seenName{key, r.Seq, r.Expires}
	if el := s.byName[key]; el != nil {
		if old := el.Value.(seenName); old.seq > next.seq {
			return
		}
		el.Value = next
		s.order.MoveToFront(el)
		return
	}
	s.byName[key] = s.order.PushFront(next)
	if s.order.Len() > maxSeen {
		last := s.order.Back()
		delete(s.byName, last.Value.(seenName).key)
		s.order.Remove(last)
	}
}
