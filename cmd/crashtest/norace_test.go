//go:build !race

package crashtest

// raceEnabled tells whether the race detector watches, and makes all slow.
const raceEnabled = false
