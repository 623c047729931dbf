package crashtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
)

// slack is what a machine that does much else takes for what is due at once.
const slack = 20 * time.Second

// await asks ok until it returns nil, at most until the deadline and slack.
func (f *flow) await(deadline time.Time, ok func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(f.t.Context(), max(time.Until(deadline), 0)+slack)
	defer cancel()
	for {
		err := ok(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// checkEnd waits until all that can expire has expired, and asserts what the
// platform promises after a crash.
func (f *flow) checkEnd() {
	f.t.Helper()
	due := time.Now()
	if f.wait {
		due = due.Add(f.lease + f.grace)
	}
	if err := f.await(due, f.over); err != nil {
		f.t.Errorf("the session does not end: %v", err)
	}
	if !f.wait {
		err := f.persist("cancel", func(ctx context.Context) error {
			_, err := f.members[client].api.CancelOrder(ctx, f.bought.ID)
			return err
		})
		if err != nil {
			f.t.Error(err)
		}
	} else {
		due = f.bought.Expires
	}
	if err := f.await(due, f.released); err != nil {
		f.t.Errorf("money stays bound: %v", err)
	}
	if err := f.await(time.Now(), f.agrees); err != nil {
		f.t.Errorf("the sides disagree: %v", err)
	}
	f.checkLeft()
	for _, r := range []role{client, server, corp} {
		if err := f.stop(f.members[r]); err != nil {
			f.t.Errorf("stop %s: %v", r, err)
		}
	}
	if left := f.orphans(); len(left) > 0 {
		f.t.Errorf("processes after the end of the daemons: %v", left)
	}
	if left := cgroups("xeno-" + f.scope()); len(left) > 0 {
		f.t.Errorf("control groups after the end of the daemons: %v", left)
	}
}

// over returns nil once both sides have brought the session to its end.
func (f *flow) over(ctx context.Context) error {
	for _, r := range []role{client, server} {
		s, err := f.members[r].api.Session(ctx, f.session)
		if api.CodeOf(err) == api.CodeNotFound {
			continue // never agreed
		}
		if err != nil {
			return err
		}
		if !s.State.Over() {
			return fmt.Errorf("at the %s it is %s: %s", r, s.State, s.Error)
		}
	}
	return nil
}

// released returns nil once the books bind no money any more.
func (f *flow) released(ctx context.Context) error {
	books, err := f.members[corp].api.Accounts(ctx)
	if err != nil {
		return err
	}
	for _, a := range books.Accounts {
		if slices.Contains([]string{"reserved", "held", "pending", "dispute"}, a.Kind) && a.Balance != 0 {
			return fmt.Errorf("%s has %s", a.Name, a.Balance)
		}
	}
	return nil
}

// agrees returns nil if every account is explained: what the client lacks of
// its deposit is what its record of the session says that it paid, and what
// the server and XenoCorp have.
func (f *flow) agrees(ctx context.Context) error {
	books, err := f.members[corp].api.Accounts(ctx)
	if err != nil {
		return err
	}
	var sum, earned, fee, rest, world ledger.Amount
	for _, a := range books.Accounts {
		sum += a.Balance
		switch {
		case a.Peer == f.members[client].id:
			rest += a.Balance
		case a.Peer == f.members[server].id:
			earned += a.Balance
		case a.Kind == "fee":
			fee += a.Balance
		case a.Kind == "world":
			world += a.Balance
		case a.Balance != 0:
			return fmt.Errorf("account %s has %s", a.Name, a.Balance)
		}
	}
	if sum != 0 || books.Sum != 0 || world != -deposit || rest+earned+fee != deposit {
		return fmt.Errorf("the books sum to %s: client %s, server %s, fee %s, world %s, deposit %s", sum, rest, earned, fee, world, deposit)
	}
	paid := earned + fee
	s, err := f.members[client].api.Session(ctx, f.session)
	if api.CodeOf(err) == api.CodeNotFound {
		if paid != 0 {
			return fmt.Errorf("%s paid for a session that the client does not know", paid)
		}
		return nil
	}
	if err != nil {
		return err
	}
	if s.Settlement == nil && paid != 0 || s.Settlement != nil && (s.Settlement.Paid != paid || s.Settlement.Fee != fee || s.Settlement.Released != limit-paid) {
		return fmt.Errorf("%s paid, the client's settlement says %+v", paid, s.Settlement)
	}
	if paid > limit {
		return fmt.Errorf("%s paid, above the cap of %s", paid, limit)
	}
	return f.checkEarned(ctx, paid)
}

// checkEarned compares what was paid with what the server can prove: with
// every claim in time, that is its final receipt.
func (f *flow) checkEarned(ctx context.Context, paid ledger.Amount) error {
	s, err := f.members[server].api.Session(ctx, f.session)
	if api.CodeOf(err) == api.CodeNotFound && paid == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	receipts, err := f.members[server].api.Receipts(ctx, f.session)
	if err != nil {
		return err
	}
	if len(receipts) == 0 || !receipts[len(receipts)-1].Final {
		return fmt.Errorf("%d receipts, no final one", len(receipts))
	}
	proven := receipts[len(receipts)-1].Amount
	if paid > proven {
		return fmt.Errorf("%s paid for receipts of %s", paid, proven)
	}
	if paid != proven && !f.late || s.Settlement == nil || s.Settlement.Paid != paid {
		return fmt.Errorf("%s paid for receipts of %s, the server's settlement is %+v", paid, proven, s.Settlement)
	}
	f.t.Logf("%d receipts, session %s (%s %s), %s paid", len(receipts), s.State, s.Reason, s.Error, paid)
	return nil
}

// checkLeft asserts that nothing is left of any environment while the daemons
// still run.
func (f *flow) checkLeft() {
	f.t.Helper()
	err := f.await(time.Now(), func(context.Context) error {
		if left := f.orphans(); len(left) > 0 {
			return fmt.Errorf("processes: %v", left)
		}
		if left := cgroups(f.session.String()); len(left) > 0 {
			return fmt.Errorf("control groups: %v", left)
		}
		taps, err := f.taps()
		if err != nil || len(taps) > 0 {
			return fmt.Errorf("taps: %v, %w", taps, err)
		}
		files, err := f.leftovers()
		if err != nil || len(files) > 0 {
			return fmt.Errorf("files: %v, %w", files, err)
		}
		return nil
	})
	if err != nil {
		f.t.Errorf("left behind: %v", err)
	}
}

// An orphan is a process that none of the daemons is.
type orphan struct {
	pid  int
	what string
}

// orphans finds processes that name the world's directory, work in it or have
// a file of it open, and are no daemon.
func (w *world) orphans() []orphan {
	var found []orphan
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || w.isDaemon(pid) {
			continue
		}
		proc := filepath.Join("/proc", e.Name())
		cmdline, _ := os.ReadFile(filepath.Join(proc, "cmdline"))
		cwd, _ := os.Readlink(filepath.Join(proc, "cwd"))
		what := strings.ReplaceAll(string(cmdline), "\x00", " ")
		if strings.Contains(what, w.dir) || strings.HasPrefix(cwd, w.dir) {
			found = append(found, orphan{pid, what})
			continue
		}
		fds, _ := os.ReadDir(filepath.Join(proc, "fd"))
		for _, fd := range fds {
			if path, _ := os.Readlink(filepath.Join(proc, "fd", fd.Name())); strings.HasPrefix(path, w.dir) {
				found = append(found, orphan{pid, what})
				break
			}
		}
	}
	return found
}

func (w *world) isDaemon(pid int) bool {
	for _, m := range w.members {
		m.mu.Lock()
		is := m.cmd != nil && m.cmd.Process.Pid == pid
		m.mu.Unlock()
		if is {
			return true
		}
	}
	return false
}

// scope is how the server's daemon names what it makes on this machine.
func (w *world) scope() string {
	id := w.members[server].id
	return fmt.Sprintf("%x", id[:8])
}

// cgroups lists the control groups, in every hierarchy, with a name in their path.
func cgroups(name string) []string {
	var found []string
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil //nolint:nilerr // groups of others come and go
		}
		if strings.Contains(path, name) {
			found = append(found, path)
		}
		return nil
	})
	return found
}

// taps lists the network devices that the server's daemon made.
func (w *world) taps() ([]string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	var found []string
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, "xeno") && strings.Contains(l.Attrs().Alias, w.scope()) {
			found = append(found, l.Attrs().Name)
		}
	}
	return found, nil
}

// leftovers lists what is below the drivers' directories, and half-written
// session files.
func (w *world) leftovers() ([]string, error) {
	var found []string
	home := w.members[server].cfg.Home
	drivers, err := os.ReadDir(filepath.Join(home, "env"))
	if err != nil {
		return nil, err
	}
	for _, d := range drivers {
		instances, err := filepath.Glob(filepath.Join(home, "env", d.Name(), "*"))
		if err != nil {
			return nil, err
		}
		found = append(found, instances...)
	}
	for _, m := range w.members {
		err := filepath.WalkDir(filepath.Join(m.cfg.Home, "sessions"), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && strings.Contains(d.Name(), ".tmp") {
				found = append(found, path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}
