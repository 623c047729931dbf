package search

import (
	"cmp"
	"slices"
)

// A survey is what one holder of a cell told of how many ads there match.
type survey struct {
	inner bool
	// even tells that below the cell the hash alone tells ads apart, so that
	// each part is like all others.
	even bool
	// total are the ads that were evaluated, all of a leaf or the sample of an
	// inner cell, and matched those of them that match.
	total, matched float64
	branches       []branch // of an inner cell: what may hold matches, disjoint
}

// A branch is a cell below an inner one.
type branch struct {
	cell    CellID
	count   float64 // ads in it
	sure    bool    // all of them match
	guess   float64 // which part matches, of its summary alone
	sampled float64 // ads of the inner cell's sample that lie in it
	matched float64
	gain    float64 // by how much reading it narrows the estimate
}

// survey judges what a holder of a cell said. If it said what the sample is,
// that counts and not what it says of the sample.
func (s *Schema) survey(q Query, conjuncts []Predicate, cell CellID, r *CellReply) *survey {
	out := &survey{inner: r.table(cell), total: float64(r.Total), matched: float64(min(r.Matched, r.Total))}
	if !out.inner {
		return out
	}
	t, _ := s.Tree(cell.Tree)
	out.even = s.hashed(t, cell.Prefix)
	sample := out.take(s, t, q, cell, r.Sample)
	for _, c := range disjoint(r.Children) {
		below := CellID{Tree: cell.Tree, Prefix: cell.Prefix.Child(c.Index)}
		if s.pruner(conjuncts, c.Summary) >= 0 || s.missed(below, conjuncts) >= 0 {
			continue
		}
		b := branch{
			cell: below, count: float64(c.Summary.Count), sure: s.certain(t, below.Prefix, conjuncts, c.Summary),
			guess: min(1, s.share(q.Where, c.Summary)), sampled: float64(c.Sampled), matched: float64(min(c.Matched, c.Sampled)),
		}
		if len(r.Sample) > 0 {
			sampled, matched := sample.count(below.Prefix)
			b.sampled, b.matched = float64(sampled), float64(matched)
		}
		out.branches = append(out.branches, b)
	}
	return out
}

// take evaluates the sample of an inner cell, as far as its ads belong there.
func (v *survey) take(s *Schema, t Tree, q Query, cell CellID, ads []*Signed) (sample census) {
	for _, ad := range sortedSample(ads) {
		if key := s.KeyOf(t, ad); cell.Prefix.Contains(key) {
			sample = append(sample, sampledAd{key, s.Matches(q.Where, ad.Ad)})
		}
	}
	if len(ads) > 0 {
		total, matched := sample.count(cell.Prefix)
		v.total, v.matched = float64(total), float64(matched)
	}
	return sample
}

// table tells whether the reply is of an inner cell that knows the cells below.
// One between tables only sends publishers on, and has what is on its way.
func (r *CellReply) table(cell CellID) bool {
	return len(r.Children) > 0 || r.Inner && cell.Prefix.table()
}

// disjoint returns the children that together have each ad once. A cell that
// was divided may stand beside its halves for a while: whoever has more counts.
func disjoint(children []Child) []Child {
	at, within := make(map[int]Child), make(map[int]bool) // and what has any of them within
	for _, c := range children {
		at[c.Index] = c
		for slot := c.Index; slot >= 0; slot = slot/2 - 1 { // of 2s+2 and 2s+3 to s
			within[slot] = true
		}
	}
	var under func(slot int) (list []Child, count uint64)
	under = func(slot int) (list []Child, count uint64) {
		if !within[slot] {
			return nil, 0
		}
		half := 2*slot + 2
		list, count = under(half)
		more, n := under(half + 1)
		list, count = append(list, more...), count+n
		if c, ok := at[slot]; ok && uint64(c.Summary.Count) > count {
			return []Child{c}, uint64(c.Summary.Count)
		}
		return list, count
	}
	left, _ := under(0)
	right, _ := under(1)
	return append(left, right...)
}

// hashed tells whether the bits of keys behind p are those of hashes.
func (s *Schema) hashed(t Tree, p Prefix) bool {
	if bits, ok := s.interleaved(t); ok {
		return int(p.Level) >= bits
	}
	d, _ := s.Dimension(t.Dims[0])
	return int(p.Level) >= d.keyBits() || s.lacking(t, p)
}

// lacking tells whether a range of a tree of one dimension has only ads that
// lack it.
func (s *Schema) lacking(t Tree, p Prefix) bool {
	if _, ok := s.interleaved(t); ok {
		return false
	}
	return p.Level >= 4 && p.Key.bits(0, 4) == 0
}

// certain tells whether every ad of a range with summary m matches: its place
// in the tree says that they all have the dimension, and the buckets in use
// that no value fails.
func (s *Schema) certain(t Tree, p Prefix, conjuncts []Predicate, m Summary) bool {
	for _, q := range conjuncts {
		dim := dimOf(q)
		if _, ok := s.spanOf(CellID{Tree: t.Name, Prefix: p}, dim); !ok {
			return false
		}
		if _, has := q.(Has); has {
			continue
		}
		i := s.index[dim]
		yes, no := s.dims[i].split(q)
		if d := s.dims[i]; d.Kind == KindEnum && len(d.Values) <= 64 && yes != ^uint64(0) {
			no = ^yes // a bucket of an enumeration has one value
		}
		if s.dims[i].Kind == KindSet || m.Occupancy[i]&no != 0 {
			return false
		}
	}
	return true
}

// prospect returns what an inner cell tells of reading all that may hold matches.
func (v *survey) prospect() (p prospect) {
	for _, b := range v.branches {
		switch {
		case b.sure:
		case b.count <= GatherAds:
			p.leaves++
		default:
			p.room += leavesIn(b.count, GatherAds)
		}
	}
	return p
}

// Surveys are those of one query, by cell.
type surveys map[CellID]*survey

// estimate returns how many ads match in a cell that was surveyed, and below,
// and the cells there that were not, those first that would narrow the bounds
// most.
//
// The cells are a partition, each ad in one of them: counted where a leaf was
// read; elsewhere as many as the table above tells, of which the same part
// matches as of the sample there, as far as the sample lies in cells that were
// not read themselves. All samples are of different ads, and so independent.
func (m surveys) estimate(cell CellID) (Estimate, []branch) {
	e, open := m.sum(m[cell])
	slices.SortFunc(open, func(a, b branch) int { return cmp.Or(cmp.Compare(b.gain, a.gain), compareCells(a.cell, b.cell)) })
	return e, open
}

func (m surveys) sum(v *survey) (e Estimate, open []branch) {
	if !v.inner {
		return Estimate{v.matched, v.matched, v.matched}, nil
	}
	var rest stratum
	for _, b := range v.branches {
		below := m[b.cell]
		switch {
		case below != nil:
			f, more := m.sum(below)
			e, open = e.add(f), append(open, more...)
			if v.even {
				rest.sampled, rest.matched = rest.sampled+below.total, rest.matched+below.matched
			}
		case b.sure:
			e = e.add(Estimate{b.count, b.count, b.count})
		default:
			left := max(0, b.count-b.sampled)
			rest.counted, rest.rest, rest.guess = rest.counted+b.matched, rest.rest+left, rest.guess+left*b.guess
			rest.sampled, rest.matched = rest.sampled+b.sampled, rest.matched+b.matched
		}
	}
	rest.guess /= max(rest.rest, 1)
	for _, b := range v.branches {
		if m[b.cell] == nil && !b.sure {
			b.gain = rest.gain(b, v.even)
			open = append(open, b)
		}
	}
	return e.add(rest.estimate()), open
}

// gain returns by how much reading a branch lessens the variance. What its own
// ads of the sample say does not count: if branches were read because the
// sample has matches there, what stays unread would seem to have fewer than it
// has.
func (t stratum) gain(b branch, even bool) float64 {
	seen := min(b.count, maxSampled) // of an inner cell the sample
	if b.count <= GatherAds {
		seen = b.count
	}
	own := stratum{rest: b.count - seen, sampled: seen, guess: t.part()}
	own.matched = own.sampled * own.guess
	if even {
		without := t
		without.rest, without.sampled = max(0, t.rest-b.count), t.sampled+seen
		without.matched += own.matched
		return t.variance() - without.variance() - own.variance()
	}
	return t.variance()*b.count/max(t.rest, 1) - own.variance()
}

func compareCells(a, b CellID) int {
	return cmp.Or(cmp.Compare(a.Tree, b.Tree), cmp.Compare(a.Prefix.Level, b.Prefix.Level), slices.Compare(a.Prefix.Key[:], b.Prefix.Key[:]))
}
