package search

import (
	"cmp"
	"strings"
)

// maxVersionParts bounds the dotted parts of a version.
const maxVersionParts = 8

// A version is dotted numbers with text behind them: "6.1.0-42-amd64" is
// 6, 1, 0, then "-42-amd64".
type version struct {
	parts []uint64
	rest  string
}

// parseVersion reads a version; it must begin with a digit.
func parseVersion(s string) (version, bool) {
	if s == "" || len(s) > maxText || s[0] < '0' || s[0] > '9' {
		return version{}, false
	}
	var v version
	for len(v.parts) < maxVersionParts {
		n, digits := uint64(0), 0
		for digits < len(s) && s[digits] >= '0' && s[digits] <= '9' {
			if digits >= 18 {
				return version{}, false
			}
			n = n*10 + uint64(s[digits]-'0')
			digits++
		}
		if digits == 0 {
			break
		}
		v.parts = append(v.parts, n)
		s = s[digits:]
		if len(s) < 2 || s[0] != '.' || s[1] < '0' || s[1] > '9' {
			break
		}
		s = s[1:]
	}
	v.rest = s
	return v, true
}

// compareVersions orders two valid versions: part by part as numbers, a
// missing part is 0, then the text behind as bytes: "6.1" < "6.1.0-42" < "6.2".
func compareVersions(a, b string) int {
	v, _ := parseVersion(a)
	w, _ := parseVersion(b)
	for i := range max(len(v.parts), len(w.parts)) {
		var x, y uint64
		if i < len(v.parts) {
			x = v.parts[i]
		}
		if i < len(w.parts) {
			y = w.parts[i]
		}
		if x != y {
			return cmp.Compare(x, y)
		}
	}
	return strings.Compare(v.rest, w.rest)
}
