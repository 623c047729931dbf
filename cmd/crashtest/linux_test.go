package crashtest

import (
	"crypto/ed25519"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/xenoserver/xeno/hypervisor/image"
	"github.com/xenoserver/xeno/hypervisor/network"
	"github.com/xenoserver/xeno/hypervisor/qemu"
	"github.com/xenoserver/xeno/hypervisor/vmm"
	"github.com/xenoserver/xeno/internal/testenv"
	"github.com/xenoserver/xeno/node/api"
)

// linuxAtOnce bounds guests that boot at the same time: they take the
// processor from the daemons.
const linuxAtOnce = 3

// TestKillLinux kills daemons around a Linux guest, which has a tap, rules and
// control groups beside its process.
func TestKillLinux(t *testing.T) {
	t.Parallel()
	dir := linuxImage(t)
	all := []crash{
		{victim: server, at: launching, delay: 100 * time.Millisecond},
		{victim: server, at: launching, delay: time.Second},
		{victim: server, at: running},
		{victim: server, at: stopping},
		{victim: client, at: running},
		{victim: corp, at: running},
	}
	if testing.Short() || raceEnabled {
		all = all[:3]
	}
	name := func(c crash) string { return fmt.Sprintf("%s+%s/%s", c.at, c.delay, c.victim) }
	lanes(t, linuxAtOnce, all, name, func(t *testing.T, c crash) {
		f := newFlow(t, "linux", long)
		f.image = dir
		f.suffer(c)
	})
}

// linuxImage builds an image, or skips where guests cannot run.
func linuxImage(t *testing.T) string {
	t.Helper()
	testenv.Require(t, "root", testenv.Root())
	testenv.Require(t, "root", network.Available())
	taps, err := network.New(network.Config{Owner: "crashtest"})
	if err != nil {
		t.Fatal(err)
	}
	driver, err := qemu.New(qemu.Config{Config: vmm.Config{Dir: filepath.Join(t.TempDir(), "qemu"), Network: taps}})
	if err != nil {
		t.Fatal(err)
	}
	testenv.Require(t, "qemu", driver.Available(t.Context()))
	dir := filepath.Join(t.TempDir(), "image")
	_, err = image.Build(t.Context(), image.Options{Out: dir})
	testenv.Require(t, "qemu", err)
	return dir
}

// linuxTerms ask for a guest that nobody logs in to.
func linuxTerms(image string) (api.Terms, error) {
	pub, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		return api.Terms{}, err
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		return api.Terms{}, err
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	return api.Terms{Environment: "linux", Image: image, SSHKeys: []string{line}}, nil
}
