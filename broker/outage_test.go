package broker_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/api/nango"
	"github.com/coatcheck/coatcheck/web/hooks"
)

// received is a webhook as a receiver got it.
type received struct {
	header http.Header
	body   string
	at     time.Time
}

func (r *received) id() string { return r.header.Get("Webhook-Id") }

// connection and operation are what the body says.
func (r *received) told() (connection, operation string, success bool) {
	var body struct {
		ConnectionID string `json:"connectionId"`
		Operation    string `json:"operation"`
		Success      bool   `json:"success"`
	}
	_ = json.Unmarshal([]byte(r.body), &body)
	return body.ConnectionID, body.Operation, body.Success
}

// receiver is an app that is told, over HTTP.
type receiver struct {
	*httptest.Server
	clock *clock

	mu   sync.Mutex
	down bool
	got  []*received
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	a := &receiver{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		a.got = append(a.got, &received{r.Header, string(body), a.clock.Now()})
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *receiver) set(down bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = down
}

func (a *receiver) all() []*received {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.got)
}

// told lists what was told of a connection, in order.
func (a *receiver) told(connection string) (out []string) {
	for _, r := range a.all() {
		if c, operation, success := r.told(); c == connection {
			out = append(out, fmt.Sprint(operation, " ", success))
		}
	}
	return out
}

// realCourier sends to loopback as the product does, but for its policy.
func (a *receiver) realCourier() broker.Courier {
	return hooks.New(hooks.Options{
		Client: a.Client(), Encode: nango.Hook, UserAgent: "test", CheckURL: func(string) error { return nil },
		Reach: func(error) *broker.Error { return broker.ErrUnreachable },
	})
}

// checkSignatures does what receivers do: the formulas of the Node client and of Standard Webhooks, from their
// descriptions. The standard ones are checked for every key that is given.
func checkSignatures(t *testing.T, r *received, keys ...string) {
	t.Helper()
	hexOf := func(sum []byte) string { return hex.EncodeToString(sum) }
	m := hmac.New(sha256.New, []byte(keys[0]))
	m.Write([]byte(r.body))
	if got := r.header.Get("X-Nango-Hmac-Sha256"); got != hexOf(m.Sum(nil)) {
		t.Errorf("X-Nango-Hmac-Sha256 is %s", got)
	}
	legacy := sha256.Sum256([]byte(keys[0] + r.body))
	if got := r.header.Get("X-Nango-Signature"); got != hexOf(legacy[:]) {
		t.Errorf("X-Nango-Signature is %s", got)
	}
	seconds, err := strconv.ParseInt(r.header.Get("Webhook-Timestamp"), 10, 64)
	if age := r.at.Sub(time.Unix(seconds, 0)); err != nil || age < 0 || age > 5*time.Minute {
		t.Errorf("the attempt is %s old, %v", age, err)
	}
	var want []string
	for _, key := range keys {
		raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(key, "whsec_"))
		if err != nil {
			t.Fatal(err)
		}
		m := hmac.New(sha256.New, raw)
		_, _ = fmt.Fprintf(m, "%s.%d.%s", r.id(), seconds, r.body)
		want = append(want, "v1,"+base64.StdEncoding.EncodeToString(m.Sum(nil)))
	}
	if got := r.header.Get("Webhook-Signature"); got != strings.Join(want, " ") {
		t.Errorf("Webhook-Signature is %q, want %q", got, want)
	}
}

// deliverDue delivers what is due at the rig's time.
func (r *rig) deliverDue() {
	r.t.Helper()
	if err := r.broker.DeliverDue(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// deliveries lists all, oldest first.
func (r *rig) deliveries() []*broker.Delivery {
	r.t.Helper()
	list, err := r.broker.Deliveries(r.t.Context(), broker.System(r.who.Environment), broker.DeliveryFilter{})
	if err != nil {
		r.t.Fatal(err)
	}
	slices.Reverse(list)
	return list
}

// signingKey gives the environment's.
func (r *rig) signingKey() string {
	r.t.Helper()
	key, err := r.broker.WebhookKey(r.t.Context(), broker.System(r.who.Environment))
	if err != nil {
		r.t.Fatal(err)
	}
	return key.Reveal()
}

// The app is down for an hour. Meanwhile connections come to be, are overwritten and lose their grants, and the broker
// dies with a delivery in its hands and starts again. Afterwards the app is told everything, of each connection in order,
// once, with signatures that hold.
func TestAnAppThatWasDownIsToldEverythingInOrder(t *testing.T) {
	app := newReceiver(t)
	r := newRig(t, func(r *rig) { r.courier, r.webhook.URL = app.realCourier(), app.URL+"/hooks?from=coatcheck" })
	app.clock = r.clock
	app.set(true)
	want := make(map[string][]string)
	imported := func(key string) {
		r.imported(key, 2*time.Hour)
		if want[key] == nil {
			want[key] = []string{"creation true"}
		} else {
			want[key] = append(want[key], "override true")
		}
	}
	for minute := range 60 {
		switch minute {
		case 0, 9, 33:
			imported("a")
		case 1, 13, 14, 41:
			imported("b")
		case 20:
			imported("c")
		case 30:
			imported("d")
			r.dieDelivering()
		case 45:
			r.loseGrant("c")
			want["c"] = append(want["c"], "refresh false")
		}
		r.deliverDue()
		r.clock.advance(time.Minute)
	}
	if len(app.all()) != 0 {
		t.Fatal("the app was down")
	}
	app.set(false)
	for range 24 {
		r.clock.advance(15 * time.Minute)
		r.deliverDue()
	}

	for key, events := range want {
		if got := app.told(key); !slices.Equal(got, events) {
			t.Errorf("%s: told %q, want %q", key, got, events)
		}
	}
	key, seen := r.signingKey(), make(map[string]bool)
	for _, got := range app.all() {
		if seen[got.id()] {
			t.Errorf("%s arrived twice", got.id())
		}
		seen[got.id()] = true
		checkSignatures(t, got, key)
	}
	for _, d := range r.deliveries() {
		if d.Outcome != broker.OutcomeDelivered {
			t.Errorf("delivery %d ended as %q after %d attempts", d.Number, d.Outcome, d.Attempts)
		}
	}
	if log := r.log.String(); strings.Contains(log, "from=coatcheck") || strings.Contains(log, key) || !strings.Contains(log, `"msg":"webhook"`) {
		t.Error("the log says too much, or nothing")
	}
}

// dieDelivering ends the process, as a power cut would, when it has taken up a delivery, and starts the next.
func (r *rig) dieDelivering() {
	r.t.Helper()
	ctx, now := r.t.Context(), r.clock.Now()
	queues, err := r.store.DeliveryQueues(ctx)
	if err != nil || len(queues) == 0 {
		r.t.Fatal(queues, err)
	}
	if d, err := r.store.ClaimDelivery(ctx, queues[0].Endpoint, now, now.Add(time.Hour)); d == nil || err != nil {
		r.t.Fatal(d, err)
	}
	if err := r.store.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.clock.advance(time.Second)
	r.start()
}

// loseGrant has the provider refuse a connection's refresh token for good.
func (r *rig) loseGrant(key string) {
	r.t.Helper()
	r.provider.set(func(p *fakeProvider) {
		for _, f := range p.families {
			f.dead = true
		}
	})
	_, err := r.broker.Reveal(r.t.Context(), r.who, broker.ConnectionRef{Integration: "one", Key: key}, broker.RevealOptions{ForceRefresh: true})
	if !errors.Is(err, broker.ErrNeedsReauth) {
		r.t.Fatalf("a lost grant: %v", err)
	}
}
