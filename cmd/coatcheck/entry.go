package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers"
)

// entry is what people are told of a provider, as its entry in the catalogue writes it.
type entry struct {
	Alias                  string            `json:"alias"`
	AuthorizationURL       string            `json:"authorization_url"`
	TokenURL               string            `json:"token_url"`
	RefreshURL             string            `json:"refresh_url"`
	RequestURL             string            `json:"request_url"`
	TokenAuthMethod        string            `json:"token_auth_method"`
	AuthorizationMethod    string            `json:"authorization_method"`
	TokenRequestAuthMethod string            `json:"token_request_auth_method"`
	BodyFormat             string            `json:"body_format"`
	ScopeSeparator         string            `json:"scope_separator"`
	PKCE                   string            `json:"pkce"`
	PKCEReason             string            `json:"pkce_reason"`
	DisablePKCE            bool              `json:"disable_pkce"`
	AccessTokenLifetime    any               `json:"access_token_lifetime"`
	RefreshTokenLifetime   int               `json:"refresh_token_lifetime"`
	RefreshTokenIdle       int               `json:"refresh_token_idle"`
	RefreshRotation        string            `json:"refresh_rotation"`
	RefreshGrace           int               `json:"refresh_grace"`
	LongLived              *struct{}         `json:"long_lived_token"`
	RevocationURL          string            `json:"revocation_url"`
	Revocation             revocation        `json:"revocation"`
	IdentityEndpoint       string            `json:"identity_endpoint"`
	IdentityPath           string            `json:"identity_path"`
	HostPattern            string            `json:"host_pattern"`
	ClientIDPattern        string            `json:"client_id_pattern"`
	RateLimit              waiting           `json:"rate_limit"`
	Quirks                 texts             `json:"quirks"`
	Evidence               map[string]string `json:"evidence"`
	Lacking                map[string]string `json:"lacking"`
	Warnings               []warning         `json:"warnings"`
	IntegrationConfig      map[string]asked  `json:"integration_config"`
	Proxy                  struct {
		BaseURL      string        `json:"base_url"`
		Retry        waiting       `json:"retry"`
		Verification *verification `json:"verification"`
	} `json:"proxy"`

	facts    *broker.Facts
	provider broker.Provider
	file     string // "": built in
}

type revocation struct {
	Style      string `json:"style"`
	Method     string `json:"method"`
	WholeGrant bool   `json:"whole_grant"`
	Tokens     texts  `json:"tokens"`
}

type verification struct {
	Method    string `json:"method"`
	Endpoints texts  `json:"endpoints"`
}

// asked is a setting of an integration, as far as the list of them goes.
type asked struct {
	Title    string `json:"title"`
	Optional bool   `json:"optional"`
}

// warning is something that changes at the provider on a day.
type warning struct {
	Date string `json:"date"`
	Text string `json:"text"`
	When string `json:"when"`
}

// waiting names the headers that say when to come back.
type waiting struct {
	At        texts `json:"at"`
	After     texts `json:"after"`
	Remaining texts `json:"remaining"`
}

// names lists the headers.
func (w *waiting) names() []string { return slices.Concat(w.At, w.After, w.Remaining) }

// texts is a list, or a single text or number.
type texts []string

// UnmarshalJSONFrom reads either.
func (t *texts) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if dec.PeekKind() == '[' {
		return json.UnmarshalDecode(dec, (*[]string)(t))
	}
	*t = make(texts, 1)
	return json.UnmarshalDecode(dec, &(*t)[0])
}

// readText takes whatever stands where a text is meant as the text of it: an entry's author need not quote a number.
func readText(dec *jsontext.Decoder, s *string) error {
	raw, err := dec.ReadValue()
	if err != nil {
		return err
	}
	if raw.Kind() != '"' {
		*s = string(raw)
		return nil
	}
	text, err := jsontext.AppendUnquote(nil, raw)
	*s = string(text)
	return err
}

// entryOf reads a provider's entry.
func entryOf(c *providers.Catalogue, name string) (*entry, error) {
	p, ok := c.Provider(name)
	if !ok {
		return nil, broker.ErrNotFound.Saying(fmt.Sprintf("there is no provider %q; see \"coatcheck providers list --search\"", name))
	}
	e := &entry{facts: p.Facts(), provider: p, file: c.File(name)}
	if err := json.Unmarshal(e.facts.Template, e, json.WithUnmarshalers(json.UnmarshalFromFunc(readText))); err != nil {
		return nil, fmt.Errorf("the entry of %s: %w", name, err)
	}
	return e, nil
}

// tokens reports whether the mode gets tokens from an authorization server.
func (e *entry) tokens() bool { return e.TokenURL != "" }

// identifies reports whether it can be told whose account was connected.
func (e *entry) identifies() bool {
	return e.IdentityEndpoint != "" || strings.Contains(e.IdentityPath, "${")
}

// verifies reports whether typed credentials are tried.
func (e *entry) verifies() bool {
	typed := e.facts.Mode == "API_KEY" || e.facts.Mode == "BASIC"
	return typed && (e.Proxy.Verification != nil || e.IdentityEndpoint != "")
}

// sendsPKCE reports whether the sign-in carries a challenge.
func (e *entry) sendsPKCE() bool {
	return e.facts.Mode == "OAUTH2" && e.PKCE != "forbidden" && !e.DisablePKCE
}

// limits are the headers that proxied calls go by, or else those of the broker's own calls.
func (e *entry) limits() []string {
	if names := e.Proxy.Retry.names(); len(names) > 0 {
		return names
	}
	return e.RateLimit.names()
}

// supports lists in words what the entry has.
func (e *entry) supports() []string {
	var out []string
	for _, x := range []struct {
		has  bool
		word string
	}{
		{e.facts.Usable && (e.tokens() && e.facts.Mode == "OAUTH2" || e.LongLived != nil), "refresh"},
		{e.sendsPKCE(), "pkce"},
		{e.RevocationURL != "", "revoke"},
		{e.identifies(), "identity"},
		{e.verifies(), "verify"},
		{e.facts.HasProxy, "proxy"},
		{len(e.limits()) > 0, "limits"},
	} {
		if x.has {
			out = append(out, x.word)
		}
	}
	return out
}

// clientAuth says in words how the client proves itself; "" where there is none.
func (e *entry) clientAuth() string {
	switch m := e.TokenAuthMethod; {
	case !e.tokens():
		return ""
	case e.facts.Mode == "OAUTH1":
		return "a signature on each request"
	case m == "none":
		return "not at all: a public client, without a secret"
	case m != "":
		return m
	case e.TokenRequestAuthMethod == "custom":
		return "id and secret as user name and password in the body"
	case e.AuthorizationMethod == "header":
		return "client_secret_basic"
	case e.TokenRequestAuthMethod == "basic":
		return "a Basic header"
	}
	return "client_secret_post"
}

// publicClient reports whether no secret is sent.
func (e *entry) publicClient() bool { return e.TokenAuthMethod == "none" }

// separator stands between scopes.
func (e *entry) separator() string { return cmp.Or(e.ScopeSeparator, " ") }

// addresses are the templates of all that the entry names, without a mode's alternatives.
func (e *entry) addresses() []string {
	_, identity, _ := strings.Cut(e.IdentityEndpoint, " ")
	identity, _, _ = strings.Cut(identity, " ")
	out := []string{e.AuthorizationURL, e.RequestURL, e.TokenURL, e.RefreshURL, e.Proxy.BaseURL, e.RevocationURL, identity}
	return slices.DeleteFunc(out, func(s string) bool { return s == "" })
}

// warnings are the dated warnings that apply to the entry's addresses.
func (e *entry) warnings() []warning {
	return slices.DeleteFunc(slices.Clone(e.Warnings), func(w warning) bool {
		return w.When != "" && !strings.Contains(strings.Join(e.addresses(), " "), w.When)
	})
}
