package broker

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"strings"

	"github.com/google/uuid"
)

// originsOf says where a credential may be sent: the API's origin and, after a space, the host that renews it. Either is
// empty where the provider has none.
func originsOf(p Provider, h *Holding) string {
	var origins string
	if presented, err := p.Present(h); err == nil && presented.BaseURL != nil {
		origins = apiOrigin(presented.BaseURL)
	}
	if r, ok := p.(Renewer); ok {
		origins += " " + r.Endpoint(h)
	}
	return origins
}

// apiOrigin gives scheme, host and port of a URL, the way browsers write it.
func apiOrigin(u *url.URL) string {
	host := strings.ToLower(u.Host)
	switch u.Scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	}
	return u.Scheme + "://" + host
}

// mayCall reports whether the API at base is the one of a credential's origins. In the usual case it builds nothing.
func mayCall(origins string, base *url.URL) bool {
	api, _, _ := strings.Cut(origins, " ")
	scheme, host, _ := strings.Cut(api, "://")
	return scheme == base.Scheme && host == base.Host || api == apiOrigin(base)
}

// mayRenew reports whether the token endpoint is the one that a credential was granted by. One that is known to have been
// in the wrong place has to be in the right one altogether.
func (t *target) mayRenew(c *Credential, h *Holding) bool {
	if t.connection.Reason == ReasonOriginChanged {
		return originsOf(t.provider, h) == c.Origins
	}
	_, host, _ := strings.Cut(c.Origins, " ")
	return t.renewer.Endpoint(h) == host
}

// errMoved refuses to send a credential to where it does not belong.
var errMoved = ErrNeedsReauth.
	Saying("the provider's address is another than when the end user connected; the end user has to connect again").
	Because(&ProviderError{Class: GrantLost, Code: ReasonOriginChanged})

// moved marks the connection of a ticket whose API is not the credential's, if it is not, and gives the refusal.
func (b *Broker) moved(ctx context.Context, t *Ticket) error {
	if t.Reason == ReasonOriginChanged {
		return errMoved
	}
	ctx = context.WithoutCancel(ctx) // it is recorded whether the caller waits or not
	c, err := b.store.Connection(ctx, t.Environment, t.Connection)
	if err != nil {
		return onConnection(err)
	}
	b.strandNoted(ctx, c, t.Version)
	return errMoved
}

// notRenewed marks a connection whose token endpoint is not the credential's, if it is not, and gives the refusal.
func (b *Broker) notRenewed(ctx context.Context, t *target, c *Credential) error {
	if t.connection.Reason != ReasonOriginChanged {
		b.strandNoted(ctx, t.connection, c.Version)
	}
	return &RefreshError{Err: errMoved, Connection: t.connection, Provider: &ProviderError{Class: GrantLost, Code: ReasonOriginChanged}}
}

// strandNoted is strandAt where the refusal does not depend on it: it is worked out anew each time.
func (b *Broker) strandNoted(ctx context.Context, c *Connection, version int64) {
	if err := b.strandAt(ctx, c, version); err != nil {
		b.log.LogAttrs(ctx, slog.LevelError, "a changed address could not be recorded", slog.String("connection", string(c.ID)), because(err))
	}
}

// strand ends the renewal of an integration's connections when its token endpoint has moved to another origin: their
// refresh tokens are not sent to who did not issue them. Their end users have to connect again.
func (b *Broker) strand(ctx context.Context, old, changed *Integration) error {
	if f := b.factsOf(old); old.TokenOrigin == changed.TokenOrigin || f != nil && f.ServerField != "" {
		return nil // or each of them is held to a server of its own
	}
	const page = 500
	for offset := 0; ; offset += page {
		list, err := b.store.Connections(ctx, ConnectionFilter{
			Environment: old.Environment, Integrations: []IntegrationID{old.ID}, Limit: page, Offset: offset,
		})
		if err != nil {
			return err
		}
		for _, c := range list {
			if err := b.strandOne(ctx, c); err != nil {
				return err
			}
		}
		if len(list) < page {
			return nil
		}
	}
}

// strandOne marks a connection that has a refresh token.
func (b *Broker) strandOne(ctx context.Context, c *Connection) error {
	cred, err := b.store.Credential(ctx, c.ID)
	if errors.Is(err, ErrNotFound) || err == nil && len(cred.Refresh) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	return b.strandAt(ctx, c, cred.Version)
}

// strandAt marks a connection if its credential is still of that version. Its tokens are kept: they are good where they
// belong, and are to be ended there when the connection is deleted.
func (b *Broker) strandAt(ctx context.Context, c *Connection, version int64) error {
	b.cache.spoil(c.Integration, c.Key)
	lost := b.event(EventNeedsReauth, c, ReasonOriginChanged)
	trail := b.audited(System(c.Environment), "connection.needs_reauth", string(c.ID))
	trail.Events, trail.Deliveries = []Event{lost}, b.tellConnection(&lost, c)
	return b.store.FailRefresh(ctx, &RefreshFailure{
		Connection: c.ID, Version: version, Code: ReasonOriginChanged, At: b.Now(), Status: Failing, Reason: ReasonOriginChanged,
		ErrorID: uuid.NewString(), CountsAgainst: true, KeepAttempt: true, Trail: trail,
	})
}
