// Package meter counts in the kernel, with eBPF, what environments use: CPU
// time at every context switch, by control group, and bytes at their tap.
//
// CPU time is what the scheduler gave to the threads of the environment's
// control group and of all groups below it, in nanoseconds. A reading includes
// the slices that run while it is taken, up to the scheduler's last update of
// each (at most one timer tick ago): exactly what the kernel's own group
// accounting, cpu.stat or cpuacct.usage, has booked too, so that the two can be
// compared at any instant. Time that a hypervisor below stole, and time in
// interrupts where the kernel accounts it, is no thread's and is not billed.
//
// Bytes are those of Ethernet frames. Sent is what the environment handed over,
// and received what was handed to it, as the tap's own counters say, but never
// more than the meter's programs saw: what a rate limit dropped was not
// received. Detail has the programs' counts, also as a wire would see them.
//
// Programs, maps and links are pinned in a BPF file system, below
// /sys/fs/bpf/xeno/NAMESPACE, and go on counting while no daemon runs. A new
// Meter in the same namespace continues where the kernel is.
package meter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/xenoserver/xeno/hypervisor"
)

// Source is the meter's name in receipts.
const Source = "ebpf"

// Config says where a meter keeps itself.
type Config struct {
	// Namespace keeps the meters of several daemons on a machine apart: 1 to
	// 80 letters, digits, hyphens and underscores; a daemon's peer ID. One
	// namespace is open in one Meter at a time.
	Namespace string
	// Pins is a directory in a BPF file system; it is made, and the file
	// system mounted at its parent, if need be. Empty: /sys/fs/bpf/xeno.
	Pins string
	// Cgroups is the root of the v2 control group tree that Instance.Cgroup
	// starts at. Empty: where it is mounted.
	Cgroups string
	// Logger gets what nobody waits for; nil: nothing is logged.
	Logger *slog.Logger
}

// A Meter is a hypervisor.Meter whose counters live in the kernel. All methods
// may be called at once.
type Meter struct {
	cgroups string
	pins    *pins
	log     *slog.Logger

	mu      sync.Mutex // guards the following, and changes of the pins
	objects objects
	link    link.Link
	last    map[string]hypervisor.Usage // newest readings: none goes below
	slot    uint64                      // of the counters given out last
	closed  bool
}

// A Detail is all that the meter knows of an environment.
type Detail struct {
	Guest, VMM time.Duration // CPU time of virtual CPU threads, and of all others
	Slices     uint64        // times that a thread was switched away
	Running    int           // CPUs that run one of its threads now
	Rx, Tx     Traffic       // received and sent by the environment
	Cgroup     uint64        // the kernel's ID of its control group
	Interface  int           // index of its tap, 0 without one
}

// A record is the value of the names map. Its layout is that of pins which an
// earlier daemon made: layout changes with it.
type record struct {
	Cgroup    uint64
	Level     uint64
	Interface uint64
	Slot      uint64
}

var (
	namespaceForm = regexp.MustCompile(fmt.Sprintf(`^[0-9A-Za-z_-]{1,%d}$`, maxNamespace))
	idForm        = regexp.MustCompile(fmt.Sprintf(`^[0-9a-z-]{1,%d}$`, maxID))
)

// New opens the namespace's meter, or makes it. Errors wrap
// hypervisor.ErrNotSupported with what the machine lacks.
func New(cfg Config) (*Meter, error) {
	if !namespaceForm.MatchString(cfg.Namespace) {
		return nil, fmt.Errorf("meter: namespace %q is not 1 to %d letters, digits, - and _", cfg.Namespace, maxNamespace)
	}
	if err := machine(); err != nil {
		return nil, err
	}
	if cfg.Cgroups == "" {
		root, err := cgroupRoot()
		if err != nil {
			return nil, err
		}
		cfg.Cgroups = root
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	p, err := openPins(cfg.Pins, cfg.Namespace)
	if err != nil {
		return nil, err
	}
	m := &Meter{cgroups: cfg.Cgroups, pins: p, log: cfg.Logger, last: make(map[string]hypervisor.Usage)}
	if err := m.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("meter: %w", err), p.close())
	}
	return m, nil
}

// objects are what counts CPU time; each tap has programs of its own.
type objects struct {
	meterMaps
	CountSwitch *ebpf.Program `ebpf:"count_switch"`
	ReadUsage   *ebpf.Program `ebpf:"read_usage"`
}

func (o *objects) Close() error {
	return errors.Join(o.meterMaps.Close(), o.CountSwitch.Close(), o.ReadUsage.Close())
}

// load brings programs and maps into the kernel, taking the pinned ones where
// there are any, and begins to count.
func (m *Meter) load() error {
	spec, err := loadMeter()
	if err != nil {
		return err
	}
	for _, name := range []string{meterMapEnvironments, meterMapCounters, meterMapSlices, meterMapControl, meterMapNames} {
		spec.Maps[name].Pinning = ebpf.PinByName
	}
	err = spec.LoadAndAssign(&m.objects, &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: m.pins.dir}})
	if err != nil {
		return explain(err)
	}
	if m.link, err = m.attach(); err != nil {
		return errors.Join(err, m.objects.Close())
	}
	return nil
}

// attach returns the pinned link of the program at the context switch. Without
// one it makes it, and the slices map starts clean: what a program of an
// earlier boot of this namespace left there would be taken for a running slice.
func (m *Meter) attach() (link.Link, error) {
	path := filepath.Join(m.pins.dir, switchPin)
	l, err := link.LoadPinnedLink(path, nil)
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return l, err
	}
	if err := m.objects.Slices.Update(uint32(0), make([]meterSlice, ebpf.MustPossibleCPU()), ebpf.UpdateAny); err != nil {
		return nil, err
	}
	l, err = link.AttachTracing(link.TracingOptions{Program: m.objects.CountSwitch})
	if err != nil {
		return nil, explain(err)
	}
	if err := l.Pin(path); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Source implements hypervisor.Meter.
func (m *Meter) Source() string { return Source }

// Track implements hypervisor.Meter. It counts from now on; what the
// environment used before is not known. An instance without a control group
// cannot be tracked: the error wraps hypervisor.ErrNotSupported. Another
// environment under a known ID is hypervisor.ErrExists.
func (m *Meter) Track(_ context.Context, in hypervisor.Instance) error {
	if !idForm.MatchString(in.ID) {
		return fmt.Errorf("meter: track %q: %w: not an environment's ID", in.ID, hypervisor.ErrBadSpec)
	}
	if in.Cgroup == "" {
		return fmt.Errorf("meter: track %s: %w: it has no control group of its own; start it as root", in.ID, hypervisor.ErrNotSupported)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.trackLocked(in); err != nil {
		return fmt.Errorf("meter: track %s: %w", in.ID, err)
	}
	return nil
}

func (m *Meter) trackLocked(in hypervisor.Instance) error {
	if m.closed {
		return os.ErrClosed
	}
	id, level, err := m.locate(filepath.Join(m.cgroups, in.Cgroup))
	if err != nil {
		return err
	}
	key := nameKey(in.ID)
	var known record
	switch err := m.objects.Names.Lookup(key, &known); {
	case err == nil && known.Cgroup != id:
		return fmt.Errorf("%w: another control group is tracked under this ID; forget it first", hypervisor.ErrExists)
	case err == nil: // go on where an earlier call may have ended
		if err := m.count(known); err != nil {
			return err
		}
		return m.trackTap(in, key, known)
	case !errors.Is(err, ebpf.ErrKeyNotExist):
		return err
	}
	slot, err := m.freeSlot(id)
	if err != nil {
		return err
	}
	now := record{Cgroup: id, Level: uint64(level), Slot: slot}
	if err := m.objects.Counters.Update(uint32(slot), make([]meterUsed, ebpf.MustPossibleCPU()), ebpf.UpdateExist); err != nil {
		return err
	}
	if err := m.objects.Names.Update(key, now, ebpf.UpdateNoExist); err != nil {
		return err
	}
	err = m.count(now)
	if err == nil {
		err = m.trackTap(in, key, now)
	}
	if err != nil {
		return errors.Join(err, m.forgetLocked(in.ID))
	}
	return nil
}

// count makes the program know an environment, if it does not yet.
func (m *Meter) count(rec record) error {
	if err := m.objects.Environments.Update(rec.Cgroup, rec.Slot, ebpf.UpdateAny); err != nil {
		return err
	}
	return m.setControl()
}

// freeSlot returns a number of unused counters, or an error if an environment
// has this control group already. Numbers go round: a CPU that has not switched
// since an environment was forgotten may yet add a slice to its old counters.
func (m *Meter) freeSlot(cgroup uint64) (uint64, error) {
	used := make(map[uint64]bool)
	var key [maxID]byte
	var rec record
	all := m.objects.Names.Iterate()
	for all.Next(&key, &rec) {
		if rec.Cgroup == cgroup {
			return 0, fmt.Errorf("%w: its control group is tracked as %s", hypervisor.ErrExists, idOf(key))
		}
		used[rec.Slot] = true
	}
	if err := all.Err(); err != nil {
		return 0, err
	}
	for range maxEnvironments {
		m.slot = (m.slot + 1) % maxEnvironments
		if !used[m.slot] {
			return m.slot, nil
		}
	}
	return 0, fmt.Errorf("%d environments are tracked, the most that can be", maxEnvironments)
}

func (m *Meter) trackTap(in hypervisor.Instance, key [maxID]byte, rec record) error {
	if in.Tap == "" || rec.Interface != 0 {
		return nil
	}
	index, err := m.attachTap(in.ID, in.Tap)
	if err != nil {
		return err
	}
	rec.Interface = uint64(index)
	return m.objects.Names.Update(key, rec, ebpf.UpdateExist)
}

// setControl tells the program at which levels of the tree to look, and that
// the environments have changed.
func (m *Meter) setControl() error {
	var levels, control uint64
	var key [maxID]byte
	var rec record
	all := m.objects.Names.Iterate()
	for all.Next(&key, &rec) {
		levels |= 1 << (rec.Level & maxLevel)
	}
	if err := all.Err(); err != nil {
		return err
	}
	if n := bits.OnesCount64(levels); n > maxDepths {
		return fmt.Errorf("environments at %d levels of the control group tree, at most %d are counted", n, maxDepths)
	}
	if err := m.objects.Control.Lookup(uint32(0), &control); err != nil {
		return err
	}
	return m.objects.Control.Update(uint32(0), (control>>32+1)<<32|levels, ebpf.UpdateAny)
}

// Read implements hypervisor.Meter. Run and MaxBytes stay zero: what is paused
// or resident only the driver knows. It costs some microseconds a CPU.
func (m *Meter) Read(_ context.Context, id string) (hypervisor.Usage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, err := m.detailLocked(id)
	if err != nil {
		return hypervisor.Usage{}, fmt.Errorf("meter: read %s: %w", id, err)
	}
	last := m.last[id]
	u := hypervisor.Usage{
		Source:  Source,
		CPU:     max(d.Guest+d.VMM, last.CPU),
		TxBytes: max(d.Tx.Bytes, last.TxBytes),
		RxBytes: last.RxBytes,
	}
	if d.Interface != 0 {
		u.RxBytes = max(d.delivered(), last.RxBytes)
	}
	m.last[id] = u
	return u, nil
}

// Detail returns all counters of an environment. Errors wrap
// hypervisor.ErrNotFound.
func (m *Meter) Detail(_ context.Context, id string) (Detail, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, err := m.detailLocked(id)
	if err != nil {
		return Detail{}, fmt.Errorf("meter: read %s: %w", id, err)
	}
	return d, nil
}

func (m *Meter) detailLocked(id string) (Detail, error) {
	rec, err := m.record(id)
	if err != nil {
		return Detail{}, err
	}
	d := Detail{Cgroup: rec.Cgroup, Interface: int(rec.Interface)}
	q, err := m.ask(rec)
	if err != nil {
		return Detail{}, err
	}
	d.VMM, d.Guest = time.Duration(q.Cpu[0]), time.Duration(q.Cpu[1])
	d.Slices, d.Running = q.Slices, int(q.Running)
	if rec.Interface != 0 {
		if err := m.readTap(id, &d); err != nil {
			return Detail{}, err
		}
	}
	return d, nil
}

// ask runs the program that adds up over all CPUs.
func (m *Meter) ask(rec record) (meterQuestion, error) {
	for range maxReads {
		in, out := meterQuestion{Cgroup: rec.Cgroup, Level: rec.Level, Slot: rec.Slot}, meterQuestion{}
		if _, err := m.objects.ReadUsage.Run(&ebpf.RunOptions{Context: in, ContextOut: &out}); err != nil {
			return meterQuestion{}, err
		}
		if out.Torn == 0 {
			return out, nil
		}
	}
	return meterQuestion{}, errors.New("the counters change too fast to be read; try again")
}

func (m *Meter) record(id string) (record, error) {
	if m.closed {
		return record{}, os.ErrClosed
	}
	var rec record
	if !idForm.MatchString(id) {
		return rec, hypervisor.ErrNotFound
	}
	err := m.objects.Names.Lookup(nameKey(id), &rec)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return rec, hypervisor.ErrNotFound
	}
	return rec, err
}

// Forget implements hypervisor.Meter. Forgetting what is not tracked is no
// error.
func (m *Meter) Forget(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return fmt.Errorf("meter: forget %s: %w", id, os.ErrClosed)
	}
	if err := m.forgetLocked(id); err != nil {
		return fmt.Errorf("meter: forget %s: %w", id, err)
	}
	return nil
}

func (m *Meter) forgetLocked(id string) error {
	rec, err := m.record(id)
	if errors.Is(err, hypervisor.ErrNotFound) {
		return m.pins.removeTap(id)
	}
	if err != nil {
		return err
	}
	delete(m.last, id)
	err = m.pins.removeTap(id)
	if e := m.objects.Environments.Delete(rec.Cgroup); e != nil && !errors.Is(e, ebpf.ErrKeyNotExist) {
		err = errors.Join(err, e)
	}
	return errors.Join(err, m.objects.Names.Delete(nameKey(id)), m.setControl())
}

func idOf(key [maxID]byte) string { return string(bytes.TrimRight(key[:], "\x00")) }

func nameKey(id string) (key [maxID]byte) {
	copy(key[:], id)
	return key
}
