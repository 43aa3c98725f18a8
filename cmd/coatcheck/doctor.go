package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers"
	"github.com/coatcheck/coatcheck/providers/egress"
)

type doctorCommand struct {
	beside
	Integration string `arg:"" help:"The integration's key."`
	Offline     bool   `help:"Ask no provider."`
	JSON        bool   `name:"json" help:"For programs."`
}

// level says how bad a finding is.
type level string

const (
	fine    level = "ok"
	warns   level = "warning"
	failure level = "error"
)

// finding is what one look came to. An error keeps users from connecting, a warning may.
type finding struct {
	Level level  `json:"level"`
	Check string `json:"check"`
	Text  string `json:"text"`
	Do    string `json:"do,omitzero"`
}

// report is the whole of a visit, for programs.
type report struct {
	Environment string    `json:"environment"`
	Integration string    `json:"integration"`
	Provider    string    `json:"provider"`
	Findings    []finding `json:"findings"`
	Errors      int       `json:"errors"`
	Warnings    int       `json:"warnings"`
}

// patient is an integration that is looked at.
type patient struct {
	key, provider, clientID string
	hasSecret               bool
	scopes                  []string // nil: the entry's own
	settings                map[string]string
	hosts                   []string
	redirect                string // what is to be registered; "": not known yet
	publicURL               string
	dev                     bool
	managed                 bool // declared in the configuration file
	stored                  *broker.Integration
	ahead                   bool // the file says something else than the database
	entry                   *entry
	known                   []string // scopes that entries with the same token endpoint have

	findings []finding
}

func (p *patient) note(l level, check, do, format string, args ...any) {
	p.findings = append(p.findings, finding{Level: l, Check: check, Text: fmt.Sprintf(format, args...), Do: do})
}

// Run looks at an integration.
func (c *doctorCommand) Run(p *program) error {
	n, err := bareNode(p, c.overrides)
	if err != nil {
		return err
	}
	catalogue, err := n.catalogue()
	if err != nil {
		return err
	}
	x, err := c.admit(p, n)
	if err != nil {
		return err
	}
	x.publicURL, x.dev = n.config.PublicURL, n.config.dev()
	x.examine(p.ctx, catalogue, n.egress, c.Offline)
	return c.tell(p, x)
}

// admit finds the integration: as the database has it or, where that has none yet, as the configuration file declares it.
func (c *doctorCommand) admit(p *program, n *node) (*patient, error) {
	file, declared := n.config.Environments[c.Env].Integrations[c.Integration]
	var x *patient
	if databaseExists(n.config) {
		var err error
		if x, err = c.stored(p); err != nil && (!declared || !errors.Is(err, broker.ErrNotFound)) {
			return nil, err
		}
	}
	switch {
	case x == nil && !declared:
		return nil, broker.ErrNotFound.Saying(fmt.Sprintf("there is no integration %q in the environment %s", c.Integration, c.Env))
	case x == nil:
		in, err := n.config.integration("environments."+c.Env+".integrations."+c.Integration, c.Integration, file)
		if err != nil {
			return nil, err
		}
		return &patient{
			key: in.Key, provider: in.Provider, clientID: in.ClientID, hasSecret: !in.ClientSecret.IsZero(), scopes: in.Scopes,
			settings: in.Settings, hosts: in.Hosts, managed: true,
		}, nil
	case declared:
		x.ahead = x.provider != file.Provider || x.clientID != file.ClientID || file.Scopes != nil && !slices.Equal(x.scopes, file.Scopes)
	}
	return x, nil
}

// stored reads the integration from the database, beside a server that may be running.
func (c *doctorCommand) stored(p *program) (*patient, error) {
	n, e, err := c.open(p)
	if err != nil {
		return nil, err
	}
	defer func() { _ = n.store.Close() }()
	i, f, err := n.broker.Integration(p.ctx, broker.System(e.ID), c.Integration)
	if err != nil {
		return nil, broker.ErrNotFound.Saying(fmt.Sprintf("there is no integration %q in the environment %s", c.Integration, c.Env))
	}
	x := &patient{
		key: i.Key, provider: i.Provider, clientID: i.ClientID, hasSecret: len(i.Secret) > 0, scopes: i.Scopes, settings: i.Settings,
		hosts: i.Hosts, managed: i.Managed, stored: i,
	}
	if f != nil {
		x.redirect = n.broker.RedirectURI(f, i)
	}
	return x, nil
}

// tell prints what was found.
func (c *doctorCommand) tell(p *program, x *patient) error {
	r := report{Environment: c.Env, Integration: x.key, Provider: x.provider, Findings: x.findings}
	for _, f := range x.findings {
		switch f.Level {
		case failure:
			r.Errors++
		case warns:
			r.Warnings++
		case fine:
		}
	}
	if c.JSON {
		if err := p.writeJSON(r); err != nil {
			return err
		}
	} else {
		for _, f := range x.findings {
			do := ""
			if f.Do != "" {
				do = " -> " + f.Do
			}
			p.say("%-8s %-9s %s%s", f.Level, f.Check, f.Text, do)
		}
		p.say("%s: %s, %s", x.key, counted(r.Errors, "error"), counted(r.Warnings, "warning"))
	}
	if r.Errors > 0 {
		return errProblems
	}
	return nil
}

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}

// examine makes all looks.
func (p *patient) examine(ctx context.Context, c *providers.Catalogue, policy *egress.Policy, offline bool) {
	e, err := entryOf(c, p.provider)
	switch {
	case err != nil:
		p.note(failure, "provider", "put its entry into a file that providers: names", "the catalogue has no %s", p.provider)
		return
	case !e.facts.Usable:
		p.note(failure, "provider", "", "%s cannot be used: %s", e.facts.DisplayName, e.facts.UnusableReason)
		return
	}
	p.entry = e
	if p.scopes == nil {
		p.scopes = e.facts.DefaultScopes
	}
	p.known = knownScopes(c, e)
	p.note(fine, "provider", "", "%s (%s)", e.facts.DisplayName, e.facts.Mode)
	for _, look := range []func(){p.lookState, p.lookClient, p.lookSecret, p.lookRedirect, p.lookScopes, p.lookSettings, p.lookPKCE, p.lookDates} {
		look()
	}
	if !offline {
		p.lookEndpoints(ctx, policy)
	}
}

// lookState tells what the server has noted.
func (p *patient) lookState() {
	switch i := p.stored; {
	case i == nil:
		p.note(warns, "state", "start or restart the server", "the configuration file declares it, and no server has read that yet")
	case p.ahead:
		p.note(warns, "state", "restart the server", "the configuration file says something else than what is in use, which is what is looked at here")
	case i.Fault != "":
		p.note(failure, "state", "enter client id and secret again, as the provider has them now",
			"misconfigured: the provider refuses the client (%s) since %s", i.Fault, i.FaultAt.Format(time.RFC3339))
	default:
		p.note(fine, "state", "", "the server knows of no refusal")
	}
}

// placeholders are what stands in examples where a client id belongs.
var placeholders = []string{"your-", "your_", "client_id", "client-id", "changeme", "change-me", "placeholder", "xxxx", "${", "<"}

// lookClient looks at the client id.
func (p *patient) lookClient() {
	f, id := p.entry.facts, p.clientID
	enter := "set client_id to what " + f.DisplayName + " shows for the app"
	lower := strings.ToLower(id)
	switch {
	case id == "" && !f.NeedsClient:
	case id == "":
		p.note(failure, "client", enter, "there is no client id")
	case strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '"' || r == '\'' }):
		p.note(failure, "client", enter, "the client id holds a space, a quote or a control character")
	case slices.ContainsFunc(placeholders, func(s string) bool { return strings.Contains(lower, s) }):
		p.note(warns, "client", enter, "the client id looks like one out of an example")
	case strings.Contains(id, "://"):
		p.note(warns, "client", enter, "the client id looks like an address")
	case !p.entry.clientIDFits(id):
		p.note(warns, "client", enter, "client ids of %s look different", f.DisplayName)
	default:
		p.note(fine, "client", "", "there is a client id")
	}
}

// lookSecret looks whether there is a client secret that can be used.
func (p *patient) lookSecret() {
	f := p.entry.facts
	again := "enter the client secret again"
	if p.managed {
		again = "restart the server, which enters the secret of the configuration file again"
	}
	switch {
	case p.stored != nil && p.stored.TokenOrigin != f.TokenOrigin:
		p.note(failure, "secret", again, "secret_required: the client was entered for %s, and the provider is at %s now",
			cmp.Or(p.stored.TokenOrigin, "an address of the end user's"), cmp.Or(f.TokenOrigin, "an address of the end user's"))
	case !f.NeedsClient:
	case p.entry.publicClient():
		p.note(fine, "secret", "", "none is sent: the client is a public one")
	case !p.hasSecret:
		p.note(failure, "secret", "set client_secret or client_secret_file", "there is no client secret")
	default:
		p.note(fine, "secret", "", "there is a client secret")
	}
}

// lookRedirect names the address that the provider has to know.
func (p *patient) lookRedirect() {
	f := p.entry.facts
	switch {
	case !f.Interactive:
		return
	case p.redirect == "" && f.FreeHost:
		p.note(warns, "redirect", "start the server, then ask again", "the redirect URI has an id of the integration's own, which is not made yet")
		return
	case p.redirect == "":
		p.redirect = p.publicURL + broker.CallbackPath
	}
	if p.dev || !strings.HasPrefix(p.publicURL, "https://") {
		p.note(warns, "redirect", "set public_url to an https origin if the provider refuses it",
			"register %s; some providers take https alone, and it works in browsers on this machine alone", p.redirect)
		return
	}
	p.note(fine, "redirect", "", "register exactly %s", p.redirect)
}

// lookSettings looks whether the settings are what the entry wants.
func (p *patient) lookSettings() {
	if p.entry.facts.FreeHost && len(p.hosts) == 0 {
		p.note(warns, "settings", "list the hosts under hosts, or let the app's backend name the host",
			"end users name the server, and no host is on the list of those that get the client secret")
	}
	checker, ok := p.entry.provider.(broker.SettingsChecker)
	if !ok || len(p.entry.IntegrationConfig) == 0 {
		return
	}
	if _, err := checker.CheckSettings(p.settings); err != nil {
		p.note(failure, "settings", "set it under integration_config", "%s", broker.AsError(err).Msg)
		return
	}
	p.note(fine, "settings", "", "all settings are there")
}

// lookPKCE tells whether sign-ins are protected by it.
func (p *patient) lookPKCE() {
	switch e := p.entry; {
	case e.facts.Mode != "OAUTH2":
	case !e.sendsPKCE():
		p.note(warns, "pkce", "", "off: %s", cmp.Or(e.PKCEReason, "the entry turns it off"))
	case e.PKCE == "none":
		p.note(fine, "pkce", "", "sent; the provider ignores it")
	default:
		p.note(fine, "pkce", "", "S256")
	}
}

// lookDates tells what will change at the provider.
func (p *patient) lookDates() {
	for _, w := range p.entry.warnings() {
		p.note(warns, "date", "", "%s: %s", w.Date, w.Text)
	}
}
