package cloudhypervisor

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
)

const vmPaused = "Paused"

// answer is what the machine of a fake does on a request: as the real one,
// down to the status codes.
func (f *fake) answer(endpoint string, body []byte) (int, []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch endpoint {
	case "vmm.ping":
		return http.StatusOK, encode(map[string]any{"version": "53.0.0", "build_version": "v53.0", "pid": os.Getpid()})
	case "vm.info":
		if f.state == "" {
			return refuse(http.StatusNotFound, "VM is not created")
		}
		return http.StatusOK, encode(map[string]any{"config": f.vm, "state": f.state})
	case "vm.create":
		return f.create(body)
	case "vm.add-net":
		if f.state == "" {
			return refuse(http.StatusNotFound, "VM is not created")
		}
		return http.StatusNoContent, nil
	case "vm.boot":
		status, answer := f.move("Created", vmRunning)
		if status < 300 {
			fmt.Println("xeno: booted")
		}
		return status, answer
	case "vm.pause":
		return f.move(vmRunning, vmPaused)
	case "vm.resume":
		return f.move(vmPaused, vmRunning)
	case "vm.power-button":
		return f.move(vmRunning, vmRunning)
	case "vm.shutdown":
		return f.move(vmRunning, "Shutdown")
	case "vm.delete":
		f.state = ""
		return http.StatusNoContent, nil
	case "vmm.shutdown":
		return http.StatusNoContent, nil
	}
	f.violation("%s is not used by the driver", endpoint)
	return refuse(http.StatusNotFound, "no such endpoint")
}

// create checks what no specification demands but the design does.
func (f *fake) create(body []byte) (int, []byte) {
	if f.state != "" {
		return refuse(http.StatusInternalServerError, "VM is already created")
	}
	f.vm = nil
	if err := json.Unmarshal(body, &f.vm); err != nil {
		f.violation("vm.create: %v", err)
	}
	var vm vmConfig
	if err := json.Unmarshal(body, &vm); err != nil {
		f.violation("vm.create: %v", err)
	}
	if haveLandlock() && !vm.Landlock {
		f.violation("vm.create: landlock_enable is off")
	}
	for _, d := range vm.Disks {
		if d.ImageType != imageRaw {
			f.violation("vm.create: disk %s has image type %q", d.ID, d.ImageType)
		}
		file, err := os.OpenFile(d.Path, os.O_RDWR, 0)
		if err != nil {
			f.violation("vm.create: disk: %v", err)
			continue
		}
		file.Close()
	}
	for _, path := range []string{vm.Payload.Kernel, vm.Payload.Initramfs} {
		file, err := os.Open(path)
		if err != nil {
			f.violation("vm.create: payload: %v", err)
			continue
		}
		file.Close()
	}
	f.state = "Created"
	return http.StatusNoContent, nil
}

func (f *fake) move(from, to string) (int, []byte) {
	if f.state == "" {
		return refuse(http.StatusNotFound, "VM is not created")
	}
	if f.state != from {
		return refuse(http.StatusMethodNotAllowed, "VM is "+f.state)
	}
	f.state = to
	return http.StatusNoContent, nil
}

func refuse(status int, why string) (int, []byte) {
	return status, encode([]string{"Error from API", why})
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}
