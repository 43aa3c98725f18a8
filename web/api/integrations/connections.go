package integrations

import (
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// connection answers GET /api/integrations/{id}/connection.
func (a *api) connection(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	if _, err := params(r); err != nil {
		return err
	}
	c, _, err := a.b.OwnConnection(r.Context(), who, r.PathValue("id"))
	if err != nil {
		return err
	}
	return a.show(w, r, http.StatusOK, c)
}

// show writes a connection.
func (a *api) show(w http.ResponseWriter, r *http.Request, status int, c *broker.Connection) error {
	kit.EventOf(r).Note(slog.String("connection", string(c.ID)))
	i, facts, err := a.b.IntegrationOf(c)
	if err != nil {
		return err
	}
	lifetimes, err := a.b.Lifetimes(r.Context(), []*broker.Connection{c})
	if err != nil {
		return err
	}
	life := lifetimes[c.ID]
	out := connectionView{
		ID: publicID(c), IntegrationID: i.PublicName(), OwnerID: ownerOf(c), IsShared: i.Shared,
		TokenExpiresAt: stampOr(life.ExpiresAt), RefreshTokenExpiresAt: stampOr(life.RefreshExpiresAt), LastAuthorizedAt: stampOr(c.AuthorizedAt),
		Data: declared(a.b.ConfigOf(c), facts), CreatedAt: stamp(c.CreatedAt), UpdatedAt: stamp(c.UpdatedAt), Status: c.Status,
	}
	if u := a.b.BaseURL(c); u != nil {
		base := strings.TrimSuffix(u.String(), "/")
		out.APIBaseURI = &base
	}
	return kit.WriteJSON(w, status, out)
}

// declared gives what of a connection's config the provider's entry declares, and not as a secret: the reader may be the
// end user's browser, and the rest may be what the app's backend keeps to itself.
func declared(config map[string]any, f *broker.Facts) map[string]any {
	out := make(map[string]any)
	if f == nil {
		return out
	}
	for _, field := range f.Fields {
		if v, ok := config[field.Name]; ok && field.Section == broker.ConfigField && !field.Secret {
			out[field.Name] = v
		}
	}
	return out
}

// disconnect answers DELETE /api/integrations/{id}/connection.
func (a *api) disconnect(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	if _, err := params(r); err != nil {
		return err
	}
	if err := a.b.Disconnect(r.Context(), who, r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// Bounds of a page of the list.
const (
	maxCount = 1000 // and as many as there are by default
	maxStart = 1_000_000
)

// connections answers GET /api/integration-connections.
func (a *api) connections(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	q, err := params(r, "start", "count")
	if err != nil {
		return err
	}
	start, err := number(q, "start", 0, 0, maxStart)
	if err != nil {
		return err
	}
	count, err := number(q, "count", maxCount, 1, maxCount)
	if err != nil {
		return err
	}
	list, total, err := a.b.OwnConnections(r.Context(), who, start, count)
	if err != nil {
		return err
	}
	lifetimes, err := a.b.Lifetimes(r.Context(), list)
	if err != nil {
		return err
	}
	out := listView{Start: start, Total: total, Links: listLinks{link{self(q)}}}
	out.Embedded.Connections = make([]listedView, 0, len(list))
	for _, c := range list {
		// An integration that was deleted meanwhile takes its connections with it.
		if i, facts, err := a.b.IntegrationOf(c); err == nil {
			out.Embedded.Connections = append(out.Embedded.Connections, listed(c, i, facts, lifetimes[c.ID]))
		}
	}
	out.Count = len(out.Embedded.Connections)
	return kit.WriteJSON(w, http.StatusOK, out)
}

func listed(c *broker.Connection, i *broker.Integration, f *broker.Facts, life broker.Lifetime) listedView {
	return listedView{
		ID: publicID(c), IntegrationID: i.PublicName(), OwnerID: ownerOf(c), IsShared: i.Shared,
		TokenExpiresAt: stampOr(life.ExpiresAt), RefreshTokenExpiresAt: stampOr(life.RefreshExpiresAt), LastAuthorizedAt: stampOr(c.AuthorizedAt),
		Status: c.Status, Embedded: listedEmbedded{integrationView{ID: i.PublicName(), Name: nameOf(i, f), Type: i.Provider}},
	}
}

// self is the list's own address.
func self(q url.Values) string {
	if len(q) == 0 {
		return pathList
	}
	return pathList + "?" + q.Encode()
}

// params reads a query that holds these parameters and no others, each once.
func params(r *http.Request, names ...string) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, broker.ErrInvalidQuery
	}
	known := make(map[string]bool, len(names))
	for _, name := range names {
		known[name] = true
	}
	for name, values := range q {
		switch {
		case !known[name]:
			return nil, broker.ErrInvalidQuery.On(name).Saying("there is no parameter of that name")
		case len(values) > 1:
			return nil, broker.ErrInvalidQuery.On(name).Saying("a parameter is sent twice")
		}
	}
	return q, nil
}

// number reads a parameter that is a whole number within bounds.
func number(q url.Values, name string, otherwise, least, most int) (int, error) {
	if !q.Has(name) {
		return otherwise, nil
	}
	n, err := strconv.Atoi(q.Get(name))
	if err != nil || n < least || n > most {
		return 0, broker.ErrInvalidQuery.On(name).Saying("a number from " + strconv.Itoa(least) + " to " + strconv.Itoa(most) + " is expected")
	}
	return n, nil
}
