package ledger

import (
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/xenoserver/xeno/dht"
)

// A State is the whole ledger at one moment, a deterministic function of the
// commands that were applied to it. The zero value is not usable: NewState.
// It is owned by one goroutine.
type State struct {
	conf Configure
	now  int64  // of the newest command, Unix nanoseconds; never goes back
	seq  uint64 // of the newest entry

	balances map[Account]Amount        // without zeros
	sums     map[dht.PeerID]*Balances  // the same by participant
	members  map[dht.PeerID]*member    //
	codes    map[CodeHash]*invitation  //
	orders   map[orderKey]*order       //
	links    map[cid.Cid]orderKey      // orders by CID
	sessions map[ID]*session           //
	agreed   map[cid.Cid]ID            // sessions by every revision's CID
	done     map[ID][sha256.Size]byte  // contents of the commands that carry an ID themselves
	due      dueHeap                   // what happens by itself
	serial   uint64                    // of the newest credential
	revoked  []issued                  // ascending by serial
	list     Revocations               // the newest list
	owners   map[dht.PeerID][]orderKey // orders by client, oldest first
}

// A Result is what a command achieved. Which fields are set depends on the
// command; Changed is false for a repetition, which no journal needs.
type Result struct {
	Changed       bool
	Credential    *Credential    // Register, Renew
	Authorization *Authorization // Authorise
	Order         *OrderStatus   // CreateOrder, CancelOrder
	Session       *SessionStatus // Authorise, Claim, Release
	Settlement    *Settlement    // Claim, Release, once the session is settled
	Balances      *Balances      // Deposit, Withdraw
	Revocations   *Revocations   // Revoke
}

// NewState returns a ledger in which nothing has happened. Its first command
// must be Configure.
func NewState() *State {
	return &State{
		balances: make(map[Account]Amount),
		sums:     make(map[dht.PeerID]*Balances),
		members:  make(map[dht.PeerID]*member),
		codes:    make(map[CodeHash]*invitation),
		orders:   make(map[orderKey]*order),
		links:    make(map[cid.Cid]orderKey),
		sessions: make(map[ID]*session),
		agreed:   make(map[cid.Cid]ID),
		done:     make(map[ID][sha256.Size]byte),
		owners:   make(map[dht.PeerID][]orderKey),
	}
}

// Apply carries out cmd at now and returns what it achieved and the entries
// that it made. With an error nothing has changed. Time never goes back: a now
// before that of an earlier command counts as that one. Documents must have
// passed Verify. While something is due by NextExpiry, every command but Tick
// fails with ErrExpiryDue, so that no refusal and no success depends on money
// that should have been released.
func (s *State) Apply(now time.Time, cmd Command) (Result, []Entry, error) {
	if err := loaded(cmd); err != nil {
		return Result{}, nil, err
	}
	t := max(now.UnixNano(), s.now)
	b := &batch{s: s, time: t}
	if c, ok := cmd.(*Configure); ok {
		return b.finish(s.configure(c))
	}
	if s.conf.Network == "" {
		return Result{}, nil, fmt.Errorf("%w: the ledger is not configured", ErrDenied)
	}
	if _, ok := cmd.(*Tick); ok {
		return b.finish(b.tick(), nil)
	}
	if due, ok := s.NextExpiry(); ok && due.UnixNano() <= t {
		return Result{}, nil, ErrExpiryDue
	}
	return b.finish(b.apply(cmd))
}

func (b *batch) apply(cmd Command) (Result, error) {
	switch c := cmd.(type) {
	case *Invite:
		return b.invite(c)
	case *Register:
		return b.register(c)
	case *Renew:
		return b.renew(c)
	case *Deposit:
		return b.deposit(c)
	case *Withdraw:
		return b.withdraw(c)
	case *CreateOrder:
		return b.createOrder(c)
	case *CancelOrder:
		return b.cancelOrder(c)
	case *Authorise:
		return b.authorise(c)
	case *Claim:
		return b.claim(c)
	case *Release:
		return b.release(c)
	case *Revoke:
		return b.revoke(c)
	case *Configure, *Tick:
	}
	return Result{}, fmt.Errorf("%w: %T", ErrUnknownKind, cmd)
}

// loaded decodes the document in cmd unless Verify has.
func loaded(cmd Command) error {
	switch c := cmd.(type) {
	case *CreateOrder:
		if c.doc != nil {
			return nil
		}
	case *Authorise:
		if c.doc != nil {
			return nil
		}
	case *Claim:
		if c.doc != nil {
			return nil
		}
	default:
	}
	return cmd.load(false)
}

// configure accepts the first configuration, and changes that leave network
// and identity alone.
func (s *State) configure(c *Configure) (Result, error) {
	if s.conf == *c {
		return Result{}, nil
	}
	if s.conf.Network != "" && (s.conf.Network != c.Network || s.conf.Corp != c.Corp) {
		return Result{}, fmt.Errorf("%w: the ledger is that of network %q under %s, not of %q under %s",
			ErrConflict, s.conf.Network, s.conf.Corp, c.Network, c.Corp)
	}
	s.conf = *c
	if s.list.Seq == 0 {
		s.list = Revocations{Network: c.Network, Seq: 1, Issued: max(1, s.now/1e9)}
	}
	return Result{Changed: true}, nil
}

// A batch is one command being applied: its time and its entries.
type batch struct {
	s       *State
	time    int64 // Unix nanoseconds
	entries []Entry
}

// unix returns the time of the command in seconds.
func (b *batch) unix() int64 { return b.time / int64(time.Second) }

func (b *batch) now() time.Time { return time.Unix(0, b.time) }

// finish commits the time of a command that changed something.
func (b *batch) finish(r Result, err error) (Result, []Entry, error) {
	if err != nil {
		if len(b.entries) > 0 {
			panic("ledger: a refused command moved money")
		}
		return Result{}, nil, err
	}
	if r.Changed {
		b.s.now = b.time
	}
	return r, b.entries, nil
}

// post moves amount, which may be zero. Its callers have checked the balance.
func (b *batch) post(kind EntryKind, from, to Account, amount Amount, ref ID) {
	if amount == 0 {
		return
	}
	s := b.s
	if amount < 0 || (from.Kind != AccountExternal && s.balances[from] < amount) {
		panic(fmt.Sprintf("ledger: %s of %s from %s, which has %s", kind, amount, from.Kind, s.balances[from]))
	}
	s.add(from, -amount)
	s.add(to, amount)
	s.seq++
	b.entries = append(b.entries, Entry{Seq: s.seq, Time: b.time, Kind: kind, From: from, To: to, Amount: amount, Ref: ref})
}

func (s *State) add(a Account, amount Amount) {
	if s.balances[a] += amount; s.balances[a] == 0 {
		delete(s.balances, a)
	}
	if a.Peer.IsZero() {
		return
	}
	sum := s.sums[a.Peer]
	if sum == nil {
		sum = &Balances{Peer: a.Peer}
		s.sums[a.Peer] = sum
	}
	switch a.Kind {
	case AccountAvailable:
		sum.Available += amount
	case AccountReserved:
		sum.Reserved += amount
	case AccountHeld:
		sum.Held += amount
	case AccountPending:
		sum.Pending += amount
	case AccountExternal, AccountFee, AccountDispute:
	}
}

// repeated tells whether the command with this ID was applied before.
func (b *batch) repeated(id ID, cmd Command) (bool, error) {
	hash, ok := b.s.done[id]
	if !ok {
		return false, nil
	}
	content, err := contentHash(cmd)
	if err != nil {
		return false, err
	}
	if hash != content {
		return false, fmt.Errorf("%w: command %s", ErrConflict, id)
	}
	return true, nil
}

// remember makes later repetitions of the command known.
func (b *batch) remember(id ID, cmd Command) {
	b.s.done[id] = must(contentHash(cmd)) // encoded before, when it was looked up or journaled
}
