package cel

import (
	"strconv"
	"strings"
	"unicode"

	"github.com/xenoserver/xeno/search"
)

// A source is a query's text as the user wrote it, and as the parser gets it:
// with every number that has a unit replaced by the plain number in the unit
// of its dimension.
type source struct {
	original []rune
	text     []rune
	origin   []int        // of each rune of text, where it comes from
	units    map[int]unit // by offset in text of a replaced number
}

// A unit is what a literal says behind its number.
type unit struct {
	name   string
	factor float64
	of     search.Unit
}

// units, longest first where one begins like another.
var units = []unit{
	{"/GiB/h", 1, search.UnitGiBHour},
	{"/GiB", 1, search.UnitGiB},
	{"/h", 1, search.UnitHour},
	{"TiB/s", 1 << 40, search.UnitRate},
	{"GiB/s", 1 << 30, search.UnitRate},
	{"MiB/s", 1 << 20, search.UnitRate},
	{"KiB/s", 1 << 10, search.UnitRate},
	{"TB/s", 1e12, search.UnitRate},
	{"GB/s", 1e9, search.UnitRate},
	{"MB/s", 1e6, search.UnitRate},
	{"kB/s", 1e3, search.UnitRate},
	{"B/s", 1, search.UnitRate},
	{"Gbit/s", 1e9 / 8, search.UnitRate},
	{"Mbit/s", 1e6 / 8, search.UnitRate},
	{"kbit/s", 1e3 / 8, search.UnitRate},
	{"ms/s", 1, search.UnitShare},
	{"TiB", 1 << 40, search.UnitBytes},
	{"GiB", 1 << 30, search.UnitBytes},
	{"MiB", 1 << 20, search.UnitBytes},
	{"KiB", 1 << 10, search.UnitBytes},
	{"TB", 1e12, search.UnitBytes},
	{"GB", 1e9, search.UnitBytes},
	{"MB", 1e6, search.UnitBytes},
	{"kB", 1e3, search.UnitBytes},
	{"B", 1, search.UnitBytes},
	{"ms", 1e-3, search.UnitSeconds},
	{"us", 1e-6, search.UnitSeconds},
	{"min", 60, search.UnitSeconds},
	{"s", 1, search.UnitSeconds},
	{"h", 3600, search.UnitSeconds},
	{"d", 86400, search.UnitSeconds},
	{"km", 1, unitKm},
}

// unitKm is that of the distances in within(); no dimension has it.
const unitKm search.Unit = "km"

// unitNames lists them for people.
const unitNames = "bytes as KiB, MiB, GiB, TiB, kB, MB, GB, TB, with /s for rates; Mbit/s; times as ms, s, min, h, d; prices as /h, /GiB, /GiB/h"

// suggestUnit says which unit was meant, or which there are.
func suggestUnit(word string) string {
	var known []string
	for _, u := range units {
		if strings.EqualFold(u.name, word) {
			return "did you mean " + u.name + "?"
		}
		known = append(known, u.name)
	}
	if len(word) == 1 && strings.ContainsAny(word, "KMGTkgt") {
		return "did you mean " + strings.ToUpper(word) + "iB?"
	}
	if near := suggest(word, known); near != "" {
		return near
	}
	return unitNames
}

// beginsWithUnit tells whether text begins with a unit.
func beginsWithUnit(text string) bool {
	_, n := cutUnit([]rune(text))
	return n > 0
}

// words are the operators that may be written out.
var words = map[string]string{"and": "&&", "or": "||", "not": "!"}

// back returns where a rune of the parser's text stands in the user's.
func (s *source) back(offset int) int {
	if offset < 0 || offset >= len(s.origin) {
		return len(s.original)
	}
	return s.origin[offset]
}

// rewrite replaces the numbers that have units, and the operators in words.
func rewrite(text string) (*source, error) {
	s := &source{original: []rune(text), units: make(map[int]unit)}
	if len(s.original) > maxText {
		err := &Error{Message: "the query has " + strconv.Itoa(len(s.original)) + " characters, the limit is " + strconv.Itoa(maxText)}
		return nil, err
	}
	for i := 0; i < len(s.original); {
		switch r := s.original[i]; {
		case r == '"' || r == '\'':
			i = s.copy(i, s.endOfString(i))
		case isDigit(r):
			end, err := s.number(i)
			if err != nil {
				return nil, err
			}
			i = end
		case isLetter(r):
			i = s.word(i)
		default:
			i = s.copy(i, i+1)
		}
	}
	return s, nil
}

func isDigit(r rune) bool  { return '0' <= r && r <= '9' }
func isLetter(r rune) bool { return r == '_' || unicode.IsLetter(r) }

func isWord(r rune) bool { return isLetter(r) || isDigit(r) }

// span returns where the run of runes of a class that begins at i ends.
func (s *source) span(i int, class func(rune) bool) int {
	for i < len(s.original) && class(s.original[i]) {
		i++
	}
	return i
}

// copy takes runes over as they are and returns where they end.
func (s *source) copy(from, to int) int {
	for i := from; i < to; i++ {
		s.text = append(s.text, s.original[i])
		s.origin = append(s.origin, i)
	}
	return to
}

// word takes over a word and returns where it ends.
func (s *source) word(begin int) int {
	end := s.span(begin, isWord)
	operator, ok := words[string(s.original[begin:end])]
	if !ok {
		return s.copy(begin, end)
	}
	for _, r := range operator {
		s.text = append(s.text, r)
		s.origin = append(s.origin, begin)
	}
	return end
}

// endOfString returns where the string that begins at i ends.
func (s *source) endOfString(i int) int {
	mark := s.original[i]
	for j := i + 1; j < len(s.original); j++ {
		switch s.original[j] {
		case '\\':
			j++
		case mark:
			return j + 1
		}
	}
	return len(s.original)
}

// number takes over a number, with its unit if it has one.
func (s *source) number(begin int) (end int, err error) {
	end = s.span(begin, isDigit)
	if end+1 < len(s.original) && s.original[end] == '.' && isDigit(s.original[end+1]) {
		end = s.span(end+1, isDigit)
	}
	rest := s.original[end:]
	u, n := cutUnit(rest)
	if n == 0 {
		if word := wordBehind(rest); word != "" {
			return 0, s.errorAt(end, "unknown unit "+quote(word), suggestUnit(word))
		}
		if isExponent(rest) {
			end = s.span(end+2, isDigit)
		} else if len(rest) > 0 && (rest[0] == 'x' || rest[0] == 'u') {
			end = s.span(end, isWord)
		}
		return s.copy(begin, end), nil
	}
	f, err := strconv.ParseFloat(string(s.original[begin:end]), 64)
	if err != nil {
		return 0, s.errorAt(begin, "the number is too large", "")
	}
	plain := strconv.FormatFloat(f*u.factor, 'g', -1, 64)
	if !strings.ContainsAny(plain, ".e") {
		plain += ".0"
	}
	s.units[len(s.text)] = u
	for _, r := range plain {
		s.text = append(s.text, r)
		s.origin = append(s.origin, begin)
	}
	return end + n, nil
}

// wordBehind returns what stands where a unit would, directly behind a number.
func wordBehind(rest []rune) string {
	slash := 0
	if len(rest) > 0 && rest[0] == '/' {
		slash = 1
	}
	end := slash
	for end < len(rest) && isLetter(rest[end]) {
		end++
	}
	word := string(rest[:end])
	if end == slash || isExponent(rest) || rest[0] == 'u' || rest[0] == 'x' || words[word] != "" || word == "in" {
		return ""
	}
	return word
}

// isExponent tells whether what follows a number is its exponent.
func isExponent(rest []rune) bool {
	if len(rest) < 2 || (rest[0] != 'e' && rest[0] != 'E') {
		return false
	}
	return isDigit(rest[1]) || len(rest) > 2 && (rest[1] == '-' || rest[1] == '+') && isDigit(rest[2])
}

// cutUnit returns the unit that rest begins with, and its length; 0 if none.
func cutUnit(rest []rune) (unit, int) {
	for _, u := range units {
		n := len(u.name)
		if len(rest) < n || string(rest[:n]) != u.name {
			continue
		}
		if n < len(rest) && (isLetter(rest[n]) || isDigit(rest[n])) {
			continue
		}
		return u, n
	}
	return unit{}, 0
}
