package connections

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// Bounds of a page of connections.
const (
	defaultPage = 50
	maxPage     = 100
	maxOffset   = 1_000_000
)

// statuses are those that connections can have, which are the broker's.
var statuses = []string{
	string(broker.Active), string(broker.Pending), string(broker.Failing), string(broker.Expired), string(broker.Disconnected),
}

// connections answers GET /api/v1/connections.
func (a *api) connections(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	q, err := params(r, "provider", "status", "limit", "offset")
	if err != nil {
		return err
	}
	f := broker.ConnectionFilter{IncludePending: true}
	if f.Limit, err = number(q, "limit", defaultPage, 1, maxPage); err != nil {
		return err
	}
	if f.Offset, err = number(q, "offset", 0, 0, maxOffset); err != nil {
		return err
	}
	if status, sent := q["status"]; sent {
		if !slices.Contains(statuses, status) {
			return badRequest(broker.ErrInvalidQuery, "status must be one of "+strings.Join(statuses, ", "))
		}
		f.Statuses = []broker.Status{broker.Status(status)}
	}
	if provider, sent := q["provider"]; sent {
		if f.Integrations, err = a.integrations(r, who, provider); err != nil {
			return err
		}
		if len(f.Integrations) == 0 { // no filter at all, to the broker
			return kit.WriteJSON(w, http.StatusOK, page{Success: true, Data: []listedConnection{}})
		}
	}
	size := f.Limit
	f.Limit++ // whether there is one more
	list, err := a.b.Connections(r.Context(), who, f)
	if err != nil {
		return err
	}
	out := page{Success: true, Meta: pageMeta{HasMore: len(list) > size}}
	if out.Data, err = a.listed(r, list[:min(len(list), size)]); err != nil {
		return err
	}
	return kit.WriteJSON(w, http.StatusOK, out)
}

// listed renders connections.
func (a *api) listed(r *http.Request, list []*broker.Connection) ([]listedConnection, error) {
	lives, err := a.b.Lifetimes(r.Context(), list)
	if err != nil {
		return nil, err
	}
	out := make([]listedConnection, 0, len(list))
	for _, c := range list {
		head, err := a.head(c, lives[c.ID])
		if errors.Is(err, broker.ErrNotFound) {
			continue // its integration was deleted meanwhile, and the connection with it
		}
		if err != nil {
			return nil, err
		}
		out = append(out, listedConnection{head, tail(c)})
	}
	return out, nil
}

// connection answers GET /api/v1/connections/{id}.
func (a *api) connection(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	ref, err := alone(r)
	if err != nil {
		return err
	}
	c, err := a.b.Connection(r.Context(), who, ref)
	if err != nil {
		return err
	}
	lives, err := a.b.Lifetimes(r.Context(), []*broker.Connection{c})
	if err != nil {
		return err
	}
	head, err := a.head(c, lives[c.ID])
	if err != nil {
		return err
	}
	metadata := jsontext.Value(c.Metadata)
	if len(metadata) == 0 {
		metadata = jsontext.Value("{}")
	}
	return kit.WriteJSON(w, http.StatusOK, success(fullConnection{head, metadata, tail(c)}))
}

// head renders what stands first in every connection.
func (a *api) head(c *broker.Connection, l broker.Lifetime) (connectionHead, error) {
	i, facts, err := a.b.IntegrationOf(c)
	if err != nil {
		return connectionHead{}, err
	}
	account, err := a.b.Account(c)
	if err != nil {
		return connectionHead{}, err
	}
	return connectionHead{
		ID: publicID(c.ID), Name: nameOf(c, i, facts), Provider: i.Provider, Status: string(c.Status),
		ExternalAccountID: orNull(account), LastSyncedAt: stampOrNull(c.SyncedAt(l)),
	}, nil
}

// tail renders what stands last.
func tail(c *broker.Connection) connectionTail {
	return connectionTail{CreatedAt: stamp(c.CreatedAt), UpdatedAt: stamp(c.UpdatedAt), ErrorMessage: errorMessage(c)}
}

// nameOf is what people call a connection; one that nobody named is called like what it is of.
func nameOf(c *broker.Connection, i *broker.Integration, facts *broker.Facts) string {
	if facts == nil { // the provider left the catalogue
		facts = &broker.Facts{}
	}
	return cmp.Or(c.Name, i.DisplayName, facts.DisplayName, i.Provider)
}

// remove answers DELETE /api/v1/connections/{id}.
func (a *api) remove(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	ref, err := alone(r)
	if err != nil {
		return err
	}
	if err := a.b.DeleteConnection(r.Context(), who, ref); err != nil {
		return err
	}
	return kit.WriteJSON(w, http.StatusOK, success(deletedConnection{true}))
}
