package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
	"github.com/xenoserver/xeno/node/api/apitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs an API over b until the test ends and returns its socket.
func serve(t *testing.T, b api.Backend) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "home", api.SocketName)
	l, err := api.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	s := api.Serve(l, b, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("socket after close: %v", err)
		}
	})
	return socket
}

// A checkingTransport validates each request and answer against the document.
type checkingTransport struct {
	t      *testing.T
	router routers.Router
	inner  http.RoundTripper
	seen   map[string]bool // operationId
}

func newChecking(t *testing.T, socket string) *checkingTransport {
	t.Helper()
	inner := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}
	resp, err := (&http.Client{Transport: inner}).Get("http://xeno/v1/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatal(err)
	}
	router, err := legacy.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return &checkingTransport{t: t, router: router, inner: inner, seen: map[string]bool{}}
}

func (c *checkingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	route, params, err := c.router.FindRoute(req)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", req.Method, req.URL, err)
	}
	c.seen[route.Operation.OperationID] = true
	input := &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route}
	if err := openapi3filter.ValidateRequest(req.Context(), input); err != nil {
		c.t.Errorf("request %s: %v", route.Operation.OperationID, err)
	}
	resp, err := c.inner.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	c.checkAnswer(route.Operation, input, resp, body)
	return resp, nil
}

func (c *checkingTransport) checkAnswer(op *openapi3.Operation, input *openapi3filter.RequestValidationInput, resp *http.Response, body []byte) {
	if resp.Header.Get("Content-Type") == "application/x-ndjson" {
		schema := op.Responses.Status(200).Value.Content["application/x-ndjson"].Schema.Value
		for line := range bytes.Lines(body) {
			var v any
			if err := json.Unmarshal(line, &v); err != nil {
				c.t.Errorf("%s: line %s: %v", op.OperationID, line, err)
			}
			if err := schema.VisitJSON(v, openapi3.EnableFormatValidation()); err != nil {
				c.t.Errorf("%s: line %s: %v", op.OperationID, line, err)
			}
		}
		return
	}
	answer := &openapi3filter.ResponseValidationInput{RequestValidationInput: input, Status: resp.StatusCode, Header: resp.Header}
	answer.SetBodyBytes(body)
	answer.Options = &openapi3filter.Options{IncludeResponseStatus: false}
	if err := openapi3filter.ValidateResponse(context.Background(), answer); err != nil {
		c.t.Errorf("answer of %s (%s): %v", op.OperationID, body, err)
	}
}

// TestCallsMatchDocument makes every call through the client against the
// document that the server serves, answers of failures included.
func TestCallsMatchDocument(t *testing.T) {
	fake := apitest.Unregistered("welcome")
	fake.Operate = true
	socket := serve(t, fake)
	check := newChecking(t, socket)
	c := api.NewClientOver(check, socket)
	ctx := t.Context()
	want := func(code api.Code, err error) {
		t.Helper()
		if got := api.CodeOf(err); got != code {
			t.Errorf("got code %q (%v), want %q", got, err, code)
		}
	}

	_, err := c.CreateOrder(ctx, api.OrderRequest{Amount: ledger.Unit})
	want(api.CodeNotRegistered, err)
	_, err = c.Register(ctx, api.RegisterRequest{Code: "nonsense"})
	want(api.CodeRefused, err)
	cred, err := c.Register(ctx, api.RegisterRequest{Code: "welcome", Name: "countess"})
	want("", err)
	if cred.Subject != "Ada Lovelace" {
		t.Errorf("subject %q", cred.Subject)
	}
	status, err := c.Status(ctx)
	want("", err)
	if diff := cmp.Diff(&cred, status.Credential); diff != "" {
		t.Errorf("credential (-registered +status):\n%s", diff)
	}
	_, err = c.Search(ctx, api.SearchRequest{Query: "cpus ??"})
	want(api.CodeQuery, err)
	found, err := c.Search(ctx, api.SearchRequest{Query: "free.cpus >= 4", Explain: true})
	want("", err)
	if len(found.Results) != 3 || len(found.Excluded) != 1 || found.Plan == nil || len(found.Plan.Expected) != 2 {
		t.Errorf("search: %+v", found)
	}
	counted, err := c.Search(ctx, api.SearchRequest{Query: "free.cpus >= 4", Count: true, Error: 0.01})
	want("", err)
	if counted.Low > counted.Estimated || counted.High < counted.Estimated || counted.High == 0 || len(counted.Results) > 0 {
		t.Errorf("count: %+v", counted)
	}
	var names []string
	whole, err := c.SearchAll(ctx, api.SearchRequest{Query: "free.cpus >= 4", Budget: 5000}, func(r api.Result) { names = append(names, r.Name) })
	if err != nil || len(names) != 3 || len(whole.Results) != 0 || !whole.Complete || whole.Completeness != 1 {
		t.Errorf("search for everything: %v, %+v, %v", names, whole, err)
	}
	names = nil
	_, err = c.SearchAll(ctx, api.SearchRequest{Query: "break"}, func(r api.Result) { names = append(names, r.Name) })
	want(api.CodeUnavailable, err)
	if len(names) != 1 {
		t.Errorf("before it broke: %v", names)
	}
	_, err = c.SearchAll(ctx, api.SearchRequest{Query: "cpus ??"}, nil)
	want(api.CodeQuery, err)
	for _, bad := range []api.SearchRequest{{Limit: 1}, {Order: "price_hour"}, {Count: true}, {Budget: -1}, {Budget: 1e9}} {
		_, err = c.SearchAll(ctx, bad, nil)
		want(api.CodeBadRequest, err)
	}
	for _, bad := range []api.SearchRequest{{Error: 0.1}, {Count: true, Error: -1}, {Count: true, Error: 1.5}} {
		_, err = c.Search(ctx, bad)
		want(api.CodeBadRequest, err)
	}
	callPlace(t, c, want)
	order, err := c.CreateOrder(ctx, api.OrderRequest{ID: apitest.ID("order"), Amount: 10 * ledger.Unit})
	want("", err)
	again, err := c.Order(ctx, order.ID)
	want("", err)
	if diff := cmp.Diff(order, again); diff != "" {
		t.Errorf("order (-created +shown):\n%s", diff)
	}
	_, err = c.Order(ctx, apitest.ID("another"))
	want(api.CodeNotFound, err)
	_, err = c.Orders(ctx)
	want("", err)
	callSessions(t, c, want)
	callOperator(t, c, want)
	_, err = c.CancelOrder(ctx, order.ID)
	want("", err)
	_, err = c.Account(ctx)
	want("", err)

	for _, item := range check.document(t).Paths.Map() {
		for _, op := range item.Operations() {
			if !check.seen[op.OperationID] && op.OperationID != "connect" {
				t.Errorf("call %s is not tested", op.OperationID)
			}
		}
	}
}

// callPlace places machines, and asks for what cannot be.
func callPlace(t *testing.T, c *api.Client, want func(api.Code, error)) {
	t.Helper()
	req := api.PlaceRequest{
		Groups: []api.PlaceGroup{{Name: "web", Count: 2, Query: "free_cpu >= 4", Order: "-free_cpu"}, {Name: "db", Count: 1}},
		Near:   []api.NearRule{{Groups: []string{"web", "db"}, MaxMillis: 20}}, Spread: []api.SpreadRule{{By: "owner", Most: 1}},
		Reach: []api.ReachRule{{Hosts: []string{"me"}, MaxMillis: 50}}, MaxPrice: ledger.Unit, Minimise: "latency", Effort: 0.9,
	}
	answer, err := c.Place(t.Context(), req)
	want("", err)
	if len(answer.Machines) != 3 || answer.Machines[2].Group != "db" {
		t.Errorf("placed: %+v", answer)
	}
	req.Groups[1].Query = "none"
	_, err = c.Place(t.Context(), req)
	want(api.CodeNoMatch, err)
	for _, change := range []func(*api.PlaceRequest){
		func(r *api.PlaceRequest) { r.Groups = []api.PlaceGroup{} },
		func(r *api.PlaceRequest) { r.Groups = make([]api.PlaceGroup, 17) },
		func(r *api.PlaceRequest) { r.Groups = []api.PlaceGroup{{Name: "a\nb", Count: 1}} },
		func(r *api.PlaceRequest) { r.Groups[0].Count = 65 },
		func(r *api.PlaceRequest) { r.Near = make([]api.NearRule, 17) },
		func(r *api.PlaceRequest) { r.Near = []api.NearRule{{MaxMillis: -1}} },
		func(r *api.PlaceRequest) { r.Reach = []api.ReachRule{{Hosts: []string{"me"}}} },
		func(r *api.PlaceRequest) { r.MaxPrice = -1 },
		func(r *api.PlaceRequest) { r.Effort = 2 },
	} {
		bad := api.PlaceRequest{Groups: []api.PlaceGroup{{Count: 1}}}
		change(&bad)
		_, err = c.Place(t.Context(), bad)
		want(api.CodeBadRequest, err)
	}
}

func (c *checkingTransport) document(t *testing.T) *openapi3.T {
	t.Helper()
	req, _ := http.NewRequest(http.MethodGet, "http://xeno/v1/status", nil)
	route, _, err := c.router.FindRoute(req)
	if err != nil {
		t.Fatal(err)
	}
	return route.Spec
}

func callSessions(t *testing.T, c *api.Client, want func(api.Code, error)) {
	t.Helper()
	ctx := t.Context()
	obj, err := c.StoreAdd(ctx, "job.wasm", strings.NewReader("\x00asm"))
	want("", err)
	_, err = c.StoreAddPath(ctx, t.TempDir())
	want("", err)
	_, err = c.StoreAddPath(ctx, "/nothing/there")
	want(api.CodeNotFound, err)
	content, err := c.StoreGet(ctx, obj.CID)
	want("", err)
	if text, err := io.ReadAll(content); err != nil || string(text) != "\x00asm" {
		t.Errorf("stored %q, %v", text, err)
	}
	_ = content.Close()
	_, err = c.StoreGet(ctx, "bafynothing")
	want(api.CodeNotFound, err)

	_, err = c.Run(ctx, api.RunRequest{Query: "none", Terms: api.Terms{Environment: "wasi"}}, nil)
	want(api.CodeNoMatch, err)
	_, err = c.Run(ctx, api.RunRequest{Cap: 1000 * ledger.Unit, Terms: api.Terms{Environment: "wasi"}}, nil)
	want(api.CodeFunds, err)
	var stages []api.Stage
	req := api.RunRequest{Session: apitest.ID("s"), Terms: api.Terms{Environment: "wasi", Image: obj.CID, Args: []string{"job"}, Stdin: []byte("in")}}
	s, err := c.Run(ctx, req, func(e api.RunEvent) { stages = append(stages, e.Stage) })
	want("", err)
	wantStages := []api.Stage{api.StageSearching, api.StageProposing, api.StageAgreed, api.StageAuthorising, api.StageLaunching, api.StageEnded}
	if diff := cmp.Diff(wantStages, stages); diff != "" {
		t.Errorf("stages (-want +got):\n%s", diff)
	}
	list, err := c.Sessions(ctx)
	want("", err)
	if len(list) != 1 || list[0].ID != s.ID {
		t.Errorf("sessions %+v", list)
	}
	_, err = c.WaitSession(ctx, s.ID, func(s api.Session) bool { return s.State.Over() })
	want("", err)
	_, err = c.ExtendSession(ctx, s.ID, api.ExtendRequest{Seconds: 60})
	want("", err)
	_, err = c.Logs(ctx, s.ID, 5)
	want("", err)
	_, err = c.Usage(ctx, s.ID)
	want("", err)
	receipts, err := c.Receipts(ctx, s.ID)
	want("", err)
	if len(receipts) != 1 || !receipts[0].Final {
		t.Errorf("receipts %+v", receipts)
	}
	_, err = c.StopSession(ctx, s.ID)
	want("", err)
	_, err = c.Session(ctx, apitest.ID("unknown"))
	want(api.CodeNotFound, err)
}

func callOperator(t *testing.T, c *api.Client, want func(api.Code, error)) {
	t.Helper()
	ctx := t.Context()
	_, err := c.Invite(ctx, api.InviteRequest{Subject: "bob", Roles: []ledger.Role{ledger.RoleServer}})
	want("", err)
	_, err = c.Deposit(ctx, api.DepositRequest{Peer: apitest.Peer("self"), Amount: ledger.Unit, Note: "transfer 7"})
	want("", err)
	_, err = c.Revoke(ctx, api.RevokeRequest{Peer: apitest.Peer("eve"), Reason: "fraud"})
	want("", err)
	books, err := c.Accounts(ctx)
	want("", err)
	var sum ledger.Amount
	for _, a := range books.Accounts {
		sum += a.Balance
	}
	if sum != 0 || books.Sum != 0 {
		t.Errorf("books sum to %s, %s", sum, books.Sum)
	}
	entries, err := c.Journal(ctx, 0, 10)
	want("", err)
	if len(entries) != 1 {
		t.Errorf("journal %+v", entries)
	}
}

// TestBadRequests sends what no client of ours would.
func TestBadRequests(t *testing.T) {
	socket := serve(t, apitest.New())
	hc := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}}
	tests := []struct {
		name, method, path, body string
		status                   int
		code                     api.Code
		says                     string
	}{
		{"unknown call", "GET", "/v1/nothing", "", 404, api.CodeNotFound, "no call"},
		{"wrong method", "DELETE", "/v1/status", "", 404, api.CodeNotFound, "no call"},
		{"no body", "POST", "/v1/search", "", 400, api.CodeBadRequest, "empty"},
		{"not json", "POST", "/v1/search", "<xml/>", 400, api.CodeBadRequest, "request body"},
		{"unknown field", "POST", "/v1/search", `{"qurey":""}`, 400, api.CodeBadRequest, "qurey"},
		{"two values", "POST", "/v1/search", `{} {}`, 400, api.CodeBadRequest, "more than one"},
		{"too large", "POST", "/v1/search", `{"query":"` + strings.Repeat("x", 300<<10) + `"}`, 413, api.CodeTooLarge, "bytes"},
		{"long query", "POST", "/v1/search", `{"query":"` + strings.Repeat("x", 5<<10) + `"}`, 400, api.CodeQuery, "bytes"},
		{"limit", "POST", "/v1/search", `{"limit":100000}`, 400, api.CodeBadRequest, "limit"},
		{"bad id", "GET", "/v1/sessions/xyz", "", 400, api.CodeBadRequest, "hexadecimal"},
		{"bad peer", "POST", "/v1/corp/deposits", `{"peer":"12D3x","amount":1}`, 400, api.CodeBadRequest, "peer ID"},
		{"no peer", "POST", "/v1/corp/deposits", `{"amount":1}`, 400, api.CodeBadRequest, "peer"},
		{"negative", "POST", "/v1/orders", `{"amount":-1}`, 400, api.CodeBadRequest, "amount"},
		{"too much", "POST", "/v1/orders", `{"amount":9223372036854775807}`, 400, api.CodeBadRequest, "amount"},
		{"cap above amount", "POST", "/v1/orders", `{"amount":1,"max_cap":2}`, 400, api.CodeBadRequest, "max_cap"},
		{"ttl", "POST", "/v1/orders", `{"amount":1,"ttl_seconds":-5}`, 400, api.CodeBadRequest, "ttl_seconds"},
		{"relative path", "POST", "/v1/objects/path", `{"path":"x"}`, 400, api.CodeBadRequest, "absolute"},
		{"no environment", "POST", "/v1/sessions", `{"terms":{}}`, 400, api.CodeBadRequest, "environment"},
		{"role", "POST", "/v1/corp/invitations", `{"subject":"x","roles":["king"]}`, 400, api.CodeBadRequest, "king"},
		{"control", "POST", "/v1/corp/invitations", `{"subject":"x\u001b[2J"}`, 400, api.CodeBadRequest, "control"},
		{"operator", "POST", "/v1/corp/invitations", `{"subject":"x"}`, 403, api.CodeNotOperator, "XenoCorp"},
		{"port", "GET", "/v1/sessions/" + apitest.ID("s").String() + "/connect?port=70000", "", 400, api.CodeBadRequest, "port"},
		{"no upgrade", "GET", "/v1/sessions/" + apitest.ID("s").String() + "/connect?port=22", "", 400, api.CodeBadRequest, "Upgrade"},
		{"journal", "GET", "/v1/corp/journal?after=-1", "", 400, api.CodeBadRequest, "after"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequest(tt.method, "http://xeno"+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := hc.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var answer api.ErrorAnswer
			if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Error == nil {
				t.Fatalf("answer: %v, %+v", err, answer)
			}
			if resp.StatusCode != tt.status || answer.Error.Code != tt.code || !strings.Contains(answer.Error.Message, tt.says) {
				t.Errorf("got %d %+v, want %d %s with %q", resp.StatusCode, answer.Error, tt.status, tt.code, tt.says)
			}
		})
	}
}

func TestMetrics(t *testing.T) {
	socket := serve(t, apitest.New())
	inner := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: inner}).Get("http://xeno/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); !strings.Contains(string(text), "xeno_peers") {
		t.Errorf("metrics: %s", text)
	}
}
