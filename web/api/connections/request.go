package connections

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// idPrefix stands before a connection's id.
const idPrefix = "conn_"

// publicID is a connection's id as callers see it.
func publicID(id broker.ConnectionID) string { return idPrefix + string(id) }

// refOf reads the id in the path. What cannot be one is not found.
func refOf(r *http.Request) (broker.ConnectionRef, error) {
	id, ok := strings.CutPrefix(r.PathValue("id"), idPrefix)
	parsed, err := uuid.Parse(id)
	if !ok || err != nil || parsed.String() != id {
		return broker.ConnectionRef{}, broker.ErrNotFound.On("connection")
	}
	return broker.ConnectionRef{ID: broker.ConnectionID(id)}, nil
}

// params reads a query that may hold each of these once, and nothing else.
func params(r *http.Request, names ...string) (map[string]string, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, broker.ErrInvalidQuery
	}
	out := make(map[string]string, len(query))
	for name, values := range query {
		switch {
		case !slices.Contains(names, name):
			return nil, badRequest(broker.ErrInvalidQuery, "Unknown query parameter: "+shorten(name))
		case len(values) > 1:
			return nil, badRequest(broker.ErrInvalidQuery, "Query parameter given more than once: "+name)
		}
		out[name] = values[0]
	}
	return out, nil
}

// number reads a whole number between least and most from a query.
func number(query map[string]string, name string, otherwise, least, most int) (int, error) {
	text, sent := query[name]
	if !sent {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, badRequest(broker.ErrInvalidQuery, name+" must be a whole number between "+strconv.Itoa(least)+" and "+strconv.Itoa(most))
	}
	return n, nil
}

// alone reads what a request about one connection consists of: the id, and nothing else.
func alone(r *http.Request) (broker.ConnectionRef, error) {
	if _, err := params(r); err != nil {
		return broker.ConnectionRef{}, err
	}
	if err := kit.DecodeJSON(r, &struct{}{}); err != nil {
		return broker.ConnectionRef{}, err
	}
	return refOf(r)
}

// integration finds what a caller calls a provider: the integration of that key, or else the first of that provider. A key
// that may use it needs no scope to name it.
func (a *api) integration(r *http.Request, who broker.Actor, name string) (*broker.Integration, error) {
	list, err := a.b.Integrations(r.Context(), broker.System(who.Environment)) // by provider, then by age
	if err != nil {
		return nil, err
	}
	for _, called := range []func(*broker.Integration) string{
		func(i *broker.Integration) string { return i.Key },
		func(i *broker.Integration) string { return i.Provider },
	} {
		if n := slices.IndexFunc(list, func(i *broker.Integration) bool { return called(i) == name }); n >= 0 {
			return list[n], nil
		}
	}
	return nil, broker.ErrNotFound.On("integration")
}

// integrations lists those of that key or provider.
func (a *api) integrations(r *http.Request, who broker.Actor, name string) ([]broker.IntegrationID, error) {
	list, err := a.b.Integrations(r.Context(), broker.System(who.Environment))
	if err != nil {
		return nil, err
	}
	var ids []broker.IntegrationID
	for _, i := range list {
		if i.Key == name || i.Provider == name {
			ids = append(ids, i.ID)
		}
	}
	return ids, nil
}
