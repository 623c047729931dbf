package sim

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A place is a line and column of a file, from 1.
type place struct{ line, column int }

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.line, q.line), cmp.Compare(p.column, q.column))
}

// A mistake is something wrong at a place of a file, with a remedy.
type mistake struct {
	file string
	at   place
	text string
}

func (m *mistake) Error() string {
	if m.at.line == 0 {
		return cmp.Or(m.file, "scenario") + ": " + m.text
	}
	return fmt.Sprintf("%s:%d:%d: %s", m.file, m.at.line, m.at.column, m.text)
}

func (m *mistake) Unwrap() error { return ErrBadScenario }

// mistakes gathers what is wrong.
type mistakes []error

// add takes an error, or several in one.
func (m *mistakes) add(err error) {
	if more, ok := err.(interface{ Unwrap() []error }); ok {
		*m = append(*m, more.Unwrap()...)
		return
	}
	if err != nil {
		*m = append(*m, err)
	}
}

// err returns all in one, in the order of the file and not more than fit on a
// screen, or nil.
func (m mistakes) err() error {
	if len(m) == 0 {
		return nil
	}
	slices.SortStableFunc(m, func(a, b error) int {
		var ma, mb *mistake
		if errors.As(a, &ma) && errors.As(b, &mb) {
			return ma.at.compare(mb.at)
		}
		return 0
	})
	if more := len(m) - maxErrors; more > 0 {
		m = append(slices.Clone(m[:maxErrors]), fmt.Errorf("%w: and %d more", ErrBadScenario, more))
	}
	return errors.Join(m...)
}

// place returns where a key stands: itself, or the table that it is in.
func (s *Scenario) place(name string) place {
	for {
		if p, ok := s.pos[name]; ok {
			return p
		}
		i := strings.LastIndexByte(name, '.')
		if i < 0 {
			return place{}
		}
		name = name[:i]
	}
}

// errorAt returns a mistake at a key.
func (s *Scenario) errorAt(name, format string, args ...any) error {
	return &mistake{s.file, s.place(name), fmt.Sprintf(format, args...)}
}

// suggest returns "; did you mean …?" for the nearest name, or nothing where
// none is near.
func suggest(name string, of []string) string {
	best, least := "", 1+len(name)/3
	for _, o := range of {
		if d := distance(name, o); d <= least && (best == "" || d < distance(name, best)) {
			best = o
		}
	}
	if best == "" || name == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// distance is Levenshtein's: how many letters are to be changed, added or
// taken away.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// positions finds where each key of a TOML text stands. It knows lines, tables,
// dotted and quoted keys, texts and lists over several lines; keys in inline
// tables are found at the table. What is no TOML is left to the parser. The
// error is of a key or table that is there twice.
func positions(data []byte, file string) (map[string]place, error) {
	pos := map[string]place{}
	var table string
	var open scan
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if open.continues() {
			open.feed(line)
			continue
		}
		text := strings.TrimLeft(line, " \t")
		at := place{i + 1, len(line) - len(text) + 1}
		switch {
		case text == "" || text[0] == '#':
			continue
		case text[0] == '[':
			table = joinKey(strings.Trim(strings.SplitN(text, "]", 2)[0], "[] \t"))
			if first, ok := pos[table]; ok && !strings.HasPrefix(text, "[[") {
				return nil, &mistake{file, at, fmt.Sprintf("table [%s] is already in line %d: put its keys there", table, first.line)}
			}
			pos[table] = at
			continue
		}
		name, rest := cutKey(text)
		if name = joinKey(name); table != "" {
			name = table + "." + name
		}
		if first, ok := pos[name]; ok {
			return nil, &mistake{file, at, fmt.Sprintf("%s is already in line %d: leave one out", name, first.line)}
		}
		pos[name] = at
		open.feed(rest)
	}
	return pos, nil
}

// cutKey divides a line at the equals sign that no quotes are around.
func cutKey(text string) (name, rest string) {
	var quote byte
	for i := range len(text) {
		switch c := text[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '=':
			return strings.TrimSpace(text[:i]), text[i+1:]
		}
	}
	return strings.TrimSpace(text), ""
}

// joinKey writes a dotted key without quotes and spaces.
func joinKey(name string) string {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		parts[i] = strings.Trim(p, " \t\"'")
	}
	return strings.Join(parts, ".")
}

// A scan knows whether a value goes on in the next line.
type scan struct {
	depth int    // of lists
	quote string // that is open: """ or '''
}

func (s *scan) continues() bool { return s.depth > 0 || s.quote != "" }

// feed reads the rest of a line.
func (s *scan) feed(line string) {
	for line != "" {
		switch {
		case s.quote != "":
			i := strings.Index(line, s.quote)
			if i < 0 {
				return
			}
			line, s.quote = line[i+len(s.quote):], ""
			continue
		case strings.HasPrefix(line, `"""`) || strings.HasPrefix(line, `'''`):
			s.quote, line = line[:3], line[3:]
			continue
		case line[0] == '"' || line[0] == '\'':
			line = skipQuoted(line)
			continue
		case line[0] == '#':
			return
		case line[0] == '[':
			s.depth++
		case line[0] == ']':
			s.depth = max(0, s.depth-1)
		}
		line = line[1:]
	}
}

// skipQuoted returns what follows a text in quotes.
func skipQuoted(line string) string {
	for i := 1; i < len(line); i++ {
		switch {
		case line[i] == '\\' && line[0] == '"':
			i++
		case line[i] == line[0]:
			return line[i+1:]
		}
	}
	return ""
}
