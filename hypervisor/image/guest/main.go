// Command guest is the init of Xeno's own Linux image: process 1 of a virtual
// machine that one client leases. It mounts the kernel's file systems, loads
// the modules of the image, configures the network and serves SSH with the
// host key of the session's agreement to the session's client only.
//
// It runs no program until the client asks for one. The image holds busybox
// for that.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/xenoserver/xeno/hypervisor/image/boot"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: only for process 1 of a virtual machine")
		os.Exit(2)
	}
	if err := run(); err != nil {
		logf("%v", err)
	}
	powerOff()
}

// run returns when the machine shall power off.
func run() error {
	if err := mountAll(); err != nil {
		return err
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return fmt.Errorf("read the command line: %w", err)
	}
	if strings.Contains(string(cmdline), boot.CheckFlag) {
		fmt.Println(boot.CheckPassed)
		return nil
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPWR)
	if err := loadModules("/lib/modules/boot"); err != nil {
		return err
	}
	button := powerButton() // before anybody can know that the machine is up
	cfg, err := takeConfig()
	if err != nil {
		return err
	}
	if err := configure(cfg); err != nil {
		return err
	}
	c := newChildren()
	if cfg.Disk {
		if err := mountDisk(c); err != nil {
			return err
		}
	}
	if cfg.HostKey != "" {
		if err := serveSSH(cfg, c); err != nil {
			return err
		}
	}
	select {
	case s := <-stop:
		logf("power off: %v", s)
	case <-button:
		logf("power off: button")
	}
	return nil
}

func serveSSH(cfg boot.Config, c *children) error {
	server, err := newServer(cfg, c)
	if err != nil {
		return err
	}
	if err := server.listen(cfg.Port); err != nil {
		return err
	}
	logf("ssh at %v port %d", cfg.Address.Addr(), cfg.Port)
	return nil
}

// takeConfig reads the session's configuration and deletes it.
func takeConfig() (boot.Config, error) {
	data, err := os.ReadFile(boot.Path)
	if err != nil {
		return boot.Config{}, fmt.Errorf("read the session: %w", err)
	}
	if err := os.RemoveAll("/xeno"); err != nil {
		return boot.Config{}, fmt.Errorf("hide the session: %w", err)
	}
	return boot.Parse(data)
}

// logf writes a line to the console.
func logf(format string, args ...any) {
	fmt.Printf("xeno: "+format+"\n", args...)
}
