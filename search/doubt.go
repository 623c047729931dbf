package search

import (
	"math"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// settling is how long a holder may have a cell before what it has is all there
// is: every publisher has renewed, and every child told of itself.
const settling = 2 * time.Minute

// surprise is how many times as many, or as few, ads as expected a holder may
// tell of before another one is asked, and surprising how many besides.
const surprise, surprising = 2, 32

// surprising tells whether a holder's word on how many ads its cell has is far
// from that of the table above, which is that of two holders at least, or from
// what the hashes of its sample say.
func (c *Counter) surprising(v *visit, r *CellReply) bool {
	count := r.count(v.cell)
	if e, ok := c.vouched(v.cell, r); ok && (count > surprise*e.High+surprising || count < e.Low/surprise-surprising) {
		return true
	}
	told := float64(v.summary.Count)
	return v.cell.Prefix.Level > 0 && (count > surprise*told+surprising || count < told/surprise-surprising)
}

// count returns how many ads a cell has, as its holder says, those below that
// cannot match included.
func (r *CellReply) count(cell CellID) (n float64) {
	if !r.table(cell) {
		return float64(r.Total)
	}
	for _, child := range disjoint(r.Children) {
		n += float64(child.Summary.Count)
	}
	for _, pruned := range r.Pruned {
		n += float64(pruned)
	}
	return n
}

// vouched estimates how many ads an inner cell has from the hashes of its
// sample, which nobody can make; false where the cell's place says which hashes
// it has.
func (c *Counter) vouched(cell CellID, r *CellReply) (Estimate, bool) {
	t, _ := c.schema.Tree(cell.Tree)
	if !r.table(cell) || c.schema.hashed(t, cell.Prefix) {
		return Estimate{}, false
	}
	if len(r.Sample) == 0 {
		return Estimate{}, true
	}
	count, low, high := SampleOf(r.Sample).Estimate()
	return Estimate{count, low, high}, true
}

// A doubted survey is of a holder that says what cannot be, or has not had the
// cell for long and may lack ads.
type doubted struct {
	survey *survey
	ads    float64 // in the cell, as it says
	young  bool
}

// doubt keeps what one holder said for the case that no other one knows
// better. Of several the one counts that has the most. Where it cannot be how
// many there are, the sample is believed: counts of cells that have just come
// to be are a minute late.
func (c *Counter) doubt(v *visit, r *CellReply, strange bool) {
	d := &doubted{ads: r.count(v.cell), young: r.Age < settling}
	e, ok := c.vouched(v.cell, r)
	if ok = ok && strange; ok {
		d.ads = e.Count
	}
	if have := c.doubted[v.cell]; have != nil && have.ads >= d.ads {
		return
	}
	d.survey = c.learn(v, r)
	delete(c.surveys, v.cell)
	c.doubted[v.cell] = d
	for i := range d.survey.branches {
		if b := &d.survey.branches[i]; ok {
			b.count, b.sure = b.count*e.Count/r.count(v.cell), false
		}
	}
}

// believe takes in what was doubted where no holder is left to say otherwise,
// or none will be asked any more.
func (c *Counter) believe(over bool) {
	for _, v := range c.list {
		if d := c.doubted[v.cell]; d != nil && c.surveys[v.cell] == nil && (over || c.dead(v)) {
			c.surveys[v.cell] = d.survey
			c.young = c.young || d.young
		}
	}
}

// evidence returns how many matches the ads in a leaf's reply bear out. Who
// shows as many as fit is believed as to the others.
func (c *Counter) evidence(r *CellReply) float64 {
	shown := make(map[dht.PeerID]bool)
	for _, ad := range r.Ads {
		if c.schema.Matches(c.query.Where, ad.Ad) {
			shown[ad.Ad.Server] = true
		}
	}
	if len(shown) >= maxShown || r.More && len(shown) > 0 {
		return math.Inf(1)
	}
	return float64(len(shown))
}
