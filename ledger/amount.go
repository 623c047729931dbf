package ledger

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// An Amount is money: integer nano-units (1e-9) of the network's currency.
// What is owed is never negative; balances of single accounts may be.
type Amount int64

// Unit is one whole unit of the currency.
const Unit Amount = 1_000_000_000

// MaxAmount bounds every single amount, so that sums of a million of them
// still fit: 9 million units.
const MaxAmount Amount = math.MaxInt64 / 1024

var (
	// ErrBadAmount reports text that is not an amount.
	ErrBadAmount = errors.New("ledger: not an amount (write units with at most nine decimals, such as 12.50)")
	// ErrLargeAmount reports an amount beyond MaxAmount.
	ErrLargeAmount = fmt.Errorf("ledger: amount too large (at most %s)", MaxAmount)
)

// ParseAmount reads a decimal number of units, such as "12.5" or "0.000000001".
// Errors wrap ErrBadAmount or ErrLargeAmount.
func ParseAmount(s string) (Amount, error) {
	text := strings.TrimSpace(s)
	whole, frac, _ := strings.Cut(strings.TrimPrefix(text, "-"), ".")
	if len(s) > 64 || whole == "" || len(frac) > 9 || strings.HasSuffix(text, ".") {
		return 0, fmt.Errorf("parse %.64q: %w", s, ErrBadAmount)
	}
	w, err := strconv.ParseUint(whole, 10, 63)
	f, fracErr := strconv.ParseUint((frac + "000000000")[:9], 10, 63)
	large := errors.Is(err, strconv.ErrRange)
	if err != nil && !large || fracErr != nil {
		return 0, fmt.Errorf("parse %.64q: %w", s, ErrBadAmount)
	}
	a := Amount(min(w, uint64(MaxAmount/Unit)))*Unit + Amount(f)
	if large || w > uint64(MaxAmount/Unit) || a > MaxAmount {
		return 0, fmt.Errorf("parse %.64q: %w", s, ErrLargeAmount)
	}
	if strings.HasPrefix(text, "-") {
		a = -a
	}
	return a, nil
}

// String returns the amount in units, with as many decimals as it needs and
// at least two.
func (a Amount) String() string {
	sign, u := "", uint64(a)
	if a < 0 {
		sign, u = "-", uint64(-a)
	}
	frac := strings.TrimRight(fmt.Sprintf("%09d", u%uint64(Unit)), "0")
	for len(frac) < 2 {
		frac += "0"
	}
	return fmt.Sprintf("%s%d.%s", sign, u/uint64(Unit), frac)
}
