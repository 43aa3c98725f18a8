package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const catalogue = `
acme:
  display_name: Acme | Co
  categories: [crm]
  auth_mode: OAUTH2
  docs: https://acme.example/docs
  authorization_url: https://acme.example/authorize
  token_url: https://acme.example/token
  pkce: S256
  revocation_url: https://acme.example/revoke
  identity_endpoint: GET https://acme.example/me
  identity_path: user.id
  refresh_rotation: "yes"
  rate_limit: {at: x-reset, remaining: x-left}
  evidence: {rev: d, pkce: m, rot: s}
  proxy: {base_url: https://acme.example}
acme-old:
  alias: acme
acme-key:
  display_name: Acme (key)
  categories: [crm]
  auth_mode: API_KEY
  docs: https://acme.example/docs
  proxy:
    base_url: https://acme.example
    headers: {x-api-key: "${apiKey}"}
    verification: {method: GET, endpoints: /me}
  lacking: {identity: no call, rate_limit: no header}
acme-later:
  display_name: Acme (later)
  categories: [crm]
  auth_mode: BILL
  docs: https://acme.example/docs
  usable: false
  unusable_reason: Not yet.
  token_url: https://acme.example/login
  identity_path: ${credentials.username}
  revocation_url: https://acme.example/out
  revocation: {style: recipe, whole_grant: true}
`

func TestTable(t *testing.T) {
	page, err := document([]byte(catalogue))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"4 entries. ", "2 `OAUTH2`, 1 `API_KEY`, 1 `BILL`.\n",
		"| `acme` | Acme \\| Co | `OAUTH2` | yes (s) | RFC 7009 (d) | `user.id` | S256 (m) |  | `x-reset`, `x-left` |\n",
		"| `acme-old` | Acme \\| Co | as `acme` | | | | | | |\n",
		"| `acme-key` | Acme (key) | `API_KEY` |  |  | no: no call |  | `GET /me` | no: no header |\n",
		"| `acme-later` | Acme (later) | `BILL`, not usable yet |  | whole grant | `username`, without a call |  |  |  |\n",
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("%q is not on the page\n%s", want, page)
		}
	}
}

func TestPageOfTheBuiltinCatalogue(t *testing.T) {
	file := filepath.Join(t.TempDir(), "providers.md")
	if err := run([]string{file}); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(page), "| `github` | GitHub | `OAUTH2` |") {
		t.Errorf("%v: %.200s", err, page)
	}
	if run(nil) == nil {
		t.Error("written nowhere")
	}
	if _, err := document([]byte("a:\n  display_name: A\n")); err == nil {
		t.Error("a catalogue that is wrong makes a page")
	}
}
