package popup

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// sessionLifetime is how long the popup can be opened.
const sessionLifetime = 30 * time.Minute

// create answers POST: there is a connection from now on, pending, and a session to make it in.
func (a *api) create(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	in, err := readCreation(r)
	if err != nil {
		return err
	}
	i, err := a.integrationOf(r.Context(), who, in.key)
	if err != nil {
		return err
	}
	c, s, token, err := a.b.Propose(r.Context(), who, broker.Proposal{Integration: i.Key, Name: in.nickname, Lifetime: sessionLifetime})
	if errors.Is(err, broker.ErrNotFound) {
		return notSetUp(in.key) // it was deleted meanwhile
	}
	if err != nil {
		return err
	}
	kit.EventOf(r).Note(slog.String("connection", string(c.ID)))
	return kit.WriteJSON(w, http.StatusCreated, createdConnection{
		ConnectionID: string(c.ID), SessionToken: token.Reveal(), ExpiresAt: stamp(s.ExpiresAt), Vendor: vendor,
	})
}

// connections answers GET: all of the environment's, pending ones too, newest first.
func (a *api) connections(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	p, err := readPaging(r)
	if err != nil {
		return err
	}
	// One more than is shown tells whether there are more.
	list, err := a.b.Connections(r.Context(), who, broker.ConnectionFilter{IncludePending: true, Limit: p.limit + 1, Offset: p.offset})
	if err != nil {
		return err
	}
	out := connectionPage{Limit: p.limit, Offset: p.offset, HasMore: len(list) > p.limit, Connections: []connectionRow{}}
	names := a.keyNames(r.Context(), who)
	for _, c := range list[:min(len(list), p.limit)] {
		if key, ok := a.keyOf(c, names); ok {
			out.Connections = append(out.Connections, rowOf(c, key))
		}
	}
	return kit.WriteJSON(w, http.StatusOK, out)
}

// connection answers GET of one, which is how the backend hears that the popup has come to something.
func (a *api) connection(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	ref, err := readRef(r)
	if err != nil {
		return err
	}
	c, err := a.b.Connection(r.Context(), who, ref)
	if err != nil {
		return err
	}
	key, ok := a.keyOf(c, a.keyNames(r.Context(), who))
	if !ok {
		return errNoConnection
	}
	return kit.WriteJSON(w, http.StatusOK, rowOf(c, key))
}

// remove answers DELETE. A session of a pending connection is good for nothing afterwards.
func (a *api) remove(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	ref, err := readRef(r)
	if err != nil {
		return err
	}
	if err := a.b.DeleteConnection(r.Context(), who, ref); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

var errNoConnection = broker.ErrNotFound.On("connection").Saying("there is no connection of that id")

// readRef reads the path. A text that is no id names nothing.
func readRef(r *http.Request) (broker.ConnectionRef, error) {
	if err := noQuery(r); err != nil {
		return broker.ConnectionRef{}, err
	}
	text := r.PathValue("connection_id")
	id, err := uuid.Parse(text)
	if err != nil || len(text) != len(id.String()) { // other spellings of a UUID are not told anywhere
		return broker.ConnectionRef{}, errNoConnection
	}
	kit.EventOf(r).Note(slog.String("connection", id.String()))
	return broker.ConnectionRef{ID: broker.ConnectionID(id.String())}, nil
}
