package crashtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/internal/testenv"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
)

// TestDiskFull fills XenoCorp's disk: the daemon ends instead of answering for
// what it cannot write down, and with room again it has every deposit that it
// acknowledged.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	testenv.Require(t, "root", testenv.Root())
	testenv.Require(t, "root", mount(t, dir))
	w := emptyWorld(t, dir)
	w.add(corpConfig(time.Minute))
	m := w.members[corp]
	w.start(m)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := m.api.WaitStatus(ctx, func(s api.Status) bool { return s.Ready }); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(dir, "filler")
	if err := fill(filler); err != nil {
		t.Fatal(err)
	}
	var kept ledger.Amount
	var err error
	for range maxDeposits {
		if _, err = m.api.Deposit(ctx, api.DepositRequest{ID: newID(), Peer: m.id, Amount: ledger.Unit}); err != nil {
			break
		}
		kept += ledger.Unit
	}
	if err == nil {
		t.Fatalf("%d deposits on a full disk", maxDeposits)
	}
	t.Logf("after %s: %v", kept, err)
	select {
	case err := <-m.exited:
		m.exited <- nil
		if err == nil {
			t.Error("the daemon ended without an error")
		}
	case <-ctx.Done():
		t.Fatal("the daemon goes on without its journal")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	w.start(m)
	var books api.Books
	err = w.persist("books", func(ctx context.Context) (err error) {
		books, err = m.api.Accounts(ctx)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range books.Accounts {
		// The deposit that was not acknowledged may be there or not.
		if a.Kind == "world" && (a.Balance > -kept || a.Balance < -kept-ledger.Unit) {
			t.Errorf("the world gave %s, acknowledged were %s", -a.Balance, kept)
		}
	}
	if books.Sum != 0 {
		t.Errorf("the books sum to %s", books.Sum)
	}
}

// maxDeposits is more than what the room that is left for the journal can take.
const maxDeposits = 5000

// mount puts a small file system on dir.
func mount(t *testing.T, dir string) error {
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=32m")
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("mount: %w: %w", err, hypervisor.ErrNotSupported)
	}
	if err == nil {
		t.Cleanup(func() {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	return err
}

// fill takes all room of the file system.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for block := make([]byte, size); ; {
			if _, err := f.Write(block); errors.Is(err, unix.ENOSPC) {
				break
			} else if err != nil {
				return err
			}
		}
	}
	return nil
}
