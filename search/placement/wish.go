package placement

import (
	"cmp"
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
	"github.com/xenoserver/xeno/search"
)

// A wish is a Want of a Placer and what came of it: servers of a group
// anywhere, around an anchor, or with other values than those seen.
type wish struct {
	group    int
	query    search.Query
	anchor   *anchor // nil: anywhere
	others   *others // nil: of any value
	ads      []*search.Signed
	complete bool
	answered bool
}

// An anchor is a server around which others are looked for.
type anchor struct {
	group    int // whose candidate it is
	position int // in that group's answer
	rank     int // among the anchors of its rule
	rules    int // how many rules share the anchors of a stage
	share    int // of the queries, for the rule
}

// others says that a wish is for servers that are not of the owners, or
// countries, that another wish found too many of.
type others struct {
	stage int // it was made for; it counts in later ones too
	depth int // how many wishes were made in turn
	rule  int
	seen  []string
}

// in tells whether a wish counts in a stage. This must not depend on what later
// stages ask for, so that each stage works as it would alone.
func (w *wish) in(p *Placer, at int) bool {
	if w.others != nil && w.others.stage > at {
		return false
	}
	a := w.anchor
	return a == nil || a.rank < min(max(1, stages[at].anchors/a.rules), a.share) && a.position < p.poolOf(at, a.group)
}

// poolOf returns how many answers to one wish for a group count in a stage.
// Where there will be several wishes half of the room is left for those that
// follow.
func (p *Placer) poolOf(at, group int) int {
	name := p.spec.Groups[group].Name
	room := p.room()
	if slices.ContainsFunc(p.spec.Near, func(r NearRule) bool { return covers(r.Groups, name) }) ||
		slices.ContainsFunc(p.spec.Spread, func(r SpreadRule) bool { return covers(r.Groups, name) }) {
		room /= 2
	}
	return min(room, max(stages[at].pool, 4*p.spec.Groups[group].Count))
}

// room is how many candidates a group may have.
func (p *Placer) room() int { return MaxCandidates / len(p.spec.Groups) }

// gathered goes on when all wishes are answered: with anchors, then a few times
// with others, then with the choice.
func (p *Placer) gathered() {
	for p.gathering <= maxOthers {
		begin := len(p.wishes)
		if p.gathering == 0 {
			p.addAnchors()
		} else {
			p.addOthers()
		}
		p.gathering++
		for _, w := range p.wishes[begin:] {
			if !w.answered {
				p.want(begin)
				return
			}
		}
	}
	p.begin()
}

// addAnchors wishes for servers around some of those found, for every rule that
// wants machines near each other: all of them are near each of them.
func (p *Placer) addAnchors() {
	var rules []NearRule
	for _, r := range p.spec.Near {
		if p.spec.machines(r.Groups) > 1 {
			rules = append(rules, r)
		}
	}
	for _, r := range rules {
		var groups []int
		for g, group := range p.spec.Groups {
			if covers(r.Groups, group.Name) {
				groups = append(groups, g)
			}
		}
		from := p.wishes[groups[0]]
		share := (maxQueries - len(p.spec.Groups)) / len(rules) / len(groups)
		for rank, position := range spacedOut(from.ads, r.Most/2, max(1, share)) {
			a := &anchor{group: groups[0], position: position, rank: rank, rules: len(rules), share: share}
			at, _ := from.ads[position].Ad.Attributes.Get(search.DimCoordinate).Coordinate()
			for _, g := range groups {
				w := &wish{group: g, anchor: a}
				if w.in(p, p.level) {
					p.add(w, p.wishes[g].query, search.RTT{Dim: search.DimCoordinate, To: []dht.Coordinate{at}, Most: r.Most})
				}
			}
		}
	}
}

// add makes a wish for what a query asks for and one more condition, unless the
// query has no room for it. Where all servers of the group are known the answer
// is here.
func (p *Placer) add(w *wish, q search.Query, more search.Predicate) {
	w.query = q
	w.query.Where = append(slices.Clone(q.Where.(search.And)), more)
	if base := p.wishes[w.group]; base.complete {
		w.ads, w.complete, w.answered = p.schema.Select(w.query, base.ads), true, true
	} else if p.schema.Check(w.query) != nil {
		return
	}
	p.wishes = append(p.wishes, w)
}

// spacedOut returns the positions of ads, in order, each of which is farther
// than apart from all before it.
func spacedOut(ads []*search.Signed, apart time.Duration, most int) (positions []int) {
	var taken []dht.Coordinate
	for i, ad := range ads {
		c, ok := ad.Ad.Attributes.Get(search.DimCoordinate).Coordinate()
		if !ok || slices.ContainsFunc(taken, func(d dht.Coordinate) bool { return search.PredictRTT(c, d) <= apart }) {
			continue
		}
		taken = append(taken, c)
		if positions = append(positions, i); len(positions) == most {
			break
		}
	}
	return positions
}

// addOthers wishes for servers of other owners, or in other countries, where the
// first ones found are of too few to spread over.
func (p *Placer) addOthers() {
	for at := 0; at <= p.level; at++ {
		room := maxOtherQueries
		for _, w := range p.wishes {
			if w.others != nil && w.others.stage == at {
				room--
			}
		}
		for _, w := range slices.Clone(p.wishes) {
			if w.others == nil && p.gathering > 1 || w.others != nil && (w.others.stage != at || w.others.depth != p.gathering-1) {
				continue // it has had its turn
			}
			for r, rule := range p.spec.Spread {
				if room > 0 && w.in(p, at) && covers(rule.Groups, p.spec.Groups[w.group].Name) && p.addOther(w, at, r) {
					room--
				}
			}
		}
	}
}

// addOther wishes for what a wish asks for, but with other values than the
// answer has, if those are too few for a rule.
func (p *Placer) addOther(w *wish, at, r int) bool {
	limit := p.poolOf(at, w.group)
	if w.complete && len(w.ads) < limit {
		return false // there are no others
	}
	rule := p.spec.Spread[r]
	o := &others{stage: at, depth: p.gathering, rule: r}
	if w.others != nil && w.others.rule == r {
		o.seen = slices.Clone(w.others.seen)
	}
	for _, ad := range w.ads[:min(len(w.ads), limit)] {
		if text, ok := ad.Ad.Attributes.Get(rule.By).Text(); ok && !slices.Contains(o.seen, text) {
			o.seen = append(o.seen, text)
		}
	}
	// Half as many again as it takes, to have a choice.
	need := (p.spec.machines(rule.Groups) + rule.Most - 1) / rule.Most
	if len(o.seen) == 0 || len(o.seen) >= need+need/2+1 || len(o.seen) > search.MaxList {
		return false
	}
	slices.Sort(o.seen)
	in := search.In{Dim: rule.By}
	for _, text := range o.seen {
		in.Values = append(in.Values, search.Text(text))
	}
	if slices.ContainsFunc(p.wishes, func(v *wish) bool {
		return v.others != nil && v.group == w.group && v.anchor == w.anchor && v.others.rule == r && slices.Equal(v.others.seen, o.seen)
	}) {
		return false // an earlier stage has it
	}
	before := len(p.wishes)
	p.add(&wish{group: w.group, anchor: w.anchor, others: o}, w.query, search.Not{Of: in})
	return len(p.wishes) > before
}

// pools returns the candidates of each group in a stage: of the group's query,
// then of other values, then around anchors.
func (p *Placer) pools(at int) [][]*search.Signed {
	pools := make([][]*search.Signed, len(p.spec.Groups))
	taken := make([]map[dht.PeerID]bool, len(pools))
	for g := range taken {
		taken[g] = make(map[dht.PeerID]bool)
	}
	order := slices.Clone(p.wishes)
	kind := func(w *wish) int {
		switch {
		case w.anchor != nil:
			return 2
		case w.others != nil:
			return 1
		default:
			return 0
		}
	}
	slices.SortStableFunc(order, func(a, b *wish) int { return cmp.Compare(kind(a), kind(b)) })
	for _, w := range order {
		if !w.in(p, at) {
			continue
		}
		for _, ad := range w.ads[:min(len(w.ads), p.poolOf(at, w.group))] {
			server := ad.Ad.Server
			if now, asked := p.current[server]; asked {
				ad = now
			}
			if ad == nil || taken[w.group][server] || len(pools[w.group]) == p.room() ||
				!p.schema.Matches(p.wishes[w.group].query.Where, ad.Ad) {
				continue
			}
			taken[w.group][server] = true
			pools[w.group] = append(pools[w.group], ad)
		}
	}
	return pools
}
