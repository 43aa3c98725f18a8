package nango

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// sessionLifetime is part of the contract.
const sessionLifetime = 30 * time.Minute

// createSession answers POST /connect/sessions.
func (a *api) createSession(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	o, err := bodyAlone(r)
	if err != nil {
		return err
	}
	// Without an end user, tags must say whom the session is for.
	in := o.session(!o.has("tags") || o.has("end_user"))
	in.Integrations = o.texts("allowed_integrations")
	o.done()
	if err := o.failed(inBody); err != nil {
		return err
	}
	return a.openSession(w, r, who, o, in)
}

// createReconnectSession answers POST /connect/sessions/reconnect.
func (a *api) createReconnectSession(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	o, err := bodyAlone(r)
	if err != nil {
		return err
	}
	ref := &broker.ConnectionRef{Key: o.text("connection_id", isConnectionID...), Integration: o.text("integration_id", isIntegrationKey...)}
	in := o.session(false)
	in.Reconnect = ref
	o.done()
	if err := o.failed(inBody); err != nil {
		return err
	}
	return a.openSession(w, r, who, o, in)
}

// bodyAlone reads the body of a request that must not have a query.
func bodyAlone(r *http.Request) (*object, error) {
	if err := noQuery(r); err != nil {
		return nil, err
	}
	return body(r)
}

// session takes what both kinds of session have.
func (o *object) session(needsUser bool) broker.SessionInput {
	in := broker.SessionInput{Lifetime: sessionLifetime, EndUser: o.endUser(needsUser)}
	in.Tags = o.merged(in.EndUser, o.tags())
	var inherited string
	in.Defaults, inherited = o.defaults()
	o.overrides(in.Defaults)
	if override := o.webhookURL(); override != nil {
		in.WebhookURL = *override
	} else {
		in.WebhookURL = inherited
	}
	return in
}

// defaults takes what is decided for each integration, and the webhook address that used to stand there.
func (o *object) defaults() (by map[string]broker.Defaults, webhookURL string) {
	by = make(map[string]broker.Defaults)
	all := o.object("integrations_config_defaults", false)
	if all == nil {
		return by, ""
	}
	for _, key := range all.names {
		one := all.object(key, true)
		if one == nil {
			continue
		}
		d := broker.Defaults{UserScopes: deref(one.maybe("user_scopes")), AuthorizationParams: one.textMap("authorization_params")}
		if config := one.object("connection_config", false); config != nil {
			if hook := config.steering(&d); webhookURL == "" {
				webhookURL = hook
			}
		}
		one.done()
		by[key] = d
	}
	return by, webhookURL
}

// steering sorts connection config into what steers the flow and what is stored. Values are texts, as templates read
// them; numbers and booleans become theirs.
func (o *object) steering(d *broker.Defaults) (webhookURL string) {
	d.Scopes = deref(o.maybe("oauth_scopes_override"))
	d.ClientID = deref(o.maybe("oauth_client_id_override"))
	d.ClientSecret = broker.NewSecret(deref(o.maybe("oauth_client_secret_override")))
	d.RefreshToken = broker.NewSecret(deref(o.maybe("oauth_refresh_token_override")))
	webhookURL = deref(o.maybe("webhook_url", isURL))
	for _, name := range o.names {
		if o.taken[name] {
			continue
		}
		v := o.members[name]
		switch v.Kind() {
		case jsontext.KindString:
			setIn(&d.Config, name, unquote(v))
		case jsontext.KindNumber, jsontext.KindTrue, jsontext.KindFalse:
			setIn(&d.Config, name, v.String())
		case jsontext.KindBeginArray, jsontext.KindBeginObject:
			o.add(codeType, wrongType("string", kindName(v.Kind())), o.at(name)...)
		}
	}
	return webhookURL
}

// overrides takes where the form's help leads. Members that do not exist are dropped here, as the contract has it.
func (o *object) overrides(by map[string]broker.Defaults) {
	all := o.object("overrides", false)
	if all == nil {
		return
	}
	for _, key := range all.names {
		if one := all.object(key, true); one != nil {
			d := by[key]
			d.DocsConnect = deref(one.maybe("docs_connect", isURL))
			by[key] = d
		}
	}
}

// openSession makes the session and tells its token, once.
func (a *api) openSession(w http.ResponseWriter, r *http.Request, who broker.Actor, o *object, in broker.SessionInput) error {
	s, token, err := a.b.CreateSession(r.Context(), who, in)
	if err != nil {
		return o.blame(err)
	}
	link := a.b.PublicURL() + "/connect/?session_token=" + url.QueryEscape(token.Reveal())
	return kit.WriteJSON(w, http.StatusCreated, data[createdSession]{createdSession{
		Token: token.Reveal(), ConnectLink: link, ExpiresAt: stamp(s.ExpiresAt),
	}})
}

// blame finds the part of the body that the broker refuses: it knows no overrides beside defaults, and this API has no
// 404 here.
func (o *object) blame(err error) error {
	e := broker.AsError(err)
	if errors.Is(e, broker.ErrNotFound) {
		return invalidBody(e, "There is no such connection of this integration")
	}
	key, ok := strings.CutPrefix(e.Field, "integrations_config_defaults.")
	if ok && !newObject(&check{}, o.members["integrations_config_defaults"]).has(key) {
		return e.On("overrides." + key)
	}
	return err
}

// session answers GET /connect/session.
func (a *api) session(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	if err := noQuery(r); err != nil {
		return err
	}
	s, err := a.b.Session(r.Context(), who)
	if err != nil {
		return err
	}
	out := sessionView{
		EndUser: sessionUserOf(s.EndUser), AllowedIntegrations: s.Integrations, IsReconnecting: s.Repairs(),
		Settings: defaultSettings, WebsocketsPath: "/",
	}
	if err := a.addDefaults(r.Context(), who, &out); err != nil {
		return err
	}
	return kit.WriteJSON(w, http.StatusOK, data[sessionView]{out})
}

// addDefaults adds what the browser may know of what was decided. Secrets are not among it: they would be in the end
// user's hands.
func (a *api) addDefaults(ctx context.Context, who broker.Actor, out *sessionView) error {
	list, err := a.b.Integrations(ctx, who)
	if err != nil {
		return err
	}
	for _, i := range list {
		d, err := a.b.SessionDefaults(ctx, who, i.Key)
		if err != nil {
			return err
		}
		config := maps.Clone(d.Config)
		if facts, err := a.b.Provider(i.Provider); err == nil {
			maps.DeleteFunc(config, func(name, _ string) bool {
				return slices.ContainsFunc(facts.Fields, func(f broker.Field) bool {
					return f.Secret && f.Section == broker.ConfigField && f.Name == name
				})
			})
		}
		if len(config)+len(d.AuthorizationParams) > 0 {
			setIn(&out.Defaults, i.Key, sessionDefaults{ConnectionConfig: config, AuthorizationParams: d.AuthorizationParams})
		}
		if d.DocsConnect != "" {
			setIn(&out.Overrides, i.Key, sessionOverrides{DocsConnect: d.DocsConnect})
		}
	}
	return nil
}

func setIn[V any](m *map[string]V, key string, v V) {
	if *m == nil {
		*m = make(map[string]V)
	}
	(*m)[key] = v
}

// deleteSession answers DELETE /connect/session.
func (a *api) deleteSession(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	if err := noQuery(r); err != nil {
		return err
	}
	if err := a.b.DeleteSession(r.Context(), who); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
