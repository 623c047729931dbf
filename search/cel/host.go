package cel

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/xenoserver/xeno/dht"
)

// Hosts resolves the hosts of queries and remembers their names, so that Format
// can print them. Its methods must not be called at once.
type Hosts struct {
	resolve Resolver
	names   map[dht.Coordinate]string
}

// NewHosts returns Hosts that resolve asks, which may be nil.
func NewHosts(resolve Resolver) *Hosts {
	return &Hosts{resolve: resolve, names: make(map[dht.Coordinate]string)}
}

// Resolve is a Resolver.
func (h *Hosts) Resolve(host string) (dht.Coordinate, error) {
	if h.resolve == nil {
		return dht.Coordinate{}, fmt.Errorf("%s cannot be resolved here", quote(host))
	}
	at, err := h.resolve(host)
	if err != nil {
		return at, err
	}
	if at = bare(at); h.names[at] == "" {
		h.names[at] = host
	}
	return at, nil
}

// Name returns the first host that was found at a coordinate, or "".
func (h *Hosts) Name(at dht.Coordinate) string { return h.names[bare(at)] }

// bare returns what predictions depend on, which is what travels.
func bare(c dht.Coordinate) dht.Coordinate {
	return dht.Coordinate{Vec: c.Vec, Height: c.Height}
}

// formatCoordinate writes a coordinate as "@x,y,…+height" in seconds, without
// the zeros at the end of its vector. parseCoordinate is its inverse.
func formatCoordinate(c dht.Coordinate) string {
	last := len(c.Vec)
	for last > 1 && c.Vec[last-1] == 0 {
		last--
	}
	parts := make([]string, last)
	for i, x := range c.Vec[:last] {
		parts[i] = strconv.FormatFloat(x, 'f', -1, 64)
	}
	return "@" + strings.Join(parts, ",") + "+" + strconv.FormatFloat(c.Height, 'f', -1, 64)
}

func parseCoordinate(text string) (c dht.Coordinate, err error) {
	vec, height, _ := strings.Cut(strings.TrimPrefix(text, "@"), "+")
	parts := strings.Split(vec, ",")
	bad := fmt.Errorf("%s is no coordinate; write @x,y,…+height with at most %d numbers of seconds", quote(text), len(c.Vec))
	if len(parts) > len(c.Vec) {
		return c, bad
	}
	for i, part := range parts {
		if c.Vec[i], err = strconv.ParseFloat(strings.TrimSpace(part), 64); err != nil {
			return dht.Coordinate{}, bad
		}
	}
	if height == "" {
		return c, nil
	}
	if c.Height, err = strconv.ParseFloat(strings.TrimSpace(height), 64); err != nil {
		return dht.Coordinate{}, bad
	}
	return c, nil
}
