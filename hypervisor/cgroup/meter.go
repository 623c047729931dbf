package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/xenoserver/xeno/hypervisor"
)

// A Meter reads what control groups and network interfaces count anyway. It is
// the meter of hosts without eBPF, and the second opinion elsewhere. Run is
// not counted: a group does not know it. It implements hypervisor.Meter.
type Meter struct {
	tree *Tree
	net  string // /sys/class/net

	mu      sync.Mutex // guards the following
	tracked map[string]tracked
}

var _ hypervisor.Meter = (*Meter)(nil)

type tracked struct {
	group *Group
	tap   string
	last  hypervisor.Usage
}

// NewMeter returns a meter for the groups of tree.
func NewMeter(tree *Tree) *Meter {
	return &Meter{tree: tree, net: "/sys/class/net", tracked: make(map[string]tracked)}
}

// Source implements hypervisor.Meter.
func (m *Meter) Source() string { return "cgroup" }

// Track implements hypervisor.Meter. Errors wrap ErrNotSupported for an
// instance without a group.
func (m *Meter) Track(_ context.Context, in hypervisor.Instance) error {
	if in.Cgroup == "" {
		return fmt.Errorf("cgroup: %s has no control group: %w", in.ID, hypervisor.ErrNotSupported)
	}
	// A group of another daemon's tree can be read as well; it is never
	// changed through a meter.
	if !filepath.IsLocal(in.Cgroup) || strings.Contains(in.Tap, "/") {
		return fmt.Errorf("cgroup: %s: control group %q, interface %q: %w", in.ID, in.Cgroup, in.Tap, hypervisor.ErrBadSpec)
	}
	t := tracked{group: &Group{tree: m.tree, path: filepath.Clean(in.Cgroup)}, tap: in.Tap}
	if _, err := t.group.Usage(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, ok := m.tracked[in.ID]; ok {
		t.last = old.last
		if t.tap == "" {
			t.tap = old.tap
		}
	}
	m.tracked[in.ID] = t
	return nil
}

// Read implements hypervisor.Meter. When group or interface are gone already
// it returns what they counted last.
func (m *Meter) Read(_ context.Context, id string) (hypervisor.Usage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.tracked[id]
	if !ok {
		return hypervisor.Usage{}, fmt.Errorf("cgroup: meter %s: %w", id, hypervisor.ErrNotFound)
	}
	now := hypervisor.Usage{Source: m.Source()}
	u, err := t.group.Usage()
	if err != nil && !errors.Is(err, hypervisor.ErrNotFound) {
		return hypervisor.Usage{}, err
	}
	now.CPU, now.MaxBytes = u.CPU, u.PeakBytes
	if t.tap != "" {
		// What the host sends to a tap is what the environment receives.
		if now.RxBytes, err = m.counter(t.tap, "tx_bytes"); err != nil {
			return hypervisor.Usage{}, err
		}
		if now.TxBytes, err = m.counter(t.tap, "rx_bytes"); err != nil {
			return hypervisor.Usage{}, err
		}
	}
	now.CPU = max(now.CPU, t.last.CPU)
	now.RxBytes = max(now.RxBytes, t.last.RxBytes)
	now.TxBytes = max(now.TxBytes, t.last.TxBytes)
	now.MaxBytes = max(now.MaxBytes, t.last.MaxBytes)
	t.last = now
	m.tracked[id] = t
	return now, nil
}

// counter reads a statistic of an interface, 0 when it is gone.
func (m *Meter) counter(tap, name string) (uint64, error) {
	n, err := readUint(filepath.Join(m.net, tap, "statistics", name))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("cgroup: %w", err)
	}
	return n, nil
}

// Forget implements hypervisor.Meter. Forgetting what is not tracked is no
// error.
func (m *Meter) Forget(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.tracked, id)
	return nil
}
