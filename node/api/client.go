package api

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"github.com/xenoserver/xeno/ledger"
)

// ErrNoDaemon reports that nobody answers on the socket.
var ErrNoDaemon = errors.New("no daemon answers")

// A Client calls the daemon behind a socket. Its methods are those of Backend
// and return *Error for what the daemon refused, or an error that wraps
// ErrNoDaemon. They may be called at once.
type Client struct {
	socket string
	http   *http.Client
}

var _ interface {
	Market
	Sessions
	Access
	Storage
	Operator
} = (*Client)(nil)

// NewClient returns a client of the daemon that listens on socket. It does not
// connect yet.
func NewClient(socket string) *Client {
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, socket) },
		// Calls are rare and local; what is kept open only delays a shutdown.
		DisableKeepAlives: true,
	}}}
}

// Socket returns the path of the daemon's socket.
func (c *Client) Socket() string { return c.socket }

// Status implements Participant.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodGet, "/v1/status", nil)
}

// Register implements Participant.
func (c *Client) Register(ctx context.Context, req RegisterRequest) (Credential, error) {
	return call[Credential](ctx, c, http.MethodPost, "/v1/register", req)
}

// Account implements Market.
func (c *Client) Account(ctx context.Context) (Account, error) {
	return call[Account](ctx, c, http.MethodGet, "/v1/account", nil)
}

// Search implements Market.
func (c *Client) Search(ctx context.Context, req SearchRequest) (SearchAnswer, error) {
	return call[SearchAnswer](ctx, c, http.MethodPost, "/v1/search", req)
}

// SearchAll implements Market. found may be nil.
func (c *Client) SearchAll(ctx context.Context, req SearchRequest, found func(Result)) (SearchAnswer, error) {
	resp, err := c.doJSON(ctx, http.MethodPost, "/v1/search/all", req)
	if err != nil {
		return SearchAnswer{}, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLine)
	for n := 0; n < maxFound && lines.Scan(); n++ {
		var line SearchLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return SearchAnswer{}, c.lost(err)
		}
		switch {
		case line.Error != nil:
			return SearchAnswer{}, line.Error
		case line.Answer != nil:
			return *line.Answer, nil
		case line.Result != nil && found != nil:
			found(*line.Result)
		}
	}
	return SearchAnswer{}, c.lost(cmp.Or(lines.Err(), io.ErrUnexpectedEOF))
}

// Place implements Market.
func (c *Client) Place(ctx context.Context, req PlaceRequest) (PlaceAnswer, error) {
	return call[PlaceAnswer](ctx, c, http.MethodPost, "/v1/place", req)
}

// CreateOrder implements Market.
func (c *Client) CreateOrder(ctx context.Context, req OrderRequest) (Order, error) {
	return call[Order](ctx, c, http.MethodPost, "/v1/orders", req)
}

// Orders implements Market.
func (c *Client) Orders(ctx context.Context) ([]Order, error) {
	list, err := call[OrderList](ctx, c, http.MethodGet, "/v1/orders", nil)
	return list.Orders, err
}

// Order returns one order.
func (c *Client) Order(ctx context.Context, id ledger.ID) (Order, error) {
	return call[Order](ctx, c, http.MethodGet, "/v1/orders/"+id.String(), nil)
}

// CancelOrder implements Market.
func (c *Client) CancelOrder(ctx context.Context, id ledger.ID) (Order, error) {
	return call[Order](ctx, c, http.MethodPost, "/v1/orders/"+id.String()+"/cancel", nil)
}

// Sessions implements Sessions.
func (c *Client) Sessions(ctx context.Context) ([]Session, error) {
	list, err := call[SessionList](ctx, c, http.MethodGet, "/v1/sessions", nil)
	return list.Sessions, err
}

// Session implements Sessions.
func (c *Client) Session(ctx context.Context, id ledger.ID) (Session, error) {
	return call[Session](ctx, c, http.MethodGet, "/v1/sessions/"+id.String(), nil)
}

// StopSession implements Sessions.
func (c *Client) StopSession(ctx context.Context, id ledger.ID) (Session, error) {
	return call[Session](ctx, c, http.MethodPost, "/v1/sessions/"+id.String()+"/stop", nil)
}

// ExtendSession implements Sessions.
func (c *Client) ExtendSession(ctx context.Context, id ledger.ID, req ExtendRequest) (Session, error) {
	return call[Session](ctx, c, http.MethodPost, "/v1/sessions/"+id.String()+"/extend", req)
}

// Logs implements Access.
func (c *Client) Logs(ctx context.Context, id ledger.ID, limit int) (Logs, error) {
	return call[Logs](ctx, c, http.MethodGet, "/v1/sessions/"+id.String()+"/logs?limit="+strconv.Itoa(limit), nil)
}

// Usage implements Access.
func (c *Client) Usage(ctx context.Context, id ledger.ID) (Usage, error) {
	return call[Usage](ctx, c, http.MethodGet, "/v1/sessions/"+id.String()+"/usage", nil)
}

// Receipts implements Access.
func (c *Client) Receipts(ctx context.Context, id ledger.ID) ([]Receipt, error) {
	list, err := call[ReceiptList](ctx, c, http.MethodGet, "/v1/sessions/"+id.String()+"/receipts", nil)
	return list.Receipts, err
}

// Invite implements Operator.
func (c *Client) Invite(ctx context.Context, req InviteRequest) (Invitation, error) {
	return call[Invitation](ctx, c, http.MethodPost, "/v1/corp/invitations", req)
}

// Deposit implements Operator.
func (c *Client) Deposit(ctx context.Context, req DepositRequest) (Account, error) {
	return call[Account](ctx, c, http.MethodPost, "/v1/corp/deposits", req)
}

// Revoke implements Operator.
func (c *Client) Revoke(ctx context.Context, req RevokeRequest) (RevokeAnswer, error) {
	return call[RevokeAnswer](ctx, c, http.MethodPost, "/v1/corp/revocations", req)
}

// Accounts implements Operator.
func (c *Client) Accounts(ctx context.Context) (Books, error) {
	return call[Books](ctx, c, http.MethodGet, "/v1/corp/accounts", nil)
}

// Journal implements Operator.
func (c *Client) Journal(ctx context.Context, after uint64, limit int) ([]Entry, error) {
	path := fmt.Sprintf("/v1/corp/journal?after=%d&limit=%d", after, limit)
	list, err := call[EntryList](ctx, c, http.MethodGet, path, nil)
	return list.Entries, err
}

// StoreAdd implements Storage.
func (c *Client) StoreAdd(ctx context.Context, name string, r io.Reader) (Object, error) {
	var v Object
	resp, err := c.do(ctx, http.MethodPost, "/v1/objects?name="+url.QueryEscape(name), typeBytes, r)
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	err = decodeAnswer(resp.Body, &v)
	return v, err
}

// StoreAddPath implements Storage.
func (c *Client) StoreAddPath(ctx context.Context, path string) (Object, error) {
	return call[Object](ctx, c, http.MethodPost, "/v1/objects/path", AddPathRequest{path})
}

// StoreGet implements Storage.
func (c *Client) StoreGet(ctx context.Context, cid string) (io.ReadCloser, error) {
	resp, err := c.do(ctx, http.MethodGet, "/v1/objects/"+url.PathEscape(cid), "", nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Run implements Sessions. progress may be nil.
func (c *Client) Run(ctx context.Context, req RunRequest, progress func(RunEvent)) (Session, error) {
	resp, err := c.doJSON(ctx, http.MethodPost, "/v1/sessions", req)
	if err != nil {
		return Session{}, err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer))
	for range maxEvents {
		var e RunEvent
		if err := dec.Decode(&e); err != nil {
			return Session{}, c.lost(err)
		}
		switch {
		case e.Error != nil:
			return Session{}, e.Error
		case e.Session != nil:
			if progress != nil {
				progress(e)
			}
			return *e.Session, nil
		case progress != nil:
			progress(e)
		}
	}
	return Session{}, fmt.Errorf("api: more than %d events without an end", maxEvents)
}

// Connect implements Access.
func (c *Client) Connect(ctx context.Context, id ledger.ID, port int) (net.Conn, error) {
	conn, err := dial(ctx, c.socket)
	if err != nil {
		return nil, c.lost(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	up, err := c.upgrade(ctx, conn, fmt.Sprintf("/v1/sessions/%s/connect?port=%d", id, port))
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return up, nil
}

// upgrade asks on conn to turn it into what path names.
func (c *Client) upgrade(ctx context.Context, conn net.Conn, path string) (net.Conn, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://xeno"+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", upgradeTCP)
	if err := req.Write(conn); err != nil {
		return nil, c.lost(err)
	}
	buffered := bufio.NewReader(conn)
	resp, err := http.ReadResponse(buffered, req)
	if err != nil {
		return nil, c.lost(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer resp.Body.Close()
		return nil, answerError(resp)
	}
	return &halfCloser{Conn: conn, r: buffered}, nil
}

// WaitStatus asks until ok holds, the daemon reports something final, or ctx
// is done. A daemon that does not answer yet is waited for.
func (c *Client) WaitStatus(ctx context.Context, ok func(Status) bool) (Status, error) {
	for {
		s, err := c.Status(ctx)
		if err == nil && ok(s) {
			return s, nil
		}
		if err != nil && !errors.Is(err, ErrNoDaemon) {
			return s, err
		}
		if waitErr := pause(ctx); waitErr != nil {
			return s, errors.Join(err, waitErr)
		}
	}
}

// WaitSession asks until ok holds for the session or ctx is done.
func (c *Client) WaitSession(ctx context.Context, id ledger.ID, ok func(Session) bool) (Session, error) {
	for {
		s, err := c.Session(ctx, id)
		if err != nil || ok(s) {
			return s, err
		}
		if err := pause(ctx); err != nil {
			return s, err
		}
	}
}

func pause(ctx context.Context) error {
	t := time.NewTimer(pollInterval)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// call sends req (nil: no body) as JSON and reads the answer.
func call[T any](ctx context.Context, c *Client, method, path string, req any) (T, error) {
	var v T
	resp, err := c.doJSON(ctx, method, path, req)
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	err = decodeAnswer(resp.Body, &v)
	return v, err
}

// doJSON is do with a value as the body; nil: none.
func (c *Client) doJSON(ctx context.Context, method, path string, req any) (*http.Response, error) {
	if req == nil {
		return c.do(ctx, method, path, "", nil)
	}
	text, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	return c.do(ctx, method, path, typeJSON, bytes.NewReader(text))
}

// do sends a request and returns the answer if it is a success.
func (c *Client) do(ctx context.Context, method, path, mediaType string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://xeno"+path, body)
	if err != nil {
		return nil, err
	}
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.lost(err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, answerError(resp)
	}
	return resp, nil
}

// lost explains an error of the connection.
func (c *Client) lost(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		err = urlErr.Err
	}
	return fmt.Errorf("%w at %s: %w", ErrNoDaemon, filepath.Clean(c.socket), err)
}

// answerError reads the error in an answer that is not a success.
func answerError(resp *http.Response) error {
	var answer ErrorAnswer
	if err := decodeAnswer(resp.Body, &answer); err != nil || answer.Error == nil {
		return Errorf(CodeInternal, "the daemon answered %s", resp.Status)
	}
	return answer.Error
}

func decodeAnswer(r io.Reader, into any) error {
	if err := json.NewDecoder(io.LimitReader(r, maxAnswer)).Decode(into); err != nil {
		return fmt.Errorf("api: answer: %w", err)
	}
	return nil
}
