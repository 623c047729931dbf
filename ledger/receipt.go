package ledger

import (
	"fmt"
	"time"
)

// Tolerances of Receipt.Check.
const (
	// MaxSkew is how far the clocks of honest parties may differ.
	MaxSkew = time.Minute
	// capacitySlack is added to the elapsed time before it is multiplied by
	// the agreed capacity: start-up, quota periods, token buckets.
	capacitySlack = time.Second
	// capacityParts is one part of the elapsed time that is added as well,
	// since clocks drift: 0.1 %.
	capacityParts = 1000
	// trafficSlack is added to both traffic bounds: frames in flight, headers.
	trafficSlack = 1 << 20
	// Two meters agree within one part in meterParts, plus this much.
	meterParts        = 1000
	meterSlackNanos   = uint64(time.Millisecond)
	meterSlackRun     = uint64(time.Second)
	meterSlackTraffic = 64 << 10
)

// Check returns an error that wraps ErrBadReceipt unless agreement allows r at
// now: parties, times, numbers, both meters, the price and the cap. Less than
// the price is allowed: so a receipt from before the cap grew stays good. prev is the
// newest receipt known before r and link the link to its envelope, nil and zero
// if there is none; where r follows it directly they must be chained, and in
// any case no counter may fall. Signatures are the caller's to verify, and so
// is that r links to this agreement or an earlier revision of it.
func (r *Receipt) Check(now time.Time, agreement *Agreement, prev *Receipt, link Link) error {
	if err := r.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrBadReceipt, err)
	}
	if r.Network != agreement.Network {
		return fmt.Errorf("%w: %w: %q", ErrBadReceipt, ErrWrongNetwork, r.Network)
	}
	if r.Server != agreement.Server {
		return fmt.Errorf("%w: it is by %s, the agreement with %s", ErrBadReceipt, r.Server, agreement.Server)
	}
	if prev != nil {
		if err := r.checkFollows(prev, link); err != nil {
			return fmt.Errorf("%w: %w", ErrBadReceipt, err)
		}
	}
	if err := r.checkTimes(now, agreement); err != nil {
		return fmt.Errorf("%w: %w", ErrBadReceipt, err)
	}
	if err := r.checkCapacity(&agreement.Terms); err != nil {
		return fmt.Errorf("%w: %w", ErrBadReceipt, err)
	}
	if err := r.checkMeters(); err != nil {
		return fmt.Errorf("%w: %w", ErrBadReceipt, err)
	}
	if most := min(agreement.Rates.Cost(&agreement.Terms, &r.Usage), agreement.Cap); r.Amount > most {
		return fmt.Errorf("%w: it asks for %s, at most %s is due", ErrBadReceipt, r.Amount, most)
	}
	return nil
}

// checkFollows checks the chain from prev to r.
func (r *Receipt) checkFollows(prev *Receipt, link Link) error {
	switch p, u := &prev.Usage, &r.Usage; {
	case prev.Final:
		return fmt.Errorf("receipt %d was the final one", prev.Seq)
	case r.Seq <= prev.Seq:
		return fmt.Errorf("seq %d does not follow %d", r.Seq, prev.Seq)
	case r.From != prev.From:
		return fmt.Errorf("the session began at %d ms, before it was %d ms", r.From, prev.From)
	case r.To < prev.To:
		return fmt.Errorf("it ends %d ms before the receipt %d", prev.To-r.To, prev.Seq)
	case u.RunNanos < p.RunNanos || u.CPUNanos < p.CPUNanos || u.RxBytes < p.RxBytes || u.TxBytes < p.TxBytes:
		return fmt.Errorf("a counter fell since receipt %d", prev.Seq)
	case r.Amount < prev.Amount:
		return fmt.Errorf("it asks for less than receipt %d", prev.Seq)
	}
	if r.Seq > prev.Seq+1 {
		return nil // those between were lost, which changes nothing
	}
	if r.Prev != link {
		return fmt.Errorf("it is not chained to receipt %d", prev.Seq)
	}
	return nil
}

func (r *Receipt) checkTimes(now time.Time, a *Agreement) error {
	skew := MaxSkew.Milliseconds()
	switch {
	case r.From < a.Issued*1000-skew:
		return fmt.Errorf("the session began before the agreement was issued")
	case r.To > a.Expires*1000+skew:
		return fmt.Errorf("it ends after the agreement expired")
	case r.To > now.UnixMilli()+skew:
		return fmt.Errorf("it ends in the future")
	}
	return nil
}

// checkCapacity checks usage against what the elapsed time can hold.
func (r *Receipt) checkCapacity(terms *Terms) error {
	elapsed := time.Duration(r.To-r.From) * time.Millisecond
	most := terms.MaxUsage(elapsed + elapsed/capacityParts + capacitySlack)
	switch u := &r.Usage; {
	case u.RunNanos > most.RunNanos:
		return fmt.Errorf("it ran for %s in %s", time.Duration(u.RunNanos), elapsed)
	case u.CPUNanos > most.CPUNanos:
		return fmt.Errorf("%s of CPU time in %s is more than agreed", time.Duration(u.CPUNanos), elapsed)
	case exceeds(u.RxBytes, most.RxBytes, trafficSlack) || exceeds(u.TxBytes, most.TxBytes, trafficSlack):
		return fmt.Errorf("%d bytes received and %d sent in %s are more than agreed", u.RxBytes, u.TxBytes, elapsed)
	case terms.NetworkRate == 0 && (u.RxBytes > 0 || u.TxBytes > 0):
		return fmt.Errorf("traffic without an agreed network")
	}
	return nil
}

// exceeds tells whether x is more than bound+slack, without overflow.
func exceeds(x, bound, slack uint64) bool { return x > bound && x-bound > slack }

// checkMeters checks that the first reading is the billed one, and that the
// others agree with it. A meter that does not count traffic says zero both ways.
func (r *Receipt) checkMeters() error {
	first := &r.Readings[0]
	if first.Usage != r.Usage {
		return fmt.Errorf("the first reading, by %s, is not the billed usage", first.Source)
	}
	for i := range r.Readings[1:] {
		if err := first.Agrees(&r.Readings[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// Agrees returns an error that says how two readings of the same usage differ
// by more than one part in 1,000 plus 1 ms of CPU time, 1 s of running time or
// 64 KiB of traffic. Where o counts no traffic at all, that is not compared.
func (r *Reading) Agrees(o *Reading) error {
	u, v := &r.Usage, &o.Usage
	traffic := v.RxBytes > 0 || v.TxBytes > 0
	switch {
	case !near(u.CPUNanos, v.CPUNanos, meterSlackNanos):
		return fmt.Errorf("%s and %s differ on CPU time: %d and %d ns", r.Source, o.Source, u.CPUNanos, v.CPUNanos)
	case !near(u.RunNanos, v.RunNanos, meterSlackRun):
		return fmt.Errorf("%s and %s differ on running time: %d and %d ns", r.Source, o.Source, u.RunNanos, v.RunNanos)
	case traffic && (!near(u.RxBytes, v.RxBytes, meterSlackTraffic) || !near(u.TxBytes, v.TxBytes, meterSlackTraffic)):
		return fmt.Errorf("%s and %s differ on traffic", r.Source, o.Source)
	}
	return nil
}

// near tells whether a and b differ by at most one part in meterParts of the
// greater, plus slack.
func near(a, b, slack uint64) bool {
	a, b = max(a, b), min(a, b)
	return a-b <= a/meterParts+slack
}
