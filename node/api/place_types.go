package api

import "github.com/xenoserver/xeno/ledger"

// PlaceRequest asks for machines and says what must hold among them. Every
// machine is another server. A rule without groups is about all machines.
type PlaceRequest struct {
	// Groups are the machines wanted, by what they must be.
	Groups []PlaceGroup `json:"groups"`
	// Near bound the round trips between machines.
	Near []NearRule `json:"near,omitempty"`
	// Spread bound how many machines have the same owner, country and so on.
	Spread []SpreadRule `json:"spread,omitempty"`
	// Reach bound the round trips from machines to hosts.
	Reach []ReachRule `json:"reach,omitempty"`
	// MaxPrice is what all machines may cost an hour together; 0: anything.
	MaxPrice ledger.Amount `json:"max_price,omitempty"`
	// Minimise is what to make small: price (an hour, of all), latency (the
	// longest predicted round trip between two machines, or to a host of a
	// reach rule) or order (the sum of the ranks in the groups' orders); empty:
	// price, or order if a group has an order.
	Minimise string `json:"minimise,omitempty"`
	// Effort trades time for quality, above 0 to 1; 0: 0.5.
	Effort float64 `json:"effort,omitempty"`
}

// A PlaceGroup is a number of machines that fit one query.
type PlaceGroup struct {
	// Name tells the groups apart; it may be empty if there is one.
	Name string `json:"name,omitempty"`
	// Count is how many machines.
	Count int `json:"count"`
	// Query is a CEL expression over the dimensions of an ad; empty: all.
	Query string `json:"query,omitempty"`
	// Order is the expression to sort candidates by.
	Order string `json:"order,omitempty"`
}

// A NearRule bounds the predicted round trip between any two of its machines.
type NearRule struct {
	// Groups are those whose machines it is about; empty: all.
	Groups []string `json:"groups,omitempty"`
	// MaxMillis is the longest round trip allowed.
	MaxMillis float64 `json:"max_ms"`
}

// A SpreadRule bounds how many of its machines are alike in a dimension.
type SpreadRule struct {
	// Groups are those whose machines it is about; empty: all.
	Groups []string `json:"groups,omitempty"`
	// By is the dimension, a text or enumeration such as owner or country.
	By string `json:"by"`
	// Most is how many machines may have the same value; 0: one.
	Most int `json:"most,omitempty"`
}

// A ReachRule bounds the predicted round trip from each of its machines to each
// of its hosts.
type ReachRule struct {
	// Groups are those whose machines it is about; empty: all.
	Groups []string `json:"groups,omitempty"`
	// Hosts are named as in rtt(): "me", peer IDs, names of servers.
	Hosts []string `json:"hosts"`
	// MaxMillis is the longest round trip allowed.
	MaxMillis float64 `json:"max_ms"`
}

// PlaceAnswer is a placement that meets every constraint. Where there is none
// the call fails with no_match, and the message says which constraints stand
// against it.
type PlaceAnswer struct {
	// Machines are the servers, group by group, each verified with the server.
	Machines []PlacedMachine `json:"machines"`
	// Price is what an hour of all of them costs, before usage.
	Price ledger.Amount `json:"price"`
	// LatencyMillis is the longest predicted round trip between two of them.
	LatencyMillis float64 `json:"latency_ms"`
	// Minimised is what was made small: price, latency or order.
	Minimised string `json:"minimised"`
	// Cost is its value: units of money an hour, milliseconds, or ranks.
	Cost float64 `json:"cost"`
	// Floor is a bound that no choice among the candidates goes below.
	Floor float64 `json:"floor"`
	// Optimal tells that no choice among the candidates costs less.
	Optimal bool `json:"optimal"`
	// Complete tells that every server that fits was a candidate.
	Complete bool `json:"complete"`
	// Candidates is among how many servers the choice was.
	Candidates int `json:"candidates"`
	// Queries is how many searches were made.
	Queries int `json:"queries"`
	// Requests is how many messages that cost.
	Requests int `json:"requests"`
	// Millis is how long it took.
	Millis float64 `json:"ms"`
}

// A PlacedMachine is a server for one of the machines.
type PlacedMachine struct {
	// Group is the group it is for.
	Group string `json:"group"`
	// Server is the server, as its current ad describes it.
	Server Result `json:"server"`
}
