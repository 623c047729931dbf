package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// powerOff ends every process and the machine. It does not return.
func powerOff() {
	_ = unix.Kill(-1, unix.SIGTERM)
	time.Sleep(termGrace)
	_ = unix.Kill(-1, unix.SIGKILL)
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	// No power switch: a restart ends the machine as well, for its host
	// runs it without.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	select {}
}

// powerButton returns a channel that gets a value when the host presses the
// machine's power button.
func powerButton() <-chan struct{} {
	pressed := make(chan struct{}, maxInputs)
	names, _ := filepath.Glob("/dev/input/event*")
	for _, name := range names[:min(len(names), maxInputs)] {
		go func() {
			if watchButton(name) {
				pressed <- struct{}{}
			}
		}()
	}
	return pressed
}

// watchButton returns true when KEY_POWER is pressed on an input device.
func watchButton(name string) bool {
	const evKey, keyPower = 1, 116 // linux/input-event-codes.h
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	var ev [24]byte // struct input_event: time 16, type 2, code 2, value 4
	for {
		if n, err := f.Read(ev[:]); err != nil || n != len(ev) {
			return false
		}
		kind, code := binary.NativeEndian.Uint16(ev[16:]), binary.NativeEndian.Uint16(ev[18:])
		if kind == evKey && code == keyPower && ev[20] == 1 {
			return true
		}
	}
}
