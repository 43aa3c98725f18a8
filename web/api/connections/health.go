package connections

import (
	"errors"
	"net/http"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// notYet is said of a pending connection.
const notYet = "Connection not yet authorized - complete OAuth flow first"

// refresh answers POST /api/v1/connections/{id}/refresh.
func (a *api) refresh(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	ref, err := alone(r)
	if err != nil {
		return err
	}
	c, err := a.b.RefreshConnection(r.Context(), who, ref)
	if err != nil {
		return notRefreshed(err)
	}
	lives, err := a.b.Lifetimes(r.Context(), []*broker.Connection{c})
	if err != nil {
		return err
	}
	return kit.WriteJSON(w, http.StatusOK, success(refreshedConnection{
		ID: publicID(c.ID), LastSyncedAt: stampOrNull(c.SyncedAt(lives[c.ID])), Message: "Connection refresh completed",
	}))
}

// notRefreshed says why a credential was not renewed. What went wrong on our side says nothing about the credential, and goes
// out as what it is.
func notRefreshed(err error) error {
	var failed *broker.RefreshError
	switch {
	case errors.Is(err, broker.ErrConnectionPending):
		return badRequest(broker.AsError(err), notYet)
	case !errors.As(err, &failed), failed.Err.Kind == broker.Internal,
		errors.Is(err, broker.ErrStorageUnavailable), errors.Is(err, broker.ErrStorageBusy):
		return err
	}
	return &refusal{
		cause: failed.Err, status: http.StatusInternalServerError, code: codeInternal,
		message: "Failed to refresh credentials: " + inWords(failed),
	}
}

// verify answers POST /api/v1/connections/{id}/verify.
func (a *api) verify(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	ref, err := alone(r)
	if err != nil {
		return err
	}
	h, err := a.b.VerifyConnection(r.Context(), who, ref)
	if err != nil {
		return err
	}
	c := h.Connection
	i, _, err := a.b.IntegrationOf(c)
	if err != nil {
		return err
	}
	head := healthHead{
		Healthy: h.Failure == nil && c.Status == broker.Active, ConnectionID: publicID(c.ID), Provider: i.Provider, Status: string(c.Status),
	}
	end := healthTail{CheckedAt: stamp(h.At)}
	switch {
	case c.Status == broker.Pending:
		text := notYet
		end.Error = &text
		return kit.WriteJSON(w, http.StatusOK, success(pendingHealth{head, end}))
	case h.Failure != nil:
		end.Error = orNull(inWords(h.Failure))
	default: // what the provider takes today may still be beyond renewal
		end.Error = orNull(errorMessage(c))
	}
	out := health{healthHead: head, healthTail: end}
	if head.Healthy {
		account, err := a.b.Account(c)
		if err != nil {
			return err
		}
		out.ExternalAccountID = orNull(account)
	}
	return kit.WriteJSON(w, http.StatusOK, success(out))
}

// inWords tells of a failure in our own words, with the provider's code where it gave one. Its other words stay in the log:
// they can hold anything.
func inWords(err error) string {
	text := sentence(broker.AsError(err).Msg)
	var p *broker.ProviderError
	if errors.As(err, &p) && p.Code != "" {
		return text + " (" + p.Code + ")"
	}
	return text
}

// reasons say why a connection does not work.
var reasons = map[string]string{
	broker.ReasonNeedsReauth:   "The provider does not accept the authorization any more, so it has to be given again",
	broker.ReasonOutcomeLost:   "The provider does not accept the authorization any more, so it has to be given again",
	broker.ReasonRevoked:       "The authorization was withdrawn at the provider",
	broker.ReasonOriginChanged: "The provider's address is another than when access was given, so it has to be given again",
	broker.ReasonRefreshFails:  "The credentials could not be renewed",
	broker.ReasonCheckFailed:   "The credentials did not work when they were last tried",
}

// errorMessage says what is wrong with a connection; empty: nothing, or nothing yet.
func errorMessage(c *broker.Connection) string {
	switch c.Status {
	case broker.Active, broker.Pending:
		return ""
	case broker.Expired:
		return "The credentials have expired, and there is nothing to renew them with; access has to be given again"
	case broker.Disconnected:
		return "Access was ended; it has to be given again"
	case broker.Failing:
	}
	text, known := reasons[c.Reason]
	if !known {
		text = "The credentials do not work"
	}
	if c.ErrorCode != "" && c.ErrorCode != c.Reason {
		text += " (" + c.ErrorCode + ")"
	}
	return text
}
