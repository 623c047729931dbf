package report

import (
	"encoding/json"
	"fmt"
	"io"
)

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

// MarshalJSON implements json.Marshaler: figure, is, ok.
func (c Check) MarshalJSON() ([]byte, error) {
	return json.Marshal(checkObject{c.Text, number(c.Got), c.OK})
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *Check) UnmarshalJSON(data []byte) error {
	var o checkObject
	if err := json.Unmarshal(data, &o); err != nil {
		return err
	}
	*c = Check{o.Text, float64(o.Got), o.OK}
	return nil
}

type checkObject struct {
	Text string `json:"figure"`
	Got  number `json:"is"`
	OK   bool   `json:"ok"`
}

// WriteChecks writes a line for each expectation, nothing where there is none.
func WriteChecks(w io.Writer, checks []Check) error {
	if len(checks) == 0 {
		return nil
	}
	if _, err := io.WriteString(w, "\nExpected:\n"); err != nil {
		return err
	}
	for _, c := range checks {
		if _, err := fmt.Fprintf(w, "  %s\n", c); err != nil {
			return err
		}
	}
	return nil
}
