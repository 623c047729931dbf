package report

import "fmt"

// A Check is one expectation of a scenario, and whether it came true.
type Check struct {
	Text string  // "xeno.needle.recall >= 1"
	Got  float64 // NaN: there is no such figure
	OK   bool
}

// String shows what was expected and what came.
func (c Check) String() string {
	verdict := "ok  "
	if !c.OK {
		verdict = "FAIL"
	}
	return fmt.Sprintf("%s  %s, is %s", verdict, c.Text, exactly(c.Got))
}

// exactly shows a figure with all six digits that count.
func exactly(x float64) string {
	if text := plain(x); text != "" {
		return text
	}
	return "missing"
}
