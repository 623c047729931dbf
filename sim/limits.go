package sim

import (
	"github.com/xenoserver/xeno/sim/market"
	"github.com/xenoserver/xeno/sim/network"
)

const (
	// maxNodes bounds a network whose nodes are servers of a market.
	maxNodes = min(network.MaxNodes, market.MaxServers)
	// maxFileBytes bounds a scenario: a hundred times the largest that ships.
	maxFileBytes = 1 << 20
	// maxErrors bounds what is told of a scenario at once: a screen.
	maxErrors = 20
	// maxSeeds bounds repetitions: intervals narrow with the root of it.
	maxSeeds = 100
	// maxQueries bounds the queries of a class: percentiles beyond the 99.9th
	// need no more.
	maxQueries = 1_000_000
	// maxBudget bounds the messages of a query.
	maxBudget = 1_000_000
	// maxEvents bounds the events of a class: an hour of the engine.
	maxEvents = 2_000_000_000
	// maxSweep bounds the values of a sweep, each of which is a whole run.
	maxSweep = 100
	// maxExpect bounds expectations: every figure of nine algorithms in six
	// classes is 756.
	maxExpect = 1000
	// maxTraceBytes and maxTrace bound a churn trace: ten events for each of a
	// million nodes, at 24 characters.
	maxTraceBytes = 240 << 20
	maxTrace      = 10_000_000
)
