package sim

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// What a run takes, in bytes: the most that was measured with 20,000 to
// 1,000,000 servers, rounded up. The collector's reserve is in it.
const (
	bytesFixed      = 96 << 20 // program, latency model, schema, oracle
	bytesNode       = 64       // position, site, link, state, load of a node
	bytesMaintained = 1_800    // its routing table, where it is kept, among a million
	bytesServer     = 400      // its columns in the market
	bytesSample     = 200      // one query of one algorithm, with its answer by the oracle
	bytesRival      = 500      // what a rival's index keeps of a server
	bytesIndex      = 2_500    // what Xeno's index keeps of a server
	bytesCached     = 4_000    // an advertisement in cells that were asked for
	maxCached       = 500_000  // how many of these are kept, at most
)

// bytesOf returns what an algorithm keeps for each server: its index. They run
// one after the other, so the largest counts.
func bytesOf(algorithm string, nodes int64) int64 {
	if algorithm == algorithmXeno {
		return bytesIndex*nodes + bytesCached*min(maxCached, nodes)
	}
	return bytesRival * nodes
}

// A Forecast is how much memory a run will take, in bytes.
type Forecast struct {
	Network, Market, Samples int64
	Largest                  string // the algorithm that takes most
	Algorithm                int64  // how much that is
}

// Total is all of it.
func (f Forecast) Total() int64 {
	return bytesFixed + f.Network + f.Market + f.Samples + f.Algorithm
}

// Forecast estimates the memory of a run, or of the largest one of a sweep,
// within a factor of about one and a half.
func (s *Scenario) Forecast() Forecast {
	nodes := int64(s.Network.Nodes)
	f := Forecast{Network: nodes * bytesNode, Market: nodes * bytesServer}
	if s.Network.Maintained {
		f.Network += nodes * bytesMaintained
	}
	asked := int64(s.Queries.Count) * int64(len(s.Queries.Classes)) * int64(len(s.Algorithms)) * int64(len(s.Seeds))
	if s.Queries.Warm {
		asked *= 2
	}
	f.Samples = asked * bytesSample
	for _, a := range s.Algorithms {
		if b := bytesOf(a, nodes); b > f.Algorithm {
			f.Largest, f.Algorithm = a, b
		}
	}
	return f
}

// Refuse returns an error that says what to reduce where the run does not fit
// into the memory that is available, in bytes.
func (s *Scenario) Refuse(available int64) error {
	f := s.Forecast()
	if f.Total() <= available {
		return nil
	}
	remedy := fmt.Sprintf("reduce network.nodes to %d", s.fitting(available))
	if s.Network.Maintained {
		remedy += `, or set network.tables = "derived"`
	}
	if f.Algorithm > f.Total()/2 && len(s.Algorithms) > 1 {
		remedy += fmt.Sprintf(", or leave out the algorithm %s, which takes %s", f.Largest, mib(f.Algorithm))
	}
	if f.Samples > f.Total()/2 {
		remedy += ", or reduce queries.count"
	}
	return fmt.Errorf("the run takes about %s of memory, of which %s are available: %s; --force runs it all the same",
		mib(f.Total()), mib(available), remedy)
}

// fitting returns how many nodes would fit, 2 at least, in steps of the tenth
// part.
func (s *Scenario) fitting(available int64) int {
	smaller := *s
	for smaller.Network.Nodes > 2 && smaller.Forecast().Total() > available {
		smaller.Network.Nodes = max(2, smaller.Network.Nodes*9/10)
	}
	return smaller.Network.Nodes
}

func mib(n int64) string {
	if n >= 10<<30 {
		return fmt.Sprintf("%d GiB", n>>30)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

// AvailableMemory returns how much memory this machine can give, in bytes: what
// Linux calls available, or what the control group still allows.
func AvailableMemory() (int64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	available, err := readMeminfo(f)
	if err != nil {
		return 0, err
	}
	most, errMost := readNumber("/sys/fs/cgroup/memory.max")
	used, errUsed := readNumber("/sys/fs/cgroup/memory.current")
	if errMost == nil && errUsed == nil { // "max", or no such file: no limit
		available = min(available, max(0, most-used))
	}
	return available, nil
}

// readMeminfo finds the line of MemAvailable.
func readMeminfo(r io.Reader) (int64, error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 3 && fields[0] == "MemAvailable:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/meminfo has no line MemAvailable: %w", errOr(lines.Err(), io.ErrUnexpectedEOF))
}

func errOr(err, otherwise error) error {
	if err == nil {
		return otherwise
	}
	return err
}

func readNumber(path string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}
