// Command providersdoc writes the table of the built-in providers, docs/providers.md, from the catalogue itself. `make
// generate` runs it, and `make verify` fails where the two differ.
package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/coatcheck/coatcheck"
	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "providersdoc:", err)
		os.Exit(1)
	}
}

// run writes the table to the file that the arguments name.
func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: providersdoc FILE")
	}
	page, err := document(coatcheck.Catalogue)
	if err != nil {
		return err
	}
	return os.WriteFile(args[0], page, 0o644) //nolint:gosec // a page of the documentation, for everybody
}

// entry is what the table needs of an entry.
type entry struct {
	Alias            string            `json:"alias"`
	PKCE             string            `json:"pkce"`
	RefreshRotation  string            `json:"refresh_rotation"`
	RevocationURL    string            `json:"revocation_url"`
	IdentityEndpoint string            `json:"identity_endpoint"`
	IdentityPath     string            `json:"identity_path"`
	Evidence         map[string]string `json:"evidence"`
	Lacking          map[string]string `json:"lacking"`
	RateLimit        limits            `json:"rate_limit"`
	Revocation       struct {
		Style      string `json:"style"`
		WholeGrant bool   `json:"whole_grant"`
	} `json:"revocation"`
	LongLived *struct{} `json:"long_lived_token"`
	Proxy     struct {
		Retry        limits `json:"retry"`
		Verification *struct {
			Method    string `json:"method"`
			Endpoints texts  `json:"endpoints"`
		} `json:"verification"`
	} `json:"proxy"`

	facts *broker.Facts
}

// limits names the headers that say when to come back.
type limits struct {
	At        texts `json:"at"`
	After     texts `json:"after"`
	Remaining texts `json:"remaining"`
}

// texts is a list, or a single text.
type texts []string

// UnmarshalJSON reads either.
func (t *texts) UnmarshalJSON(raw []byte) error {
	if bytes.HasPrefix(raw, []byte("[")) {
		return json.Unmarshal(raw, (*[]string)(t))
	}
	var one string
	if err := json.Unmarshal(raw, &one); err != nil {
		return err
	}
	*t = texts{one}
	return nil
}

// document gives the page for a catalogue.
func document(catalogue []byte) ([]byte, error) {
	c, err := providers.Load(providers.Options{Builtin: catalogue})
	if err != nil {
		return nil, err
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	entries := map[string]*entry{}
	modes := map[string]int{}
	for _, name := range c.Names() {
		p, _ := c.Provider(name)
		e := &entry{facts: p.Facts()}
		if err := json.Unmarshal(e.facts.Template, e); err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		entries[name] = e
		modes[e.facts.Mode]++
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, intro, len(entries), counted(modes))
	for _, name := range c.Names() {
		b.WriteString(row(name, entries))
	}
	return b.Bytes(), nil
}

const intro = `# Built-in providers

<!-- Written by cmd/providersdoc from providers.yaml; run make generate. -->

%d entries. [The format](providers-format.md) explains the fields, and how to add entries or replace these. By mode:
%s.

A letter in brackets says how sure a fact is: *d* the provider's documentation, *s* other open source, *a* a summary of
the documentation, *g* several public repositories, *n* another broker's documentation, *m* memory alone, so not
verified. "no:" stands before the reason that the entry gives. Identity is where the account's id stands in the answer.

| key | name | mode | new refresh token at each renewal | revocation | identity | PKCE | verification of keys | rate-limit headers |
|---|---|---|---|---|---|---|---|---|
`

// row is an entry's line. An alias that changes nothing names its target alone.
func row(name string, all map[string]*entry) string {
	e := all[name]
	if target := all[e.Alias]; target != nil && target.facts.DisplayName == e.facts.DisplayName {
		return fmt.Sprintf("| `%s` | %s | as `%s` | | | | | | |\n", name, cell(e.facts.DisplayName), e.Alias)
	}
	mode := "`" + e.facts.Mode + "`"
	if !e.facts.Usable {
		mode += ", not usable yet"
	}
	return "| " + strings.Join([]string{
		"`" + name + "`", cell(e.facts.DisplayName), mode, e.rotation(), e.revocation(), e.identity(), e.pkce(), e.verification(), e.waiting(),
	}, " | ") + " |\n"
}

// stated is a fact with how sure it is.
func (e *entry) stated(fact, key string) string {
	if letter := e.Evidence[key]; letter != "" {
		return fact + " (" + letter + ")"
	}
	return fact
}

// without is what stands where a fact is lacking.
func (e *entry) without(what string) string {
	if reason := e.Lacking[what]; reason != "" {
		return "no: " + cell(reason)
	}
	return ""
}

func (e *entry) rotation() string {
	if e.LongLived != nil {
		return "no refresh tokens: the token is traded"
	}
	if e.facts.Mode == "OAUTH2_CC" {
		return ""
	}
	return e.stated(e.RefreshRotation, "rot")
}

func (e *entry) revocation() string {
	switch {
	case e.RevocationURL == "":
		return e.without("revocation")
	case e.Revocation.WholeGrant:
		return e.stated("whole grant", "rev")
	case e.Revocation.Style == "recipe":
		return e.stated("a call of its own", "rev")
	}
	return e.stated("RFC 7009", "rev")
}

func (e *entry) identity() string {
	switch {
	case strings.Contains(e.IdentityPath, "${"):
		field := strings.NewReplacer("${connectionConfig.", "", "${credentials.", "", "}", "").Replace(e.IdentityPath)
		return "`" + field + "`, without a call"
	case e.IdentityEndpoint == "":
		return e.without("identity")
	case e.IdentityPath == "":
		return e.stated("yes", "id")
	}
	return e.stated("`"+e.IdentityPath+"`", "id")
}

func (e *entry) pkce() string {
	switch {
	case e.facts.Mode == "OAUTH2_CC":
		return ""
	case e.PKCE == "none":
		return e.stated("sent, ignored", "pkce")
	case e.PKCE == "forbidden":
		return e.stated("not sent", "pkce")
	case e.PKCE == "unknown":
		return "sent, effect unknown"
	}
	return e.stated(e.PKCE, "pkce")
}

func (e *entry) verification() string {
	switch v := e.Proxy.Verification; {
	case e.facts.Mode != "API_KEY" && e.facts.Mode != "BASIC":
		return ""
	case v != nil && len(v.Endpoints) > 0:
		return "`" + v.Method + " " + cell(v.Endpoints[0]) + "`"
	case e.IdentityEndpoint != "":
		return "the identity call"
	}
	return e.without("verification")
}

// waiting lists the headers, those of proxied calls before those of the broker's own.
func (e *entry) waiting() string {
	l := e.Proxy.Retry
	if len(l.At)+len(l.After)+len(l.Remaining) == 0 {
		l = e.RateLimit
	}
	var names []string
	for _, list := range []texts{l.At, l.After, l.Remaining} {
		for _, name := range list {
			names = append(names, "`"+name+"`")
		}
	}
	if len(names) == 0 {
		return e.without("rate_limit")
	}
	return e.stated(strings.Join(names, ", "), "rate")
}

// cell keeps text inside its cell.
func cell(s string) string { return strings.ReplaceAll(s, "|", "\\|") }

// counted lists the modes, the most frequent first.
func counted(modes map[string]int) string {
	names := slices.SortedFunc(maps.Keys(modes), func(a, b string) int {
		return cmp.Or(cmp.Compare(modes[b], modes[a]), cmp.Compare(a, b))
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%d `%s`", modes[name], name)
	}
	return strings.Join(names, ", ")
}
