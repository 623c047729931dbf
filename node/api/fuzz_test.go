package api_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node/api"
	"github.com/xenoserver/xeno/node/api/apitest"
)

// FuzzCall sends any method, path, query and body: each is answered, with a
// coded error unless it is a success, and none is a fault of the daemon.
func FuzzCall(f *testing.F) {
	id := apitest.ID("s").String()
	f.Add("GET", "/v1/status", "", []byte(nil))
	f.Add("POST", "/v1/search", "", []byte(`{"query":"free_cpu > 1","limit":5,"explain":true}`))
	f.Add("POST", "/v1/place", "", []byte(`{"groups":[{"count":2}],"near":[{"max_ms":20}],"spread":[{"by":"owner"}],"effort":0.5}`))
	f.Add("POST", "/v1/orders", "", []byte(`{"id":"00112233445566778899aabbccddeeff","amount":5,"servers":[]}`))
	f.Add("POST", "/v1/sessions", "", []byte(`{"cap":1,"terms":{"environment":"wasi","args":["a"],"stdin":"aGVsbG8="}}`))
	f.Add("GET", "/v1/sessions/"+id+"/logs", "limit=7", []byte(nil))
	f.Add("GET", "/v1/sessions/"+id+"/connect", "port=22", []byte(nil))
	f.Add("POST", "/v1/sessions/"+id+"/extend", "", []byte(`{"seconds":60}`))
	f.Add("GET", "/v1/corp/journal", "after=0&limit=1", []byte(nil))
	f.Add("POST", "/v1/corp/deposits", "", []byte(`{"peer":"`+apitest.Peer("x").String()+`","amount":1}`))
	f.Add("POST", "/v1/objects", "name=x", []byte("content"))
	f.Add("GET", "/v1/objects/bafy", "", []byte(nil))
	f.Fuzz(func(t *testing.T, method, path, query string, body []byte) {
		fake := apitest.New()
		fake.Operate = true
		if _, err := fake.CreateOrder(t.Context(), api.OrderRequest{Amount: ledger.Unit}); err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), method, "http://xeno/", bytes.NewReader(body))
		if err != nil {
			return
		}
		req.URL = &url.URL{Scheme: "http", Host: "xeno", Path: path, RawQuery: query}
		w := httptest.NewRecorder()
		api.OpenHandler(fake).ServeHTTP(w, req)
		if w.Code >= 200 && w.Code < 400 {
			return
		}
		var answer api.ErrorAnswer
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Error == nil || answer.Error.Code == "" {
			t.Fatalf("%d %s: %v", w.Code, w.Body, err)
		}
		if w.Code == http.StatusInternalServerError {
			t.Fatalf("%s %s: %s", method, path, w.Body)
		}
	})
}
