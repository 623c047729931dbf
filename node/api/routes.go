package api

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"time"

	"github.com/xenoserver/xeno/ledger"
)

// ErrorAnswer is the body of every answer that is not a success.
type ErrorAnswer struct {
	// Error says what went wrong.
	Error *Error `json:"error"`
}

// OrderList is a list of orders.
type OrderList struct {
	// Orders are the orders, newest first.
	Orders []Order `json:"orders"`
}

// SessionList is a list of sessions.
type SessionList struct {
	// Sessions are the sessions, newest first.
	Sessions []Session `json:"sessions"`
}

// ReceiptList is a chain of receipts.
type ReceiptList struct {
	// Receipts are the receipts, oldest first.
	Receipts []Receipt `json:"receipts"`
}

// EntryList is a page of the journal.
type EntryList struct {
	// Entries are the entries, oldest first.
	Entries []Entry `json:"entries"`
}

// The media types of bodies that are not JSON.
const (
	typeJSON   = "application/json"
	typeLines  = "application/x-ndjson"
	typeBytes  = "application/octet-stream"
	upgradeTCP = "tcp"
)

// A route is one call: how it is served, and what openapi.json says of it.
type route struct {
	method, path string
	id           string // operationId
	summary      string
	params       []param
	request      reflect.Type // nil: no JSON body
	requestType  string       // media type of a body that is not JSON
	response     reflect.Type // nil: not JSON
	responseType string       // media type of an answer that is not JSON objects
	timeout      time.Duration
	handle       http.HandlerFunc
}

// A param is one parameter of a route, in its path or query.
type param struct {
	name, about string
	inQuery     bool
	required    bool
	schema      string // string, integer or id
}

func id(what string) param {
	return param{name: "id", about: "ID of the " + what, required: true, schema: "id"}
}

// routes returns every call over b.
func routes(b Backend) []route {
	return append(append(participantRoutes(b), sessionRoutes(b)...), operatorRoutes(b)...)
}

func participantRoutes(b Backend) []route {
	return []route{
		get("/v1/status", "status", "the daemon and its place in the network", b.Status),
		post("/v1/register", "register", "present an invitation code to XenoCorp", b.Register),
		get("/v1/account", "account", "the own balances at XenoCorp", b.Account),
		post("/v1/search", "search", "look for servers", checkedSearch(b)),
		{
			method: http.MethodPost, path: "/v1/search/all", id: "searchAll", summary: "look for every server that fits; answers one SearchLine a line as they are found",
			request: reflect.TypeFor[SearchRequest](), response: reflect.TypeFor[SearchLine](), responseType: typeLines,
			timeout: searchAllTimeout, handle: searchAll(b),
		},
		post("/v1/place", "place", "find machines with constraints among them", b.Place),
		get("/v1/orders", "listOrders", "the own purchase orders", func(ctx context.Context) (OrderList, error) {
			orders, err := b.Orders(ctx)
			return OrderList{orders}, err
		}),
		post("/v1/orders", "createOrder", "ring-fence money for sessions", b.CreateOrder),
		byID(http.MethodGet, "/v1/orders/{id}", "showOrder", "one purchase order", "order", func(ctx context.Context, id ledger.ID) (Order, error) {
			return findOrder(ctx, b, id)
		}),
		byID(http.MethodPost, "/v1/orders/{id}/cancel", "cancelOrder", "return what no session holds", "order", b.CancelOrder),
		{
			method: http.MethodPost, path: "/v1/objects", id: "storeAdd", summary: "store a file",
			params:      []param{{name: "name", about: "label of the file", inQuery: true, schema: "string"}},
			requestType: typeBytes, response: reflect.TypeFor[Object](), timeout: objectTimeout, handle: storeAdd(b),
		},
		withTimeout(objectTimeout, post("/v1/objects/path", "storeAddPath", "store a file or directory of this machine",
			func(ctx context.Context, req AddPathRequest) (Object, error) { return b.StoreAddPath(ctx, req.Path) })),
		{
			method: http.MethodGet, path: "/v1/objects/{cid}", id: "storeGet", summary: "fetch a file from whoever has it",
			params:       []param{{name: "cid", about: "root CID of the file", required: true, schema: "string"}},
			responseType: typeBytes, timeout: objectTimeout, handle: storeGet(b),
		},
	}
}

func sessionRoutes(b Backend) []route {
	limit := param{name: "limit", about: "most bytes of each output, 0 to " + strconv.Itoa(maxLogBytes), inQuery: true, schema: "integer"}
	port := param{name: "port", about: "TCP port of the environment", inQuery: true, required: true, schema: "integer"}
	return []route{
		get("/v1/sessions", "listSessions", "sessions bought or hosted", func(ctx context.Context) (SessionList, error) {
			sessions, err := b.Sessions(ctx)
			return SessionList{sessions}, err
		}),
		{
			method: http.MethodPost, path: "/v1/sessions", id: "run", summary: "lease an environment; answers one RunEvent a line",
			request: reflect.TypeFor[RunRequest](), response: reflect.TypeFor[RunEvent](), responseType: typeLines,
			timeout: runTimeout, handle: run(b),
		},
		byID(http.MethodGet, "/v1/sessions/{id}", "showSession", "one session", "session", b.Session),
		withTimeout(runTimeout, byID(http.MethodPost, "/v1/sessions/{id}/stop", "stopSession", "end it and settle", "session", b.StopSession)),
		{
			method: http.MethodPost, path: "/v1/sessions/{id}/extend", id: "extendSession", summary: "move its end and cap outwards",
			params: []param{id("session")}, request: reflect.TypeFor[ExtendRequest](), response: reflect.TypeFor[Session](),
			timeout: callTimeout, handle: extend(b),
		},
		{
			method: http.MethodGet, path: "/v1/sessions/{id}/logs", id: "logs", summary: "its newest output; to follow it, ask again and show what comes after the part already seen",
			params: []param{id("session"), limit}, response: reflect.TypeFor[Logs](), timeout: callTimeout, handle: logs(b),
		},
		byID(http.MethodGet, "/v1/sessions/{id}/usage", "usage", "its newest meter readings", "session", b.Usage),
		byID(http.MethodGet, "/v1/sessions/{id}/receipts", "receipts", "its receipts", "session", func(ctx context.Context, id ledger.ID) (ReceiptList, error) {
			receipts, err := b.Receipts(ctx, id)
			return ReceiptList{receipts}, err
		}),
		{
			method: http.MethodGet, path: "/v1/sessions/{id}/connect", id: "connect",
			summary: "turn this connection into one to a TCP port of the environment (HTTP upgrade to tcp)",
			params:  []param{id("session"), port}, responseType: upgradeTCP, handle: connect(b),
		},
	}
}

func operatorRoutes(b Backend) []route {
	return []route{
		post("/v1/corp/invitations", "invite", "make a one-time invitation code", b.Invite),
		post("/v1/corp/deposits", "deposit", "credit money from outside", b.Deposit),
		post("/v1/corp/revocations", "revoke", "end credentials before their time", b.Revoke),
		get("/v1/corp/accounts", "accounts", "every account and their sum", b.Accounts),
		{
			method: http.MethodGet, path: "/v1/corp/journal", id: "journal", summary: "a page of the journal",
			params: []param{
				{name: "after", about: "number of the last entry already seen", inQuery: true, schema: "integer"},
				{name: "limit", about: "most entries, 1 to " + strconv.Itoa(maxJournalPage), inQuery: true, schema: "integer"},
			},
			response: reflect.TypeFor[EntryList](), timeout: callTimeout, handle: journal(b),
		},
	}
}

// get makes the route of a call without arguments.
func get[T any](path, id, summary string, f func(context.Context) (T, error)) route {
	return route{
		method: http.MethodGet, path: path, id: id, summary: summary, response: reflect.TypeFor[T](), timeout: callTimeout,
		handle: func(w http.ResponseWriter, r *http.Request) {
			v, err := f(r.Context())
			writeJSON(w, v, err)
		},
	}
}

// post makes the route of a call with a JSON body.
func post[Q checker, T any](path, id, summary string, f func(context.Context, Q) (T, error)) route {
	return route{
		method: http.MethodPost, path: path, id: id, summary: summary,
		request: reflect.TypeFor[Q](), response: reflect.TypeFor[T](), timeout: callTimeout,
		handle: func(w http.ResponseWriter, r *http.Request) {
			var req Q
			if !readRequest(w, r, &req) {
				return
			}
			v, err := f(r.Context(), req)
			writeJSON(w, v, err)
		},
	}
}

// byID makes the route of a call that names an order or session in its path.
func byID[T any](method, path, opID, summary, what string, f func(context.Context, ledger.ID) (T, error)) route {
	return route{
		method: method, path: path, id: opID, summary: summary, params: []param{id(what)}, response: reflect.TypeFor[T](), timeout: callTimeout,
		handle: func(w http.ResponseWriter, r *http.Request) {
			id, ok := pathID(w, r)
			if !ok {
				return
			}
			v, err := f(r.Context(), id)
			writeJSON(w, v, err)
		},
	}
}

func withTimeout(d time.Duration, r route) route {
	r.timeout = d
	return r
}

// readRequest reads and checks a JSON body; if it is bad it answers so and
// returns false.
func readRequest[Q checker](w http.ResponseWriter, r *http.Request, req *Q) bool {
	err := readJSON(w, r, req)
	if err == nil {
		err = (*req).check()
	}
	if err != nil {
		writeError(w, err)
		return false
	}
	return true
}

func pathID(w http.ResponseWriter, r *http.Request) (ledger.ID, bool) {
	id, err := ledger.ParseID(r.PathValue("id"))
	if err != nil {
		writeError(w, Errorf(CodeBadRequest, "%v", err))
		return id, false
	}
	return id, true
}

// queryInt reads an integer parameter within [low, high].
func queryInt(q url.Values, name string, absent, low, high int) (int, error) {
	text := q.Get(name)
	if text == "" {
		return absent, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return 0, Errorf(CodeBadRequest, "parameter %s: %.20q is not a number from %d to %d", name, text, low, high)
	}
	return n, nil
}

func checkedSearch(b Backend) func(context.Context, SearchRequest) (SearchAnswer, error) {
	return func(ctx context.Context, req SearchRequest) (SearchAnswer, error) {
		if req.Limit == 0 {
			req.Limit = defaultResults
		}
		return b.Search(ctx, req)
	}
}

func findOrder(ctx context.Context, b Backend, id ledger.ID) (Order, error) {
	orders, err := b.Orders(ctx)
	if err != nil {
		return Order{}, err
	}
	for _, o := range orders {
		if o.ID == id {
			return o, nil
		}
	}
	return Order{}, Errorf(CodeNotFound, "no order %s", id).WithHint("see xeno order list")
}

func extend(b Backend) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, ok := pathID(w, r)
		if !ok {
			return
		}
		var req ExtendRequest
		if readRequest(w, r, &req) {
			v, err := b.ExtendSession(r.Context(), id, req)
			writeJSON(w, v, err)
		}
	}
}

func logs(b Backend) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, ok := pathID(w, r)
		if !ok {
			return
		}
		limit, err := queryInt(r.URL.Query(), "limit", defaultLogBytes, 0, maxLogBytes)
		if err != nil {
			writeError(w, err)
			return
		}
		v, err := b.Logs(r.Context(), id, limit)
		writeJSON(w, v, err)
	}
}

func journal(b Backend) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		const most = 1 << 53 // what JSON numbers hold
		after, err := queryInt(r.URL.Query(), "after", 0, 0, most)
		if err != nil {
			writeError(w, err)
			return
		}
		limit, err := queryInt(r.URL.Query(), "limit", defaultJournalPage, 1, maxJournalPage)
		if err != nil {
			writeError(w, err)
			return
		}
		entries, err := b.Journal(r.Context(), uint64(after), limit)
		writeJSON(w, EntryList{entries}, err)
	}
}

func storeAdd(b Backend) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Query().Get("name")
		if len(name) > maxNameBytes {
			writeError(w, Errorf(CodeBadRequest, "parameter name: more than %d bytes", maxNameBytes))
			return
		}
		v, err := b.StoreAdd(r.Context(), name, http.MaxBytesReader(w, r.Body, maxObjectBytes))
		writeJSON(w, v, err)
	}
}

func storeGet(b Backend) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		content, err := b.StoreGet(r.Context(), r.PathValue("cid"))
		if err != nil {
			writeError(w, err)
			return
		}
		defer content.Close()
		w.Header().Set("Content-Type", typeBytes)
		if _, err := io.Copy(w, content); err != nil {
			panic(http.ErrAbortHandler) // the only way to tell that the content is cut short
		}
	}
}
