package popup

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
)

// keys are the integrations of the contract, in its order.
var keys = []string{"slack", "custom_mcp", "notion", "google_drive", "calcom", "twilio", "email"}

// integrationOf finds the integration that a key of the contract stands for: the one with that unique key or, since most
// unique keys are written with hyphens, with hyphens in it. Errors: not_supported where neither is set up.
func (a *api) integrationOf(ctx context.Context, who broker.Actor, key string) (*broker.Integration, error) {
	for _, unique := range slices.Compact([]string{key, strings.ReplaceAll(key, "_", "-")}) {
		// A key that may open a popup need not be one that may read integrations.
		i, _, err := a.b.Integration(ctx, broker.System(who.Environment), unique)
		if !errors.Is(err, broker.ErrNotFound) {
			return i, err
		}
	}
	return nil, notSetUp(key)
}

func notSetUp(key string) error {
	return broker.ErrNotSupported.Saying("the integration " + key + " is not set up in this environment")
}

// keyNames gives the keys of the contract by the integrations that they stand for.
func (a *api) keyNames(ctx context.Context, who broker.Actor) map[broker.IntegrationID]string {
	out := make(map[broker.IntegrationID]string)
	for _, key := range keys {
		if i, err := a.integrationOf(ctx, who, key); err == nil {
			out[i.ID] = key
		}
	}
	return out
}

// keyOf is how a connection's integration is called: by the key of the contract that stands for it or, where none does, by
// its unique key. ok is false when the integration has just been deleted, and the connection with it.
func (a *api) keyOf(c *broker.Connection, names map[broker.IntegrationID]string) (key string, ok bool) {
	i, _, err := a.b.IntegrationOf(c)
	if err != nil {
		return "", false
	}
	if name := names[i.ID]; name != "" {
		return name, true
	}
	return i.Key, true
}
