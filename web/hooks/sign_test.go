package hooks

import (
	"net/http"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

const body = `{"authMode":"OAUTH2","connectionId":"c-123","endUser":{"endUserEmail":null,"endUserId":"u-1","tags":{}},"environment":"dev","from":"nango","operation":"creation","provider":"github","providerConfigKey":"github-prod","success":true,"tags":{"end_user_id":"u-1","plan":"gold"},"type":"auth"}`

var now = time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)

// The values were computed by the primary API's own formulas, elsewhere.
func TestSignaturesOfThePrimaryAPI(t *testing.T) {
	p := &broker.Parcel{ID: "event-1", At: now, Keys: []broker.Secret{broker.NewSecret("11111111-2222-4333-8444-555555555555")}, LegacySignature: true}
	h := http.Header{}
	sign(h, p, []byte(body))
	for name, want := range map[string]string{
		"X-Nango-Hmac-Sha256": "e9cd917f238c47f8f1baf9e8455a9cb0d369a6d9a77c1b98dd920019e33d88fa",
		"X-Nango-Signature":   "537518c312dbae8607f22b7d4096fe1da2b98fdffed56f0509e5a00ce9aa819e",
		"Webhook-Id":          "event-1",
		"Webhook-Timestamp":   "1777888800",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	p.LegacySignature = false
	h = http.Header{}
	sign(h, p, []byte(body))
	if _, ok := h["X-Nango-Signature"]; ok {
		t.Error("the legacy signature cannot be switched off")
	}
}

// The example of the specification of Standard Webhooks, as its libraries have it in their tests.
func TestTheStandardSignature(t *testing.T) {
	got := standardSignature(broker.NewSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": 0, "120": 2 * time.Minute, "-1": 0, "soon": 0, "1.5": 0, "99999999999999999999": 0,
		"Mon, 04 May 2026 10:01:00 GMT": time.Minute, "Mon, 04 May 2026 09:00:00 GMT": 0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {value}}, now); got != want {
			t.Errorf("%q: got %s, want %s", value, got, want)
		}
	}
}
