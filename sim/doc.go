// Package sim puts a simulation together: a scenario, read from TOML, names
// the network, the market, the queries and the algorithms; Run carries it out
// under virtual time and returns a report. The same scenario and seed give the
// same report on every machine.
package sim
