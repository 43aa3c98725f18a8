package main

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/providers/providertest"
)

// Tokens, codes, verifiers and keys go through connecting, renewing, proxying and failing. None of them is found
// afterwards in any file, log line, error or page: neither as it is nor encoded.
func TestSecretsStayWhereTheyBelong(t *testing.T) {
	provider := providertest.New(t, providertest.Knobs{Rotate: true, Account: "account-7"})
	p := newProcess(t, provider)
	p.start()
	ctx := t.Context()
	var seen []string // everything that strangers and operators get to see
	note := func(what string, a *answer, err error) *answer {
		t.Helper()
		if err != nil {
			t.Fatal(what, err)
		}
		seen = append(seen, fmt.Sprintf("%s: %d %v %s", what, a.status, a.header, a.body))
		return a
	}
	secrets := map[string]string{"client secret": providertest.ClientSecret, "API key": p.key}

	access, refresh := provider.Grant()
	secrets["imported access token"], secrets["imported refresh token"] = access, refresh
	a, err := p.do(ctx, http.MethodPost, "/connections", fmt.Sprintf(
		`{"provider_config_key":"acme","connection_id":"c","credentials":{"type":"OAUTH2","access_token":%q,"refresh_token":%q,"expires_at":%q}}`,
		access, refresh, time.Now().Add(time.Hour).UTC().Format(time.RFC3339)))
	if err != nil || a.status != http.StatusCreated {
		t.Fatal(a, err)
	}
	id, err := p.connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"c", id} {
		token, a, err := p.token(ctx, id, true)
		if err != nil || token == "" {
			t.Fatal(a, err)
		}
		secrets["renewed access token of "+id] = token
	}
	proxied := []string{"Provider-Config-Key", "acme", "Connection-Id", "c"}
	a, err = p.do(ctx, http.MethodGet, "/proxy/echo", "", proxied...)
	note("proxied", a, err)
	a, err = p.do(ctx, http.MethodGet, "/connections", "")
	note("list", a, err)
	a, err = p.do(ctx, http.MethodGet, "/connections/c?provider_config_key=acme&secret_key="+url.QueryEscape(p.key), "")
	note("key in the URL", a, err)
	a, err = p.do(ctx, http.MethodGet, "/connections", "", "Authorization", "Bearer coat_dev_wrong_0123456789abcdef0123456789abcdef_00000000")
	note("wrong key", a, err)
	a, err = p.do(ctx, http.MethodPost, "/connections", `{"provider_config_key":"acme","credentials":{"type":"OAUTH2","access_token":"`+access+`","nonsense":1}}`)
	note("unknown field", a, err)
	a, err = p.do(ctx, http.MethodPost, "/connections", `{"provider_config_key":"acme","credentials":{"type":"OAUTH2","access_token":"`+access)
	note("broken JSON", a, err)
	a, err = p.do(ctx, http.MethodGet, "/oauth/callback?code=a-stolen-code-0123456789&state=forged", "")
	note("forged callback", a, err)
	secrets["code of a stranger"] = "a-stolen-code-0123456789"

	provider.Set(func(k *providertest.Knobs) { k.Error = "invalid_grant" })
	_, a, err = p.token(ctx, "c", true)
	note("refused renewal", a, err)
	provider.Set(func(k *providertest.Knobs) { k.Error, k.Status = "", http.StatusServiceUnavailable })
	_, a, err = p.token(ctx, id, true)
	note("failed renewal", a, err)
	provider.Set(func(k *providertest.Knobs) { k.Status, k.API = 0, http.StatusForbidden })
	a, err = p.do(ctx, http.MethodGet, "/proxy/echo", "", proxied...)
	note("refused by the API", a, err)
	a, err = p.do(ctx, http.MethodDelete, "/connections/c?provider_config_key=acme", "")
	note("deleted", a, err)
	waitUntil(t, func() bool { return provider.Counts().Revocations > 0 })

	for i, r := range provider.TokenRequests() {
		form, err := url.ParseQuery(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"code", "code_verifier", "refresh_token"} {
			if v := form.Get(name); v != "" {
				secrets[fmt.Sprintf("%s of token request %d", name, i)] = v
			}
		}
	}
	if len(secrets) < 10 {
		t.Fatalf("only %d secrets to look for", len(secrets))
	}
	files := readAll(t, filepath.Join(p.dir, "data")) // with the write-ahead log, before it is folded in
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	for name, text := range readAll(t, filepath.Join(p.dir, "data")) {
		files[name+" after the end"] = text
	}
	files["log"] = p.log.String()
	for i, s := range seen {
		files[fmt.Sprint("answer ", i)] = s
	}
	for name, secret := range secrets {
		for form, text := range map[string]string{
			"as it is": secret, "in base64": strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(secret)), "="),
			"in base64 for URLs": base64.RawURLEncoding.EncodeToString([]byte(secret)), "in hex": hex.EncodeToString([]byte(secret)),
			"in a URL": url.QueryEscape(secret),
		} {
			for file, content := range files {
				if strings.Contains(content, text) {
					t.Errorf("%s stands %s in %s", name, form, file)
				}
			}
		}
	}
}

// readAll reads every file of a folder.
func readAll(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(raw)
	}
	if len(out) < 3 {
		t.Fatalf("only %d files in %s", len(out), dir)
	}
	return out
}
