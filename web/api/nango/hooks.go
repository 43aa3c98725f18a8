package nango

import (
	"net/http"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// hook is the body of a webhook. Its members stand in the order of their names, and so do those of its objects: clients
// check one of the signatures over what their own JSON library writes for the parsed body.
type hook struct {
	AuthMode          string             `json:"authMode"`
	ConnectionID      string             `json:"connectionId"`
	EndUser           *hookUser          `json:"endUser,omitzero"`
	Environment       string             `json:"environment"`
	Error             *hookError         `json:"error,omitzero"`
	From              string             `json:"from"`
	Operation         string             `json:"operation"`
	Provider          string             `json:"provider"`
	ProviderConfigKey string             `json:"providerConfigKey"`
	Success           bool               `json:"success"`
	Tags              *map[string]string `json:"tags,omitzero"`
	Type              string             `json:"type"`
}

type hookUser struct {
	Email          *string           `json:"endUserEmail"`
	ID             string            `json:"endUserId"`
	OrganizationID string            `json:"organizationId,omitzero"`
	Tags           map[string]string `json:"tags"`
}

type hookError struct {
	Description string `json:"description"`
	Type        string `json:"type"`
}

// Hook gives the body of a webhook, exactly as JSON.stringify would write it with sorted members: compact, and nothing
// escaped that need not be.
func Hook(n *broker.Notice) ([]byte, error) {
	h := hook{
		AuthMode: n.Mode, ConnectionID: n.Connection, Environment: n.Environment, From: "nango", Provider: n.Provider,
		ProviderConfigKey: n.Integration, Type: "auth", Tags: &n.Tags,
	}
	switch n.Kind {
	case broker.EventConnected:
		h.Operation, h.Success, h.EndUser = "creation", true, hookUserOf(n.EndUser)
	case broker.EventReconnected:
		h.Operation, h.Success, h.EndUser = "override", true, hookUserOf(n.EndUser)
	case broker.EventConnectFailed:
		// Whatever goes wrong in a sign-in is called a creation, even where a connection was to be repaired; that it was
		// refused by a rule of ours is not.
		h.Operation, h.Error, h.Tags = "creation", creationError(n), nil
		if n.Code == broker.ErrAccountMismatch.Code {
			h.Operation = "override"
		}
	case broker.EventNeedsReauth, broker.EventRefreshFailing:
		h.Operation, h.Error = "refresh", refreshError(n)
	case broker.EventRefreshFailed, broker.EventDuplicateGrant, broker.EventDeleted, broker.EventRevocationEnded:
		return nil, broker.ErrInternal.Saying("there is no webhook of this kind")
	}
	out, err := json.Marshal(h, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
	if err != nil {
		return nil, broker.ErrInternal.Because(err)
	}
	return out, nil
}

func hookUserOf(u *broker.EndUser) *hookUser {
	if u == nil {
		return nil
	}
	return &hookUser{Email: orNull(u.Email), ID: u.ID, OrganizationID: u.OrganizationID, Tags: u.Tags}
}

// creationError is why a sign-in came to nothing.
func creationError(n *broker.Notice) *hookError {
	switch n.Code {
	case broker.ErrAccountMismatch.Code:
		return &hookError{"Another account was signed in to than the connection belongs to.", "connection_validation_failed"}
	case broker.ErrIssuerMismatch.Code:
		return &hookError{"The end user came back from another authorization server than the one that was asked.", "invalid_callback"}
	case broker.ErrCallbackInvalid.Code, broker.ErrProviderError.Code:
		return &hookError{"The provider sent the end user back without an authorization code.", "invalid_callback"}
	case broker.ErrTestFailed.Code:
		return &hookError{"The provider did not accept the credentials.", "connection_test_failed"}
	case broker.ErrInternal.Code, broker.ErrStorageBusy.Code, broker.ErrStorageUnavailable.Code, "interrupted":
		return &hookError{"The sign-in was interrupted on our side.", "server_error"}
	}
	return &hookError{"The provider did not give a token.", "unknown"}
}

// unreadable are codes of answers that hold no token in any form that we know.
var unreadable = []string{"bad_answer", "no_token", "answer_too_large"}

// refreshError is why a connection does not work any more.
func refreshError(n *broker.Notice) *hookError {
	e := &hookError{"The token could not be renewed for some time. It is still tried.", "refresh_token_external_error"}
	if n.Kind == broker.EventNeedsReauth {
		e.Description = "The grant has ended. The end user has to authorize again."
	}
	if n.Code == broker.ReasonUserLost {
		e.Description = "The grant of the app's user has ended, who has to sign in again. The installation works on."
	}
	switch {
	case n.Mode == "OAUTH2_CC":
		e.Type = "client_credentials_fetch_error"
	case n.Mode == "TWO_STEP":
		e.Type = "two_step_credentials_fetch_error"
	case slices.Contains(unreadable, n.Code):
		e.Type = "refresh_token_parsing_error"
	}
	return e
}

func (a *api) hookRoutes(doors kit.Doors) []kit.Route {
	return []kit.Route{{
		Method: http.MethodPost, Path: "/environment/webhook-signing-key/rotate", Auth: doors.Key(broker.ScopeSigningKeyRotate),
		MaxBody: kit.MaxJSON, Handle: a.rotateSigningKey,
	}}
}

// rotatedKey is a signing key that was just made.
type rotatedKey struct {
	Key string `json:"webhook_signing_key"`
}

// rotateSigningKey answers POST /environment/webhook-signing-key/rotate.
func (a *api) rotateSigningKey(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	o, err := bodyAlone(r)
	if err != nil {
		return err
	}
	o.done()
	if err := o.failed(inBody); err != nil {
		return err
	}
	key, err := a.b.RotateWebhookKey(r.Context(), who)
	if err != nil {
		return err
	}
	return kit.WriteJSON(w, http.StatusOK, data[rotatedKey]{rotatedKey{key.Reveal()}})
}
