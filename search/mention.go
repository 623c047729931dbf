package search

import "slices"

// Mentioned returns the names of the dimensions that p depends on, each once,
// in the order of the text.
func Mentioned(p Predicate) []string {
	var names []string
	var walk func(Predicate)
	walk = func(p Predicate) {
		name := ""
		switch p := p.(type) {
		case nil:
			return
		case And:
			for _, q := range p {
				walk(q)
			}
			return
		case Or:
			for _, q := range p {
				walk(q)
			}
			return
		case Not:
			walk(p.Of)
			return
		case Compare:
			name = p.Dim
		case Range:
			name = p.Dim
		case In:
			name = p.Dim
		case Contains:
			name = p.Dim
		case Within:
			name = p.Dim
		case RTT:
			name = p.Dim
		case Has:
			name = p.Dim
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	walk(p)
	return names
}
