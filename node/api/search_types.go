package api

import (
	"github.com/xenoserver/xeno/dht"
)

// SearchRequest asks for servers.
type SearchRequest struct {
	// Query is a CEL expression over the dimensions of an ad; empty: all.
	Query string `json:"query"`
	// Order is the expression to sort by, ascending, or descending with a
	// leading minus; empty: price.
	Order string `json:"order,omitempty"`
	// Limit is the most results wanted; 0: 10.
	Limit int `json:"limit,omitempty"`
	// Explain asks how the answer was found, and which condition excluded which
	// server.
	Explain bool `json:"explain,omitempty"`
	// Count asks only how many servers fit, which costs a few messages.
	Count bool `json:"count,omitempty"`
	// Error is how far the bounds of a count may lie from it, as a part of it;
	// 0: a tenth, or what a few messages give.
	Error float64 `json:"error,omitempty"`
	// Budget is the most messages that it may cost; 0: 2,000, or 10 for a count
	// without an error.
	Budget int `json:"budget,omitempty"`
}

// A SearchLine is one line of the answer of a search for everything.
type SearchLine struct {
	// Result is a server that fits, in no order.
	Result *Result `json:"result,omitempty"`
	// Answer is set in the last line of a search that succeeded. It has no
	// results.
	Answer *SearchAnswer `json:"answer,omitempty"`
	// Error is set in the last line of a search that failed.
	Error *Error `json:"error,omitempty"`
}

// SearchAnswer is the outcome of a query.
type SearchAnswer struct {
	// Results are the servers that fit, best first, each verified with the
	// server itself.
	Results []Result `json:"results"`
	// Complete tells that no server that fits is missing but for the limit; of a
	// count, that it is exact.
	Complete bool `json:"complete"`
	// Completeness is which part of what had to be read was, 0 to 1.
	Completeness float64 `json:"completeness"`
	// Incomplete says why Complete is false.
	Incomplete string `json:"incomplete,omitempty"`
	// Estimated is how many servers are thought to match.
	Estimated int `json:"estimated"`
	// Low is how many match at least, with Confidence.
	Low int `json:"low"`
	// High is how many match at most, with Confidence.
	High int `json:"high"`
	// Confidence is in what part of cases the bounds hold the truth.
	Confidence float64 `json:"confidence"`
	// Requests is how many messages the query cost.
	Requests int `json:"requests"`
	// Millis is how long it took.
	Millis float64 `json:"ms"`
	// Plan is how the answer was found; with Explain.
	Plan *Plan `json:"plan,omitempty"`
	// Conditions count exclusions, the strictest first; with Explain.
	Conditions []Condition `json:"conditions,omitempty"`
	// Excluded are servers that were seen and do not fit; with Explain.
	Excluded []Exclusion `json:"excluded,omitempty"`
}

// A Plan is how an answer was found, and what else was considered.
type Plan struct {
	// Tree is the one that was read; empty where all servers fit into a cell.
	Tree string `json:"tree"`
	// Cells are those of it that were read, each at one holder or more.
	Cells int `json:"cells"`
	// Leaves are those of them that have servers and no cells below.
	Leaves int `json:"leaves"`
	// Lookups is how many holders had to be looked up in the overlay.
	Lookups int `json:"lookups"`
	// Expected is how many cells of each tree would have had to be read, as far
	// as a sample of all servers told, the least first.
	Expected []TreeCost `json:"expected,omitempty"`
}

// A TreeCost is what a query was expected to cost in a tree.
type TreeCost struct {
	// Tree is its name.
	Tree string `json:"tree"`
	// Cells is how many cells of it would be read.
	Cells float64 `json:"cells"`
}

// A Result is one server, as its current ad describes it.
type Result struct {
	// Server is its identity.
	Server dht.PeerID `json:"server"`
	// Name is its label.
	Name string `json:"name"`
	// Owner is the registered subject behind it.
	Owner string `json:"owner,omitempty"`
	// Country is the ISO code of where it stands.
	Country string `json:"country,omitempty"`
	// Place is the town or site.
	Place string `json:"place,omitempty"`
	// Environments are the kinds it runs.
	Environments []string `json:"environments"`
	// Free is what it could lease when it was asked.
	Free Capacity `json:"free"`
	// Rates are its prices.
	Rates Rates `json:"rates"`
	// RTTMillis is the round-trip time to it; 0: unknown.
	RTTMillis float64 `json:"rtt_ms"`
	// Ad is every dimension of the ad by name.
	Ad map[string]any `json:"ad,omitempty"`
}

// A Condition is one part of the query and how much it excluded.
type Condition struct {
	// Text is the condition as the query has it.
	Text string `json:"text"`
	// Excluded is how many servers that were seen fail it.
	Excluded int `json:"excluded"`
}

// An Exclusion says why a server is not among the results.
type Exclusion struct {
	// Server is its identity.
	Server dht.PeerID `json:"server"`
	// Name is its label.
	Name string `json:"name"`
	// Condition is the first part of the query that it fails.
	Condition string `json:"condition"`
	// Reason is that in words, with the server's value.
	Reason string `json:"reason"`
}
