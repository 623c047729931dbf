package rival

import (
	"cmp"
	"strings"
)

// compareVersions orders versions as the query language does: dotted numbers,
// at most eight, one by one, a missing one is 0, then the text behind them.
func compareVersions(a, b string) int {
	const most = 8
	x, restA := versionParts(a)
	y, restB := versionParts(b)
	for i := range most {
		if c := cmp.Compare(x[i], y[i]); c != 0 {
			return c
		}
	}
	return strings.Compare(restA, restB)
}

func versionParts(s string) (parts [8]uint64, rest string) {
	for i := range parts {
		digits := 0
		for digits < len(s) && s[digits] >= '0' && s[digits] <= '9' {
			parts[i] = parts[i]*10 + uint64(s[digits]-'0')
			digits++
		}
		s = s[digits:]
		if digits == 0 || len(s) < 2 || s[0] != '.' || s[1] < '0' || s[1] > '9' {
			return parts, s
		}
		s = s[1:]
	}
	return parts, s
}
