package search

import (
	"cmp"
	"slices"

	"github.com/xenoserver/xeno/dht"
)

// An Answer is what a Seeker found.
type Answer struct {
	Results []Result
	// Complete tells that nothing that could change Results is unread: with
	// a limit the rest cannot be better, without one there is no rest.
	Complete bool
	// Completeness estimates which part of the cells that could hold results
	// was read, 0 to 1.
	Completeness float64
	// Incomplete says why, for people; empty where Complete.
	Incomplete string
	// Matches is how many ads match in the whole network, counted where
	// everything was read, else extrapolated.
	Matches  Estimate
	Seen     int // distinct ads that were evaluated here or by holders, at least
	Requests int // messages to holders and servers, lookups not counted
	Lookups  int // of holders in the DHT
	Tree     string
	// Conditions are the conjuncts of the query with how many ads each
	// excluded, the one that excluded the most first.
	Conditions []Exclusion
	// Excluded are servers that were seen and do not match, with the
	// conditions they fail. Filled where the query was to be explained.
	Excluded []Excluded
	// Plan is how it was found, and what else was considered.
	Plan Plan
}

// A Plan is how a query was carried out, and what else was considered: its
// cost is in the Answer.
type Plan struct {
	// Cells are those of Answer.Tree that were read, Leaves those of them that
	// have no cells below.
	Cells, Leaves int
	// Trees are all trees by how many cells of each would have had to be read,
	// as far as the sample of all ads told, the least first; none where all ads
	// fit into a cell.
	Trees []TreeCost
}

// A TreeCost is how many cells of a tree a query is expected to read.
type TreeCost struct {
	Tree  string
	Cells float64
}

// costs returns what a query costs in every tree, the least first.
func (s *Schema) costs(cells func(Tree) float64) []TreeCost {
	list := make([]TreeCost, len(s.trees))
	for i, t := range s.trees {
		list[i] = TreeCost{t.Name, cells(t)}
	}
	slices.SortStableFunc(list, func(a, b TreeCost) int { return cmp.Compare(a.Cells, b.Cells) })
	return list
}

// A Result is a server that matches.
type Result struct {
	Signed   *Signed
	Verified bool // the server itself confirmed its ad during the query
}

// An Exclusion says how much one conjunct excluded.
type Exclusion struct {
	Condition Predicate
	Count     int
}

// An Excluded is a server that does not match.
type Excluded struct {
	Server dht.PeerID
	Signed *Signed
	Fails  []Predicate // the conjuncts that do not hold; empty: it did not answer
	Gone   bool        // it did not confirm its ad
}

// Explain returns the conjuncts of where that ad does not satisfy.
func (s *Schema) Explain(where Predicate, ad *Ad) (fails []Predicate) {
	for _, p := range Conjuncts(where) {
		if s.Eval(p, ad) != True {
			fails = append(fails, p)
		}
	}
	return fails
}

// Select returns what a query over ads must answer: the brute-force oracle,
// also useful for lists at hand. Of several ads of a server the newest counts.
func (s *Schema) Select(q Query, ads []*Signed) []*Signed {
	newest := make(map[dht.PeerID]*Signed, len(ads))
	for _, ad := range ads {
		if have := newest[ad.Ad.Server]; have == nil || have.Ad.Seq < ad.Ad.Seq {
			newest[ad.Ad.Server] = ad
		}
	}
	var matches []*Signed
	for _, ad := range ads {
		if newest[ad.Ad.Server] == ad && s.Matches(q.Where, ad.Ad) {
			matches = append(matches, ad)
		}
	}
	s.order(&q).sort(matches)
	if q.Limit > 0 && len(matches) > q.Limit {
		matches = matches[:q.Limit]
	}
	return matches
}

func (o order) sort(ads []*Signed) {
	standings := make(map[*Signed]standing, len(ads))
	for _, ad := range ads {
		standings[ad] = o.standing(ad)
	}
	slices.SortFunc(ads, func(a, b *Signed) int { return o.compare(standings[a], standings[b]) })
}
