package node_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"testing"

	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node"
	"github.com/xenoserver/xeno/node/api"
)

// TestCorpMetrics reads what XenoCorp counts, and that nobody else counts it.
func TestCorpMetrics(t *testing.T) {
	nw := newNetwork(t)
	client := nw.join(node.Config{Name: "client"}, ledger.RoleClient)
	before := metrics(t, nw.corp)
	if _, err := client.CreateOrder(t.Context(), api.OrderRequest{Amount: ledger.Unit}); api.CodeOf(err) != api.CodeFunds {
		t.Errorf("order without money: %v, want %s", err, api.CodeFunds)
	}
	after := metrics(t, nw.corp)
	for _, name := range []string{"xeno_corp_calls", "xeno_corp_refused"} {
		if after[name] <= before[name] {
			t.Errorf("%s went from %g to %g with a call that was refused", name, before[name], after[name])
		}
	}
	for _, name := range []string{"xeno_corp_groups", "xeno_corp_records"} {
		if after[name] < 1 {
			t.Errorf("%s is %g after a registration", name, after[name])
		}
	}
	if _, ok := metrics(t, client)["xeno_corp_calls"]; ok {
		t.Error("a client counts calls of XenoCorp")
	}
}

var sample = regexp.MustCompile(`(?m)^(xeno_[a-z_]+) ([0-9.e+]+)$`)

// metrics reads the numbers of a node.
func metrics(t *testing.T, n *node.Node) map[string]float64 {
	t.Helper()
	w := httptest.NewRecorder()
	n.Metrics().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	out := make(map[string]float64)
	for _, m := range sample.FindAllStringSubmatch(w.Body.String(), -1) {
		v, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		out[m[1]] = v
	}
	return out
}
