package meter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/hypervisor"
)

// Available returns nil where New works, and otherwise an error that wraps
// hypervisor.ErrNotSupported and says what is missing. It loads all programs,
// which takes some 10 ms, attaches none and leaves nothing behind.
func Available() error {
	if err := machine(); err != nil {
		return err
	}
	if _, err := cgroupRoot(); err != nil {
		return err
	}
	at := filepath.Dir(defaultPins)
	mounted, err := isBPFPath(at)
	if err != nil {
		return unsupported(fmt.Errorf("look at %s: %w", at, err), "mount sysfs")
	}
	if !mounted && os.Geteuid() != 0 {
		return unsupported(errors.New("no BPF file system"), "mount one on "+at)
	}
	if mounted && unix.Access(at, unix.W_OK|unix.X_OK) != nil {
		return unsupported(errors.New(at+" is not writable"), "run as root")
	}
	spec, err := loadMeter()
	if err != nil {
		return fmt.Errorf("meter: %w", err)
	}
	var counters struct {
		objects
		Received *ebpf.Program `ebpf:"count_received"`
		Sent     *ebpf.Program `ebpf:"count_sent"`
	}
	if err := spec.LoadAndAssign(&counters, nil); err != nil {
		return explain(err)
	}
	return errors.Join(counters.Close(), counters.Received.Close(), counters.Sent.Close())
}

// machine checks what can be told without loading a program.
func machine() error {
	const btf = "/sys/kernel/btf/vmlinux"
	if _, err := os.Stat(btf); err != nil {
		return unsupported(fmt.Errorf("no type information: %w", err), "use a kernel with CONFIG_DEBUG_INFO_BTF")
	}
	return nil
}

// explain turns the kernel's refusal of a program, map or link into advice.
func explain(err error) error {
	switch {
	case errors.Is(err, ebpf.ErrNotSupported):
		return unsupported(err, "use Linux 6.6 or newer")
	case errors.Is(err, os.ErrPermission):
		return unsupported(err, "run as root, or with CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_SYS_ADMIN")
	case errors.Is(err, ebpf.ErrMapIncompatible):
		return fmt.Errorf("%w: pins of another version; end its environments and remove them", err)
	}
	return err
}

// A mount is a line of /proc/self/mountinfo, as far as it matters here.
type mount struct {
	point, kind, source string
}

func mounts() ([]mount, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseMounts(string(data)), nil
}

// parseMounts reads proc_pid_mountinfo(5); lines that are not of its form are
// left out.
func parseMounts(text string) []mount {
	var all []mount
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(text) {
		before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
		fields, super := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(super) < 2 {
			continue
		}
		all = append(all, mount{point: unescape.Replace(fields[4]), kind: super[0], source: unescape.Replace(super[1])})
	}
	return all
}

// cgroupRoot is where the v2 tree is mounted: alone, or beside v1 hierarchies.
func cgroupRoot() (string, error) {
	all, err := mounts()
	if err != nil {
		return "", fmt.Errorf("meter: %w", err)
	}
	for _, m := range all {
		if m.kind == "cgroup2" {
			return m.point, nil
		}
	}
	return "", unsupported(errors.New("no v2 control group tree is mounted"), "mount cgroup2 on /sys/fs/cgroup, or on /sys/fs/cgroup/unified beside v1")
}

// mountedFrom returns the source of the topmost mount at path.
func mountedFrom(path string) (source string) {
	all, err := mounts()
	if err != nil {
		return ""
	}
	for _, m := range all {
		if m.point == path {
			source = m.source
		}
	}
	return source
}

// locate returns the kernel's ID of a control group and its level in the whole
// tree, of which a container sees a part.
func (m *Meter) locate(dir string) (id uint64, level int, err error) {
	rel, err := filepath.Rel(m.cgroups, dir)
	if err != nil || rel == "." || !filepath.IsLocal(rel) {
		return 0, 0, fmt.Errorf("%w: control group %s is not below %s", hypervisor.ErrBadSpec, dir, m.cgroups)
	}
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, dir, 0)
	if errors.Is(err, os.ErrNotExist) {
		return 0, 0, fmt.Errorf("control group %s: %w", dir, hypervisor.ErrNotFound)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("control group %s: %w", dir, err)
	}
	if handle.Size() != 8 {
		return 0, 0, fmt.Errorf("control group %s: %w: not a directory of the v2 tree", dir, hypervisor.ErrNotSupported)
	}
	id = binary.NativeEndian.Uint64(handle.Bytes())
	if level, err = findLevel(id); err == nil {
		return id, level, nil
	}
	m.log.Debug("level of control group unknown to the kernel, counting directories", slog.Any("error", err))
	level = strings.Count(rel, "/") + 1
	if level > maxLevel {
		return 0, 0, fmt.Errorf("%w: control group %s is more than %d levels deep", hypervisor.ErrBadSpec, dir, maxLevel)
	}
	return id, level, nil
}

// findLevel asks the kernel for the level of a control group.
func findLevel(id uint64) (int, error) {
	spec, err := loadMeter()
	if err != nil {
		return 0, err
	}
	var program struct {
		FindLevel *ebpf.Program `ebpf:"find_level"`
	}
	if err := spec.LoadAndAssign(&program, nil); err != nil {
		return 0, err
	}
	defer program.FindLevel.Close()
	in, out := meterPlace{Cgroup: id}, meterPlace{}
	if _, err := program.FindLevel.Run(&ebpf.RunOptions{Context: in, ContextOut: &out}); err != nil {
		return 0, err
	}
	if out.Found == 0 || out.Level < 1 || out.Level > maxLevel {
		return 0, fmt.Errorf("control group %d at level %d", id, out.Level)
	}
	return int(out.Level), nil
}
