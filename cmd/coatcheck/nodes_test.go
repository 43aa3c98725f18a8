package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/coatcheck/coatcheck/providers/providertest"
	"github.com/coatcheck/coatcheck/storage/postgres/postgrestest"
)

// nodes are processes on one PostgreSQL database, each with a data directory of its own and all with one identity.
func nodes(t *testing.T, provider *providertest.Server, n int) []*process {
	t.Helper()
	return nodesOn(t, provider, n, postgrestest.New(t))
}

func nodesOn(t *testing.T, provider *providertest.Server, n int, address string) []*process {
	t.Helper()
	identity := filepath.Join(t.TempDir(), "identity.txt")
	bin, err := exec.LookPath("coatcheck")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), bin, "keys", "generate", "-o", identity).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out := make([]*process, n)
	for i := range out {
		out[i] = newProcess(t, provider)
		out[i].env = []string{
			"COATCHECK_DATABASE=" + address, "COATCHECK_ENCRYPTION_IDENTITY_FILE=" + identity, "COATCHECK_PUBLIC_URL=" + out[0].origin(),
		}
	}
	return out
}

// What one node stores the other one serves, and a grant whose spent refresh tokens end it survives that both renew it.
func TestTwoNodesShareADatabase(t *testing.T) {
	provider := providertest.New(t, providertest.Knobs{Rotate: true, Slow: 10 * time.Millisecond})
	both := nodes(t, provider, 2)
	for _, p := range both { // at the same moment, on an empty database
		p.launch()
	}
	for _, p := range both {
		p.await()
	}
	const n = 5
	for i := range n {
		id := fmt.Sprint("c", i)
		if a, err := both[i%2].importToken(t.Context(), id, time.Now().Add(time.Hour)); err != nil || a.status != http.StatusCreated {
			t.Fatal(a, err)
		}
		token, a, err := both[1-i%2].token(t.Context(), id, false)
		if err != nil || !provider.Good(token) {
			t.Fatal(a, err)
		}
	}
	var work sync.WaitGroup
	for i := range 8 * n {
		work.Go(func() {
			token, a, err := both[i%2].token(t.Context(), fmt.Sprint("c", i/2%n), true)
			if err != nil || token == "" {
				t.Errorf("renewal: %v %v", a, err)
			}
		})
	}
	work.Wait()
	for i := range n {
		id := fmt.Sprint("c", i)
		one, _, err := both[0].token(t.Context(), id, false)
		if err != nil {
			t.Fatal(err)
		}
		other, _, err := both[1].token(t.Context(), id, false)
		if err != nil || one != other || !provider.Good(one) {
			t.Errorf("%s: the nodes hold the same token: %t, it is good: %t, %v", id, one == other, provider.Good(one), err)
		}
		if a, err := both[0].do(t.Context(), http.MethodDelete, "/connections/"+id+"?provider_config_key=acme", ""); err != nil || a.status >= 300 {
			t.Fatal(a, err)
		}
		if _, a, err := both[1].token(t.Context(), id, false); err != nil || a.status != http.StatusNotFound {
			t.Errorf("%s is deleted, and the other node answers %v, %v", id, a, err)
		}
	}
	for _, p := range both {
		if err := p.stop(); err != nil {
			t.Errorf("stop: %v\n%s", err, p.log.String())
		}
	}
	if counts := provider.Counts(); counts.Reuses != 0 || counts.FamiliesRevoked != 0 {
		t.Errorf("a spent refresh token came back: %+v", counts)
	}
}

// balanced are three nodes, and a load balancer that sends each request to the next one. turn counts requests.
func balanced(t *testing.T, provider *providertest.Server) (all []*process, address string, turn *atomic.Int64) {
	t.Helper()
	all, turn = nodes(t, provider, 3), new(atomic.Int64)
	balancer := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		next, err := url.Parse(all[turn.Add(1)%3].url())
		if err != nil {
			t.Error(err)
		}
		r.SetURL(next)
		r.Out.Host = r.In.Host
	}})
	t.Cleanup(balancer.Close)
	address = strings.Replace(balancer.URL, "127.0.0.1", "localhost", 1)
	for _, p := range all {
		p.env = append(p.env, "COATCHECK_PUBLIC_URL="+address)
		p.start()
	}
	return all, address, turn
}

// The app's page waits on a socket of one node, while the popup goes over all of them.
func TestASocketHearsOfASignInOnOtherNodes(t *testing.T) {
	provider := providertest.New(t, providertest.Knobs{})
	all, address, _ := balanced(t, provider)
	for _, p := range all { // whichever node ends the sign-in, sockets of two others wait
		socket, _, err := websocket.Dial(t.Context(), p.url(), nil)
		if err != nil {
			t.Fatal(err)
		}
		type message struct {
			Type       string `json:"message_type"`
			Client     string `json:"ws_client_id"`
			Connection string `json:"connection_id"`
		}
		hear := func() (m message) {
			t.Helper()
			_, raw, err := socket.Read(t.Context())
			if err == nil {
				err = json.Unmarshal(raw, &m)
			}
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		client := hear().Client
		token, _, err := p.session(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		q := url.Values{"connect_session_token": {token}, "ws_client_id": {client}}
		if err := throughPopup(t.Context(), address+"/oauth/connect/acme?"+q.Encode()); err != nil {
			t.Fatal(err)
		}
		end := hear()
		if end.Type != "success" {
			t.Fatalf("heard %+v", end)
		}
		for _, other := range all {
			if token, a, err := other.token(t.Context(), end.Connection, false); err != nil || !provider.Good(token) {
				t.Errorf("%v, %v", a, err)
			}
		}
		_ = socket.CloseNow()
	}
}

// A sign-in goes from page to page, each on the next node: what one began another can finish.
func TestASignInGoesOverAllNodes(t *testing.T) {
	provider := providertest.New(t, providertest.Knobs{})
	all, _, turn := balanced(t, provider)
	id, err := all[0].connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if turn.Load() < 3 {
		t.Errorf("only %d requests went over the balancer", turn.Load())
	}
	for i, p := range all {
		if token, a, err := p.token(t.Context(), id, false); err != nil || !provider.Good(token) {
			t.Errorf("node %d: %v, %v", i, a, err)
		}
	}
}
