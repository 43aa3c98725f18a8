package broker

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"
)

// keep stores what the provider gave, and only then hands it out. ours is false where it came too late and somebody else's
// is handed out.
func (b *Broker) keep(ctx context.Context, t *target, old *Credential, m *Material, got *Obtained) (c *Credential, ours bool, err error) {
	next := merge(m, got.Material)
	if got.Erases {
		next.Refresh, next.RefreshExpiresAt = Secret{}, time.Time{}
	}
	sealed, err := b.sealMaterial(t.connection.Environment, t.connection.ID, old.Version+1, old.Origins, next)
	if err != nil {
		return nil, false, err
	}
	sealed.RefreshedAt = b.Now()
	schedule(t.facts, sealed, t.renewer.Renewable(next))
	swap := &Swap{
		Connection: t.connection.ID, From: old.Version, Next: sealed, Scopes: next.Scopes, Orphan: orphan(t.connection, sealed, b.Now()),
	}
	if len(got.Config) > 0 {
		if swap.Config, err = mergeConfig(t.connection.Config, got.Config); err != nil {
			b.log.LogAttrs(ctx, slog.LevelWarn, "what an answer said besides its token is not kept", slog.String("connection", string(t.connection.ID)))
		}
	}
	if got.Partly != nil {
		swap.Trail = b.partFailed(t.connection, got.Partly)
	}
	if c, err = b.commit(ctx, t, swap); err != nil {
		return c, false, err
	}
	b.clearFault(ctx, t.integration)
	b.rouseCourier(swap.Trail)
	return c, c == sealed, nil
}

// merge lays a renewed credential over the old one: a provider that sends no refresh token means the old one to stay.
func merge(old, fresh *Material) *Material {
	out := *fresh
	if out.Refresh.IsZero() {
		out.Refresh, out.RefreshExpiresAt = old.Refresh, old.RefreshExpiresAt
	}
	if out.Details == nil {
		out.Details = old.Details
	}
	if out.Type == "" {
		out.Type = old.Type
	}
	return &out
}

// commit stores a swap. When the store fails, the pair is held and tried again until the process ends: the provider has
// spent the old refresh token, so what we hold is the only one.
func (b *Broker) commit(ctx context.Context, t *target, s *Swap) (*Credential, error) {
	c := t.connection
	b.held.begin(s)
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, heldPause) {
		err := b.cache.writing(c.Integration, c.Key, func() error { return b.store.SwapCredential(ctx, s) })
		switch {
		case err == nil:
			b.held.drop(c.ID)
			b.refill(ctx)
			return s.Next, nil
		case errors.Is(err, ErrConflict): // a reconnect or an import came first: theirs counts
			b.held.drop(c.ID)
			return b.store.Credential(ctx, c.ID)
		case errors.Is(err, ErrNotFound): // deleted in the meantime: the new tokens must end too
			if err = b.endOrphan(ctx, s); err == nil {
				b.held.drop(c.ID)
				return nil, ErrNotFound.On("connection")
			}
		}
		b.hold(ctx, s, err)
		select {
		case <-time.After(pause):
		case <-b.held.end:
			b.spill(ctx, s)
			return nil, ErrStorageUnavailable.Because(err)
		}
	}
}

// endOrphan has tokens ended whose connection is gone. It may be done twice.
func (b *Broker) endOrphan(ctx context.Context, s *Swap) error {
	if s.Orphan == nil { // it was spilled before there were any
		return nil
	}
	r := *s.Orphan
	r.CreatedAt = b.Now() // only now there is something to end
	r.NextAt = r.CreatedAt
	if err := b.store.AddRevocation(ctx, &r, Trail{}); !errors.Is(err, ErrConflict) {
		return err
	}
	return nil
}

// orphan is the revocation of tokens whose connection is gone.
func orphan(c *Connection, cred *Credential, now time.Time) *Revocation {
	return &Revocation{
		ID: uuid.NewString(), Environment: c.Environment, Integration: c.Integration, Connection: c.ID, Version: cred.Version,
		Type: cred.Type, Origins: cred.Origins, Access: cred.Access, Refresh: cred.Refresh, Details: cred.Details, Config: c.Config,
		AccountHash: c.AccountHash, CreatedAt: now, NextAt: now,
	}
}

// recordFailure writes down what a failure means, and gives the error for whoever waits.
func (b *Broker) recordFailure(ctx context.Context, t *target, c *Credential, m *Material, p *ProviderError, doubtful bool) error {
	now := b.Now()
	f := &RefreshFailure{
		Connection: t.connection.ID, Version: c.Version, Owner: b.owner, Code: p.Code, At: now, ErrorID: uuid.NewString(),
		CountsAgainst: true, KeepAttempt: p.InDoubt || doubtful, // a lost grant's too: whoever tries again has the same doubt
	}
	var answer *Error
	class := p.Class
	if class == ClientRefused && m.hasOwnClient() {
		class = GrantLost
		if client := m.ServerClient(nil); client != nil {
			b.forgetClient(ctx, t.integration, m.Server(), client.ID)
		}
	}
	switch class {
	case GrantLost:
		answer = b.grantLost(t, c, f, p, doubtful)
		if p.Class == GrantLost && p.Status != 0 {
			b.clearFault(ctx, t.integration) // whoever judges a grant has accepted the client
		}
	case ClientRefused:
		answer = ErrMisconfigured.After(probeEvery)
		f.CountsAgainst, f.NextAt = false, now.Add(probeEvery+spread(time.Minute))
		b.setFault(ctx, t.integration, p.Code, now)
	case Transient:
		answer = b.transient(t, c, f, p)
	}
	if err := b.store.FailRefresh(ctx, f); err != nil {
		b.log.LogAttrs(ctx, slog.LevelError, "a failed renewal could not be recorded", slog.String("connection", string(c.Connection)), because(err))
	}
	b.rouseCourier(f.Trail)
	b.cache.spoil(t.connection.Integration, t.connection.Key)
	if f.Status != "" {
		t.connection.fail(f.Status, f.Reason, f.ErrorID, f.Code, now)
	}
	return &RefreshError{Err: answer.Because(p), Attempted: true, Connection: t.connection, Provider: p}
}

// keepLost is how long the tokens of a lost grant are kept, for whoever insists that it works.
const keepLost = 30 * 24 * time.Hour

// grantLost marks the connection. The refresh token stays for a while: somebody may insist and find that it works.
func (b *Broker) grantLost(t *target, c *Credential, f *RefreshFailure, p *ProviderError, doubtful bool) *Error {
	f.Status, f.Reason, f.EraseAt = Failing, ReasonNeedsReauth, f.At.Add(keepLost)
	switch {
	case p.Moved:
		f.Reason = ReasonIssuerChanged
	case doubtful && p.Class == GrantLost:
		f.Reason = ReasonOutcomeLost
	}
	if c.Failures == 0 || !c.RefreshAt.IsZero() {
		lost := b.event(EventNeedsReauth, t.connection, f.Reason)
		f.Trail = Trail{
			Audit:      []AuditEntry{b.line(System(t.connection.Environment), "connection.needs_reauth", string(t.connection.ID))},
			Events:     []Event{b.event(EventRefreshFailed, t.connection, p.Code), lost},
			Deliveries: b.tellConnection(&lost, t.connection),
		}
	}
	return ErrNeedsReauth
}

// transient plans the next attempt. The connection is told to be failing only when that matters to somebody: its token
// has run out, or it has been going on for an hour.
func (b *Broker) transient(t *target, c *Credential, f *RefreshFailure, p *ProviderError) *Error {
	pause := max(backoff(c.Failures+1), p.RetryAfter)
	f.NextAt = f.At.Add(pause)
	long := !c.FailingSince.IsZero() && f.At.Sub(c.FailingSince) >= failingAfter
	if long || c.hasExpired(f.At) {
		f.Status, f.Reason = Failing, ReasonRefreshFails
	}
	if c.Failures == 0 {
		f.Trail.Events = append(f.Trail.Events, b.event(EventRefreshFailed, t.connection, p.Code))
	}
	if f.Status == Failing && t.connection.Status != Failing {
		failing := b.event(EventRefreshFailing, t.connection, p.Code)
		f.Trail.Events, f.Trail.Deliveries = append(f.Trail.Events, failing), b.tellConnection(&failing, t.connection)
	}
	if p.Reach != nil {
		return p.Reach.After(pause)
	}
	return ErrProviderDown.After(pause)
}

// runOut notes that a credential has come to its end and that there is nothing to renew it with.
func (b *Broker) runOut(ctx context.Context, t *target, c *Credential) error {
	now := b.Now()
	if !c.hasExpired(now) || t.connection.Status != Active {
		return nil
	}
	b.cache.spoil(t.connection.Integration, t.connection.Key)
	return b.store.FailRefresh(ctx, &RefreshFailure{
		Connection: c.Connection, Version: c.Version, Owner: b.owner, Code: string(Expired), At: now, Status: Expired,
	})
}

// overtaken reports that a swap came too late: the credential is newer, or gone.
func overtaken(err error) bool { return errors.Is(err, ErrConflict) || errors.Is(err, ErrNotFound) }
