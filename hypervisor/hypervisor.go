// Package hypervisor declares what an environment is, how it is run and what
// it consumed. Its sub-packages drive real ones: wasi, and qemu and
// cloudhypervisor, which share vmm; image builds what they boot, network gives
// them a tap, meter reads what they used. One conformance suite, hypervisortest,
// holds for every driver.
package hypervisor

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Sentinels that callers decide by.
var (
	// ErrNotSupported reports that this machine lacks what a driver, a meter
	// or a network needs (a binary, a privilege, a kernel feature). It is
	// always wrapped with what is missing and how to get it.
	ErrNotSupported = errors.New("not supported on this machine")
	// ErrNotFound reports an instance that the driver does not know.
	ErrNotFound = errors.New("no such environment")
	// ErrExists reports a second start under one ID.
	ErrExists = errors.New("environment exists already")
	// ErrBadSpec reports a spec that no retry makes right.
	ErrBadSpec = errors.New("bad environment specification")
)

// A Kind says what runs.
type Kind string

// The kinds.
const (
	KindWASI  Kind = "wasi"  // a WASI preview 1 module
	KindLinux Kind = "linux" // a virtual machine: kernel and initrd, ssh
)

// A Spec says what to run, and within which limits. Paths are absolute; files
// they name are read only and may be shared by environments.
type Spec struct {
	ID   string // 1 to 40 of [0-9a-z-]; the session's ID in hexadecimal
	Kind Kind

	CPUs        int    // virtual CPUs
	CPUShare    int    // CPU milliseconds a second over all CPUs; 0: no limit
	MemoryBytes uint64 // KindLinux: a multiple of MemoryUnit
	DiskBytes   uint64 // size of the private directory or disk; KindLinux: a multiple of DiskUnit

	Module  string // KindWASI: path of the .wasm file
	Args    []string
	Env     []string // NAME=value
	Stdin   []byte
	Timeout time.Duration // KindWASI: most running time; 0: none

	Kernel  string // KindLinux
	Initrd  string
	HostKey []byte   // OpenSSH private key (PEM) that the guest's sshd shows
	SSHKeys []string // authorized_keys lines

	NetworkRate uint64 // bytes a second each way; 0: no network
}

// A State is how far an instance is.
type State string

// The states.
const (
	StateStarting State = "starting"
	StateRunning  State = "running"
	StatePaused   State = "paused"
	StateExited   State = "exited"
)

// An Instance is a running or ended environment, as its driver sees it.
type Instance struct {
	ID       string
	Kind     Kind
	Driver   string // name of the driver: wasi, qemu, cloudhypervisor
	State    State
	PID      int       // of the process that carries it; 0 when exited
	Started  time.Time //
	ExitCode int       // KindWASI, when exited; -1: killed
	Err      string    // why it failed, when it did
	// Cgroup is the directory below the cgroup root that holds all its
	// processes, empty where the daemon may not make one.
	Cgroup string
	// Tap is the name of its host-side network interface, Guest the address
	// it answers on; both empty without a network.
	Tap   string
	Guest netip.Addr
}

// A Driver runs environments of some kinds. Instances outlive the process that
// started them: a new Driver on the same state directory lists and stops what
// an earlier one started. All methods may be called at once.
type Driver interface {
	// Name is the driver's name, as in Instance.Driver.
	Name() string
	// Start brings up an environment and returns when its process runs (not
	// yet when it answers). It owns nothing of spec afterwards. A failed
	// start leaves nothing behind. Errors wrap ErrExists, ErrBadSpec or
	// ErrNotSupported.
	Start(ctx context.Context, spec Spec) (Instance, error)
	// List returns every instance in the state directory, running or exited.
	// Where some cannot be read it returns the others, and a DamagedError.
	List(ctx context.Context) ([]Instance, error)
	// Stop ends the instance, with force after grace, and keeps its exit
	// status, last usage and output until Remove. Stopping what has exited
	// is no error. Errors wrap ErrNotFound.
	Stop(ctx context.Context, id string, grace time.Duration) error
	// Remove forgets an exited instance and deletes its files, tap and
	// cgroup; a running one is killed first. Errors wrap ErrNotFound.
	Remove(ctx context.Context, id string) error
	// Usage reads the driver's own counters, the second reading beside the
	// meter's. It works after exit too. Errors wrap ErrNotFound.
	Usage(ctx context.Context, id string) (Usage, error)
	// Logs returns the newest limit bytes of console or standard output.
	Logs(ctx context.Context, id string, limit int) (stdout, stderr []byte, err error)
}

// A Pauser is a Driver that can suspend in memory.
type Pauser interface {
	Pause(ctx context.Context, id string) error
	Resume(ctx context.Context, id string) error
}

// A Usage is what an instance consumed since its start; every field only grows.
type Usage struct {
	Source   string        // who counted: ebpf, cgroup, rusage, proc
	Run      time.Duration // time not paused
	CPU      time.Duration // all its threads together
	RxBytes  uint64        // received by the environment
	TxBytes  uint64        // sent by the environment
	MaxBytes uint64        // peak resident memory; 0: unknown
}

// A Meter counts independently of the drivers. Its counts survive a restart of
// the daemon where the kernel keeps them.
type Meter interface {
	// Source names the meter in receipts: ebpf, cgroup.
	Source() string
	// Track begins to count for an instance, before its first instruction
	// where the driver calls it from Start. Tracking twice is no error.
	Track(ctx context.Context, in Instance) error
	// Read returns what was counted, the slices now on a CPU included.
	Read(ctx context.Context, id string) (Usage, error)
	// Forget stops counting. Forgetting what is not tracked is no error.
	Forget(ctx context.Context, id string) error
}

// A DamagedError says by ID why instances cannot be read.
type DamagedError map[string]error

// Error lists them in the order of their IDs.
func (e DamagedError) Error() string {
	text := make([]string, 0, len(e))
	for _, id := range slices.Sorted(maps.Keys(e)) {
		text = append(text, id+": "+e[id].Error())
	}
	return "environments that cannot be read: " + strings.Join(text, "; ")
}

// OrNil returns e, or nil where no instance is damaged.
func (e DamagedError) OrNil() error {
	if len(e) == 0 {
		return nil
	}
	return e
}
