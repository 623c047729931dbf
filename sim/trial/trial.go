// Package trial says what the algorithms under comparison have in common: the
// world they work in, the tasks they get and how their outcomes are counted.
package trial

import (
	"math/rand/v2"
	"time"

	"github.com/xenoserver/xeno/search"
	"github.com/xenoserver/xeno/sim/market"
	"github.com/xenoserver/xeno/sim/network"
)

// A World is a network whose nodes are servers of a market: server i of the
// market is node i of the network.
type World struct {
	Net    *network.Network
	Market *market.Market
	// Rand is for what an algorithm draws; each gets its own.
	Rand *rand.Rand
}

// Classes of tasks, in the order of tables.
const (
	Needle     = "needle"     // 1 to 20 servers match
	Selective  = "selective"  // 0.1 % to 1 % match, ten are wanted
	Broad      = "broad"      // 10 % or more match, ten are wanted
	Exhaustive = "exhaustive" // 0.1 % to 1 % match, all are wanted
	Proximity  = "proximity"  // near to given hosts
	Count      = "count"      // only how many match is wanted
)

// Classes returns all classes, in the order of tables.
func Classes() []string {
	return []string{Needle, Selective, Broad, Exhaustive, Proximity, Count}
}

// A Task is one query that one node asks.
type Task struct {
	Class  string
	Client network.NodeID
	Query  search.Query // Limit 0: everything that matches
	Count  bool         // only how many match is wanted
}

// A Hop is one message of a task, for people.
type Hop struct {
	At   time.Duration // since the start of the task
	Took time.Duration // until the answer, or until nobody waited any more
	From network.NodeID
	To   network.NodeID
	What string // "find price_hour/3", "read price_hour/3a"
	OK   bool
}

// An Outcome is what came of a task.
type Outcome struct {
	Servers   []network.NodeID // in order where the query has one
	Estimated float64          // how many match in all; of count tasks, the answer
	Low, High float64          // between which that lies, as far as the algorithm knows
	Bounded   bool             // it says between which
	Requests  int              // sent for the task, lookups included; one with its answer counts once
	Latency   time.Duration    // from the start to the answer
	Complete  bool
}

// Indices returns the servers as the market numbers them.
func (o *Outcome) Indices() []int {
	out := make([]int, len(o.Servers))
	for i, s := range o.Servers {
		out[i] = int(s)
	}
	return out
}

// An Algorithm answers tasks.
type Algorithm interface {
	// Name is what scenarios and tables call it.
	Name() string
	// Start begins a task and calls done once, later in virtual time. trace
	// gets every message; it may be nil. Several tasks may be under way.
	Start(t Task, trace func(Hop), done func(Outcome))
}
