package ledger

import (
	"crypto/sha256"
	"fmt"

	"github.com/xenoserver/xeno/dht"
)

// A Command is one request to the ledger. By is who makes it, as the overlay
// authenticated it. Every command carries an ID that its author chose: a field
// named ID, or that of the document inside. Repeating a command with the same
// content changes nothing and has the same result; another content under the
// same ID is ErrConflict.
//
//sumtype:decl
type Command interface {
	kind() string
	// load decodes the document inside, if any, checking its signatures only
	// if verify is set. It needs no State.
	load(verify bool) error
}

// The commands.
type (
	// Configure sets the parameters of the ledger. It is the first command;
	// later ones may change all but Network and Corp.
	Configure struct {
		Network       string     `cbor:"network"`
		Corp          dht.PeerID `cbor:"corp"`           // XenoCorp's own identity
		FeePermille   uint32     `cbor:"fee_permille"`   // of what is paid, kept by XenoCorp
		ClaimGrace    int64      `cbor:"claim_grace"`    // seconds that a hold outlives its agreement
		CredentialTTL int64      `cbor:"credential_ttl"` // seconds
	}
	// Invite makes a one-time code known. Operators only. Note is the subject
	// of the credential to come; empty, the holder names itself.
	Invite struct {
		ID      ID         `cbor:"id"`
		By      dht.PeerID `cbor:"by"`
		Code    CodeHash   `cbor:"code"`
		Roles   []Role     `cbor:"roles"`
		Note    string     `cbor:"note"`
		Expires int64      `cbor:"expires"`
	}
	// Register redeems a code for a credential. The code is the ID.
	Register struct {
		By    dht.PeerID `cbor:"by"`
		Code  CodeHash   `cbor:"code"`
		Name  string     `cbor:"name"`
		Roles []Role     `cbor:"roles"` // none: all that the code allows
	}
	// Renew issues a fresh credential once half of the present one's time is
	// over. XenoCorp gets its first one so. Repeating it is harmless by nature.
	Renew struct {
		By dht.PeerID `cbor:"by"`
	}
	// Deposit books money that came in. Operators only.
	Deposit struct {
		ID     ID         `cbor:"id"`
		By     dht.PeerID `cbor:"by"`
		Peer   dht.PeerID `cbor:"peer"`
		Amount Amount     `cbor:"amount"`
		Note   string     `cbor:"note"`
	}
	// Withdraw books money that went out: earnings paid, a client refunded.
	// Operators only.
	Withdraw struct {
		ID     ID         `cbor:"id"`
		By     dht.PeerID `cbor:"by"`
		Peer   dht.PeerID `cbor:"peer"`
		Amount Amount     `cbor:"amount"`
		Note   string     `cbor:"note"`
	}
	// CreateOrder reserves the amount of an Order, signed by its client.
	CreateOrder struct {
		By    dht.PeerID `cbor:"by"`
		Order *Envelope  `cbor:"order"`
		doc   *Order
	}
	// CancelOrder closes an order of By.
	CancelOrder struct {
		By    dht.PeerID `cbor:"by"`
		Order ID         `cbor:"order"`
	}
	// Authorise holds the cap of an Agreement, signed by server and client.
	Authorise struct {
		By        dht.PeerID `cbor:"by"`
		Agreement *Envelope  `cbor:"agreement"`
		doc       *Agreement
	}
	// Claim presents a Receipt, signed by the server and perhaps the client.
	Claim struct {
		By      dht.PeerID `cbor:"by"`
		Receipt *Envelope  `cbor:"receipt"`
		doc     *Receipt
	}
	// Release settles a session of server By at what was claimed.
	Release struct {
		By      dht.PeerID `cbor:"by"`
		Session ID         `cbor:"session"`
	}
	// Revoke ends all credentials of Peer and closes its orders. Operators only.
	Revoke struct {
		ID   ID         `cbor:"id"`
		By   dht.PeerID `cbor:"by"`
		Peer dht.PeerID `cbor:"peer"`
		Note string     `cbor:"note"`
	}
	// Tick carries out what is due by time alone, at most maxTick things.
	Tick struct{}
)

// Verify checks the form and the signatures of the document that cmd carries,
// which Apply does not, so that they can be checked outside of the goroutine
// that owns the State, and not again in a replay. Errors wrap ErrMalformed,
// ErrBadSignature, ErrNotSigned or ErrWrongKind.
func Verify(cmd Command) error { return cmd.load(true) }

// newCommand returns an empty command of a kind, nil if there is none.
func newCommand(kind string) Command {
	switch kind {
	case "configure":
		return new(Configure)
	case "invite":
		return new(Invite)
	case "register":
		return new(Register)
	case "renew":
		return new(Renew)
	case "deposit":
		return new(Deposit)
	case "withdraw":
		return new(Withdraw)
	case "create_order":
		return new(CreateOrder)
	case "cancel_order":
		return new(CancelOrder)
	case "authorise":
		return new(Authorise)
	case "claim":
		return new(Claim)
	case "release":
		return new(Release)
	case "revoke":
		return new(Revoke)
	case "tick":
		return new(Tick)
	}
	return nil
}

func (*Configure) kind() string   { return "configure" }
func (*Invite) kind() string      { return "invite" }
func (*Register) kind() string    { return "register" }
func (*Renew) kind() string       { return "renew" }
func (*Deposit) kind() string     { return "deposit" }
func (*Withdraw) kind() string    { return "withdraw" }
func (*CreateOrder) kind() string { return "create_order" }
func (*CancelOrder) kind() string { return "cancel_order" }
func (*Authorise) kind() string   { return "authorise" }
func (*Claim) kind() string       { return "claim" }
func (*Release) kind() string     { return "release" }
func (*Revoke) kind() string      { return "revoke" }
func (*Tick) kind() string        { return "tick" }

func (c *Configure) load(bool) error {
	var v validator
	v.text("network", c.Network, 1, maxNetworkName)
	v.that(!c.Corp.IsZero(), "corp", "is missing")
	v.that(c.FeePermille <= 1000, "fee_permille", "is more than 1000")
	v.that(c.ClaimGrace >= 0 && c.ClaimGrace <= maxLifetime, "claim_grace", "is out of range")
	v.that(c.CredentialTTL > 0 && c.CredentialTTL <= maxLifetime, "credential_ttl", "is out of range")
	return v.err("configuration")
}

func (c *Invite) load(bool) error {
	var v validator
	v.that(!c.ID.IsZero(), "id", "is missing")
	v.roles(c.Roles)
	v.text("note", c.Note, 0, maxSubject)
	v.that(c.Expires > 0 && c.Expires <= maxUnix, "expires", "is out of range")
	return v.err("invitation")
}

func (c *Register) load(bool) error {
	var v validator
	v.text("name", c.Name, 1, maxSubject)
	if len(c.Roles) > 0 {
		v.roles(c.Roles)
	}
	return v.err("registration")
}

func (c *Deposit) load(bool) error  { return checkTransfer(c.ID, c.Amount, c.Note) }
func (c *Withdraw) load(bool) error { return checkTransfer(c.ID, c.Amount, c.Note) }

func checkTransfer(id ID, amount Amount, note string) error {
	var v validator
	v.that(!id.IsZero(), "id", "is missing")
	v.that(amount > 0 && amount <= MaxAmount, "amount", "is not above zero and within bounds")
	v.text("note", note, 0, maxSubject)
	return v.err("transfer")
}

func (c *Revoke) load(bool) error {
	var v validator
	v.that(!c.ID.IsZero(), "id", "is missing")
	v.text("note", c.Note, 0, maxSubject)
	return v.err("revocation")
}

func (*Renew) load(bool) error       { return nil }
func (*CancelOrder) load(bool) error { return nil }
func (*Release) load(bool) error     { return nil }
func (*Tick) load(bool) error        { return nil }

func (c *CreateOrder) load(verify bool) error {
	doc := new(Order)
	if err := openDocument(c.Order, KindOrder, doc, verify); err != nil {
		return err
	}
	if err := doc.Validate(); err != nil {
		return err
	}
	c.doc = doc
	return signedByAll(c.Order, doc.Client)
}

func (c *Authorise) load(verify bool) error {
	doc := new(Agreement)
	if err := openDocument(c.Agreement, KindAgreement, doc, verify); err != nil {
		return err
	}
	if err := doc.Validate(); err != nil {
		return err
	}
	c.doc = doc
	return signedByAll(c.Agreement, doc.Server, doc.Client)
}

func (c *Claim) load(verify bool) error {
	doc := new(Receipt)
	if err := openDocument(c.Receipt, KindReceipt, doc, verify); err != nil {
		return err
	}
	if err := doc.Validate(); err != nil {
		return err
	}
	c.doc = doc
	return signedByAll(c.Receipt, doc.Server)
}

// openDocument decodes the document in e, after verifying every signature on
// it if verify is set.
func openDocument(e *Envelope, kind Kind, doc any, verify bool) error {
	if e == nil {
		return fmt.Errorf("%w: %s is missing", ErrMalformed, kind)
	}
	if verify {
		return e.Open(kind, doc)
	}
	if e.Kind != kind {
		return fmt.Errorf("%w: %q, expected %q", ErrWrongKind, e.Kind, kind)
	}
	if err := decode(e.Payload, doc); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrMalformed, kind, err)
	}
	return nil
}

func signedByAll(e *Envelope, signers ...dht.PeerID) error {
	for _, id := range signers {
		if !e.SignedBy(id) {
			return fmt.Errorf("%w: %s by %s", ErrNotSigned, e.Kind, id)
		}
	}
	return nil
}

// contentHash identifies the content of a command without a document.
func contentHash(cmd Command) ([sha256.Size]byte, error) {
	b, err := encode(cmd)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	return sha256.Sum256(append([]byte(cmd.kind()+"\x00"), b...)), nil
}
