package broker

import (
	"slices"
	"strings"
)

// ActorKind says how the caller proved who it is.
type ActorKind int

// The kinds of actor.
const (
	Anonymous ActorKind = iota // nobody has been established
	ByKey                      // an API key
	BySession                  // a connect session's token
	ByBrowser                  // a browser that comes back from a provider
	BySystem                   // the broker itself, or its command line
)

// Actor is who asks. It is an argument of every method that reads or changes something, not a value in a context, so
// that no method can forget to authorise and to audit.
type Actor struct {
	Kind        ActorKind
	Environment EnvironmentID
	Key         APIKeyID  // ByKey
	Session     SessionID // BySession, and ByBrowser where the flow has one
	Scopes      Scopes    // ByKey
	Owner       string    // ByKey: the end user on whose behalf the app's backend asks; empty: nobody's
	IP          string    // as the web layer established it, for the audit trail
	RequestID   string
}

// System is the broker itself, acting in one environment.
func System(env EnvironmentID) Actor { return Actor{Kind: BySystem, Environment: env} }

// name is how the audit trail calls the actor.
func (a Actor) name() string {
	switch a.Kind {
	case ByKey:
		return "key:" + string(a.Key)
	case BySession:
		return "session:" + string(a.Session)
	case ByBrowser:
		return "browser"
	case BySystem:
		return "system"
	case Anonymous:
		return "anonymous"
	}
	return "anonymous"
}

// Allow refuses an actor that holds none of the scopes: only a key holds scopes, and the system needs none.
func (a Actor) Allow(anyOf ...Scope) error {
	if a.Kind == BySystem {
		return nil
	}
	if a.Kind == Anonymous {
		return ErrUnauthorized
	}
	if a.Kind == ByKey && slices.ContainsFunc(anyOf, a.Scopes.Has) {
		return nil
	}
	names := make([]string, len(anyOf))
	for i, s := range anyOf {
		names[i] = string(s)
	}
	if len(names) == 1 {
		return ErrInsufficientScope.Saying("Insufficient scope. Required: " + names[0])
	}
	return ErrInsufficientScope.Saying("Insufficient scope. Required one of: " + strings.Join(names, " or "))
}
