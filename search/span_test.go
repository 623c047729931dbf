package search

import (
	"testing"

	"pgregory.net/rapid"
)

// TestSpan checks that no cell on an ad's way says of it what is not so.
func TestSpan(t *testing.T) {
	s := DefaultSchema()
	rapid.Check(t, func(t *rapid.T) {
		rng := seeded(t)
		ad := randomAd(rng, testNow)
		q := randomQuery(rng)
		o := s.order(&q)
		conjuncts := Conjuncts(q.Where)
		for _, tree := range s.Trees() {
			key := s.KeyOf(tree, ad)
			for level := range maxLevel + 1 {
				c := CellID{Tree: tree.Name, Prefix: PrefixOf(key, level)}
				if i := s.missed(c, conjuncts); i >= 0 && s.Eval(conjuncts[i], ad.Ad) == True {
					t.Fatalf("%s: %v holds for an ad there", c, conjuncts[i])
				}
				if b, ok := o.keyBound(c); ok && o.standing(ad).rank < b {
					t.Fatalf("%s: rank %v below the bound %v", c, o.standing(ad).rank, b)
				}
			}
		}
	})
}
