package cel

import (
	"fmt"
	"strconv"
	"strings"
)

// An Error says what is wrong with a query, and where.
type Error struct {
	Line, Column int    // from 1; 0: of no place
	Message      string // what is wrong
	Hint         string // what to do, or empty
	Source       string // the line at fault
}

// Error returns the message with the place, and below it the line with a mark.
func (e *Error) Error() string {
	text := e.Message
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	if e.Line == 0 {
		return text
	}
	text = fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, text)
	if e.Source == "" {
		return text
	}
	return text + "\n  " + e.Source + "\n  " + strings.Repeat(" ", e.Column-1) + "^"
}

// errorAt makes an error that points at a rune of the user's text.
func (s *source) errorAt(offset int, message, hint string) error {
	const most = 160 // runes of a line that are shown
	offset = max(0, min(offset, len(s.original)))
	e := &Error{Line: 1, Message: message, Hint: hint}
	begin := 0
	for i, r := range s.original[:offset] {
		if r == '\n' {
			e.Line++
			begin = i + 1
		}
	}
	e.Column = offset - begin + 1
	end := begin
	for end < len(s.original) && s.original[end] != '\n' {
		end++
	}
	if line := s.original[begin:end]; len(line) <= most {
		e.Source = strings.ReplaceAll(string(line), "\t", " ")
	}
	return e
}

func quote(s string) string {
	const most = 60
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strconv.Quote(s)
}

// suggest names the candidate that is nearest to word, if one is near.
func suggest(word string, candidates []string) string {
	best, least := "", 1+len(word)/3
	for _, c := range candidates {
		if d := distance(word, c, least); d < least {
			best, least = c, d
		}
	}
	if best == "" {
		for _, c := range candidates { // a part of the name was right
			if len(word) >= 3 && strings.Contains(c, word) {
				best = c
				break
			}
		}
	}
	if best == "" {
		return ""
	}
	return "did you mean " + best + "?"
}

// distance returns how many letters to insert, delete, replace or swap with
// the next make b of a, or more than limit where it is more.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	older, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(prev[j+1]+1, row[j]+1, prev[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], older[j-1]+1)
			}
		}
		older, prev, row = prev, row, older
	}
	return prev[len(b)]
}
