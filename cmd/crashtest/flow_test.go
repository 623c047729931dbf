package crashtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
)

// A step is one of the flow at which a daemon is killed.
type step string

// The steps, in order. The first ones are calls, killed while they are under
// way; from proposed on they are states of the session, as its files show them.
const (
	registering step = "registering"
	depositing  step = "depositing"
	ordering    step = "ordering"
	searching   step = "searching"
	proposed    step = "proposed"
	agreed      step = "agreed"
	authorised  step = "authorised"
	launching   step = "launching"
	running     step = "running"
	metering    step = "metering"
	stopping    step = "stopping"
	claiming    step = "claiming"
	settled     step = "settled"
)

var steps = []step{
	registering, depositing, ordering, searching, proposed, agreed, authorised,
	launching, running, metering, stopping, claiming, settled,
}

// What moves in one flow.
const (
	deposit = 10 * ledger.Unit
	budget  = 5 * ledger.Unit
	limit   = 1 * ledger.Unit
)

// A flow is a client's way through the platform, from its registration to the
// settlement of one session.
type flow struct {
	*world
	at atomic.Pointer[step] // the call under way

	bought  api.Order
	session ledger.ID
	terms   api.Terms
	image   string // directory of the Linux image; empty: a WASI module is run
	lives
}

// lives say how long what a flow sets up may last.
type lives struct {
	lease, order, grace time.Duration
	// wait leaves the session and the order to their expiry, instead of
	// stopping the one and cancelling the other.
	wait bool
	// late tells that the server's last claims may come when all is over.
	late bool
}

// long lives outlast any restart, however busy the machine is.
var long = lives{lease: 3 * time.Minute, order: 10 * time.Minute, grace: 3 * time.Minute}

// short ones end within a test.
var short = lives{lease: 5 * time.Second, order: 20 * time.Second, grace: 8 * time.Second, wait: true}

func newFlow(t *testing.T, kind string, l lives) *flow {
	t.Helper()
	return &flow{world: newWorld(t, kind, l.grace), session: newID(), lives: l}
}

func newID() (id ledger.ID) {
	_, _ = rand.Read(id[:]) // never fails
	return id
}

// mark tells the saboteur which call comes.
func (f *flow) mark(s step) { f.at.Store(&s) }

// enrol invites and registers a member, and waits until it has joined.
func (f *flow) enrol(r role, roles ...ledger.Role) error {
	m := f.members[r]
	var inv api.Invitation
	err := f.persist("invite", func(ctx context.Context) (err error) {
		inv, err = f.members[corp].api.Invite(ctx, api.InviteRequest{Subject: string(r), Roles: append(roles, ledger.RoleParticipant)})
		return err
	})
	if err != nil {
		return err
	}
	if r == client {
		f.mark(registering)
	}
	err = f.persist("register", func(ctx context.Context) error {
		_, err := m.api.Register(ctx, api.RegisterRequest{Code: inv.Code, Name: inv.Subject})
		return err
	})
	if err != nil {
		return err
	}
	return f.ready(r)
}

func (f *flow) ready(r role) error {
	return f.persist("join "+string(r), func(ctx context.Context) error {
		s, err := f.members[r].api.Status(ctx)
		if err == nil && !s.Ready {
			err = errors.New("not ready")
		}
		return err
	})
}

// prepare takes the flow to an order and a server that was found.
func (f *flow) prepare() error {
	if err := errors.Join(f.enrol(server, ledger.RoleServer), f.enrol(client, ledger.RoleClient)); err != nil {
		return err
	}
	c, id := f.members[client].api, newID()
	f.mark(depositing)
	err := f.persist("deposit", func(ctx context.Context) error {
		_, err := f.members[corp].api.Deposit(ctx, api.DepositRequest{ID: id, Peer: f.members[client].id, Amount: deposit})
		return err
	})
	if err != nil {
		return err
	}
	err = f.persist("store", func(ctx context.Context) (err error) {
		f.terms, err = f.store(ctx)
		return err
	})
	if err != nil {
		return err
	}
	id = newID()
	f.mark(ordering)
	err = f.persist("order", func(ctx context.Context) (err error) {
		f.bought, err = c.CreateOrder(ctx, api.OrderRequest{ID: id, Amount: budget, TTLSeconds: int64(f.order / time.Second)})
		return err
	})
	if err != nil {
		return err
	}
	f.mark(searching)
	return f.persist("search", func(ctx context.Context) error {
		found, err := c.Search(ctx, api.SearchRequest{Query: fmt.Sprintf("%q in environments", f.terms.Environment)})
		if err == nil && len(found.Results) != 1 {
			err = fmt.Errorf("%d servers found", len(found.Results))
		}
		return err
	})
}

// store puts what is to be run into the client's XenoStore.
func (f *flow) store(ctx context.Context) (api.Terms, error) {
	c := f.members[client].api
	if f.image != "" {
		object, err := c.StoreAddPath(ctx, f.image)
		if err != nil {
			return api.Terms{}, err
		}
		return linuxTerms(object.CID)
	}
	object, err := c.StoreAdd(ctx, "sleeper", bytes.NewReader(sleeper()))
	return api.Terms{Environment: "wasi", Image: object.CID, MemoryBytes: 64 << 20, DiskBytes: 1 << 20}, err
}

// open opens the session, stays until a receipt was sealed, and stops it.
func (f *flow) open() error {
	c := f.members[client].api
	f.mark(proposed)
	var s api.Session
	err := f.persist("run", func(ctx context.Context) (err error) {
		s, err = c.Run(ctx, api.RunRequest{
			Session: f.session, Server: f.members[server].id, Order: f.bought.ID, Cap: limit,
			DurationSeconds: int64(f.lease / time.Second), Terms: f.terms,
		}, nil)
		if known, knownErr := c.Session(ctx, f.session); knownErr == nil && known.State.Over() {
			s, err = known, nil
		}
		return err
	})
	if err != nil || s.State.Over() || f.wait {
		return err
	}
	_ = f.persist("receipt", func(context.Context) error {
		if f.receipts() > 0 || f.reached(stopping) {
			return nil
		}
		return errors.New("no receipt yet")
	})
	f.mark(stopping)
	return f.persist("stop", func(ctx context.Context) error {
		s, err := c.StopSession(ctx, f.session)
		if err == nil && !s.State.Over() {
			err = fmt.Errorf("it is %s", s.State)
		}
		return err
	})
}

// reached tells whether the flow is at the step or past it: by the call under
// way for the first steps, by the files of the session for the others.
func (f *flow) reached(s step) bool {
	bought, hosted := f.state(client, "bought"), f.state(server, "hosted")
	past := func(states []string, now string) bool { return slices.Contains(states, now) }
	switch s {
	case proposed:
		return hosted != ""
	case agreed:
		return bought != ""
	case authorised:
		return bought != "" && bought != "agreed"
	case launching:
		return hosted != "" && hosted != "proposed"
	case running:
		return past([]string{"running", "ending", "settling", "ended"}, hosted)
	case metering:
		return f.receipts() > 0
	case stopping:
		return past([]string{"ending", "settling", "ended"}, hosted)
	case claiming:
		return past([]string{"settling", "ended"}, hosted)
	case settled:
		return hosted == "ended"
	default:
		now := f.at.Load()
		return now != nil && slices.Index(steps, *now) >= slices.Index(steps, s)
	}
}

// state reads what a member has on disk about the session, as a daemon finds
// it that starts now.
func (f *flow) state(r role, side string) string {
	b, err := os.ReadFile(filepath.Join(f.members[r].cfg.Home, "sessions", side, f.session.String()+".json"))
	if err != nil {
		return ""
	}
	var file struct {
		Record struct {
			State string `json:"state"`
		} `json:"record"`
	}
	if err := json.Unmarshal(b, &file); err != nil {
		f.t.Errorf("%s session record of %s: %v", side, r, err)
	}
	return file.Record.State
}

// receipts is how many bytes of receipts the server has sealed.
func (f *flow) receipts() int64 {
	info, err := os.Stat(filepath.Join(f.members[server].cfg.Home, "sessions", "receipts", f.session.String()+".receipts"))
	if err != nil {
		return 0
	}
	return info.Size()
}
