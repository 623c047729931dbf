package meter

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/xenoserver/xeno/hypervisor"
)

// Names of the pins below an environment's directory.
const (
	trafficPin = "traffic"
	rxPin      = "received"
	txPin      = "sent"
)

// attachTap begins to count at a tap of the daemon's network namespace, with
// programs and a map of this environment's own. Interrupted half-way, it is
// begun anew by the next call.
func (m *Meter) attachTap(id, tap string) (int, error) {
	iface, err := net.InterfaceByName(tap)
	if err != nil {
		return 0, fmt.Errorf("tap %s: %w: %w", tap, hypervisor.ErrNotFound, err)
	}
	if err := m.pins.removeTap(id); err != nil {
		return 0, err
	}
	dir, err := m.pins.makeTap(id)
	if err != nil {
		return 0, err
	}
	if err := attachTraffic(iface.Index, dir); err != nil {
		return 0, errors.Join(fmt.Errorf("tap %s: %w", tap, err), m.pins.removeTap(id))
	}
	return iface.Index, nil
}

func attachTraffic(index int, dir string) error {
	spec, err := loadMeter()
	if err != nil {
		return err
	}
	var objects struct {
		Received *ebpf.Program `ebpf:"count_received"`
		Sent     *ebpf.Program `ebpf:"count_sent"`
		Traffic  *ebpf.Map     `ebpf:"traffic"`
	}
	if err := spec.LoadAndAssign(&objects, nil); err != nil {
		return explain(err)
	}
	defer objects.Received.Close()
	defer objects.Sent.Close()
	defer objects.Traffic.Close()
	if err := objects.Traffic.Pin(filepath.Join(dir, trafficPin)); err != nil {
		return err
	}
	for _, at := range []struct {
		program *ebpf.Program
		attach  ebpf.AttachType
		pin     string
	}{
		{objects.Received, ebpf.AttachTCXEgress, rxPin},
		{objects.Sent, ebpf.AttachTCXIngress, txPin},
	} {
		// First in line: whatever a later program drops has been on the wire.
		l, err := link.AttachTCX(link.TCXOptions{
			Interface: index, Program: at.program, Attach: at.attach, Anchor: link.Head(),
		})
		if err != nil {
			return explain(err)
		}
		err = l.Pin(filepath.Join(dir, at.pin))
		if err := errors.Join(err, l.Close()); err != nil {
			return err
		}
	}
	return nil
}

// A Traffic is one direction of an environment's traffic.
type Traffic struct {
	Bytes, Packets uint64 // as handed over the tap, where large packets stay whole
	// What a wire would have seen: large packets cut, each segment with its
	// headers.
	WireBytes, WirePackets uint64
}

// delivered returns the bytes that reached the environment. What its rate limit
// drops has passed the counting program, so the tap's own counter bounds it
// while there is a tap; whether large packets are whole there depends on what
// the guest's driver can do, so the wire's count is the other bound.
func (d *Detail) delivered() uint64 {
	l, err := netlink.LinkByIndex(d.Interface)
	if err != nil || l.Attrs().Statistics == nil {
		return d.Rx.Bytes
	}
	return min(l.Attrs().Statistics.TxBytes, d.Rx.WireBytes)
}

// readTap adds the traffic of an environment to d. The map outlives the tap.
func (m *Meter) readTap(id string, d *Detail) error {
	traffic, err := ebpf.LoadPinnedMap(filepath.Join(m.pins.tapDir(id), trafficPin), &ebpf.LoadPinOptions{ReadOnly: true})
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: its network counters are gone from %s", hypervisor.ErrNotFound, m.pins.tapDir(id))
	}
	if err != nil {
		return err
	}
	defer traffic.Close()
	for way, sum := range []*Traffic{&d.Rx, &d.Tx} {
		var each []meterTally
		if err := traffic.Lookup(uint32(way), &each); err != nil {
			return err
		}
		for _, cpu := range each {
			sum.Bytes += cpu.Bytes
			sum.Packets += cpu.Packets
			sum.WireBytes += cpu.WireBytes
			sum.WirePackets += cpu.WirePackets
		}
	}
	return nil
}
