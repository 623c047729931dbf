package node_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/xenoserver/xeno/ledger"
	"github.com/xenoserver/xeno/node"
	"github.com/xenoserver/xeno/node/api"
)

// TestPlace places machines on three servers, and names hosts in every way.
func TestPlace(t *testing.T) {
	nw := newNetwork(t)
	one := nw.join(serverConfig("one", 2, "0.5"), ledger.RoleServer)
	two := nw.join(serverConfig("two", 4, "1"), ledger.RoleServer)
	nw.join(serverConfig("three", 4, "5"), ledger.RoleServer)
	client := nw.join(node.Config{Name: "client"}, ledger.RoleClient)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	waitForServers(t, client, 3)

	answer, err := client.Place(ctx, api.PlaceRequest{
		Groups: []api.PlaceGroup{{Count: 2}}, Spread: []api.SpreadRule{{By: "owner"}}, Near: []api.NearRule{{MaxMillis: 1000}},
		Reach: []api.ReachRule{{Hosts: []string{"me", "three"}, MaxMillis: 1000}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Machines) != 2 || answer.Price != 3*ledger.Unit/2 || !answer.Optimal || !answer.Complete || answer.Minimised != "price" {
		t.Errorf("placed %+v, want the two cheapest", answer)
	}
	answer, err = client.Place(ctx, api.PlaceRequest{Groups: []api.PlaceGroup{
		{Name: "small", Count: 1, Query: "free_cpu <= 2"}, {Name: "large", Count: 2, Query: "free_cpu >= 4", Order: "-price_hour"},
	}})
	if err != nil || len(answer.Machines) != 3 || answer.Machines[0].Server.Server != one.ID() || answer.Minimised != "order" {
		t.Errorf("placed %+v, %v; want one small machine and two large ones", answer, err)
	}

	group := []api.PlaceGroup{{Name: "web", Count: 2}}
	for _, tt := range []struct {
		name string
		req  api.PlaceRequest
		code api.Code
		want string
	}{
		{"too near", api.PlaceRequest{Groups: group, Near: []api.NearRule{{MaxMillis: 1e-6}}}, api.CodeNoMatch, "near 1ns: "},
		{"too cheap", api.PlaceRequest{Groups: group, MaxPrice: 1}, api.CodeNoMatch, "price 0.000000001 an hour: 1.5"},
		{"too many", api.PlaceRequest{Groups: []api.PlaceGroup{{Count: 4}}}, api.CodeNoMatch, "4 machines in all: 3 servers fit"},
		{"bad query", api.PlaceRequest{Groups: []api.PlaceGroup{{Name: "web", Count: 1, Query: "free_cpus > 1"}}}, api.CodeQuery, "group web: line 1, column 1"},
		{"bad order", api.PlaceRequest{Groups: []api.PlaceGroup{{Name: "web", Count: 1, Order: "country"}}}, api.CodeQuery, "no order"},
		{"bad goal", api.PlaceRequest{Groups: group, Minimise: "fun"}, api.CodeBadRequest, "price, latency or order"},
		{"bad dimension", api.PlaceRequest{Groups: group, Spread: []api.SpreadRule{{By: "continent"}}}, api.CodeBadRequest, "continent"},
		{"bad group", api.PlaceRequest{Groups: group, Spread: []api.SpreadRule{{By: "owner", Groups: []string{"db"}}}}, api.CodeBadRequest, `no group "db"`},
		{"bad host", api.PlaceRequest{Groups: group, Reach: []api.ReachRule{{Hosts: []string{"nobody"}, MaxMillis: 9}}}, api.CodeBadRequest, "no server of that name"},
	} {
		_, err := client.Place(ctx, tt.req)
		if api.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s with %q", tt.name, err, tt.code, tt.want)
		}
	}

	// The same hosts in queries, and the units in what is explained.
	for _, host := range []string{"me", two.ID().String(), "/ip4/127.0.0.1/udp/1/quic-v1/p2p/" + two.ID().String(), "two"} {
		found, err := client.Search(ctx, api.SearchRequest{Query: `rtt("` + host + `") < 5s and free_memory >= 4096GiB`, Explain: true})
		if err != nil || len(found.Conditions) != 2 {
			t.Errorf("%s: %+v, %v", host, found, err)
			continue
		}
		text := found.Conditions[0].Text + "\n" + found.Conditions[1].Text
		if !strings.Contains(text, `rtt("`+host+`") < 5s`) || !strings.Contains(text, "free_memory >= 4TiB") {
			t.Errorf("%s: conditions %s", host, text)
		}
		for _, x := range found.Excluded {
			if !strings.Contains(x.Reason, "free_memory is 1GiB") && !strings.Contains(x.Reason, "MiB") {
				t.Errorf("excluded for %q", x.Reason)
			}
		}
	}
	if _, err := client.Search(ctx, api.SearchRequest{Query: `rtt("/ip4/127.0.0.1/tcp/1") < 5s`}); api.CodeOf(err) != api.CodeQuery {
		t.Errorf("an address without an ID: %v", err)
	}
}
