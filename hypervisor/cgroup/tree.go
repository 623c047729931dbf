// Package cgroup gives each environment a control group: limits on CPU time,
// memory and processes, and the kernel's own count of what was consumed.
//
// It knows two layouts of /sys/fs/cgroup. On the unified one (v2) a group is
// one directory. On the hybrid one it is the same path in each v1 hierarchy,
// which limit and count, and in the v2 tree beside them, whose group ID eBPF
// programs see and whose freeze and kill files work without controllers.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/hypervisor"
)

// The v1 hierarchies that a group is made in. CPU, accounting and memory must be there.
const (
	controllerCPU     = "cpu"
	controllerCPUAcct = "cpuacct"
	controllerMemory  = "memory"
	controllerPids    = "pids"
)

// A Config says where groups are made.
type Config struct {
	// Root is where the control group file systems are mounted. Empty:
	// /sys/fs/cgroup.
	Root string
	// Parent is the path, below each hierarchy's root, under which the groups
	// are made. It belongs to one daemon alone, which takes every group in it
	// for its own. Empty: "xeno" for the superuser, "xeno" below the
	// daemon's own group for others (a delegated subtree).
	Parent string
}

// A Tree is the place of one daemon's groups. All methods may be called at
// once.
type Tree struct {
	unified string   // root of the v2 tree
	legacy  []legacy // roots of the v1 hierarchies; none on a unified layout
	parent  string
	rmdir   func(string) error // differs in tests on plain directories
}

type legacy struct {
	controller string
	root       string
}

// Open finds out the layout and makes the parent group. Errors wrap
// hypervisor.ErrNotSupported when this machine has no control groups or this
// user may not make any.
func Open(cfg Config) (*Tree, error) {
	if cfg.Root == "" {
		cfg.Root = "/sys/fs/cgroup"
	}
	t := &Tree{rmdir: os.Remove}
	if err := t.detect(cfg.Root); err != nil {
		return nil, err
	}
	own := cfg.Parent == "" && os.Geteuid() != 0
	t.parent = cfg.Parent
	if t.parent == "" {
		t.parent = "xeno"
	}
	if own {
		group, err := ownGroup()
		if err != nil {
			return nil, notSupported(err)
		}
		t.parent = filepath.Join(group, t.parent)
	}
	t.parent = filepath.Clean(t.parent)
	if !filepath.IsLocal(t.parent) || t.parent == "." {
		return nil, fmt.Errorf("cgroup: parent %q is not a path below the root", cfg.Parent)
	}
	if err := t.makeParent(); err != nil {
		return nil, notSupported(errors.Join(err, t.Close()))
	}
	return t, nil
}

func notSupported(err error) error {
	return fmt.Errorf("cgroup: %w: run as root, or in a service with Delegate=yes: %w", err, hypervisor.ErrNotSupported)
}

// detect finds the hierarchies below root.
func (t *Tree) detect(root string) error {
	if exists(filepath.Join(root, "cgroup.controllers")) {
		t.unified = root
		return nil
	}
	t.unified = filepath.Join(root, "unified")
	if !exists(filepath.Join(t.unified, "cgroup.controllers")) {
		return fmt.Errorf("cgroup: no version 2 tree at %s or %s; mount cgroup2: %w", root, t.unified, hypervisor.ErrNotSupported)
	}
	for _, name := range []string{controllerMemory, controllerPids, "blkio", "freezer", controllerCPU, controllerCPUAcct} {
		// Controllers that share a hierarchy are links to one directory.
		dir, err := filepath.EvalSymlinks(filepath.Join(root, name))
		if err == nil {
			t.legacy = append(t.legacy, legacy{name, dir})
		}
	}
	for _, name := range []string{controllerCPU, controllerCPUAcct, controllerMemory} {
		if t.legacyRoot(name) == "" {
			return fmt.Errorf("cgroup: no controller %s at %s: %w", name, root, hypervisor.ErrNotSupported)
		}
	}
	return nil
}

// legacyRoot returns the root of a v1 hierarchy, empty if there is none.
func (t *Tree) legacyRoot(controller string) string {
	for _, l := range t.legacy {
		if l.controller == controller {
			return l.root
		}
	}
	return ""
}

// roots returns every hierarchy's root once.
func (t *Tree) roots() []string {
	list := []string{t.unified}
	for _, l := range t.legacy {
		if !slices.Contains(list, l.root) {
			list = append(list, l.root)
		}
	}
	return list
}

// ownGroup is the v2 group that this process is in.
func ownGroup() (string, error) {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::/"); ok {
			return path, nil
		}
	}
	return "", errors.New("this process is in no version 2 group")
}

// makeParent makes the parent in every hierarchy; on a unified layout the
// controllers are passed on to it and to the groups below.
func (t *Tree) makeParent() error {
	for _, root := range t.roots() {
		if err := os.MkdirAll(filepath.Join(root, t.parent), 0o755); err != nil {
			return err
		}
	}
	if len(t.legacy) > 0 {
		return nil
	}
	path := t.unified
	if err := t.delegate(path); err != nil {
		return err
	}
	for part := range strings.SplitSeq(t.parent, "/") {
		path = filepath.Join(path, part)
		if err := t.delegate(path); err != nil {
			return err
		}
	}
	return nil
}

// delegate lets the children of a v2 group use the controllers.
func (t *Tree) delegate(dir string) error {
	data, err := readFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return err
	}
	for _, name := range []string{controllerCPU, controllerMemory, controllerPids} {
		if slices.Contains(strings.Fields(data), name) {
			continue
		}
		err := writeFile(filepath.Join(dir, "cgroup.subtree_control"), "+"+name)
		if errors.Is(err, unix.EBUSY) && t.stepDown(dir) == nil {
			// A group with processes of its own cannot pass controllers on.
			err = writeFile(filepath.Join(dir, "cgroup.subtree_control"), "+"+name)
		}
		if err != nil {
			return fmt.Errorf("controller %s in %s: %w", name, dir, err)
		}
	}
	return nil
}

// stepDown moves this process into a leaf below dir if nobody else is in dir.
func (t *Tree) stepDown(dir string) error {
	pids, err := readPids(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return err
	}
	if len(pids) != 1 || pids[0] != os.Getpid() {
		return errors.New("others are in the group")
	}
	leaf := filepath.Join(dir, "xeno-node")
	if err := os.MkdirAll(leaf, 0o755); err != nil {
		return err
	}
	return writeFile(filepath.Join(leaf, "cgroup.procs"), fmt.Sprint(os.Getpid()))
}

// List returns the names of the groups that exist, those of earlier daemons
// included, in order.
func (t *Tree) List() ([]string, error) {
	var names []string
	for _, root := range t.roots() {
		entries, err := os.ReadDir(filepath.Join(root, t.parent))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cgroup: %w", err)
		}
		for _, e := range entries {
			if e.IsDir() && hypervisor.ValidateID(e.Name()) == nil {
				names = append(names, e.Name())
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Close removes the parent group when it is empty. The groups of running
// environments stay.
func (t *Tree) Close() error {
	var errs error
	for _, root := range t.roots() {
		err := t.rmdir(filepath.Join(root, t.parent))
		if err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, os.ErrNotExist) {
			errs = errors.Join(errs, fmt.Errorf("cgroup: %w", err))
		}
	}
	return errs
}

// Unified returns the root of the v2 tree, to which Group.Path is relative.
func (t *Tree) Unified() string { return t.unified }
