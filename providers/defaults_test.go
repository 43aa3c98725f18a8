package providers

import (
	"errors"
	"net/http"
	"os"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/providertest"
)

// Without a policy of the operator's, only https URLs with host names are used.
func TestURLsWithoutAPolicy(t *testing.T) {
	for raw, ok := range map[string]bool{
		"https://Example.com/x?y": true, "https://example.com:443": true, "http://example.com": false, "https://a@example.com": false,
		"https://10.0.0.1": false, "https://[::1]/": false, "https://example.com#f": false, "https:example.com": false, "ftp://example.com": false,
		"https://": false, "://": false, "https://2130706433/": false, "javascript:alert(1)": false,
	} {
		if u, err := httpsOnly(raw, true); (err == nil) != ok || ok && u.Hostname() != "example.com" {
			t.Errorf("%s: %v %v", raw, u, err)
		}
	}
}

type timeout struct{}

func (timeout) Error() string   { return "10.1.2.3 took too long" }
func (timeout) Timeout() bool   { return true }
func (timeout) Temporary() bool { return true }

func TestFailuresWithoutAPolicy(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code string
	}{
		{errors.New("refused by 10.1.2.3"), "provider_unreachable"},
		{timeout{}, "provider_timeout"},
		{broker.ErrEgressBlocked.Because(os.ErrPermission), "egress_blocked"},
	} {
		c, err := Load(Options{
			Client:   &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) { return nil, tt.err })},
			Overlays: []File{{Name: "x", Data: []byte(acme + "mine:\n  alias: acme\n  usable: true\n")}},
		})
		if err != nil {
			t.Fatal(err)
		}
		p := oauth(t, c, "mine")
		_, err = p.Renew(t.Context(), &broker.Holding{Client: client, Material: &broker.Material{Refresh: broker.NewSecret("R")}})
		if e := failed(t, err); e.Code != tt.code || e.Reach == nil || e.Reach.Code != tt.code || e.InDoubt {
			t.Errorf("got %+v", e)
		}
	}
}

func TestWithoutAClientNothingIsSent(t *testing.T) {
	s := providertest.New(t, providertest.Knobs{})
	o := options(t, string(s.Entry("test")))
	o.Client = nil
	c, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	_, err = oauth(t, c, "test").Renew(t.Context(), &broker.Holding{Client: client, Material: &broker.Material{Refresh: broker.NewSecret("R")}})
	if e := failed(t, err); e.Reach == nil || s.Counts().Tokens != 0 {
		t.Errorf("got %+v", e)
	}
}

// Should the library ever try twice, the second request is not sent.
func TestASecondTokenRequestIsRefused(t *testing.T) {
	sent := 0
	o := Options{Client: &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
		sent++
		return nil, errors.New("no")
	})}}
	call := &tokenCall{deps: newDeps(o)}
	for range 2 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://x.example/token", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := call.RoundTrip(req)
		if err == nil {
			t.Error("answered")
			_ = resp.Body.Close()
		}
	}
	if sent != 1 {
		t.Errorf("%d requests", sent)
	}
}

func TestModesDoWhatTheyCan(t *testing.T) {
	c := loadBuiltin(t)
	for name, want := range map[string][5]bool{ // authorizes, submits, renews, revokes, identifies
		"github": {true, false, true, true, true}, "zoom-cc": {false, true, true, true, true}, "openai": {false, true, false, false, true},
		"twilio": {false, true, false, false, true}, "unauthenticated": {false, true, false, false, true}, "custom-mcp": {true, false, true, true, true},
		"trello": {true, false, false, true, true},
	} {
		p, _ := c.Provider(name)
		var got [5]bool
		_, got[0] = p.(broker.Authorizer)
		_, got[1] = p.(broker.Submitter)
		_, got[2] = p.(broker.Renewer)
		_, got[3] = p.(broker.Revoker)
		_, got[4] = p.(broker.Identifier)
		if got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestRevocationOfClientCredentials(t *testing.T) {
	s := providertest.New(t, providertest.Knobs{})
	p := ccProvider(t, s, "token_params: {grant_type: client_credentials}")
	got, err := p.Submit(t.Context(), &broker.Holding{Client: &broker.Client{}}, secrets("client_id", providertest.ClientID, "client_secret", providertest.ClientSecret))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.CheckMaterial(got.Material); err != nil {
		t.Error(err)
	}
	supported, err := p.Revoke(t.Context(), &broker.Holding{Client: &broker.Client{}, Material: got.Material})
	if !supported || err != nil || s.Good(got.Material.Access.Reveal()) {
		t.Errorf("%v %v", supported, err)
	}
}
