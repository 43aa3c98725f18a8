package nango

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// integrations answers GET /integrations.
func (a *api) integrations(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	if err := noQuery(r); err != nil {
		return err
	}
	list, err := a.b.Integrations(r.Context(), who)
	if err != nil {
		return err
	}
	out := make([]integrationView, len(list))
	for n, i := range list {
		out[n] = a.view(i)
	}
	return kit.WriteJSON(w, http.StatusOK, data[[]integrationView]{out})
}

// view renders an integration. One whose provider left the catalogue is shown by the provider's name.
func (a *api) view(i *broker.Integration) integrationView {
	name := i.DisplayName
	if f, err := a.b.Provider(i.Provider); err == nil && name == "" {
		name = f.DisplayName
	}
	if name == "" {
		name = i.Provider
	}
	return integrationView{
		UniqueKey: i.Key, Provider: i.Provider, DisplayName: name, Logo: a.logoURL(i.Provider), ForwardWebhooks: i.ForwardWebhooks,
		CreatedAt: stamp(i.CreatedAt), UpdatedAt: stamp(i.UpdatedAt),
	}
}

// integration answers GET /integrations/{uniqueKey}.
func (a *api) integration(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	q, err := params(r)
	if err != nil {
		return err
	}
	include := q.options("include", "webhook", "credentials")
	if err := q.done(); err != nil {
		return err
	}
	key, err := pathValue(r, "uniqueKey", isIntegrationKey)
	if err != nil {
		return err
	}
	i, facts, err := a.b.Integration(r.Context(), who, key)
	if err != nil {
		return err
	}
	out := integrationDetails{integrationView: a.view(i)}
	if slices.Contains(include, "webhook") {
		out.WebhookURL = new(*string)
		if facts != nil && facts.ForwardsWebhooks {
			*out.WebhookURL = orNull(a.webhookAddress(i))
		}
	}
	// Without the scope they are left out, and nothing says so: that is the contract.
	if slices.Contains(include, "credentials") && who.Scopes.Has(broker.ScopeIntegrationSecrets) {
		out.Credentials = new(any)
		if facts != nil && (hasClient(facts.Mode) || facts.Mode == typeApp || facts.Mode == typeCustom) {
			if *out.Credentials, err = a.secrets(r, who, i.Key, facts.Mode); err != nil {
				return err
			}
		}
	}
	return kit.WriteJSON(w, http.StatusOK, data[integrationDetails]{out})
}

// hasClient reports whether integrations of that mode hold a client id and secret of ours.
func hasClient(mode string) bool {
	return slices.Contains([]string{typeOAuth1, typeOAuth2, typeTBA}, mode)
}

func (a *api) secrets(r *http.Request, who broker.Actor, key, mode string) (any, error) {
	s, err := a.b.ClientSecrets(r.Context(), who, key)
	if err != nil {
		return nil, err
	}
	if mode == typeApp {
		return &appSecrets{
			Type: mode, AppID: orNull(s.ClientID), PrivateKey: orNull(s.ClientSecret.Reveal()), AppLink: orNull(s.Settings[settingAppLink]),
		}, nil
	}
	if mode == typeCustom {
		return &customSecrets{
			Type: mode, ClientID: orNull(s.ClientID), ClientSecret: orNull(s.ClientSecret.Reveal()), AppID: orNull(s.Settings[settingAppID]),
			AppLink: orNull(s.Settings[settingAppLink]), PrivateKey: orNull(s.Settings[settingPrivateKey]),
		}, nil
	}
	return &integrationSecrets{
		Type: mode, ClientID: orNull(s.ClientID), ClientSecret: orNull(s.ClientSecret.Reveal()),
		Scopes: orNull(strings.Join(s.Scopes, ",")), WebhookSecret: orNull(s.WebhookSecret.Reveal()),
	}, nil
}

// The settings that say which app is an integration's, where it is, and what it signs with.
const (
	settingAppLink    = "app_link"
	settingAppID      = "app_id"
	settingPrivateKey = "private_key"
)

// client is an integration's credentials as a body has them. nil pointers are absent.
type client struct {
	kind              string
	id, secret        string
	scopes            *string
	webhookSecret     *string
	settings          map[string]string
	given, recognized bool
}

// credentials takes an integration's credentials.
func (o *object) credentials() client {
	c := o.object("credentials", false)
	if c == nil {
		return client{}
	}
	out := client{given: true, kind: deref(c.maybe("type"))}
	switch {
	case hasClient(out.kind):
		out.recognized = true
		out.id, out.secret = c.text("client_id", atLeast(1), atMost(255)), c.text("client_secret", atLeast(1))
		out.scopes = c.maybe("scopes", matching(scopeListForm, "Invalid string: scopes are separated by commas, without spaces"))
		out.webhookSecret = c.maybe("webhook_secret", atMost(255))
		c.done()
	case out.kind == typeApp:
		out.recognized = true
		out.id, out.secret = c.text("app_id", atLeast(1), atMost(255)), c.text("private_key", atLeast(1), atMost(maxToken))
		out.settings = map[string]string{settingAppLink: c.text("app_link", atLeast(1), atMost(2048))}
		c.done()
	case out.kind == typeCustom:
		out.recognized = true
		out.id, out.secret = c.text("client_id", atLeast(1), atMost(255)), c.text("client_secret", atLeast(1))
		out.settings = map[string]string{
			settingAppID: c.text("app_id", atLeast(1), atMost(255)), settingAppLink: c.text("app_link", atLeast(1), atMost(2048)),
			settingPrivateKey: c.text("private_key", atLeast(1), atMost(maxToken)),
		}
		c.done()
	default:
		o.add(codeUnion, "Invalid input", append(o.at("credentials"), "type")...)
	}
	return out
}

// fits says what is wrong with the credentials for a provider of that mode; "": nothing is.
func (c client) fits(mode string, required bool) string {
	needed := slices.Contains([]string{typeOAuth1, typeOAuth2, typeApp, typeCustom}, mode)
	switch {
	case c.given && !needed && !hasClient(mode):
		return "Integrations of this provider hold no credentials"
	case c.given && c.kind != mode:
		return "The provider takes credentials of type " + mode + ", not " + c.kind
	case !c.given && needed && required:
		return "The provider needs credentials of type " + mode
	}
	return ""
}

// createIntegration answers POST /integrations.
func (a *api) createIntegration(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	o, err := bodyAlone(r)
	if err != nil {
		return err
	}
	in, forward := o.newIntegration()
	given := o.credentials()
	in.Settings = o.settings()
	o.done()
	if err := o.failed(inBody); err != nil {
		return err
	}
	facts, err := a.b.Provider(in.Provider)
	if err != nil {
		return unknownProvider(broker.AsError(err))
	}
	if wrong := given.fits(facts.Mode, true); wrong != "" {
		return invalidBody(broker.ErrInvalidRequest, wrong)
	}
	for name, value := range given.settings {
		setIn(&in.Settings, name, value)
	}
	in.ForwardWebhooks = forward == nil || *forward
	in.ClientID, in.ClientSecret = given.id, broker.NewSecret(given.secret)
	in.WebhookSecret = broker.NewSecret(deref(given.webhookSecret))
	in.Scopes = splitKeys(deref(given.scopes)) // none: the provider's own
	i, err := a.b.CreateIntegration(r.Context(), who, in)
	if err != nil {
		return creationFailed(err)
	}
	return kit.WriteJSON(w, http.StatusOK, data[integrationView]{a.view(i)})
}

// newIntegration takes what every new integration has.
func (o *object) newIntegration() (in broker.IntegrationInput, forward *bool) {
	in.Provider = o.text("provider", isProviderName...)
	in.Key = o.text("unique_key", isIntegrationKey...)
	in.DisplayName = deref(o.maybe("display_name", atLeast(1), atMost(255)))
	return in, o.flag("forward_webhooks")
}

// settings takes the provider's own settings, which stand under one of two names.
func (o *object) settings() map[string]string {
	out := o.textMap("integration_config", atMost(8192))
	for name, value := range o.textMap("custom") {
		setIn(&out, name, value)
	}
	return out
}

func unknownProvider(e *broker.Error) error {
	return &refusal{cause: e, status: http.StatusBadRequest, code: inBody, issues: []issue{
		{Code: codeString, Message: "There is no such provider", Path: []string{"provider"}},
	}}
}

// creationFailed rewords what the broker finds wrong with a new integration.
func creationFailed(err error) error {
	e := broker.AsError(err)
	switch {
	case errors.Is(e, broker.ErrConflict):
		// In camel case, unlike the field itself: callers know it so.
		return &refusal{cause: e, status: http.StatusBadRequest, code: inBody, issues: []issue{
			{Code: codeString, Message: "An integration of that key exists", Path: []string{"uniqueKey"}},
		}}
	case errors.Is(e, broker.ErrNotFound):
		return unknownProvider(e)
	case errors.Is(e, broker.ErrVariableInvalid), errors.Is(e, broker.ErrInvalidRequest), errors.Is(e, broker.ErrNotSupported):
		return invalidBody(e, e.Msg)
	}
	return err
}

// quickstart answers POST /integrations/quickstart: there are no shared developer apps here.
func (a *api) quickstart(_ http.ResponseWriter, r *http.Request, _ broker.Actor) error {
	o, err := bodyAlone(r)
	if err != nil {
		return err
	}
	in, _ := o.newIntegration()
	o.done()
	if err := o.failed(inBody); err != nil {
		return err
	}
	facts, err := a.b.Provider(in.Provider)
	if err != nil {
		return unknownProvider(broker.AsError(err))
	}
	message := "Quickstart is not available for this provider"
	if slices.Contains([]string{typeOAuth1, typeOAuth2, typeApp}, facts.Mode) {
		message = "There is no app configured for this provider; register one and use POST /integrations"
	}
	return invalidBody(broker.ErrNotSupported, message)
}

// updateIntegration answers PATCH /integrations/{uniqueKey}.
func (a *api) updateIntegration(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	o, err := bodyAlone(r)
	if err != nil {
		return err
	}
	p := broker.IntegrationPatch{
		Key:             o.maybe("unique_key", isIntegrationKey...),
		DisplayName:     o.maybe("display_name", atLeast(1), atMost(255)),
		ForwardWebhooks: o.flag("forward_webhooks"),
	}
	given := o.credentials()
	p.Settings = o.settings()
	o.done()
	if err := o.failed(inBody); err != nil {
		return err
	}
	key, err := pathValue(r, "uniqueKey", isIntegrationKey)
	if err != nil {
		return err
	}
	given.patch(&p)
	_, facts, err := a.b.Integration(r.Context(), broker.System(who.Environment), key)
	if err != nil {
		return err
	}
	if facts != nil && given.given {
		if wrong := given.fits(facts.Mode, false); wrong != "" {
			return invalidBody(broker.ErrInvalidRequest, wrong)
		}
	}
	i, err := a.b.UpdateIntegration(r.Context(), who, key, p)
	switch {
	case errors.Is(err, broker.ErrConflict):
		return invalidBody(broker.AsError(err), "The key is taken, or the integration has connections, whose callers would lose it")
	case errors.Is(err, broker.ErrSecretRequired):
		return invalidBody(broker.AsError(err), broker.AsError(err).Msg)
	case err != nil:
		return creationFailed(err)
	}
	return kit.WriteJSON(w, http.StatusOK, data[integrationView]{a.view(i)})
}

// patch puts the credentials into a change. An empty webhook secret removes it, an absent one stays.
func (c client) patch(p *broker.IntegrationPatch) {
	if !c.given {
		return
	}
	secret := broker.NewSecret(c.secret)
	p.ClientID, p.ClientSecret = &c.id, &secret
	if c.scopes != nil {
		scopes := splitKeys(*c.scopes)
		p.Scopes = &scopes
	}
	for name, value := range c.settings {
		setIn(&p.Settings, name, value)
	}
	if c.webhookSecret != nil {
		webhook := broker.NewSecret(*c.webhookSecret)
		p.WebhookSecret = &webhook
	}
}

// deleteIntegration answers DELETE /integrations/{uniqueKey}.
func (a *api) deleteIntegration(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	if err := noQuery(r); err != nil {
		return err
	}
	key, err := pathValue(r, "uniqueKey", isIntegrationKey)
	if err != nil {
		return err
	}
	if err := a.b.DeleteIntegration(r.Context(), who, key); err != nil {
		return err
	}
	return kit.WriteJSON(w, http.StatusOK, success{true})
}
