package demo

import (
	"fmt"

	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node"
)

// A place is where a XenoServer of the demo claims to stand, how large it is
// and what it asks.
type place struct {
	city, country       string
	latitude, longitude float64
	cpus, memoryGiB     int
	cpuPrice            ledger.Amount // of an hour of CPU time
}

// cent is a hundredth of a unit.
const cent = ledger.Unit / 100

// places are those of the servers; with more servers they repeat.
var places = [...]place{
	{"Cambridge", "GB", 52.20, 0.12, 2, 4, 4 * cent},
	{"Zurich", "CH", 47.38, 8.54, 8, 16, 12 * cent},
	{"Oslo", "NO", 59.91, 10.75, 4, 8, 2 * cent},
	{"Lisbon", "PT", 38.72, -9.14, 2, 4, 3 * cent},
	{"Toronto", "CA", 43.65, -79.38, 4, 8, 5 * cent},
	{"Singapore", "SG", 1.35, 103.82, 8, 16, 9 * cent},
	{"Sydney", "AU", -33.87, 151.21, 2, 2, 8 * cent},
	{"Nairobi", "KE", -1.29, 36.82, 4, 4, 3 * cent},
}

// server makes the i-th XenoServer.
func server(i int, env string, network node.Network) *member {
	p := places[i%len(places)]
	srv := &node.ServerConfig{
		Country: p.country, City: p.city, Latitude: p.latitude, Longitude: p.longitude,
		CPUs: p.cpus, Memory: node.Bytes(p.memoryGiB) << 30, Disk: 16 << 30,
		Rates: node.RatesConfig{
			Session: node.Money(p.cpuPrice / 10), CPU: node.Money(p.cpuPrice), Memory: node.Money(p.cpuPrice / 20),
			Disk: node.Money(p.cpuPrice / 200), Network: node.Money(p.cpuPrice / 4),
		},
		ReceiptInterval: node.Duration(receiptInterval),
		EndSessions:     true,
	}
	if env == EnvWASI {
		srv.Environments = []string{EnvWASI}
	}
	return &member{
		name:  fmt.Sprintf("server-%d", i+1),
		roles: []ledger.Role{ledger.RoleParticipant, ledger.RoleServer},
		place: p,
		cfg:   node.Config{Network: network, Server: srv},
	}
}

// participant makes the i-th of the others; the first is the client.
func participant(i int, network node.Network) *member {
	m := &member{
		name:  fmt.Sprintf("participant-%d", i),
		roles: []ledger.Role{ledger.RoleParticipant},
		cfg:   node.Config{Network: network},
	}
	if i == 0 {
		m.name, m.roles = "client", []ledger.Role{ledger.RoleParticipant, ledger.RoleClient}
	}
	return m
}
