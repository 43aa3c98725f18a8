package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/providers/providertest"
)

// hookReceiver is an app that is told, in the test's process, which outlives the broker's.
type hookReceiver struct {
	*httptest.Server
	mu     sync.Mutex
	status func(id string) int // what to answer; nil: 200
	tries  map[string]int      // by id
	told   map[string][]string // ids that were answered 200, by connection, in order
	ids    map[string]string   // operation by id
	bad    []string            // requests whose signature does not hold
	key    string              // "": not checked
}

func newHookReceiver(t *testing.T) *hookReceiver {
	t.Helper()
	h := &hookReceiver{tries: map[string]int{}, told: map[string][]string{}, ids: map[string]string{}}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

// ServeHTTP implements http.Handler.
func (h *hookReceiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	var body struct {
		ConnectionID string `json:"connectionId"`
		Operation    string `json:"operation"`
	}
	if err != nil || json.Unmarshal(raw, &body) != nil {
		return // it was killed while it sent
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	id := r.Header.Get("Webhook-Id")
	h.tries[id]++
	if h.key != "" && !h.signed(r.Header, raw) {
		h.bad = append(h.bad, id)
	}
	if h.status != nil {
		if status := h.status(id); status != http.StatusOK {
			w.WriteHeader(status)
			return
		}
	}
	if !slices.Contains(h.told[body.ConnectionID], id) {
		h.told[body.ConnectionID] = append(h.told[body.ConnectionID], id)
		h.ids[id] = body.Operation
	}
}

func (h *hookReceiver) signed(header http.Header, body []byte) bool {
	text := hmac.New(sha256.New, []byte(h.key))
	text.Write(body)
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(h.key, "whsec_"))
	standard := hmac.New(sha256.New, raw)
	_, _ = fmt.Fprintf(standard, "%s.%s.%s", header.Get("Webhook-Id"), header.Get("Webhook-Timestamp"), body)
	return err == nil && header.Get("X-Nango-Hmac-Sha256") == hex.EncodeToString(text.Sum(nil)) &&
		header.Get("Webhook-Signature") == "v1,"+base64.StdEncoding.EncodeToString(standard.Sum(nil))
}

// operations lists what was told of a connection.
func (h *hookReceiver) operations(connection string) (out []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range h.told[connection] {
		out = append(out, h.ids[id])
	}
	return out
}

func (h *hookReceiver) set(status func(id string) int, key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status, h.key = status, key
}

// addWebhook puts the receiver into the process' configuration.
func (p *process) addWebhook(settings string) {
	p.t.Helper()
	file := filepath.Join(p.dir, "coatcheck.yaml")
	raw, err := os.ReadFile(file)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write("coatcheck.yaml", strings.Replace(string(raw), "    name: The app\n", "    name: The app\n    webhook: {"+settings+"}\n", 1))
}

// command runs a command beside the process.
func (p *process) command(args ...string) string {
	p.t.Helper()
	bin, err := exec.LookPath("coatcheck")
	if err != nil {
		p.t.Fatal(err)
	}
	out, err := exec.CommandContext(p.t.Context(), bin, append(args, "--config", filepath.Join(p.dir, "coatcheck.yaml"))...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// The broker is killed at random moments while it imports connections twice each and tells of them, to an app that now
// and then refuses. Whatever was acknowledged is told in the end, the import before what overwrote it.
func TestNothingToBeToldIsLostWhenTheBrokerIsKilled(t *testing.T) {
	const rounds = 4
	app := newHookReceiver(t)
	p := newProcess(t, providertest.New(t, providertest.Knobs{}))
	p.addWebhook("url: " + app.URL + "/hooks")
	p.start()
	app.set(func(id string) int {
		if app.tries[id] == 1 && id[0]%4 == 0 {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	}, firstLine(p.command("webhook", "secret", "--environment", "dev")))

	want := make(map[string][]string) // what must be told, by connection
	var mu sync.Mutex
	for round := range rounds {
		if round > 0 {
			p.start()
		}
		ctx, stop := context.WithCancel(t.Context())
		var work sync.WaitGroup
		for w := range 4 {
			work.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					id := fmt.Sprintf("c-%d-%d-%d", round, w, n)
					for _, operation := range []string{"creation", "override"} {
						a, err := p.importToken(ctx, id, time.Now().Add(time.Hour))
						if err != nil || a.status != http.StatusCreated {
							break
						}
						mu.Lock()
						want[id] = append(want[id], operation)
						mu.Unlock()
					}
				}
			})
		}
		timer := time.NewTimer(time.Duration(200+rand.IntN(500)) * time.Millisecond)
		<-timer.C
		p.kill()
		stop()
		work.Wait()
	}
	p.start()
	if len(want) < rounds {
		t.Fatalf("only %d connections were made", len(want))
	}
	for id, operations := range want {
		// One more may have committed without its answer arriving.
		waitUntil(t, func() bool { got := app.operations(id); return len(got) >= len(operations) })
		if got := app.operations(id); !slices.Equal(got[:len(operations)], operations) {
			t.Errorf("%s: told %q, want %q", id, got, operations)
		}
	}
	if err := p.stop(); err != nil {
		t.Fatalf("stop: %v", err)
	}
	repeated := 0
	for _, n := range app.tries {
		if n > 1 {
			repeated++
		}
	}
	if len(app.bad) > 0 {
		t.Errorf("%d requests were not signed as they should be", len(app.bad))
	}
	t.Logf("%d connections, %d deliveries, %d of them more than once", len(want), len(app.tries), repeated)
	if log := p.log.String(); strings.Contains(log, app.key) || strings.Contains(log, "/hooks") {
		t.Error("the log holds the key or the address")
	}
}

// An operator sees what did not arrive, has it tried again, and makes a new key, all beside the running server.
func TestTheOperatorReplaysWebhooks(t *testing.T) {
	app := newHookReceiver(t)
	p := newProcess(t, providertest.New(t, providertest.Knobs{}))
	p.addWebhook("url: " + app.URL + "/hooks?token=of-the-app")
	p.start()
	app.set(func(string) int { return http.StatusGone }, "")
	for _, id := range []string{"a", "b"} {
		if a, err := p.importToken(t.Context(), id, time.Now().Add(time.Hour)); err != nil || a.status != http.StatusCreated {
			t.Fatal(a, err)
		}
	}
	var list string
	waitUntil(t, func() bool {
		list = p.command("webhook", "list", "--dead")
		return strings.Count(list, "receiver_gone") == 2
	})
	if !strings.Contains(list, "connection.created") || strings.Contains(list, "of-the-app") {
		t.Errorf("the list reads\n%s", list)
	}
	app.set(nil, firstLine(p.command("webhook", "secret")))
	if out := p.command("webhook", "replay", "--all"); !strings.Contains(out, "2 will be tried again") {
		t.Errorf("replay says %q", out)
	}
	waitUntil(t, func() bool { return len(app.operations("a")) == 1 && len(app.operations("b")) == 1 })
	if list := p.command("webhook", "list", "--dead"); strings.Contains(list, "receiver_gone") {
		t.Errorf("still dead:\n%s", list)
	}
	key := firstLine(p.command("webhook", "rotate"))
	if key == app.key || key != firstLine(p.command("webhook", "secret", "--environment", "dev")) {
		t.Error("the new key is not in use")
	}
	if len(app.bad) > 0 {
		t.Errorf("%d requests were not signed as they should be", len(app.bad))
	}
}
