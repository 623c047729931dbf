package hypervisortest

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/internal/testenv"
)

const (
	// patience is how long an environment may take to show something: a
	// virtual machine under software emulation boots in tens of seconds.
	patience = 2 * time.Minute
	// interval is how often is looked.
	interval = 20 * time.Millisecond
	grace    = 200 * time.Millisecond
)

type suite struct {
	*testing.T
	dir       string
	newDriver func(dir string) hypervisor.Driver
	spec      func(id string) hypervisor.Spec
	driver    hypervisor.Driver
}

// clean removes what the test left and checks that nothing is left then.
func (s *suite) clean() {
	ctx := context.Background()
	list, err := s.newDriver(s.dir).List(ctx)
	if err != nil {
		s.Errorf("list: %v", err)
	}
	for _, in := range list {
		if err := s.driver.Remove(ctx, in.ID); err != nil {
			s.Errorf("remove %s: %v", in.ID, err)
		}
		s.gone(in)
	}
}

// gone checks that an instance left neither file nor process.
func (s *suite) gone(in hypervisor.Instance) {
	s.Helper()
	s.noTrace(in.ID)
	if in.PID != 0 && alive(in.PID) {
		s.Errorf("process %d of %s still runs", in.PID, in.ID)
	}
}

// noTrace checks that no file's name tells of id.
func (s *suite) noTrace(id string) {
	s.Helper()
	err := filepath.WalkDir(s.dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.Contains(filepath.Base(path), id) {
			s.Errorf("left behind: %s", path)
		}
		return err
	})
	if err != nil {
		s.Error(err)
	}
}

func alive(pid int) bool {
	return !errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}

func (s *suite) start(id string) hypervisor.Instance {
	s.Helper()
	in, err := s.driver.Start(s.Context(), s.spec(id))
	testenv.Require(s, s.driver.Name(), err)
	return in
}

func (s *suite) find(d hypervisor.Driver, id string) (hypervisor.Instance, bool) {
	s.Helper()
	list, err := d.List(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	i := slices.IndexFunc(list, func(in hypervisor.Instance) bool { return in.ID == id })
	if i < 0 {
		return hypervisor.Instance{}, false
	}
	return list[i], true
}

func (s *suite) mustFind(d hypervisor.Driver, id string) hypervisor.Instance {
	s.Helper()
	in, ok := s.find(d, id)
	if !ok {
		s.Fatalf("%s is not in the list", id)
	}
	return in
}

func (s *suite) usage(d hypervisor.Driver, id string) hypervisor.Usage {
	s.Helper()
	u, err := d.Usage(s.Context(), id)
	if err != nil {
		s.Fatal(err)
	}
	return u
}

// notLess checks that no field of a usage shrank.
func (s *suite) notLess(before, after hypervisor.Usage) {
	s.Helper()
	if after.Run < before.Run || after.CPU < before.CPU || after.RxBytes < before.RxBytes || after.TxBytes < before.TxBytes {
		s.Errorf("usage went back from %+v to %+v", before, after)
	}
}

// until looks at something again and again until it is true.
func (s *suite) until(what string, ok func() bool) {
	s.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(interval) {
		if time.Now().After(deadline) {
			s.Fatalf("not after %v: %s", patience, what)
		}
	}
}

func (s *suite) is(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("got error %v, want %v", err, want)
	}
}

func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Error(err)
	}
}

func missing(p *hypervisor.Spec, path string) {
	if p.Kind == hypervisor.KindWASI {
		p.Module = path
	} else {
		p.Kernel = path
	}
}
