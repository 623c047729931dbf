package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/hypervisor"
)

// Limits bound a group. Zero means no limit.
type Limits struct {
	CPUShare    int    // CPU milliseconds a second over all CPUs
	MemoryBytes uint64 // resident and page cache; swapping is off
	Pids        int    // processes and threads
}

// A Usage is what a group consumed so far.
type Usage struct {
	CPU         time.Duration // of all processes that ever were in it
	MemoryBytes uint64        // now
	PeakBytes   uint64        // 0: not known
}

// A Group is one control group, which need not exist any more.
type Group struct {
	tree *Tree
	path string // below the roots
}

// Create makes a group. Errors wrap hypervisor.ErrExists, or ErrBadSpec for an
// unsafe name; then, as after any error, nothing is left.
func (t *Tree) Create(name string, l Limits) (*Group, error) {
	g, err := t.Group(name)
	if err != nil {
		return nil, err
	}
	for i, root := range t.roots() {
		err := os.Mkdir(filepath.Join(root, g.path), 0o755)
		if i == 0 && errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("cgroup: %s: %w", name, hypervisor.ErrExists)
		}
		if err != nil && !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("cgroup: %w", errors.Join(err, g.rmdir()))
		}
	}
	if err := g.limit(l); err != nil {
		return nil, fmt.Errorf("cgroup: limit %s: %w", name, errors.Join(err, g.rmdir()))
	}
	return g, nil
}

// Group returns a group by its name, whether it exists or not.
func (t *Tree) Group(name string) (*Group, error) {
	if err := hypervisor.ValidateID(name); err != nil {
		return nil, err
	}
	return &Group{tree: t, path: filepath.Join(t.parent, name)}, nil
}

// Path is the group's directory below the root of the v2 tree, as in
// hypervisor.Instance.Cgroup.
func (g *Group) Path() string { return g.path }

// Unified is the group's directory in the v2 tree.
func (g *Group) Unified() string { return filepath.Join(g.tree.unified, g.path) }

// Legacy are the group's directories in the v1 hierarchies, if there are any;
// that which counts CPU time comes last.
func (g *Group) Legacy() []string {
	var list []string
	for _, root := range g.tree.roots()[1:] {
		list = append(list, filepath.Join(root, g.path))
	}
	return list
}

// file is a control file: by its name in the v2 tree, or in the v1 hierarchy of
// its controller.
func (g *Group) file(controller, name string) string {
	if root := g.tree.legacyRoot(controller); root != "" {
		return filepath.Join(root, g.path, name)
	}
	return filepath.Join(g.Unified(), name)
}

func (g *Group) limit(l Limits) error {
	v1 := len(g.tree.legacy) > 0
	quota, over := quota(l.CPUShare)
	switch {
	case l.CPUShare == 0:
	case v1:
		err := writeFile(g.file(controllerCPU, "cpu.cfs_period_us"), strconv.FormatInt(over.Microseconds(), 10))
		if err != nil {
			return err
		}
		if err := writeFile(g.file(controllerCPU, "cpu.cfs_quota_us"), strconv.FormatInt(quota.Microseconds(), 10)); err != nil {
			return err
		}
	default:
		err := writeFile(g.file(controllerCPU, "cpu.max"), fmt.Sprintf("%d %d", quota.Microseconds(), over.Microseconds()))
		if err != nil {
			return err
		}
	}
	if l.MemoryBytes > 0 {
		if err := g.limitMemory(v1, strconv.FormatUint(l.MemoryBytes, 10)); err != nil {
			return err
		}
	}
	if l.Pids > 0 && (!v1 || g.tree.legacyRoot(controllerPids) != "") {
		return writeFile(g.file(controllerPids, "pids.max"), strconv.Itoa(l.Pids))
	}
	return nil
}

// limitMemory also turns swap off where the kernel counts it, and lets the
// kernel end the whole group when memory runs out.
func (g *Group) limitMemory(v1 bool, limit string) error {
	if v1 {
		if err := writeFile(g.file(controllerMemory, "memory.limit_in_bytes"), limit); err != nil {
			return err
		}
		return optional(writeFile(g.file(controllerMemory, "memory.memsw.limit_in_bytes"), limit))
	}
	if err := writeFile(g.file(controllerMemory, "memory.max"), limit); err != nil {
		return err
	}
	return errors.Join(
		optional(writeFile(g.file(controllerMemory, "memory.swap.max"), "0")),
		optional(writeFile(g.file(controllerMemory, "memory.oom.group"), "1")),
	)
}

// quota turns CPU milliseconds a second into time per period.
func quota(share int) (quota, over time.Duration) {
	over = period
	if share < 10 {
		over = longPeriod
	}
	return time.Duration(share) * over / 1000, over
}

// optional forgives a control file that this kernel lacks.
func optional(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// Usage reads the counters. Errors wrap hypervisor.ErrNotFound when the group
// is gone.
func (g *Group) Usage() (Usage, error) {
	u, err := g.usage()
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return Usage{}, fmt.Errorf("cgroup: %s: %w", g.path, hypervisor.ErrNotFound)
	}
	if err != nil {
		return Usage{}, fmt.Errorf("cgroup: %w", err)
	}
	return u, nil
}

func (g *Group) usage() (u Usage, err error) {
	var peak uint64
	if len(g.tree.legacy) > 0 {
		cpu, err := readUint(g.file(controllerCPUAcct, "cpuacct.usage"))
		if err != nil {
			return u, err
		}
		u.CPU = time.Duration(cpu)
		if u.MemoryBytes, err = readUint(g.file(controllerMemory, "memory.usage_in_bytes")); err != nil {
			return u, err
		}
		peak, err = readUint(g.file(controllerMemory, "memory.max_usage_in_bytes"))
		u.PeakBytes = peak
		return u, err
	}
	data, err := readFile(g.file(controllerCPU, "cpu.stat"))
	if err != nil {
		return u, err
	}
	micros, err := parseStat(data, "usage_usec")
	if err != nil {
		return u, err
	}
	u.CPU = time.Duration(micros) * time.Microsecond
	if u.MemoryBytes, err = readUint(g.file(controllerMemory, "memory.current")); err != nil {
		return u, err
	}
	u.PeakBytes, err = readUint(g.file(controllerMemory, "memory.peak"))
	return u, optional(err) // memory.peak is of Linux 5.19
}

// parseStat finds one number in a flat-keyed file.
func parseStat(data, key string) (uint64, error) {
	for line := range strings.Lines(data) {
		if rest, ok := strings.CutPrefix(line, key+" "); ok {
			return strconv.ParseUint(strings.TrimSpace(rest), 10, 63)
		}
	}
	return 0, fmt.Errorf("no %s", key)
}

// OutOfMemory tells whether the kernel killed a process of the group because
// of its memory limit.
func (g *Group) OutOfMemory() (bool, error) {
	name := "memory.events"
	if len(g.tree.legacy) > 0 {
		name = "memory.oom_control"
	}
	data, err := readFile(g.file(controllerMemory, name))
	if err != nil {
		return false, fmt.Errorf("cgroup: %w", err)
	}
	n, err := parseStat(data, "oom_kill")
	if err != nil {
		return false, fmt.Errorf("cgroup: %s: %w", name, err)
	}
	return n > 0, nil
}

// Freeze stops all processes of the group, or lets them go on, and returns
// when the kernel has done so.
func (g *Group) Freeze(ctx context.Context, frozen bool) error {
	value := "0"
	if frozen {
		value = "1"
	}
	if err := writeFile(filepath.Join(g.Unified(), "cgroup.freeze"), value); err != nil {
		return fmt.Errorf("cgroup: freeze %s: %w", g.path, err)
	}
	return g.until(ctx, "frozen "+value)
}

// Frozen tells whether Freeze stopped the group.
func (g *Group) Frozen() (bool, error) {
	data, err := readFile(filepath.Join(g.Unified(), "cgroup.freeze"))
	if err != nil {
		return false, fmt.Errorf("cgroup: %w", err)
	}
	return strings.TrimSpace(data) == "1", nil
}

// until waits for a line of cgroup.events.
func (g *Group) until(ctx context.Context, want string) error {
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		data, err := readFile(filepath.Join(g.Unified(), "cgroup.events"))
		if err != nil {
			return fmt.Errorf("cgroup: %w", err)
		}
		for line := range strings.Lines(data) {
			if strings.TrimSpace(line) == want {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cgroup: %s is not %q: %w", g.path, want, ctx.Err())
		case <-tick.C:
		}
	}
}

// Kill ends every process of the group and returns when none is left. Killing
// an empty or removed group is no error.
func (g *Group) Kill(ctx context.Context) error {
	err := writeFile(filepath.Join(g.Unified(), "cgroup.kill"), "1")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		if !exists(g.Unified()) {
			return nil
		}
		err = g.killEach() // Linux before 5.14
	}
	if err != nil {
		return fmt.Errorf("cgroup: kill %s: %w", g.path, err)
	}
	return g.until(ctx, "populated 0")
}

// killEach kills by number, and only what is still a member once its pidfd is
// open.
func (g *Group) killEach() error {
	procs := filepath.Join(g.Unified(), "cgroup.procs")
	for range killRounds {
		pids, err := readPids(procs)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				continue
			}
			data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
			if err == nil && strings.Contains(string(data), "0::/"+g.path+"\n") {
				_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
			}
			unix.Close(fd)
		}
	}
	return errors.New("its processes multiply faster than they can be killed")
}

// Remove kills what is in the group and removes it. Removing a group that is
// gone is no error.
func (g *Group) Remove(ctx context.Context) error {
	if exists(g.Unified()) {
		if err := g.Kill(ctx); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	for {
		err := g.rmdir()
		// An ended process leaves its groups one after the other.
		if !errors.Is(err, unix.EBUSY) || ctx.Err() != nil {
			return err
		}
		timer := time.NewTimer(pollInterval)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// rmdir removes the directories, the v2 one last: as long as it exists the
// group is known.
func (g *Group) rmdir() error {
	var errs error
	for _, dir := range append(g.Legacy(), g.Unified()) {
		if err := g.tree.rmdir(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = errors.Join(errs, fmt.Errorf("cgroup: %w", err))
		}
	}
	return errs
}
