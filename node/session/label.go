package session

import (
	"strings"
	"unicode"
)

// maxLabel bounds each part of a label in bytes: ads say more than people read.
const maxLabel = 60

// A Label is what a server called itself in the ad by which it was found, for
// people. It proves nothing.
type Label struct {
	Name    string `json:"name,omitempty"`
	City    string `json:"city,omitempty"`
	Country string `json:"country,omitempty"`
}

// clean cuts what a stranger wrote to what a terminal may show in one line.
func (l Label) clean() Label {
	return Label{Name: printable(l.Name), City: printable(l.City), Country: printable(l.Country)}
}

func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	if len(s) > maxLabel {
		s = strings.ToValidUTF8(s[:maxLabel], "")
	}
	return s
}
