package ledger

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/xenoserver/xeno/dht"
)

const testStart = 1_800_000_000

// A journaled ledger is a State with the journal that a shell would keep.
type journaled struct {
	t       testing.TB
	state   *State
	now     time.Time
	journal []RawRecord
	joined  byte // peers that joined
}

func newJournaled(t testing.TB, fee uint32) *journaled {
	t.Helper()
	j := &journaled{t: t, state: NewState(), now: time.Unix(testStart, 0)}
	j.must(&Configure{Network: "test", Corp: testPeer(1), FeePermille: fee, ClaimGrace: 900, CredentialTTL: 400 * 24 * 3600})
	return j
}

// apply does what a shell does: what is due first, then the command; what
// changed goes to the journal.
func (j *journaled) apply(cmd Command) (Result, error) {
	j.t.Helper()
	if err := Verify(cmd); err != nil {
		return Result{}, err
	}
	for {
		due, ok := j.state.NextExpiry()
		if !ok || due.After(j.now) {
			break
		}
		if _, _, err := j.state.Apply(j.now, &CancelOrder{}); !errors.Is(err, ErrExpiryDue) {
			j.t.Fatalf("command while something is due: %v", err)
		}
		if r, err := j.once(&Tick{}); err != nil || !r.Changed {
			j.t.Fatalf("tick at %v with %v due: %+v, %v", j.now, due, r, err)
		}
	}
	return j.once(cmd)
}

func (j *journaled) once(cmd Command) (Result, error) {
	j.t.Helper()
	before := j.state.Seq()
	r, entries, err := j.state.Apply(j.now, cmd)
	if err := j.state.Check(); err != nil {
		j.t.Fatalf("after %s: %v", cmd.kind(), err)
	}
	if a := j.state.Accounts(); a.Sum() != 0 {
		j.t.Fatalf("after %s the accounts add up to %s", cmd.kind(), a.Sum())
	}
	if (err != nil || !r.Changed) && (len(entries) > 0 || j.state.Seq() != before) {
		j.t.Fatalf("%s changed nothing but made %d entries", cmd.kind(), len(entries))
	}
	for i, e := range entries {
		if e.Seq != before+uint64(i)+1 || e.Amount <= 0 {
			j.t.Fatalf("entry %+v after %d", e, before)
		}
	}
	if err == nil && r.Changed {
		record := Record{Seq: uint64(len(j.journal)) + 1, Time: j.state.Now().UnixNano(), Command: cmd, Entries: entries}
		raw, err := record.Raw()
		if err != nil {
			j.t.Fatal(err)
		}
		j.journal = append(j.journal, raw)
	}
	return r, err
}

func (j *journaled) must(cmd Command) Result {
	j.t.Helper()
	r, err := j.apply(cmd)
	if err != nil {
		j.t.Fatalf("%s: %v", cmd.kind(), err)
	}
	return r
}

func (j *journaled) join(n byte, roles ...Role) {
	j.t.Helper()
	j.joined++
	code := HashCode(fmt.Sprint("code ", j.joined))
	j.must(&Invite{ID: ID{0xff, 0xff, 0xff, j.joined}, By: testPeer(1), Code: code, Roles: roles, Expires: j.now.Unix() + 3600})
	j.must(&Register{By: testPeer(n), Code: code, Name: fmt.Sprint("peer ", n)})
}

// replay rebuilds a state from the first n records, through their bytes.
func (j *journaled) replay(n int) *State {
	j.t.Helper()
	s := NewState()
	for _, raw := range j.journal[:n] {
		record, err := raw.Record()
		if err != nil {
			j.t.Fatal(err)
		}
		r, entries, err := s.Apply(time.Unix(0, record.Time), record.Command)
		if err != nil || !r.Changed {
			j.t.Fatalf("replay of record %d: %+v, %v", record.Seq, r, err)
		}
		again := must((&Record{Seq: raw.Seq, Time: raw.Time, Command: record.Command, Entries: entries}).Raw())
		if !reflect.DeepEqual(again, raw) {
			j.t.Fatalf("record %d: %x, in the replay %x", raw.Seq, raw, again)
		}
	}
	if err := s.Check(); err != nil {
		j.t.Fatalf("after the replay of %d records: %v", n, err)
	}
	return s
}

// same compares two states in everything but the layout of the heap, which
// depends on when stale items were looked at.
func same(a, b *State) bool {
	x, y := *a, *b
	x.due, y.due = dueHeap{}, dueHeap{}
	return reflect.DeepEqual(x, y)
}

// A model is the ledger in closed form: no entries, no heap, no states, only
// what was agreed, and sums over all of it.
type model struct {
	fee      Amount
	in       map[dht.PeerID]Amount // deposits less withdrawals
	orders   []*modelOrder
	sessions []*modelSession
}

type modelOrder struct {
	doc       Order
	env       *Envelope
	cancelled bool
}

type modelSession struct {
	doc     Agreement // newest revision
	env     *Envelope
	order   *modelOrder
	started int64
	last    *Receipt
	lastEnv *Envelope
	ended   bool
}

func (o *modelOrder) open(now int64) bool { return !o.cancelled && now < o.doc.Expires }

func (s *modelSession) settled(now int64) bool { return s.ended || now >= s.doc.Expires+900 }

func (s *modelSession) claimed() Amount {
	if s.last == nil {
		return 0
	}
	return s.last.Amount
}

// of returns what the sessions of an order bind.
func (m *model) of(o *modelOrder, now int64) (held, spent Amount) {
	for _, s := range m.sessions {
		switch {
		case s.order != o:
		case s.settled(now):
			spent += s.claimed()
		default:
			held += s.doc.Cap
		}
	}
	return held, spent
}

func (m *model) balances(peer dht.PeerID, now int64) Balances {
	b := Balances{Peer: peer, Available: m.in[peer]}
	for _, o := range m.orders {
		if o.doc.Client != peer {
			continue
		}
		held, spent := m.of(o, now)
		if o.open(now) {
			b.Available -= o.doc.Amount
			b.Reserved += o.doc.Amount - held - spent
		} else {
			b.Available -= held + spent
		}
	}
	for _, s := range m.sessions {
		switch {
		case s.settled(now) && s.doc.Server == peer:
			b.Available += s.claimed() - s.claimed()*m.fee/1000
		case s.settled(now):
		default:
			if s.doc.Client == peer {
				b.Held += s.doc.Cap - s.claimed()
			}
			if s.doc.Server == peer {
				b.Pending += s.claimed()
			}
		}
	}
	return b
}

// A machine drives a ledger and its model with random commands of few parties
// and few IDs, so that they collide.
type machine struct {
	*journaled
	model *model
	n     uint16 // of the next ID
}

var (
	modelClients = []byte{2, 3}
	modelServers = []byte{4, 5}
)

func newMachine(t testing.TB, fee uint32) *machine {
	t.Helper()
	m := &machine{journaled: newJournaled(t, fee), model: &model{fee: Amount(fee), in: make(map[dht.PeerID]Amount)}}
	m.must(&Renew{By: testPeer(1)})
	for _, n := range modelClients {
		m.join(n, RoleClient)
	}
	for _, n := range modelServers {
		m.join(n, RoleServer, RoleClient)
	}
	return m
}

func (m *machine) id() ID {
	m.n++
	return ID{byte(m.n), byte(m.n >> 8), 1}
}

// expect applies cmd twice, the second time as a repetition, and compares
// whether it is accepted with what the model says.
func (m *machine) expect(t *rapid.T, ok bool, cmd Command) {
	first, err := m.apply(cmd)
	if (err == nil) != ok {
		t.Fatalf("%s: %v, the model says %v", cmd.kind(), err, ok)
	}
	if err != nil {
		return
	}
	again, err := m.apply(cmd)
	if err != nil || again.Changed {
		t.Fatalf("%s repeated: %+v, %v", cmd.kind(), again, err)
	}
	first.Changed = false
	if cmd.kind() != "authorise" && !reflect.DeepEqual(first, again) {
		t.Fatalf("%s: %+v, repeated: %+v", cmd.kind(), first, again)
	}
}

func (m *machine) compare(t *rapid.T) {
	for due, ok := m.state.NextExpiry(); ok && !due.After(m.now); due, ok = m.state.NextExpiry() {
		if _, err := m.once(&Tick{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range append(modelClients, modelServers...) {
		got, want := m.state.Balances(testPeer(n)), m.model.balances(testPeer(n), m.now.Unix())
		got.Name = ""
		if got != want {
			t.Fatalf("balances of peer %d:\ngot   %+v\nmodel %+v", n, got, want)
		}
	}
}

func (m *machine) deposit(t *rapid.T) {
	n := rapid.SampledFrom(append(modelClients, modelServers...)).Draw(t, "peer")
	amount := Amount(rapid.Int64Range(1, 1000).Draw(t, "amount"))
	m.expect(t, true, &Deposit{ID: m.id(), By: testPeer(1), Peer: testPeer(n), Amount: amount})
	m.model.in[testPeer(n)] += amount
}

func (m *machine) withdraw(t *rapid.T) {
	peer := testPeer(rapid.SampledFrom(append(modelClients, modelServers...)).Draw(t, "peer"))
	amount := Amount(rapid.Int64Range(1, 500).Draw(t, "amount"))
	ok := m.model.balances(peer, m.now.Unix()).Available >= amount
	m.expect(t, ok, &Withdraw{ID: m.id(), By: testPeer(1), Peer: peer, Amount: amount})
	if ok {
		m.model.in[peer] -= amount
	}
}

func (m *machine) createOrder(t *rapid.T) {
	n := rapid.SampledFrom(modelClients).Draw(t, "client")
	doc := Order{
		Network: "test", ID: m.id(), Client: testPeer(n), Amount: Amount(rapid.Int64Range(1, 800).Draw(t, "amount")),
		Issued: m.now.Unix(), Expires: m.now.Unix() + rapid.Int64Range(1, 7200).Draw(t, "ttl"),
		MaxCap: Amount(rapid.SampledFrom([]int64{0, 0, 100}).Draw(t, "max_cap")),
	}
	if rapid.IntRange(0, 3).Draw(t, "constrained") == 0 {
		doc.Servers = []dht.PeerID{testPeer(modelServers[0])}
	}
	o := &modelOrder{doc: doc, env: must(Seal(KindOrder, &doc, testKey(n)))}
	ok := m.model.balances(doc.Client, m.now.Unix()).Available >= doc.Amount
	m.expect(t, ok, &CreateOrder{By: doc.Client, Order: o.env})
	if ok {
		m.model.orders = append(m.model.orders, o)
	}
}

// order draws one; nil where there is none.
func (m *machine) order(t *rapid.T) *modelOrder { return draw(t, "order", m.model.orders) }

// session draws one; nil where there is none.
func (m *machine) session(t *rapid.T) *modelSession { return draw(t, "session", m.model.sessions) }

func draw[T any](t *rapid.T, label string, list []*T) *T {
	if len(list) == 0 {
		return nil
	}
	return rapid.SampledFrom(list).Draw(t, label)
}

// old tells whether the state may have forgotten what expired then.
func (m *machine) old(expires int64) bool { return m.now.Unix() > expires+6*24*3600 }

func (m *machine) cancelOrder(t *rapid.T) {
	o := m.order(t)
	if o == nil || m.old(o.doc.Expires) {
		return
	}
	m.expect(t, true, &CancelOrder{By: o.doc.Client, Order: o.doc.ID})
	o.cancelled = true
}

func (m *machine) authorise(t *rapid.T) {
	o := m.order(t)
	if o == nil {
		return
	}
	now := m.now.Unix()
	n := rapid.SampledFrom(modelServers).Draw(t, "server")
	doc := Agreement{
		Network: "test", ID: m.id(), Client: o.doc.Client, Server: testPeer(n), Order: LinkTo(o.env),
		Terms: Terms{Environment: "wasi", CPUs: 1, MemoryBytes: 1 << 30, NetworkRate: 1000},
		Rates: Rates{Session: 3600, CPU: 7200, Memory: 1800, Network: 1 << 30},
		Cap:   Amount(rapid.Int64Range(1, 300).Draw(t, "cap")), Issued: now,
		Expires: now + rapid.Int64Range(1, 3600).Draw(t, "ttl"),
	}
	m.sign(t, o, doc, nil)
}

func (m *machine) amend(t *rapid.T) {
	s := m.session(t)
	if s == nil {
		return
	}
	doc := s.doc
	doc.Revision, doc.Prev = doc.Revision+1, LinkTo(s.env)
	doc.Cap += Amount(rapid.Int64Range(0, 100).Draw(t, "more"))
	doc.Expires += rapid.Int64Range(0, 1000).Draw(t, "longer")
	m.sign(t, s.order, doc, s)
}

// sign authorises a new agreement, or one that amends s.
func (m *machine) sign(t *rapid.T, o *modelOrder, doc Agreement, s *modelSession) {
	now, grown := m.now.Unix(), doc.Cap
	if s != nil {
		grown -= s.doc.Cap
	}
	held, spent := m.model.of(o, now)
	ok := o.open(now) && doc.Expires > now && o.doc.Amount-held-spent >= grown && (s == nil || !s.settled(now)) &&
		(o.doc.MaxCap == 0 || doc.Cap <= o.doc.MaxCap) && (len(o.doc.Servers) == 0 || o.doc.Servers[0] == doc.Server)
	e := must(Seal(KindAgreement, &doc, testKey(m.number(doc.Server))))
	e.Countersign(testKey(m.number(doc.Client)))
	m.expect(t, ok, &Authorise{By: doc.Client, Agreement: e})
	switch {
	case !ok:
	case s == nil:
		m.model.sessions = append(m.model.sessions, &modelSession{doc: doc, env: e, order: o, started: now})
	default:
		s.doc, s.env = doc, e
	}
}

func (m *machine) number(peer dht.PeerID) byte {
	for n := byte(1); n < 6; n++ {
		if testPeer(n) == peer {
			return n
		}
	}
	m.t.Fatalf("unknown peer %s", peer)
	return 0
}

func (m *machine) claim(t *rapid.T) {
	s := m.session(t)
	if s == nil || m.old(s.doc.Expires) {
		return
	}
	now := m.now.Unix()
	r := &Receipt{
		Network: "test", Agreement: LinkTo(s.env), Server: s.doc.Server, Seq: 1,
		From: s.started * 1000, To: min(now, s.doc.Expires) * 1000,
	}
	elapsed := uint64(max(0, r.To-r.From)) * 1e6
	fraction := rapid.Uint64Range(0, 110).Draw(t, "percent")
	r.Usage = Usage{RunNanos: elapsed / 100 * fraction, CPUNanos: elapsed / 200 * fraction}
	ok := !s.settled(now) && r.Usage.RunNanos <= elapsed+elapsed/1000+1e9
	if s.last != nil {
		gap := rapid.Uint64Range(1, 3).Draw(t, "gap")
		r.Seq, r.Prev = s.last.Seq+gap, LinkTo(s.lastEnv)
		ok = ok && r.To >= s.last.To && r.Usage.RunNanos >= s.last.Usage.RunNanos
	}
	r.Readings = []Reading{{Source: "ebpf", Usage: r.Usage}, {Source: "cgroup", Usage: r.Usage}}
	r.Amount = min(s.doc.Rates.Cost(&s.doc.Terms, &r.Usage), s.doc.Cap)
	if s.last != nil && r.Amount < s.last.Amount {
		ok = false
	}
	if r.Final = rapid.IntRange(0, 3).Draw(t, "final") == 0; r.Final {
		r.Reason = ReasonDone
	}
	e := must(Seal(KindReceipt, r, testKey(m.number(s.doc.Server))))
	if rapid.Bool().Draw(t, "countersigned") {
		e.Countersign(testKey(m.number(s.doc.Client)))
	}
	m.expect(t, ok, &Claim{By: s.doc.Server, Receipt: e})
	if ok {
		s.last, s.lastEnv, s.ended = r, e, r.Final
	}
}

// stale claims the newest receipt again, in any order with others.
func (m *machine) stale(t *rapid.T) {
	s := m.session(t)
	if s == nil || s.last == nil || m.old(s.doc.Expires) {
		return
	}
	if r, err := m.apply(&Claim{By: s.doc.Server, Receipt: s.lastEnv}); err != nil || r.Changed {
		t.Fatalf("claimed again: %+v, %v", r, err)
	}
}

func (m *machine) release(t *rapid.T) {
	s := m.session(t)
	if s == nil || m.old(s.doc.Expires) {
		return
	}
	m.expect(t, true, &Release{By: s.doc.Server, Session: s.doc.ID})
	if !s.settled(m.now.Unix()) {
		s.ended = true
	}
}

func (m *machine) pass(t *rapid.T) {
	d := rapid.SampledFrom([]time.Duration{time.Second, time.Minute, 20 * time.Minute, time.Hour, 8 * 24 * time.Hour}).Draw(t, "time")
	if m.now.Add(d).Unix() <= testStart+350*24*3600 { // credentials last a year
		m.now = m.now.Add(d)
	}
}

func (m *machine) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"": func(t *rapid.T) { m.compare(t) }, "deposit": m.deposit, "withdraw": m.withdraw, "createOrder": m.createOrder,
		"cancelOrder": m.cancelOrder, "authorise": m.authorise, "authorise2": m.authorise, "amend": m.amend, "claim": m.claim,
		"claim2": m.claim, "stale": m.stale, "release": m.release, "pass": m.pass,
	}
}

// TestAgainstModel holds the ledger to its closed form after every command,
// and replays a random prefix of the journal and all of it.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMachine(t, uint32(rapid.SampledFrom([]int{0, 20, 1000}).Draw(rt, "fee")))
		rt.Repeat(m.actions())
		if replayed := m.replay(len(m.journal)); !same(replayed, m.state) {
			rt.Fatalf("replay of %d records: another state", len(m.journal))
		}
		m.replay(rapid.IntRange(0, len(m.journal)).Draw(rt, "prefix"))
		// At the end of time nothing is reserved, and after that nothing remembered.
		for _, years := range []int{20, 1, 1} {
			m.now = m.now.AddDate(years, 0, 0)
			m.compare(rt)
		}
		if a := m.state.Accounts(); len(m.state.due.items) > 0 || len(m.state.sessions)+len(m.state.orders)+len(m.state.agreed) > 0 {
			rt.Fatalf("at the end of time: %d things due, %d sessions, %+v", len(m.state.due.items), len(m.state.sessions), a)
		}
	})
}
