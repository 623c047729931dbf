package cloudhypervisor

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/vmm"
	"github.com/xenoserver/xeno/internal/testenv"
)

// daemonVar makes this test binary a daemon: "DIR BINARY KERNEL INITRD".
const daemonVar = "XENO_CH_TEST_DAEMON"

// runDaemon starts a guest, says so, and waits to be killed.
func runDaemon(arg string) {
	words := strings.Fields(arg)
	d, err := New(Config{Config: vmm.Config{Dir: words[0]}, Binary: words[1], Trust: true})
	if err == nil {
		_, err = d.Start(context.Background(), specOf("orphan", words[2], words[3]))
	}
	fmt.Println(err)
	_, _ = os.Stdin.Read(make([]byte, 1))
}

// A daemon is killed; the next one finds its guest running, steers it, and
// knows what it used.
func TestSurvivesKill(t *testing.T) {
	ctx := t.Context()
	binary, dir := newFake(t), t.TempDir()
	kernel, initrd := newImage(t)
	daemon := exec.Command("/proc/self/exe")
	daemon.Env = append(os.Environ(), daemonVar+"="+strings.Join([]string{dir, binary, kernel, initrd}, " "))
	daemon.Stderr = os.Stderr
	in, err := daemon.StdinPipe()
	must(t, err)
	defer in.Close()
	out, err := daemon.StdoutPipe()
	must(t, err)
	must(t, daemon.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	must(t, daemon.Process.Kill())
	_ = daemon.Wait()
	if strings.Contains(line, hypervisor.ErrNotSupported.Error()) {
		testenv.Require(t, Name, fmt.Errorf("%w: %s", hypervisor.ErrNotSupported, line))
	}
	if strings.TrimSpace(line) != "<nil>" {
		t.Fatal(line)
	}

	d, err := New(Config{Config: vmm.Config{Dir: dir}, Binary: binary, Trust: true})
	must(t, err)
	list, err := d.List(ctx)
	must(t, err)
	if len(list) != 1 || list[0].ID != "orphan" || list[0].State != hypervisor.StateRunning {
		t.Fatalf("found %+v", list)
	}
	must(t, d.Pause(ctx, "orphan"))
	must(t, d.Resume(ctx, "orphan"))
	before, err := d.Usage(ctx, "orphan")
	must(t, err)
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		u, err := d.Usage(ctx, "orphan")
		must(t, err)
		if u.CPU > before.CPU {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("usage stays at %+v", u)
		}
	}
	must(t, d.Stop(ctx, "orphan", 10*time.Second))
	list, err = d.List(ctx)
	must(t, err)
	if len(list) != 1 || list[0].State != hypervisor.StateExited || list[0].ExitCode != 0 || list[0].Err != "" {
		t.Errorf("after stop %+v", list)
	}
	must(t, d.Remove(ctx, "orphan"))
}
