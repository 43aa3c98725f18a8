package nango

import (
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// Bounds of a page of connections.
const (
	defaultPage = 10_000
	maxPage     = 2_000
	maxPageNo   = 1_000_000
)

// connections answers GET /connections.
func (a *api) connections(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	q, err := params(r)
	if err != nil {
		return err
	}
	name := []rule{atLeast(1), atMost(255)}
	f := broker.ConnectionFilter{
		Key: q.text("connectionId", name...), Search: q.text("search", name...), EndUser: q.text("endUserId", name...),
		Organization: q.text("endUserOrganizationId", name...), Tags: q.tags(), Limit: q.number("limit", defaultPage, 1, maxPage),
	}
	f.Offset = q.number("page", 0, 0, maxPageNo) * f.Limit
	keys := splitKeys(q.text("integrationId"))
	for _, key := range keys {
		q.check.text(key, isIntegrationKey, "integrationId")
	}
	if err := q.done(); err != nil {
		return err
	}
	var some bool
	if f.Integrations, some = a.integrationIDs(r, who, keys); len(keys) > 0 && !some {
		return kit.WriteJSON(w, http.StatusOK, listed{Connections: []listedConnection{}}) // unknown ones select nothing
	}
	list, err := a.b.Connections(r.Context(), who, f)
	if err != nil {
		return err
	}
	out := listed{Connections: make([]listedConnection, 0, len(list))}
	for _, c := range list {
		if i, _, err := a.b.IntegrationOf(c); err == nil { // else it was deleted meanwhile, and the connection with it
			out.Connections = append(out.Connections, listedConnection{core(c, i), stampDatabase(c.CreatedAt)})
		}
	}
	return kit.WriteJSON(w, http.StatusOK, out)
}

type listed struct {
	Connections []listedConnection `json:"connections"`
}

// integrationIDs translates keys, and passes over those that do not exist. A key that may list connections may name
// integrations, without a scope of its own for them.
func (a *api) integrationIDs(r *http.Request, who broker.Actor, keys []string) (ids []broker.IntegrationID, some bool) {
	for _, key := range keys {
		if i, _, err := a.b.Integration(r.Context(), broker.System(who.Environment), key); err == nil {
			ids = append(ids, i.ID)
		}
	}
	return ids, len(ids) > 0
}

// splitKeys reads a list with commas.
func splitKeys(s string) []string {
	var out []string
	for key := range strings.SplitSeq(s, ",") {
		if key = strings.TrimSpace(key); key != "" {
			out = append(out, key)
		}
	}
	return out
}

// core renders what a connection always has.
func core(c *broker.Connection, i *broker.Integration) connectionCore {
	out := connectionCore{
		ID: c.Number, ConnectionID: c.Key, ProviderConfigKey: i.Key, Provider: i.Provider, EndUser: sessionUserOf(c.EndUser),
		Tags: c.Tags, Metadata: jsontext.Value(c.Metadata), Errors: []connectionError{},
	}
	if len(c.Metadata) == 0 {
		out.Metadata = jsontext.Value("null")
	}
	if c.Status != broker.Active && c.ErrorID != "" {
		out.Errors = append(out.Errors, connectionError{Type: "auth", LogID: c.ErrorID})
	}
	return out
}

// full renders a connection alone, with its config and credentials.
func full(c *broker.Connection, i *broker.Integration, config, credentials jsontext.Value) fullConnection {
	out := fullConnection{
		connectionCore: core(c, i), ConnectionConfig: config, WebhookURLOverride: orNull(c.WebhookURL),
		CreatedAt: stampOffset(c.CreatedAt), UpdatedAt: stampOffset(c.UpdatedAt), Credentials: credentials,
	}
	out.Scopes = scopesOf(c)
	if !c.FetchedAt.IsZero() {
		at := stampOffset(c.FetchedAt)
		out.LastFetchedAt = &at
	}
	return out
}

// scopesOf tells what was asked for, granted and not; nil where a credential was imported without a word of that.
func scopesOf(c *broker.Connection) *connectionScopes {
	if c.Scopes == nil || len(c.AskedScopes) == 0 && len(c.Scopes) == 0 {
		return nil
	}
	return &connectionScopes{Asked: append([]string{}, c.AskedScopes...), Granted: c.Scopes, Missing: append([]string{}, c.MissingScopes()...)}
}

// readOptions are the parameters of GET /connections/{connectionId}.
type readOptions struct {
	ref     broker.ConnectionRef
	force   bool // renew now
	refresh bool // show refresh tokens
	jwt     bool // renew the GitHub App's JWT; we keep none, so there is nothing to do
}

func readOptionsOf(r *http.Request) (readOptions, error) {
	q, err := params(r)
	if err != nil {
		return readOptions{}, err
	}
	o := readOptions{force: q.flag("force_refresh"), refresh: q.flag("refresh_token"), jwt: q.flag("refresh_github_app_jwt_token")}
	o.ref.Integration = q.required("provider_config_key", isIntegrationKey...)
	if err := q.done(); err != nil {
		return readOptions{}, err
	}
	o.ref.Key, err = pathValue(r, "connectionId", isConnectionID)
	return o, err
}

// connection answers GET /connections/{connectionId}.
func (a *api) connection(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	o, err := readOptionsOf(r)
	if err != nil {
		return err
	}
	if !who.Scopes.Has(broker.ScopeCredentialsRead) {
		return a.withoutCredentials(w, r, who, o)
	}
	got, err := a.b.Reveal(r.Context(), who, o.ref, broker.RevealOptions{ForceRefresh: o.force})
	var failed *broker.RefreshError
	switch {
	case errors.As(err, &failed):
		return a.refreshFailed(failed)
	case err != nil:
		return missing(err, http.StatusBadRequest, "unknown_provider_config", "")
	}
	kit.EventOf(r).Note(slog.String("connection", string(got.Connection.ID)))
	out, err := revealed(got, o.refresh && got.RefreshAllowed)
	if err != nil {
		return err
	}
	out.CredentialsRedacted = o.refresh && !got.RefreshAllowed
	now := stampOffset(a.b.Now()) // this read; it is written later, in a batch
	out.LastFetchedAt = &now
	return kit.WriteJSON(w, http.StatusOK, out)
}

// withoutCredentials answers a key that may not see them, and so may not have them renewed either.
func (a *api) withoutCredentials(w http.ResponseWriter, r *http.Request, who broker.Actor, o readOptions) error {
	if o.force || o.refresh || o.jwt {
		return broker.ErrInsufficientScope.Saying("Insufficient scope. Required: " + string(broker.ScopeCredentialsRead))
	}
	c, err := a.b.Connection(r.Context(), who, o.ref)
	if err != nil {
		return missing(err, http.StatusBadRequest, "unknown_provider_config", "")
	}
	out, err := a.bare(c)
	if err != nil {
		return err
	}
	out.CredentialsRedacted = true
	return kit.WriteJSON(w, http.StatusOK, out)
}

// bare renders a connection without secrets.
func (a *api) bare(c *broker.Connection) (fullConnection, error) {
	i, facts, err := a.b.IntegrationOf(c)
	if err != nil {
		return fullConnection{}, err
	}
	config, err := withoutRefreshTokens(withUser(a.b.ConfigOf(c), facts, nil))
	if err != nil {
		return fullConnection{}, err
	}
	return full(c, i, config, jsontext.Value("{}")), nil
}

// refreshFailed says that a credential could not be renewed. 424 means that it was not even tried. What went wrong on
// our side says nothing about the credential, and goes out as what it is.
func (a *api) refreshFailed(e *broker.RefreshError) error {
	if e.Err.Kind == broker.Internal || errors.Is(e.Err, broker.ErrStorageUnavailable) || errors.Is(e.Err, broker.ErrStorageBusy) {
		return e.Err
	}
	status := http.StatusBadRequest
	switch {
	case !e.Attempted:
		status = http.StatusFailedDependency
	case e.Unreadable():
		status = http.StatusInternalServerError
	}
	out := &refusal{cause: e.Err, status: status, code: "invalid_credentials", message: e.Err.Msg}
	if e.Connection != nil {
		c, err := a.bare(e.Connection)
		if err != nil {
			return err
		}
		now := stampOffset(a.b.Now()) // the attempt counts as a use
		c.LastFetchedAt = &now
		out.payload = refreshPayload{c}
	}
	return out
}

type refreshPayload struct {
	Connection fullConnection `json:"connection"`
}

// updateConnection answers PATCH /connections/{connectionId}.
func (a *api) updateConnection(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	q, err := params(r)
	if err != nil {
		return err
	}
	ref := broker.ConnectionRef{Integration: q.required("provider_config_key", isIntegrationKey...)}
	if err := q.done(); err != nil {
		return err
	}
	o, err := body(r)
	if err != nil {
		return err
	}
	p := broker.ConnectionPatch{EndUser: o.user(false)}
	tags := o.tags()
	if p.EndUser != nil || tags != nil {
		p.Tags = o.merged(p.EndUser, tags) // an end user alone replaces all tags too
	}
	p.WebhookURL = o.webhookURL()
	o.done()
	if err := o.failed(inBody); err != nil {
		return err
	}
	if ref.Key, err = pathValue(r, "connectionId", isConnectionID); err != nil {
		return err
	}
	if _, err := a.b.UpdateConnection(r.Context(), who, ref, p); err != nil {
		return missing(err, http.StatusBadRequest, "unknown_provider_config", "")
	}
	return kit.WriteJSON(w, http.StatusOK, success{true})
}

// deleteConnection answers DELETE /connections/{connectionId}.
func (a *api) deleteConnection(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	key, err := pathValue(r, "connectionId", isConnectionID)
	if err != nil {
		return err
	}
	q, err := params(r)
	if err != nil {
		return err
	}
	ref := broker.ConnectionRef{Integration: q.required("provider_config_key", isIntegrationKey...), Key: key}
	if err := q.done(); err != nil {
		return err
	}
	if err := a.b.DeleteConnection(r.Context(), who, ref); err != nil {
		return missing(err, http.StatusBadRequest, "unknown_connection", "unknown_connection")
	}
	return kit.WriteJSON(w, http.StatusOK, success{true})
}

// setMetadata answers POST /connections/metadata.
func (a *api) setMetadata(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	return a.putMetadata(w, r, who, false, http.StatusCreated)
}

// mergeMetadata answers PATCH /connections/metadata.
func (a *api) mergeMetadata(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	return a.putMetadata(w, r, who, true, http.StatusOK)
}

// putMetadata changes the metadata of one connection or of several, and echoes the body.
func (a *api) putMetadata(w http.ResponseWriter, r *http.Request, who broker.Actor, merge bool, status int) error {
	o, err := bodyAlone(r)
	if err != nil {
		return err
	}
	keys := o.oneOrMore("connection_id")
	integration := o.text("provider_config_key", isIntegrationKey...)
	metadata, _ := o.take("metadata", jsontext.KindBeginObject, true)
	o.done()
	if err := o.failed(inBody); err != nil {
		return err
	}
	if err := a.b.SetMetadata(r.Context(), who, integration, keys, metadata, merge); err != nil {
		return missing(err, http.StatusNotFound, "unknown_connection", "unknown_connection")
	}
	return kit.WriteJSON(w, status, o.members)
}

// oneOrMore takes a connection id, or an array of them.
func (o *object) oneOrMore(name string) []string {
	o.taken[name] = true
	v, ok := o.members[name]
	switch {
	case ok && v.Kind() == jsontext.KindBeginArray:
		return slices.Compact(slices.Sorted(slices.Values(o.list(v, o.at(name), isConnectionID))))
	case ok && v.Kind() == jsontext.KindString:
		return []string{o.text(name, isConnectionID...)}
	case ok:
		o.add(codeUnion, "Invalid input", o.at(name)...)
	default:
		o.add(codeUnion, wrongType("string", "undefined"), o.at(name)...)
	}
	return nil
}
