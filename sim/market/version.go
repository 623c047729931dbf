package market

import (
	"cmp"
	"strings"
)

// A version is up to eight dotted numbers and the text behind them.
type version struct {
	parts [8]uint64
	rest  string
}

// versionOf reads a version; what is none is the zero version.
func versionOf(s string) version {
	var v version
	for k := range v.parts {
		digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
		if digits == 0 {
			break
		}
		for _, c := range s[:digits] {
			v.parts[k] = 10*v.parts[k] + uint64(c-'0')
		}
		s = s[digits:]
		if k == len(v.parts)-1 {
			break
		}
		after, dotted := strings.CutPrefix(s, ".")
		if !dotted || after == "" || after[0] < '0' || after[0] > '9' {
			break
		}
		s = after
	}
	v.rest = s
	return v
}

// compare orders versions by their numbers, of which missing ones are 0, then
// by what is behind.
func (v version) compare(w version) int {
	for k := range v.parts {
		if c := cmp.Compare(v.parts[k], w.parts[k]); c != 0 {
			return c
		}
	}
	return strings.Compare(v.rest, w.rest)
}
