package search

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// choices is of how many that are drawn the nearest one is asked: one alone
// would be far, and all would let those amid many clients answer for all.
const choices = 4

// A source is a mirror that a query may ask instead of a holder.
type source struct {
	Mirror
	teller dht.PeerID // who else than a holder of the cell named it, or who named it: a guide, or a holder of the table above
	heard  bool       // in this query, when the cell was asked
}

// mirrored are the mirrors of a cell, as a query knows them.
type mirrored struct {
	sources []source
	all     int  // how many there are, at least
	least   int  // how many a holder has though the cell is not asked for much
	hot     bool // one has more
	asked   []source
	useless bool // one did not answer, so the holders are asked
}

// meet adds mirrors that may be asked.
func (m *mirrored) meet(told Mirrors, teller dht.PeerID) { m.add(told, teller, false) }

func (m *mirrored) add(told Mirrors, teller dht.PeerID, heard bool) {
	list := told.List[:min(len(told.List), maxMirrors)]
	for _, t := range list {
		if len(m.sources) < maxSources && !slices.ContainsFunc(m.sources, func(s source) bool { return s.ID == t.ID }) {
			m.sources = append(m.sources, source{t, teller, heard})
		}
	}
	if len(list) > 0 {
		m.all = max(m.all, min(told.All, maxEntries*MaxMirrors), len(m.sources))
		m.hot = m.hot || m.all > Replicas*m.least || heard && told.All > m.least
	}
}

// known returns what others should know of the mirrors that holders named: the
// last ones, as they are drawn anew each time.
func (m *mirrored) known() (out Mirrors) {
	for i := len(m.sources) - 1; i >= 0 && len(out.List) < maxMirrors; i-- {
		if m.sources[i].teller.IsZero() {
			out.List, out.All = append(out.List, m.sources[i].Mirror), m.all
		}
	}
	if len(out.List) > 0 && m.hot {
		out.All = max(out.All, Replicas*m.least+1) // so that it is seen later, too
	}
	return out
}

// pick returns who is asked next for a cell: the nearest holder that was not
// asked. Where there are mirrors it is the nearest one of some that are drawn,
// as likely mirrors as there are more of them than of holders, or any holder: one
// amid many clients has enough to do. Of few mirrors and the holders it is the
// nearest. Holders alone where they must be compared.
func (s *Seeker) pick(v *visit) (dht.Contact, bool) {
	m := &v.mirrored
	if len(m.sources) == 0 || m.useless || v.weak || v.differ() {
		return v.next()
	}
	draw := s.draw(v)
	holders := v.contacts[:min(len(v.contacts), Replicas)]
	if s.few(v) && s.cfg.Near != nil {
		return s.pickNearest(v, holders)
	}
	var able []source
	if int(draw>>32%uint64(m.all+len(holders))) < m.all {
		able = v.able()
	}
	mirror := len(able) > 0
	if !mirror {
		for _, c := range holders {
			if v.asks[c.ID] == nil && !m.spoken(c.ID) {
				able = append(able, source{Mirror: Mirror{Contact: c}})
			}
		}
	}
	if len(able) == 0 {
		return v.next()
	}
	best := able[draw%uint64(len(able))]
	for i := 1; i < choices && mirror && s.cfg.Near != nil; i++ {
		if other := able[draw>>(8*i)%uint64(len(able))]; s.cfg.Near(other.ID) < s.cfg.Near(best.ID) {
			best = other
		}
	}
	if mirror {
		m.asked = append(m.asked, best)
	}
	return best.Contact, true
}

// few tells whether a cell has only the mirrors that it has though it is not asked
// for much, and so have the roots that the guides know.
func (s *Seeker) few(v *visit) bool { return !v.mirrored.hot && !s.guides.hot }

// busy tells whether a root is known to be asked for much.
func (g Glimpse) busy() bool {
	const few = Replicas * StandingMirrors
	return g.Cell.Prefix.Level == 0 && (g.Mirrors.All > few || slices.ContainsFunc(g.Told, func(t Testimony) bool {
		return t.itself() && t.About[0].Mirrors.All > few
	}))
}

// pickNearest returns the nearest of the holders and mirrors of a cell that may be
// asked.
func (s *Seeker) pickNearest(v *visit, holders []dht.Contact) (dht.Contact, bool) {
	m := &v.mirrored
	able := v.able()
	for _, c := range holders {
		if v.asks[c.ID] == nil && !m.spoken(c.ID) {
			able = append(able, source{Mirror: Mirror{Contact: c}})
		}
	}
	if len(able) == 0 {
		return v.next()
	}
	best := slices.MinFunc(able, func(a, b source) int { return int(s.cfg.Near(a.ID) - s.cfg.Near(b.ID)) })
	if !best.Of.IsZero() {
		m.asked = append(m.asked, best)
	}
	return best.Contact, true
}

// able returns the mirrors that may be asked beside those who were: of these
// the ones that leave another to be asked then, where there are such.
func (v *visit) able() (able []source) {
	for _, c := range v.mirrored.sources {
		if v.asks[c.ID] == nil && v.asks[c.Of] == nil && v.asks[c.teller] == nil && !slices.ContainsFunc(v.mirrored.asked, c.same) {
			able = append(able, c)
		}
	}
	var paired []source
	for _, c := range able {
		if slices.ContainsFunc(able, func(d source) bool { return !c.same(d) }) {
			paired = append(paired, c)
		}
	}
	if len(paired) > 0 {
		return paired
	}
	return able
}

// patiently is how much longer than for an answer a query waits for somebody
// to name another mirror: a holder that is asked instead is asked by many.
const patiently = 2

// awaits tells whether somebody else may soon name mirrors of a cell, where those
// that are known and were not asked rest on the word of one who was: another
// guide, or another holder of the table above. Where any matches will do the
// second answer is a guess, and waits for the first.
func (s *Seeker) awaits(now time.Time, v *visit) bool {
	m := &v.mirrored
	if len(m.asked) == 0 || m.useless || v.weak || s.few(v) || now.Sub(v.lastAsk) >= patiently*v.patience {
		return false
	}
	if slices.ContainsFunc(m.sources, func(c source) bool { return !slices.ContainsFunc(m.asked, c.same) }) {
		return false
	}
	if s.lazy() && v.answers == 0 {
		return true
	}
	if v.cell.Prefix.Level == 0 {
		return s.guides.speaking(now)
	}
	prefix, _ := v.cell.Prefix.Parent()
	above := s.visits[CellID{Tree: v.cell.Tree, Prefix: prefix}]
	return above != nil && (above.pending > 0 || !above.glimpsed && above.answers < s.replicas(above))
}

// listens tells whether the other guide may name mirrors of a root, where the
// first knows only those of others.
func (s *Seeker) listens(v *visit) bool {
	return v.cell.Prefix.Level == 0 && len(v.asks) == 0 && len(v.mirrored.sources) == 0 && s.guides.hot
}

// same tells whether one liar may stand behind both sources: who recruited them
// or who named them, which may be a holder of both the cell and the table above.
func (c source) same(d source) bool {
	return c.Of == d.Of || c.Of == d.teller || c.teller == d.Of || !c.teller.IsZero() && c.teller == d.teller
}

// spoken tells whether a mirror speaks for a holder already, or was named by it.
func (m *mirrored) spoken(holder dht.PeerID) bool {
	return slices.ContainsFunc(m.asked, func(s source) bool { return s.Of == holder || s.teller == holder })
}

// draw returns a number that depends on the query's seed, the cell and how many
// were asked for it.
func (s *Seeker) draw(v *visit) uint64 {
	key := v.cell.Key().Position()
	z := s.cfg.Seed ^ binary.BigEndian.Uint64(key[:8]) + uint64(len(v.asks))*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9 // SplitMix64 (Steele, Lea, Flood, 2014)
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// recruiter returns for which holder a participant was asked as a mirror.
func (m *mirrored) recruiter(of dht.PeerID) (holder dht.PeerID, ok bool) {
	i := slices.IndexFunc(m.asked, func(s source) bool { return s.ID == of })
	if i < 0 {
		return holder, false
	}
	return m.asked[i].Of, true
}

// hear takes in the mirrors that somebody named who was asked for the cell:
// those of a holder, whether it said so itself or one of its mirrors did. For
// what a mirror says answers who named that.
func (m *mirrored) hear(from dht.PeerID, told Mirrors) {
	holder, teller := from, dht.PeerID{}
	if i := slices.IndexFunc(m.asked, func(s source) bool { return s.ID == from }); i >= 0 {
		holder, teller = m.asked[i].Of, m.asked[i].teller
	}
	own := Mirrors{All: told.All}
	for _, t := range told.List[:min(len(told.List), maxMirrors)] {
		if t.Of == holder {
			own.List = append(own.List, t)
		}
	}
	m.add(own, teller, true)
}

// told returns what is known of some mirrors of a cell itself, of each who answers
// for them apart.
func (m *mirrored) told(now time.Time, which func(source) bool) (told []Testimony) {
	for _, s := range m.sources {
		if !which(s) {
			continue
		}
		i := slices.IndexFunc(told, func(t Testimony) bool { return t.Teller == s.teller && t.by() == s.by() })
		if i < 0 {
			i = len(told)
			told = append(told, Testimony{Teller: s.teller, At: now, About: []About{{Index: Itself}}})
		}
		about := &told[i].About[0].Mirrors
		about.List, about.All = append(about.List, s.Mirror), m.all
	}
	return told
}

// everybody returns the holders, and the mirrors that were asked.
func (v *visit) everybody() []dht.Contact {
	all := slices.Clip(v.contacts)
	for _, s := range v.mirrored.asked {
		all = append(all, s.Contact)
	}
	return all
}

// fail notes that somebody has nothing to say; false if it was not asked. Where
// it is a mirror, the holders are asked from then on.
func (v *visit) fail(from dht.PeerID) bool {
	if !v.settle(from, askFailed) {
		return false
	}
	_, mirror := v.mirrored.recruiter(from)
	v.mirrored.useless = v.mirrored.useless || mirror
	return true
}

// see adds to what was seen of a cell, and keeps what was told of mirrors before,
// in this query or as is known.
func see(seen []Glimpse, known map[CellID]Glimpse, g Glimpse) []Glimpse {
	before := known[g.Cell].Told
	if at := slices.IndexFunc(seen, func(have Glimpse) bool { return have.Cell == g.Cell }); at >= 0 {
		before = seen[at].Told
		if len(g.Children) == 0 {
			told := g.Told
			g = seen[at]
			g.Told = told
		}
		seen = slices.Delete(seen, at, at+1)
	}
	for _, t := range before {
		alike := 0
		for _, have := range g.Told {
			if have.by() == t.by() && have.itself() == t.itself() {
				alike++
			}
		}
		if len(g.Told) < maxTold && alike < t.most() && g.Told[0].At.Sub(t.At) < GlimpseTTL {
			g.Told = append(g.Told, t)
		}
	}
	return append(seen, g)
}

// itself tells whether a testimony is about the cell alone.
func (t Testimony) itself() bool { return len(t.About) > 0 && t.About[0].Index == Itself }

// most is how many such testimonies of one teller are remembered.
func (t Testimony) most() int {
	if t.itself() {
		return maxAlike
	}
	return maxTables
}

// by returns who answers for a testimony: who gave it, or the holder whose
// mirrors they are.
func (t Testimony) by() dht.PeerID {
	if t.Teller.IsZero() && len(t.About) > 0 && len(t.About[0].Mirrors.List) > 0 {
		return t.About[0].Mirrors.List[0].Of
	}
	return t.Teller
}

// by returns who answers for a mirror.
func (c source) by() dht.PeerID {
	if c.teller.IsZero() {
		return c.Of
	}
	return c.teller
}

// glimpse returns what a reply tells for later queries, to which the counts of
// this one's matches mean nothing.
func glimpse(now time.Time, v *visit, teller dht.PeerID, r *CellReply) Glimpse {
	g := Glimpse{Cell: v.cell, Holders: slices.Clone(v.contacts), Mirrors: v.mirrored.known(), Children: slices.Clone(r.Children)}
	t := Testimony{Teller: teller, At: now}
	for i := range g.Children {
		c := &g.Children[i]
		if len(c.Mirrors.List) > 0 {
			t.About = append(t.About, About{c.Index, c.Mirrors})
		}
		c.Sampled, c.Matched, c.Mirrors = 0, 0, Mirrors{}
	}
	g.Told = []Testimony{t}
	return g
}

// recall takes in what was told before of the mirrors of a cell and of those
// below.
func (s *Seeker) recall(v *visit, told []Testimony) {
	for _, t := range told {
		for _, about := range t.About {
			at := v
			if about.Index != Itself {
				at = s.visits[CellID{Tree: v.cell.Tree, Prefix: v.cell.Prefix.Child(about.Index)}]
			}
			if at != nil {
				at.mirrored.meet(about.Mirrors, t.Teller)
			}
		}
	}
}

// remembered returns what later queries should know: what was seen of inner
// cells, the mirrors that cells named of themselves, and who answers for the
// roots of which guides told, so that these are not asked again.
func (s *Seeker) remembered(now time.Time) []Glimpse {
	seen := s.seen
	for _, v := range s.list {
		// What is known of a table grows old, unless it was read.
		if told := v.mirrored.told(now, func(c source) bool { return c.heard }); len(told) > 0 && (v.inner || len(s.cfg.Known[v.cell].Children) == 0) {
			g := Glimpse{Cell: v.cell, Told: told}
			if v.cell.Prefix.Level == 0 { // no table says who holds it
				g.Holders = slices.Clone(v.contacts)
			}
			seen = see(seen, s.cfg.Known, g)
		}
	}
	for _, t := range s.schema.trees {
		root := Root(t.Name)
		if _, known := s.cfg.Known[root]; !known && len(s.hints[root]) > 0 && !slices.ContainsFunc(seen, func(g Glimpse) bool { return g.Cell == root }) {
			g := Glimpse{Cell: root, Holders: slices.Clone(s.hints[root])}
			hinted := s.hinted[root]
			g.Told = hinted.told(now, func(source) bool { return true })
			seen = append(seen, g)
		}
	}
	return seen
}
