package web

import (
	"net/http"

	"github.com/coatcheck/coatcheck/broker"
)

// origins says which pages may read what a connect session is answered: those of the session's origins, or of its
// environment's. Where none are configured, any may, unless we are on this machine: then its own pages alone. No cookie
// is at stake, only a token that the page must hold already. A request that names no environment yet goes by all of them
// together.
func origins(b *broker.Broker) func(*http.Request, broker.Actor, string) (ok, everyone bool, err error) {
	return func(r *http.Request, who broker.Actor, origin string) (ok, everyone bool, err error) {
		if who.Kind != broker.BySession {
			for _, env := range b.Environments() {
				if ok, everyone = allows(b, origin, env, nil); ok {
					break
				}
			}
			return ok, everyone, nil
		}
		env, err := b.Environment(who)
		if err != nil {
			return false, false, err
		}
		session, err := b.Session(r.Context(), who)
		if err != nil {
			return false, false, err
		}
		ok, everyone = allows(b, origin, env, session)
		return ok, everyone, nil
	}
}

func allows(b *broker.Broker, origin string, env *broker.Environment, s *broker.Session) (ok, everyone bool) {
	if b.OriginAllowed(origin, env, s) || origin == b.PublicURL() {
		return true, false
	}
	everyone = b.PageAllowed(origin, env, s)
	return everyone, everyone
}

// anyOrigin says which pages may open a socket. It names no environment, so all of them count together.
func anyOrigin(b *broker.Broker) func(origin string) bool {
	allowed := origins(b)
	return func(origin string) bool {
		ok, _, err := allowed(nil, broker.Actor{}, origin)
		return err == nil && ok
	}
}
