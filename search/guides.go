package search

import (
	"math/rand/v2"
	"time"

	"github.com/xenoserver/xeno/dht"
)

// guides are those who were asked who holds the roots, and how long they are
// waited for.
type guides struct {
	awaited map[dht.PeerID]bool // those that have not answered
	until   time.Time
	hot     bool // one knows many mirrors of some root, or who asks remembers them
}

// consult asks some of those nearby. The seed draws them: whoever is nearest to
// many would be asked by all of these.
func (g *guides) consult(schema *Schema, near []dht.Contact, seed uint64, until time.Time) (asked []SeekerEffect) {
	roots := make([]CellID, 0, len(schema.trees))
	for _, t := range schema.trees {
		roots = append(roots, Root(t.Name))
	}
	g.awaited, g.until = make(map[dht.PeerID]bool), until
	drawn := rand.New(rand.NewPCG(seed, 0)).Perm(min(len(near), Guides)) //nolint:gosec // who is asked is no secret
	for _, i := range drawn[:min(len(drawn), guidesAsked)] {
		g.awaited[near[i].ID] = true
		asked = append(asked, Consult{To: near[i], Cells: roots})
	}
	return asked
}

// heard notes that a guide answered; false if it was not asked.
func (g *guides) heard(from dht.PeerID) bool {
	asked := g.awaited[from]
	delete(g.awaited, from)
	return asked
}

// speaking tells whether some may still answer in time.
func (g *guides) speaking(now time.Time) bool { return len(g.awaited) > 0 && now.Before(g.until) }
