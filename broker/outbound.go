package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"
)

// Outbound is one connection's way out to its provider, with the credential ready to be put into requests. It is shared
// by all who call through the connection: treat it as read-only.
type Outbound struct {
	connection  ConnectionID
	environment EnvironmentID
	integration *Integration // of the snapshot that it was made from; another one makes it useless
	key         string
	version     int64
	presented   *Presentation
	access      Secret // to keep the provider from handing it back; empty: nothing short enough to look for

	serveUntil int64 // Unix microseconds; never: math.MaxInt64
	kickAt     int64 // when a renewal should be begun in the background
	kicked     atomic.Bool
	fetched    atomic.Int64 // Unix seconds; when the use was last noted
	wanted     atomic.Value // string: the scopes that a call was last refused for

	generation uint64
	writes     *atomic.Uint64
	standing   Standing // as it was read; looked at only where other processes write
}

// never is a serveUntil that does not come.
const never = int64(1<<63 - 1)

// noteUseEvery is how often the use of a connection is noted while it is in use all the time.
const noteUseEvery = 30 // seconds

// Outbound gives the way out of a connection, with a credential that is good for a while. Errors: not_found naming
// integration or connection, connection_pending, needs_reauth, provider_unavailable, misconfigured, refresh_timeout.
func (b *Broker) Outbound(ctx context.Context, who Actor, integration, key string) (*Outbound, error) {
	if who.Kind != ByKey || !who.Scopes.Has(ScopeProxy) {
		if err := who.Allow(ScopeProxy); err != nil {
			return nil, err
		}
	}
	return b.outbound(ctx, who.Environment, integration, key)
}

// outbound is Outbound for whom has been found to be allowed.
func (b *Broker) outbound(ctx context.Context, env EnvironmentID, integration, key string) (_ *Outbound, err error) {
	i, ok := b.snapshot.Load().byKey[integrationName{env, integration}]
	if !ok {
		return nil, ErrNotFound.On("integration").Saying("there is no integration of that key")
	}
	now := b.clock()
	o, ok := b.cache.get(cacheKey{i.ID, key})
	if ok && b.shared != nil {
		if ok, err = b.stillStands(ctx, o); err != nil {
			return nil, err
		}
	}
	if ok && o.integration == i && now.UnixMicro() < o.serveUntil {
		b.noteUse(o, now)
		if now.UnixMicro() >= o.kickAt && o.kicked.CompareAndSwap(false, true) {
			b.renewSoon(ctx, o)
		}
		return o, nil
	}
	return b.fetchTogether(ctx, cacheKey{i.ID, key}, i)
}

// stillStands reports whether nothing was written to the connection since it was read, on any node: what is deleted or
// renewed elsewhere must not be served here, not even for a moment.
func (b *Broker) stillStands(ctx context.Context, o *Outbound) (bool, error) {
	now, err := b.shared.Standing(ctx, o.integration.ID, o.key)
	if err != nil {
		return false, onConnection(err)
	}
	return now == o.standing, nil
}

// fetchTogether lets one read, and perhaps one renewal, do for all who miss the same connection at the same time. What it
// came to counts only if nothing was written to the connection since: whoever came after a write reads again.
func (b *Broker) fetchTogether(ctx context.Context, k cacheKey, i *Integration) (*Outbound, error) {
	for range 2 {
		came := b.cache.shard(k).Load()
		o, err := b.fetches.do(ctx, k, func() (*Outbound, error) { return b.fetchSafely(ctx, i, k.key) })
		if err != nil {
			return nil, err
		}
		stands := o.integration == i && o.generation >= came
		if stands && b.shared != nil { // the read may have begun before a write of another node, and we after it
			if stands, err = b.stillStands(ctx, o); err != nil {
				return nil, err
			}
		}
		if stands {
			return o, nil
		}
	}
	return b.fetchOutbound(ctx, i, k.key)
}

// fetchSafely turns a panic into an error: others wait for what comes of it.
func (b *Broker) fetchSafely(ctx context.Context, i *Integration, key string) (o *Outbound, err error) {
	defer func() {
		if p := recover(); p != nil {
			b.log.LogAttrs(ctx, slog.LevelError, "a look-up panicked", slog.String("stack", string(debug.Stack())))
			o, err = nil, ErrInternal.Because(fmt.Errorf("panic in a look-up: %T", p))
		}
	}()
	return b.fetchOutbound(ctx, i, key)
}

// noteUse notes that the connection was used, now and then.
func (b *Broker) noteUse(o *Outbound, now time.Time) {
	s := now.Unix()
	if last := o.fetched.Load(); s-last >= noteUseEvery && o.fetched.CompareAndSwap(last, s) {
		b.reads.used(o.connection, cut(now))
	}
}

// renewSoon renews beside the request, which is served with what there is.
func (b *Broker) renewSoon(ctx context.Context, o *Outbound) {
	ctx = context.WithoutCancel(ctx)
	b.work.run(func() {
		_, _ = b.renew(ctx, renewal{environment: o.environment, connection: o.connection, why: whenDue})
	})
}

// fetchOutbound reads the connection, renews its credential first if it has run out, and keeps the result.
func (b *Broker) fetchOutbound(ctx context.Context, i *Integration, key string) (*Outbound, error) {
	p, ok := b.catalogue.Provider(i.Provider)
	if !ok {
		return nil, ErrNotSupported.Saying("the provider left the catalogue")
	}
	k := cacheKey{i.ID, key}
	writes := b.cache.shard(k)
	var failure error // of the renewal, after which the connection is looked at again: it may be gone by then
	for renewed := false; ; renewed = true {
		generation := writes.Load()
		t, err := b.store.Ticket(ctx, i.ID, key)
		if err != nil {
			return nil, onConnection(err)
		}
		if err := usable(t); err != nil {
			return nil, err
		}
		o, runOut, err := b.outboundOf(p, i, key, t)
		if err != nil {
			return nil, err
		}
		if base := o.Base(); base != nil && !mayCall(t.Origins, base) {
			return nil, b.moved(ctx, t)
		}
		if !runOut || renewed {
			if runOut && !b.Now().Before(t.ExpiresAt) {
				return nil, orElse(failure, ErrNeedsReauth)
			}
			o.generation, o.writes = generation, writes
			if failure == nil { // otherwise it is good, and not for much longer
				b.cache.put(k, o)
				b.noteUse(o, b.clock())
			}
			return o, nil
		}
		_, failure = b.renew(ctx, renewal{environment: t.Environment, connection: t.Connection, than: t.Version, why: whenDue})
		if failure != nil && (errors.Is(failure, ErrNotFound) || !b.Now().Before(t.ExpiresAt)) {
			return nil, onConnection(failure)
		}
	}
}

// onConnection says that it is the connection which is missing.
func onConnection(err error) error {
	if errors.Is(err, ErrNotFound) {
		return ErrNotFound.On("connection").Saying("there is no connection of that id").Because(err)
	}
	return err
}

// usable refuses connections that have no credential to use.
func usable(t *Ticket) error {
	switch t.Status {
	case Pending:
		return ErrConnectionPending
	case Disconnected:
		return ErrNeedsReauth
	case Active, Failing, Expired:
	}
	if t.Version == 0 {
		return ErrConnectionPending
	}
	return nil
}

// outboundOf opens a ticket. runOut is set when its token has to be renewed before it is served.
func (b *Broker) outboundOf(p Provider, i *Integration, key string, t *Ticket) (o *Outbound, runOut bool, err error) {
	m := &Material{Type: t.Type, ExpiresAt: t.ExpiresAt}
	if m.Access, err = b.open(credentialPlace(t.Environment, t.Connection, columnAccess, t.Version, t.Origins), t.Access); err != nil {
		return nil, false, err
	}
	if m.Details, err = b.openDetails(credentialPlace(t.Environment, t.Connection, columnDetails, t.Version, t.Origins), t.Details); err != nil {
		return nil, false, err
	}
	client, err := b.client(i)
	if err != nil {
		return nil, false, err
	}
	presented, err := p.Present(&Holding{Client: client, Config: configValues(t.Config, m.Details), Material: m})
	if err != nil {
		return nil, false, err
	}
	o = &Outbound{
		connection: t.Connection, environment: t.Environment, integration: i, key: key, version: t.Version,
		presented: presented, serveUntil: never, kickAt: never,
		standing: Standing{Connection: t.Connection, Revision: t.Revision, Version: t.Version, Status: t.Status},
	}
	if len(m.Access.Reveal()) >= minKeyLength {
		o.access = m.Access
	}
	if t.ExpiresAt.IsZero() {
		return o, false, nil
	}
	now, end := b.Now(), t.ExpiresAt
	r, ok := p.(Renewer)
	renewable := ok && (t.Renewable || r.Renewable(m))
	if !renewable && !now.Before(end) {
		return nil, false, errRunOut
	}
	if renewable {
		f, life := p.Facts(), &Credential{ObtainedAt: t.ObtainedAt, ExpiresAt: t.ExpiresAt}
		end = end.Add(-servesFor(f, life))
		o.kickAt = t.ExpiresAt.Add(-margin(f, life)).UnixMicro()
	}
	o.serveUntil = end.UnixMicro()
	return o, !now.Before(end), nil
}

// rejectedPause is how soon after a renewal that the API's refusal caused another may be: an API that refuses every
// token would otherwise have one renewed with every call.
const rejectedPause = 30 * time.Second

// Rejected is told that the API refused the credential. It gives a newer one, renewing it once for each version, or nil
// when there is none to be had.
func (b *Broker) Rejected(ctx context.Context, o *Outbound) (*Outbound, error) {
	c, err := b.store.Credential(ctx, o.connection)
	if err != nil {
		return nil, onConnection(err)
	}
	if c.Version <= o.version {
		if !b.mayReject(o.connection, o.version) {
			return nil, nil //nolint:nilnil // "nothing newer" is an answer, not a failure
		}
		c, err = b.renew(ctx, renewal{environment: o.environment, connection: o.connection, than: o.version, why: rejected})
		if err != nil {
			return nil, err
		}
		if c.Version <= o.version {
			return nil, nil //nolint:nilnil // as above
		}
	}
	return b.outbound(ctx, o.integration.Environment, o.integration.Key, o.key)
}

// mayReject limits renewals that an API's refusals cause: all who found out about one version wait for one renewal, and
// the token that comes of it is not renewed for the same reason until a while later.
func (b *Broker) mayReject(id ConnectionID, version int64) bool {
	if last, ok := b.rejections.GetIfPresent(id); ok {
		return last == version
	}
	b.rejections.Set(id, version)
	return true
}

// Connection is whose way out this is.
func (o *Outbound) Connection() ConnectionID { return o.connection }

// Integration is whose connection it is, by its key.
func (o *Outbound) Integration() string { return o.integration.Key }

// Base is where the provider's API stands. Nil: the entry has none.
func (o *Outbound) Base() *url.URL { return o.presented.BaseURL }

// OnlyBase reports whether calls go to the base URL itself and what is below it, and nowhere else on its host.
func (o *Outbound) OnlyBase() bool { return o.presented.OnlyBase }

// Hosts are the https hosts that a caller may name in place of the base's.
func (o *Outbound) Hosts() []string {
	if o.presented.OnlyBase {
		return nil
	}
	return o.integration.Hosts
}

// Retry are the provider's rules for retries.
func (o *Outbound) Retry() *RetryRules { return &o.presented.Retry }

// Certificate is what the provider's server is shown; nil: nothing.
func (o *Outbound) Certificate() *tls.Certificate { return o.presented.Certificate }

// Query is what the provider's authentication adds to the query.
func (o *Outbound) Query() []Param { return o.presented.Query }

// Reserved reports whether the provider's authentication sets the header, whose key must be canonical.
func (o *Outbound) Reserved(key string) bool {
	for i := range o.presented.Headers {
		if h := &o.presented.Headers[i]; h.Key == key {
			return !h.Weak
		}
	}
	return o.presented.Sign != nil && key == "Authorization"
}

// ReservedParam reports whether the provider's authentication sets the query parameter.
func (o *Outbound) ReservedParam(name string) bool {
	for i := range o.presented.Query {
		if o.presented.Query[i].Key == name {
			return true
		}
	}
	return false
}

// Authorize puts the credential into the request. It must be the last to change it.
func (o *Outbound) Authorize(r *http.Request) error {
	for i := range o.presented.Headers {
		h := &o.presented.Headers[i]
		if h.Weak && len(r.Header[h.Key]) > 0 {
			continue
		}
		r.Header[h.Key] = h.Values
	}
	if o.presented.Sign != nil {
		return o.presented.Sign(r)
	}
	return nil
}

// Carries reports whether a header value of an answer holds the access token.
func (o *Outbound) Carries(value string) bool {
	return !o.access.IsZero() && strings.Contains(value, o.access.Reveal())
}

// Format gives a placeholder: what is inside is ready to be sent.
func (o *Outbound) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }
