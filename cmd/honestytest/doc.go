// Package honestytest holds the simulator to the real thing: the same
// participants, ads, latencies and queries in the simulated network and in a
// hundred hosts of production code. It holds tests alone.
package honestytest
