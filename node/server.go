package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"golang.org/x/sys/unix"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/hypervisor"
	"github.com/xenoserver/xeno/hypervisor/cgroup"
	"github.com/xenoserver/xeno/hypervisor/cloudhypervisor"
	"github.com/xenoserver/xeno/hypervisor/meter"
	"github.com/xenoserver/xeno/hypervisor/network"
	"github.com/xenoserver/xeno/hypervisor/qemu"
	"github.com/xenoserver/xeno/hypervisor/vmm"
	"github.com/xenoserver/xeno/hypervisor/wasi"
	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
	"github.com/xenoserver/xeno/node/session"
	"github.com/xenoserver/xeno/node/storage"
	"github.com/xenoserver/xeno/store"
	"github.com/xenoserver/xeno/store/blocks"
)

// A server is the selling side of a node: the drivers that this machine can
// run, the meter, and the host of the sessions.
type server struct {
	node     *Node
	drivers  map[hypervisor.Kind]hypervisor.Driver
	lacking  map[hypervisor.Kind]string // why a kind is not offered
	meter    *meter.Meter               // nil where the machine cannot
	meterWhy string                     // why not
	cgroups  *cgroup.Tree               // nil where the machine cannot
	capacity session.Capacity
	rates    ledger.Rates
	host     *session.Host

	mu  sync.Mutex      // guards the following
	seq uint64          // of the newest ad
	at  *dht.Coordinate // in the newest ad; nil: there was none
}

func newServer(ctx context.Context, n *Node) (*server, error) {
	s := &server{
		node: n, rates: n.cfg.Server.Rates.rates(),
		drivers: make(map[hypervisor.Kind]hypervisor.Driver), lacking: make(map[hypervisor.Kind]string),
	}
	if err := s.openMeters(); err != nil {
		return s, err
	}
	if err := s.openDrivers(ctx); err != nil {
		return s, errors.Join(err, s.Close())
	}
	var err error
	if s.capacity, err = measureCapacity(n.cfg.Server, n.cfg.Home); err != nil {
		return s, errors.Join(err, s.Close())
	}
	cfg := session.HostConfig{
		Key: n.key, Network: n.cfg.Network.Name, Corp: n.cfg.Network.XenoCorp, Dir: filepath.Join(n.cfg.Home, "sessions"),
		Overlay: n.overlay, Claimer: claimer{payer{n.corpClient}}, Images: images{n.storage},
		Drivers: s.drivers, Probe: probe, Capacity: s.capacity, Rates: s.rates, Credential: n.creds.Of,
		Changed: n.adChanged, ReceiptInterval: time.Duration(n.cfg.Server.ReceiptInterval),
		EndOnClose: n.cfg.Server.EndSessions, Logger: n.log,
	}
	if s.meter != nil {
		cfg.Meter = s.meter
	}
	if s.host, err = session.NewHost(cfg); err != nil {
		return s, errors.Join(err, s.Close())
	}
	if err := s.sweepMeter(ctx); err != nil {
		n.log.Warn("meter", slog.Any("err", err))
	}
	return s, nil
}

// scope names this daemon among all on the machine, in lower case.
func (n *Node) scope() string { return hex.EncodeToString(n.id[:8]) }

// openMeters opens control groups and the eBPF meter where the machine has
// them; without, the drivers' own counters are billed alone.
func (s *server) openMeters() error {
	log := s.node.log
	tree, err := cgroup.Open(cgroup.Config{Parent: cgroupParent(s.node.scope())})
	switch {
	case err == nil:
		s.cgroups = tree
	case errors.Is(err, hypervisor.ErrNotSupported):
		s.meterWhy = err.Error()
		log.Info("no control groups", slog.Any("err", err))
		return nil // the meter counts by control group
	default:
		return fmt.Errorf("node: control groups: %w", err)
	}
	m, err := meter.New(meter.Config{Namespace: s.node.scope(), Cgroups: tree.Unified(), Logger: log})
	switch {
	case err == nil:
		s.meter = m
	case errors.Is(err, hypervisor.ErrNotSupported):
		s.meterWhy = err.Error()
		log.Info("no eBPF meter", slog.Any("err", err))
	default:
		return fmt.Errorf("node: meter: %w", err)
	}
	return nil
}

// sweepMeter stops counting for environments that are gone.
func (s *server) sweepMeter(ctx context.Context) error {
	if s.meter == nil {
		return nil
	}
	var keep []string
	for _, d := range s.drivers {
		list, err := d.List(ctx)
		if _, damaged := errors.AsType[hypervisor.DamagedError](err); damaged {
			s.node.log.Error("environments that cannot be read; all are counted on", slog.String("driver", d.Name()), slog.Any("err", err))
			return nil
		}
		if err != nil {
			return err
		}
		for _, in := range list {
			keep = append(keep, in.ID)
		}
	}
	return s.meter.Sweep(ctx, keep)
}

// cgroupParent is where a superuser's daemon makes its groups; others use what
// was delegated to them.
func cgroupParent(scope string) string {
	if os.Geteuid() == 0 {
		return "xeno-" + scope
	}
	return ""
}

// openDrivers opens a driver for every kind that is configured. A kind that
// the configuration names must work; without names, what works is offered.
func (s *server) openDrivers(ctx context.Context) error {
	wanted := s.node.cfg.Server.Environments
	for _, kind := range []hypervisor.Kind{hypervisor.KindWASI, hypervisor.KindLinux} {
		if len(wanted) > 0 && !slices.Contains(wanted, string(kind)) {
			s.lacking[kind] = "not among server.environments of the configuration"
			continue
		}
		var d hypervisor.Driver
		var err error
		if kind == hypervisor.KindWASI {
			d, err = s.openWASI()
		} else {
			d, err = s.openLinux(ctx)
		}
		switch {
		case err == nil:
			s.drivers[kind] = d
		case errors.Is(err, hypervisor.ErrNotSupported) && len(wanted) == 0:
			s.lacking[kind] = err.Error()
			s.node.log.Info("environment not offered", slog.String("kind", string(kind)), slog.Any("err", err))
		default:
			return fmt.Errorf("node: environment %s: %w", kind, err)
		}
	}
	return nil
}

// trackMeter returns the meter that drivers tell of new instances, nil if none.
func (s *server) trackMeter() hypervisor.Meter {
	if s.meter == nil {
		return nil
	}
	return s.meter
}

func (s *server) openWASI() (hypervisor.Driver, error) {
	exe, err := s.node.cfg.executable()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(s.node.cfg.Home, "env", "wasi")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return wasi.New(wasi.Config{Dir: dir, Executable: exe, Groups: s.cgroups, Meter: s.trackMeter()})
}

// openLinux prefers cloud-hypervisor, wherever it and a KVM that runs guests
// are there, and falls back to QEMU.
func (s *server) openLinux(ctx context.Context) (hypervisor.Driver, error) {
	if err := network.Available(); err != nil {
		return nil, err
	}
	exe, err := s.node.cfg.executable()
	if err != nil {
		return nil, err
	}
	if s.node.cfg.Server.Accelerator != "tcg" {
		d, err := s.openCloudHypervisor(ctx, exe)
		if !errors.Is(err, hypervisor.ErrNotSupported) {
			return d, err
		}
		s.node.log.Info("no cloud-hypervisor", slog.Any("err", err))
	}
	return s.openQEMU(ctx, exe)
}

func (s *server) openCloudHypervisor(ctx context.Context, exe string) (hypervisor.Driver, error) {
	common, err := s.vmmConfig(cloudhypervisor.Name, "-ch", exe)
	if err != nil {
		return nil, err
	}
	d, err := cloudhypervisor.New(cloudhypervisor.Config{Config: common})
	if err != nil {
		return nil, err
	}
	return s.swept(ctx, d)
}

func (s *server) openQEMU(ctx context.Context, exe string) (hypervisor.Driver, error) {
	common, err := s.vmmConfig(qemu.Name, "-qemu", exe)
	if err != nil {
		return nil, err
	}
	d, err := qemu.New(qemu.Config{Config: common, Accel: s.node.cfg.Server.Accelerator})
	if err != nil {
		return nil, err
	}
	return s.swept(ctx, d)
}

// vmmConfig is what drivers of virtual machines have in common. Each has taps of
// its own, told apart by their owner.
func (s *server) vmmConfig(driver, owner, exe string) (vmm.Config, error) {
	taps, err := network.New(network.Config{Owner: s.node.scope() + owner})
	return vmm.Config{
		Dir: filepath.Join(s.node.cfg.Home, "env", driver), Network: taps, Cgroups: s.cgroups,
		Meter: s.trackMeter(), Keeper: exe, Logger: s.node.log,
	}, err
}

// A vmDriver is a driver of virtual machines.
type vmDriver interface {
	hypervisor.Driver
	Available(ctx context.Context) error
	Sweep(ctx context.Context) ([]string, error)
}

// swept returns d once it was found to work, and what a killed daemon left
// half started is removed.
func (s *server) swept(ctx context.Context, d vmDriver) (hypervisor.Driver, error) {
	if err := d.Available(ctx); err != nil {
		return nil, err
	}
	removed, err := d.Sweep(ctx)
	if len(removed) > 0 {
		s.node.log.Info("removed what a killed daemon left", slog.String("driver", d.Name()), slog.Any("environments", removed))
	}
	return d, err
}

// Close ends the selling side. Environments go on unless the configuration
// ends them.
func (s *server) Close() error {
	var errs []error
	if s.host != nil {
		errs = append(errs, s.host.Close())
	}
	if s.meter != nil {
		errs = append(errs, s.meter.Close())
	}
	if s.cgroups != nil {
		errs = append(errs, s.cgroups.Close())
	}
	return errors.Join(errs...)
}

func (s *server) kinds() []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(s.drivers)) {
		out = append(out, string(k))
	}
	return out
}

// meterSource is what is billed by.
func (s *server) meterSource() string {
	switch {
	case s.meter != nil:
		return meter.Source
	case s.cgroups != nil:
		return "cgroup"
	default:
		return "rusage"
	}
}

func (s *server) status() *api.ServerStatus {
	st := &api.ServerStatus{
		Environments: s.kinds(), Unsupported: make(map[string]string), Meter: s.meterSource(),
		Total: apiCapacity(s.capacity), Free: apiCapacity(s.host.Free()), Rates: apiRates(s.rates),
	}
	for _, k := range slices.Sorted(maps.Keys(s.drivers)) {
		st.Drivers = append(st.Drivers, s.drivers[k].Name())
	}
	for k, why := range s.lacking {
		st.Unsupported[string(k)] = why
	}
	for _, in := range s.host.Hosted() {
		if in.State != session.StateEnded && in.State != session.StateSettling {
			st.Sessions++
		}
	}
	return st
}

func apiCapacity(c session.Capacity) api.Capacity {
	return api.Capacity{CPUs: int(c.CPUs), MemoryBytes: c.MemoryBytes, DiskBytes: c.DiskBytes}
}

// probe asks an environment from outside: the SSH banner of a guest; a WASI
// module works once its process runs.
func probe(ctx context.Context, in hypervisor.Instance) error {
	if in.Kind == hypervisor.KindWASI {
		return nil
	}
	if in.State == hypervisor.StateExited {
		return fmt.Errorf("it ended at once: %s", in.Err)
	}
	_, err := network.Probe(ctx, netip.AddrPortFrom(in.Guest, 22))
	return err
}

// images makes images local through XenoStore.
type images struct{ storage *storage.Service }

// imageTexts tell a client what is wrong with the image it named.
var imageTexts = [...]struct {
	err  error
	text string
}{
	{storage.ErrUnavailable, "nobody sends it: keep a participant running that has it (xeno store add)"},
	{blocks.ErrNotFile, "it is not a file, as a WASI module is"},
	{blocks.ErrNotDir, "it is not a directory, as a Linux image is"},
	{blocks.ErrTooLarge, "it is too large"},
	{blocks.ErrUnsafe, "it has names or files that no image may have"},
	{blocks.ErrMalformed, "it is not a file or directory of XenoStore"},
	{blocks.ErrFull, "the server has no room for it; try another"},
}

// Fetch implements session.Images. Errors have a text for the client where it
// can do something.
func (i images) Fetch(ctx context.Context, kind hypervisor.Kind, root cid.Cid) (path string, err error) {
	ref, err := store.RefOf(root)
	if err != nil {
		return "", hypervisor.Explain("its CID is of a form that XenoStore does not have", err)
	}
	if kind == hypervisor.KindWASI {
		path, err = i.storage.Fetch(ctx, ref, nil)
	} else {
		path, err = i.storage.FetchDir(ctx, ref, nil)
	}
	for _, m := range imageTexts {
		if errors.Is(err, m.err) {
			return "", hypervisor.Explain(m.text, err)
		}
	}
	return path, err
}

// measureCapacity fills what the configuration leaves to the machine.
func measureCapacity(c *ServerConfig, home string) (session.Capacity, error) {
	out := session.Capacity{
		CPUs: uint32(c.CPUs), MemoryBytes: uint64(c.Memory), DiskBytes: uint64(c.Disk), //nolint:gosec // validated
		NetworkRate: uint64(c.NetworkRate), Sessions: uint32(c.Sessions), //nolint:gosec // validated
	}
	if out.CPUs == 0 {
		out.CPUs = uint32(runtime.NumCPU()) //nolint:gosec // small
	}
	out.CPUShare = out.CPUs * 1000
	if out.MemoryBytes == 0 {
		var info unix.Sysinfo_t
		if err := unix.Sysinfo(&info); err != nil {
			return out, fmt.Errorf("node: memory of the machine: %w", err)
		}
		out.MemoryBytes = info.Totalram * uint64(info.Unit) / 2
	}
	if out.DiskBytes == 0 {
		var fs unix.Statfs_t
		if err := unix.Statfs(home, &fs); err != nil {
			return out, fmt.Errorf("node: disk of the machine: %w", err)
		}
		out.DiskBytes = fs.Bavail * uint64(fs.Bsize) / 4 //nolint:gosec // a block size is positive
	}
	return out, nil
}
