package sim

import "time"

// Progress says how far a run has come.
type Progress struct {
	Seed  uint64 // of the repetition under way
	Stage string // "build", "publish xeno", "ask xeno needle": for people
	// Done and Total are of the whole run, in the same unit, whatever that is;
	// Total is known from the first call on and may change a little.
	Done, Total int
	Elapsed     time.Duration // on Scenario.Clock
}
