package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// enter arranges that the process started next is born in the group: on v2 by
// clone3 through attr, on v1 by moving the calling thread alone there, which
// must be locked, until leave moves it back. So the keeper's own time is
// nobody's bill.
func enter(c Cgroup, attr *syscall.SysProcAttr) (leave func() error, err error) {
	var homes, groups []*os.File // tasks files of where the thread came from, and goes to
	var dir *os.File
	tid := strconv.Itoa(unix.Gettid())
	leave = func() error {
		var errs error
		for _, home := range slices.Backward(homes) {
			_, err := home.WriteString(tid)
			errs = errors.Join(errs, err)
		}
		for _, f := range append(append(homes, groups...), dir) {
			f.Close()
		}
		return errs
	}
	if c.Unified != "" {
		if dir, err = os.Open(c.Unified); err != nil {
			return nil, err
		}
		attr.UseCgroupFD, attr.CgroupFD = true, int(dir.Fd())
	}
	// All is opened first: what the thread does in the group is counted, and
	// when it leaves it may be confined.
	for _, group := range c.Legacy {
		home, err := legacyHome(group)
		if err != nil {
			return nil, errors.Join(err, leave())
		}
		homes = append(homes, home)
		f, err := os.OpenFile(filepath.Join(group, "tasks"), os.O_WRONLY, 0)
		if err != nil {
			return nil, errors.Join(err, leave())
		}
		groups = append(groups, f)
	}
	for _, f := range groups {
		if _, err := f.WriteString(tid); err != nil {
			return nil, errors.Join(fmt.Errorf("join control group: %w", err), leave())
		}
	}
	return leave, nil
}

// legacyHome opens the tasks file, in the hierarchy that group is part of, of
// the group that the calling thread is in.
func legacyHome(group string) (*os.File, error) {
	mounts, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, err
	}
	own, err := os.ReadFile("/proc/thread-self/cgroup")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		before, after, ok := strings.Cut(line, " - cgroup ")
		fields, super := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(super) < 2 || !strings.HasPrefix(group, fields[4]+"/") {
			continue
		}
		options := "," + super[1] + ","
		for line := range strings.Lines(string(own)) {
			parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
			if len(parts) != 3 || parts[1] == "" || !containsAll(options, parts[1]) {
				continue
			}
			rel, err := filepath.Rel(fields[3], parts[2])
			if err != nil {
				return nil, err
			}
			return os.OpenFile(filepath.Join(fields[4], rel, "tasks"), os.O_WRONLY, 0)
		}
	}
	return nil, fmt.Errorf("%s is in no v1 hierarchy", group)
}

// containsAll tells whether ",a,b,c," holds every word of "a,b".
func containsAll(options, words string) bool {
	for word := range strings.SplitSeq(words, ",") {
		if !strings.Contains(options, ","+word+",") {
			return false
		}
	}
	return true
}

// killCgroup ends what escaped the process group but not the control group.
func killCgroup(c Cgroup) {
	if c.Unified != "" {
		_ = writeFile(filepath.Join(c.Unified, "cgroup.kill"), "1")
	}
	for _, group := range c.Legacy {
		data, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
		if err != nil {
			continue
		}
		for pid := range strings.FieldsSeq(string(data)) {
			if n, err := strconv.Atoi(pid); err == nil && n > 1 && n != os.Getpid() {
				_ = unix.Kill(n, unix.SIGKILL)
			}
		}
	}
}

// killDescendants ends and reaps every child of this process: as subreaper it
// is the parent of all that the child left behind.
func killDescendants() {
	self := os.Getpid()
	for range reapRounds {
		entries, err := os.ReadDir("/proc")
		if err != nil {
			return
		}
		found := false
		for _, e := range entries {
			pid, err := strconv.Atoi(e.Name())
			if err != nil {
				continue
			}
			if s, err := readStat(pid); err == nil && s.parent == self {
				found = true
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		if !found {
			return
		}
		for {
			pid, err := unix.Wait4(-1, nil, 0, nil)
			if pid <= 0 && !errors.Is(err, unix.EINTR) {
				break
			}
		}
	}
}

func writeFile(path, data string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(data)
	return errors.Join(err, f.Close())
}
