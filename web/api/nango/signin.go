package nango

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// SignInDeps is what the browser client's surface is made of.
type SignInDeps struct {
	Broker *broker.Broker
	// Pages begin sign-ins, and show why one does not begin.
	Pages kit.Starter
	// Origins reports whether pages of an origin may open a socket.
	Origins func(origin string) bool
	// Stopping is closed when sockets must go; nil: never.
	Stopping <-chan struct{}
	// Patience is how long a socket waits; zero: ten minutes, as long as a sign-in may take.
	Patience time.Duration
}

// SignIn is the surface of what the browser client opens: a popup's first page, and the socket that hears of its end. Its
// failures are pages, and are told to the socket too, so that no client waits in vain.
func SignIn(d SignInDeps) kit.Surface {
	s := &sockets{broker: d.Broker, allowed: d.Origins, closing: d.Stopping, patience: cmp.Or(d.Patience, 10*time.Minute)}
	start := func(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
		return signIn(d.Pages, w, r, who)
	}
	return kit.Surface{
		Name: "nango sign-in",
		Routes: []kit.Route{
			{Method: http.MethodGet, Path: "/oauth/connect/{providerConfigKey}", Auth: kit.Doors{Keeper: d.Broker}.Query(), Handle: start},
			{Method: http.MethodGet, Path: "/", Auth: kit.Public, Handle: s.open},
		},
		Fail: func(w http.ResponseWriter, r *http.Request, err error) {
			if channel := r.URL.Query().Get(paramSocket); channel != "" {
				d.Broker.RefuseFlow(channel, r.PathValue("providerConfigKey"), err)
			}
			d.Pages.Fail(w, r, err)
		},
	}
}

// paramSocket names the client's socket.
const paramSocket = "ws_client_id"

// signIn answers GET /oauth/connect/{providerConfigKey}: on to the provider.
func signIn(pages kit.Starter, w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	key, err := pathValue(r, "providerConfigKey", isIntegrationKey)
	if err != nil {
		return err
	}
	q, err := params(r)
	if err != nil {
		return err
	}
	if err := fromBrowser(q); err != nil {
		return err
	}
	asked := make(map[string]string, len(q.nested["authorization_params"]))
	for name, value := range q.nested["authorization_params"] {
		if value == undefined {
			value = "" // which takes the entry's own away
		}
		asked[name] = value
	}
	return pages.Start(w, r, who, kit.Start{
		Token: r.URL.Query().Get(kit.ParamSession), Key: key, Fields: typed(broker.ConfigField, q.nested["params"]), Params: asked,
		Channel: r.URL.Query().Get(paramSocket),
	})
}

// undefined is what the client sends of a JavaScript value that is none.
const undefined = "undefined"

// fromBrowser refuses what an end user's browser must not decide: ids that the app chose, and secrets in an address.
func fromBrowser(q *query) error {
	if len(q.nested["credentials"]) > 0 || q.single["token_id"] != nil || q.single["token_secret"] != nil {
		return broker.ErrCredentialInURL
	}
	for _, name := range []string{"oauth_client_id_override", "oauth_client_secret_override", "oauth_refresh_token_override"} {
		if _, sent := q.nested["params"][name]; sent {
			return broker.ErrCredentialInURL
		}
	}
	q.raw("connection_id", "string")
	if q.single["connection_id"] != nil {
		return invalid(inQuery, []issue{{Code: codeCustom, Message: "a connect session decides the connection's id", Path: []string{"connection_id"}}})
	}
	return q.failed(inQuery)
}

// typed names values as the broker does.
func typed(section broker.FieldSection, values map[string]string) map[string]string {
	out := make(map[string]string, len(values))
	for name, value := range values {
		out[string(section)+"."+name] = value
	}
	return out
}

// submission is an endpoint that takes credentials of one kind.
type submission struct {
	path string
	mode string
	read func(o *object) map[string]string // nil: there is no body
}

// submissions are the endpoints that the browser client posts to.
var submissions = []submission{
	{"/api-auth/api-key/{providerConfigKey}", typeKey, func(o *object) map[string]string {
		return map[string]string{"apiKey": o.text("apiKey", atLeast(1), atMost(1024))}
	}},
	{"/api-auth/basic/{providerConfigKey}", typeBasic, func(o *object) map[string]string {
		return map[string]string{"username": o.text("username", atMost(1024)), "password": o.text("password", atMost(1024))}
	}},
	{"/oauth2/auth/{providerConfigKey}", typeClient, readClient},
	{"/auth/unauthenticated/{providerConfigKey}", typeNone, nil},
	{"/auth/tba/{providerConfigKey}", typeTBA, (*object).anyTexts},
	{"/auth/jwt/{providerConfigKey}", typeJWT, readKey},
	{"/auth/two-step/{providerConfigKey}", typeTwo, readTwoStep},
	{"/auth/signature/{providerConfigKey}", typeWSSE, (*object).anyTexts},
	{"/auth/bill/{providerConfigKey}", typeBill, (*object).anyTexts},
	{"/auth/aws-sigv4/{providerConfigKey}", typeAWS, (*object).anyTexts},
}

// readClient takes an end user's own client.
func readClient(o *object) map[string]string {
	out := make(map[string]string)
	for name, limit := range map[string]int{"client_id": 255, "client_secret": 2048, "client_certificate": 10_000, "client_private_key": 10_000} {
		if s := o.maybe(name, atMost(limit)); s != nil {
			out[name] = *s
		}
	}
	o.maybe("type")
	return out
}

// anyTexts takes every member that is left, less the type. Providers of these kinds name their own, and what they do not
// name is refused there.
func (o *object) anyTexts() map[string]string {
	out := make(map[string]string)
	for _, name := range o.names {
		if o.taken[name] {
			continue
		}
		if s := o.maybe(name, atMost(maxToken)); s != nil && name != "type" {
			out[name] = *s
		}
	}
	return out
}

// readTwoStep takes a sign-in. What its assertion is signed with stands apart.
func readTwoStep(o *object) map[string]string {
	apart := o.textMap("assertionOption", atMost(maxToken))
	out := o.anyTexts()
	for name, value := range apart {
		out["assertionOption."+name] = value
	}
	return out
}

// readKey takes what tokens are signed with. A key of two parts may come as an object.
func readKey(o *object) map[string]string {
	const name = "privateKey"
	var parts map[string]string
	if o.members[name].Kind() == jsontext.KindBeginObject {
		parts = o.textMap(name, atMost(maxToken))
	}
	out := o.anyTexts()
	if parts != nil {
		out[name] = parts["id"] + ":" + parts["secret"]
	}
	return out
}

func (a *api) submissionRoutes(doors kit.Doors) []kit.Route {
	rows := make([]kit.Route, 0, len(submissions))
	for _, s := range submissions {
		row := kit.Route{Method: http.MethodPost, Path: s.path, Auth: doors.Query(), Handle: func(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
			return a.submit(w, r, who, s)
		}}
		if s.read != nil {
			row.MaxBody = kit.MaxJSON
		}
		rows = append(rows, row)
	}
	return rows
}

// submit makes a connection of credentials that an end user typed in.
func (a *api) submit(w http.ResponseWriter, r *http.Request, who broker.Actor, s submission) error {
	key, fields, err := readSubmission(r, s)
	if err != nil {
		return err
	}
	form, err := a.b.ConnectForm(r.Context(), who, key)
	if err != nil {
		return submissionFailed(err, s)
	}
	if form.Facts.Mode != s.mode {
		return called(broker.ErrNotSupported.Saying("the provider takes another kind of credentials"), http.StatusBadRequest, "invalid_auth_mode")
	}
	if s.mode == typeClient {
		if err := wholeClient(fields); err != nil {
			return err
		}
	}
	o, err := a.b.Connect(r.Context(), who, key, broker.ConnectInput{Fields: declaredOnly(fields, form.Ask), Blank: true})
	if err != nil {
		return submissionFailed(err, s)
	}
	return kit.WriteJSON(w, http.StatusOK, made{ConnectionID: o.Key, ProviderConfigKey: o.Integration})
}

// made is what a submission answers.
type made struct {
	ConnectionID      string `json:"connectionId"`
	ProviderConfigKey string `json:"providerConfigKey"`
}

// readSubmission reads the path, the query and the body of a submission.
func readSubmission(r *http.Request, s submission) (key string, fields map[string]string, err error) {
	if key, err = pathValue(r, "providerConfigKey", isIntegrationKey); err != nil {
		return "", nil, err
	}
	q, err := params(r)
	if err != nil {
		return "", nil, err
	}
	if err := fromBrowser(q); err != nil {
		return "", nil, err
	}
	for _, name := range []string{kit.ParamSession, "user_scope"} {
		q.raw(name, "string")
	}
	q.taken["params"] = true
	if err := q.done(); err != nil {
		return "", nil, err
	}
	fields = typed(broker.ConfigField, q.nested["params"])
	if s.read == nil {
		return key, fields, nil
	}
	o, err := body(r)
	if err != nil {
		return "", nil, err
	}
	credentials := s.read(o)
	o.done()
	for name, value := range typed(broker.CredentialField, credentials) {
		fields[name] = value
	}
	return key, fields, o.failed(inBody)
}

// wholeClient refuses a client without what proves it.
func wholeClient(fields map[string]string) error {
	named := func(name string) bool { return fields[string(broker.CredentialField)+"."+name] != "" }
	switch {
	case !named("client_id"):
		return called(broker.ErrInvalidRequest.Saying("client_id is missing"), http.StatusBadRequest, "missing_client_id")
	case !named("client_secret") && !named("client_private_key"):
		return called(broker.ErrInvalidRequest.Saying("client_secret is missing"), http.StatusBadRequest, "missing_client_secret")
	}
	return nil
}

// declaredOnly drops config that the provider does not ask for: it would be kept with the connection, and mean nothing.
// Credentials stay, so that what is wrong with them is found.
func declaredOnly(fields map[string]string, ask []broker.Field) map[string]string {
	out := make(map[string]string, len(fields))
	for name, value := range fields {
		asked := slices.ContainsFunc(ask, func(f broker.Field) bool { return string(f.Section)+"."+f.Name == name })
		if asked || name[:len(broker.CredentialField)] == string(broker.CredentialField) {
			out[name] = value
		}
	}
	return out
}

// submissionFailed rewords what the broker finds wrong.
func submissionFailed(err error, s submission) error {
	e := broker.AsError(err)
	switch {
	case errors.Is(e, broker.ErrNotFound) && e.Field == "connection":
		return called(e, http.StatusBadRequest, "invalid_connection")
	case errors.Is(e, broker.ErrNotFound) && s.mode == typeClient:
		return called(e, http.StatusBadRequest, "unknown_provider_config")
	case errors.Is(e, broker.ErrNotFound):
		return called(e, http.StatusNotFound, "unknown_provider_config")
	case errors.Is(e, broker.ErrIntegrationRefused):
		return called(e, http.StatusBadRequest, e.Code)
	case errors.Is(e, broker.ErrTestFailed) && s.mode == typeClient:
		return called(e, http.StatusBadRequest, "client_credentials_fetch_error")
	case errors.Is(e, broker.ErrTestFailed) && s.mode == typeTwo:
		code := "two_step_credentials_fetch_error"
		if p := (*broker.ProviderError)(nil); errors.As(err, &p) && p.Status/100 == 2 {
			code = "invalid_two_step_credentials"
		}
		return called(e, http.StatusBadRequest, code)
	}
	return err
}
