package search

import (
	"fmt"
	"testing"
	"time"
)

func TestGroupOf(t *testing.T) {
	for _, c := range []struct {
		addrs []string
		want  string
	}{
		{nil, ""},
		{[]string{"/ip4/192.0.2.17/udp/4001/quic-v1"}, "192.0.2.0/24"},
		{[]string{"/ip4/192.0.2.17/tcp/1", "/ip4/198.51.100.1/tcp/1"}, "192.0.2.0/24"},
		{[]string{"/ip4/127.0.0.1/tcp/1", "/ip4/10.1.2.3/tcp/1", "/ip4/198.51.100.1/tcp/1"}, "198.51.100.0/24"},
		{[]string{"/ip4/10.1.2.3/tcp/1", "/ip6/fe80::1/tcp/1"}, "10.1.2.0/24"},
		{[]string{"/ip6/2001:db8:1:2::3/udp/1/quic-v1"}, "2001:db8:1::/48"},
		{[]string{"/dns4/servers.example/tcp/1"}, "servers.example"},
		{[]string{"nonsense", "/ip4/300.1.1.1/tcp/1", "/unix/a", "/ip4", ""}, ""},
	} {
		if got := groupOf(c.addrs); got != c.want {
			t.Errorf("%q: group %q, want %q", c.addrs, got, c.want)
		}
	}
}

// TestGroupLimit fills a holder from one network; others still find room, and
// what ends makes room.
func TestGroupLimit(t *testing.T) {
	w := newWorld(t, 51, 1, 256)
	h := NewHolder(w.schema, HolderConfig{MaxPerGroup: 40})
	place := func(i int, network string) bool {
		ad := *randomAd(w.rng, w.now)
		body := *ad.Ad
		body.Addrs = []string{fmt.Sprintf("/ip4/%s.%d/udp/1/quic-v1", network, i%250)}
		signed := w.schema.Assume(&body, "owner")
		e := h.Step(w.now, Publish{From: body.Server, Ad: signed, Places: []Placement{{Tree: "server"}}})
		return e[len(e)-1].(Placing)[0].Held
	}
	held := 0
	for i := range 60 {
		if place(i, "192.0.2") {
			held++
		}
	}
	if held != 40 || !place(0, "198.51.100") {
		t.Errorf("%d of one network held, want 40, and others as well", held)
	}
	w.now = w.now.Add(10 * time.Minute)
	h.Step(w.now, HolderTick{})
	if !place(1, "192.0.2") || h.Stats().Leases != 1 {
		t.Errorf("no room after all leases ended; %d leases", h.Stats().Leases)
	}
}
