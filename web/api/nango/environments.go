package nango

import (
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// environmentRoutes are those of the account's keys, and what an environment tells of itself.
func (a *api) environmentRoutes(doors kit.Doors) []kit.Route {
	create, remove := doors.Key(broker.ScopeEnvironmentsCreate), doors.Key(broker.ScopeEnvironmentsDelete)
	createKey, deleteKey := doors.Key(broker.ScopeKeysCreate), doors.Key(broker.ScopeKeysDelete)
	return []kit.Route{
		{Method: http.MethodPost, Path: "/environments", Auth: create, MaxBody: kit.MaxJSON, Handle: a.createEnvironment},
		{Method: http.MethodDelete, Path: "/environments/{environmentId}", Auth: remove, Handle: a.deleteEnvironment},
		{Method: http.MethodPost, Path: "/environment/api-keys", Auth: createKey, MaxBody: kit.MaxJSON, Handle: a.createKey},
		{Method: http.MethodDelete, Path: "/environment/api-keys", Auth: deleteKey, MaxBody: kit.MaxJSON, Handle: a.deleteKey},
		{Method: http.MethodGet, Path: "/environment-variables", Auth: doors.Key(broker.ScopeVariablesRead), Handle: a.variables},
	}
}

var (
	environmentNameForm = regexp.MustCompile(`^[a-z0-9_-]+$`)
	isEnvironmentName   = []rule{atMost(255), matching(environmentNameForm, "Invalid string: an environment's name has a-z, 0-9, _ and -")}
)

// production is the name of the environment that is always one for production.
const production = "prod"

// createdEnvironment is an environment that was just made. Callers keep its id and read nothing into it.
type createdEnvironment struct {
	ID   broker.EnvironmentID `json:"id"`
	Name string               `json:"name"`
}

// createEnvironment answers POST /environments.
func (a *api) createEnvironment(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	o, err := bodyAlone(r)
	if err != nil {
		return err
	}
	name := o.text("name", isEnvironmentName...)
	isProduction := o.flag("is_production")
	unsupported := o.unsupportedSettings()
	o.done()
	if err := o.failed(inBody); err != nil {
		return err
	}
	switch {
	case isProduction != nil && *isProduction:
		if err := who.Allow(broker.ScopeEnvironmentsProduction); err != nil {
			return err
		}
	case isProduction != nil && name == production:
		return &refusal{
			cause: broker.ErrInvalidRequest, status: http.StatusBadRequest, code: "invalid_is_prod_flag",
			message: "The environment prod is one for production",
		}
	}
	if len(unsupported) > 0 {
		return invalidBody(broker.ErrNotSupported, "Not supported: "+strings.Join(unsupported, ", "))
	}
	e, err := a.b.CreateEnvironment(r.Context(), who, name)
	if err != nil {
		return err
	}
	return kit.WriteJSON(w, http.StatusOK, data[createdEnvironment]{createdEnvironment{e.ID, e.Name}})
}

// unsupportedSettings takes the settings that there are none of here, and names those that are asked for: whoever sets
// one counts on it.
func (o *object) unsupportedSettings() (asked []string) {
	for _, name := range []string{"callback_url", "hmac_key", "otlp_endpoint"} {
		if deref(o.maybe(name)) != "" {
			asked = append(asked, name)
		}
	}
	for _, name := range []string{"hmac_enabled", "slack_notifications"} {
		if on := o.flag(name); on != nil && *on {
			asked = append(asked, name)
		}
	}
	if v, ok := o.take("otlp_headers", jsontext.KindBeginObject, false); ok && len(newObject(o.check, v).names) > 0 {
		asked = append(asked, "otlp_headers")
	}
	return asked
}

// deleteEnvironment answers DELETE /environments/{environmentId}.
func (a *api) deleteEnvironment(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	if err := noQuery(r); err != nil {
		return err
	}
	err := a.b.DeleteEnvironment(r.Context(), who, broker.EnvironmentID(r.PathValue("environmentId")))
	switch {
	case errors.Is(err, broker.ErrConflict) && broker.AsError(err).Field == "environment":
		return called(broker.AsError(err), http.StatusBadRequest, "cannot_delete_prod_environment")
	case err != nil:
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// createdKey is an API key that was just made; its secret is told only now.
type createdKey struct {
	ID          broker.APIKeyID `json:"id"`
	DisplayName string          `json:"display_name"`
	Scopes      broker.Scopes   `json:"scopes"`
	Secret      string          `json:"secret"`
	CreatedAt   string          `json:"created_at"`
}

// createKey answers POST /environment/api-keys.
func (a *api) createKey(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	o, err := bodyAlone(r)
	if err != nil {
		return err
	}
	id := o.text("environment_id", atLeast(1))
	in := broker.KeyInput{Name: o.text("display_name", atLeast(1), atMost(255)), Scopes: broker.Scopes{broker.ScopeAll}}
	o.done()
	if err := o.failed(inBody); err != nil {
		return err
	}
	e, err := a.b.EnvironmentByID(broker.EnvironmentID(id))
	if err != nil {
		return err
	}
	secret, k, err := a.b.CreateAPIKey(r.Context(), who, e, in)
	switch {
	case errors.Is(err, broker.ErrConflict) && broker.AsError(err).Field == "keys":
		return called(broker.AsError(err), http.StatusBadRequest, "resource_capped")
	case err != nil:
		return err
	}
	return kit.WriteJSON(w, http.StatusOK, data[createdKey]{createdKey{
		ID: k.ID, DisplayName: k.Name, Scopes: slices.Clone(k.Scopes), Secret: secret.Reveal(), CreatedAt: stamp(k.CreatedAt),
	}})
}

// deleteKey answers DELETE /environment/api-keys.
func (a *api) deleteKey(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	o, err := bodyAlone(r)
	if err != nil {
		return err
	}
	id, key := o.text("environment_id", atLeast(1)), o.text("key_id", atLeast(1))
	o.done()
	if err := o.failed(inBody); err != nil {
		return err
	}
	e, err := a.b.EnvironmentByID(broker.EnvironmentID(id))
	if err != nil {
		return err
	}
	if err := a.b.DeleteAPIKey(r.Context(), who, e, broker.APIKeyID(key)); err != nil {
		return err
	}
	return kit.WriteJSON(w, http.StatusOK, success{true})
}

// variables answers GET /environment-variables: they are for functions, which there are none of here.
func (a *api) variables(w http.ResponseWriter, r *http.Request, _ broker.Actor) error {
	if err := noQuery(r); err != nil {
		return err
	}
	return kit.WriteJSON(w, http.StatusOK, []struct{}{})
}
