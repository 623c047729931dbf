package rival

import (
	"slices"
)

// A span is the positions from to to-1 of a column.
type span struct{ from, to int }

func (s span) len() int { return max(0, s.to-s.from) }

func (s span) overlaps(t span) bool { return max(s.from, t.from) < min(s.to, t.to) }

type regionKind uint8

const (
	regionAll regionKind = iota
	regionAnd
	regionOr
	regionIn // a column
)

// A region is where in all columns the servers that satisfy a predicate can
// stand: it may say too much, never too little.
type region struct {
	kind  regionKind
	of    []region
	col   *column
	spans []span // ascending, disjoint, not empty
}

var everywhere = region{kind: regionAll}

// nowhere is an or of nothing.
var nowhere = region{kind: regionOr}

func in(col *column, spans ...span) region {
	return region{kind: regionIn, col: col, spans: normal(spans)}
}

// normal sorts spans, unites those that touch and drops empty ones.
func normal(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return a.from - b.from })
	out := spans[:0]
	for _, s := range spans {
		switch {
		case s.len() == 0:
		case len(out) > 0 && s.from <= out[len(out)-1].to:
			out[len(out)-1].to = max(out[len(out)-1].to, s.to)
		default:
			out = append(out, s)
		}
	}
	return out
}

func size(spans []span) (n int) {
	for _, s := range spans {
		n += s.len()
	}
	return n
}

func intersect(a, b []span) []span {
	var out []span
	for _, s := range a {
		for _, t := range b {
			if s.overlaps(t) {
				out = append(out, span{max(s.from, t.from), min(s.to, t.to)})
			}
		}
	}
	return normal(out)
}

// except returns what of s is not in spans.
func except(s span, spans []span) []span {
	var out []span
	for _, t := range spans {
		out = append(out, span{s.from, min(t.from, s.to)})
		s.from = max(s.from, t.to)
	}
	return normal(append(out, s))
}

// on returns where in one column the region can be.
func (r region) on(col *column) []span {
	full := []span{{0, col.len()}}
	switch r.kind {
	case regionIn:
		if r.col == col {
			return slices.Clone(r.spans)
		}
	case regionAnd:
		for _, q := range r.of {
			spans := q.on(col)
			switch {
			case col.rank != nil:
				full = intersect(full, spans)
			case size(spans) < size(full): // a server has several entries; one is enough
				full = spans
			}
		}
	case regionOr:
		var all []span
		for _, q := range r.of {
			all = append(all, q.on(col)...)
		}
		return normal(all)
	case regionAll:
	}
	return full
}

// columns returns the columns that the region restricts, each once.
func (r region) columns() []*column {
	var mentioned, restricted []*column
	r.mention(&mentioned)
	for _, c := range mentioned {
		if size(r.on(c)) < c.len() {
			restricted = append(restricted, c)
		}
	}
	return restricted
}

func (r region) mention(out *[]*column) {
	if r.kind == regionIn && !slices.Contains(*out, r.col) {
		*out = append(*out, r.col)
	}
	for _, q := range r.of {
		q.mention(out)
	}
}

// A box is a span of each of some columns; where it has none of a column it
// goes over all of it.
type box struct {
	cols  []*column
	spans []span
}

func newBox(cols []*column) box {
	b := box{cols, make([]span, len(cols))}
	for i, c := range cols {
		b.spans[i] = span{0, c.len()}
	}
	return b
}

func (b box) with(i int, s span) box {
	spans := slices.Clone(b.spans)
	spans[i] = s
	return box{b.cols, spans}
}

func (b box) of(col *column) (span, bool) {
	i := slices.Index(b.cols, col)
	if i < 0 {
		return span{}, false
	}
	return b.spans[i], true
}

// part estimates which part of the servers of a box is in the region, taking
// dimensions as independent; 0 only if none is.
func (r region) part(b box) float64 {
	switch r.kind {
	case regionIn:
		s, ok := b.of(r.col)
		if !ok {
			return float64(size(r.spans)) / float64(max(1, r.col.len()))
		}
		n := 0
		for _, t := range r.spans {
			n += span{max(s.from, t.from), min(s.to, t.to)}.len()
		}
		return float64(n) / float64(max(1, s.len()))
	case regionAnd:
		part := 1.0
		for _, q := range r.of {
			part *= q.part(b)
		}
		return part
	case regionOr:
		part := 0.0
		for _, q := range r.of {
			part += q.part(b)
		}
		return min(1, part)
	default:
		return 1
	}
}
