package broker

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/broker/internal/gate"
)

// A provider that cannot be reached is asked again for three days. Time in which it must not be asked, because it said so or
// because it has failed too often, does not count, up to a point.
const (
	revokeFor        = 72 * time.Hour
	revokeAtMost     = 30 * 24 * time.Hour
	revokeAtOnce     = 16
	firstRevokePause = 10 * time.Second
	lastRevokePause  = time.Hour
	revokeClaim      = 2 * time.Minute // longer than an attempt can take
)

// RevokeDue ends the grants of deleted connections at their providers, as far as that is due. While renewals are paused
// nothing is: a grant may be in use elsewhere.
func (b *Broker) RevokeDue(ctx context.Context) error {
	for b.Paused() == NotPaused {
		now := b.Now()
		list, err := b.store.ClaimRevocations(ctx, now, b.claimedUntil(now, revokeClaim), revokeAtOnce)
		if err != nil || len(list) == 0 {
			return err
		}
		var all sync.WaitGroup
		errs := make([]error, len(list))
		for n, r := range list {
			b.work.begin()
			all.Go(func() {
				defer b.work.done()
				errs[n] = b.revokeSafely(context.WithoutCancel(ctx), r)
			})
		}
		all.Wait()
		if err := errors.Join(errs...); err != nil || len(list) < revokeAtOnce || ctx.Err() != nil || b.isStopping() {
			return err
		}
	}
	return nil
}

// revokeSafely puts a job back whose provider makes us panic: on its own goroutine that would end the process, and again
// after every start.
func (b *Broker) revokeSafely(ctx context.Context, r *Revocation) (err error) {
	defer func() {
		if p := recover(); p != nil {
			b.log.LogAttrs(ctx, slog.LevelError, "a revocation panicked", slog.String("revocation", r.ID), slog.String("stack", string(debug.Stack())))
			err = b.revokeLater(ctx, r, 0)
		}
	}()
	return b.revoke(ctx, r)
}

// revoke does one job: asks the provider, or finds that it need not or cannot be asked.
func (b *Broker) revoke(ctx context.Context, r *Revocation) error {
	i, ok, err := b.integrationOf(ctx, r)
	if err != nil {
		return err
	}
	if !ok {
		return b.finishRevocation(ctx, r, OutcomeUnsupported)
	}
	p, _ := b.catalogue.Provider(i.Provider)
	revoker, ok := p.(Revoker)
	if !ok {
		return b.finishRevocation(ctx, r, OutcomeUnsupported)
	}
	shared, err := b.sharedGrant(ctx, p.Facts(), i, r)
	if err != nil {
		return err
	}
	if shared && !p.Facts().RevokesOwn {
		return b.finishRevocation(ctx, r, OutcomeSharedGrant)
	}
	h, err := b.deadHolding(i, r)
	if err != nil {
		b.log.LogAttrs(ctx, slog.LevelError, "a deleted credential cannot be opened, so its grant cannot be ended", slog.String("revocation", r.ID))
		return b.finishRevocation(ctx, r, OutcomeGaveUp)
	}
	h.Shared = shared
	supported, failure, err := b.askToRevoke(ctx, revoker, h, gateName(p.Facts(), i, r.Origins))
	var closed *gate.ClosedError
	switch {
	case errors.As(err, &closed):
		return b.putOff(ctx, r, closed.RetryAfter)
	case err != nil:
		return b.putOff(ctx, r, 0)
	case failure == nil && shared: // and what of it was not shared has ended
		return b.finishRevocation(ctx, r, OutcomeSharedGrant)
	case failure == nil && supported, failure != nil && failure.Class == GrantLost: // a grant that is gone needs no ending
		return b.finishRevocation(ctx, r, OutcomeRevoked)
	case failure == nil:
		return b.finishRevocation(ctx, r, OutcomeUnsupported)
	}
	return b.revokeLater(ctx, r, failure.RetryAfter)
}

// integrationOf finds the integration of a job. One that is not known may be another node's of a moment ago: what is
// finished here without asking its provider can never be revoked.
func (b *Broker) integrationOf(ctx context.Context, r *Revocation) (*Integration, bool, error) {
	i, ok := b.snapshot.Load().integrations[r.Integration]
	if ok {
		return i, true, nil
	}
	if err := b.reload(ctx); err != nil {
		return nil, false, err
	}
	i, ok = b.snapshot.Load().integrations[r.Integration]
	return i, ok, nil
}

// askToRevoke asks the provider through its gate. err says that it was not asked.
func (b *Broker) askToRevoke(ctx context.Context, r Revoker, h *Holding, name string) (supported bool, failure *ProviderError, err error) {
	entering, cancel := b.untilStopping(ctx)
	defer cancel()
	pass, err := b.gates.Enter(entering, name)
	if err != nil {
		return false, nil, err
	}
	defer pass.Leave()
	if err := pass.Wait(entering, false); err != nil {
		return false, nil, err
	}
	report, err := pass.Call()
	if err != nil {
		return false, nil, err
	}
	result := gate.Result{Fault: true} // of a panic
	defer func() { report(result) }()
	asking, cancel := context.WithTimeout(ctx, providerTimeout)
	defer cancel()
	supported, err = r.Revoke(asking, h)
	result = gate.Result{}
	if err != nil {
		failure = asProviderError(err)
		result = gate.Result{Fault: failure.Class == Transient && isFault(failure), RetryAfter: failure.RetryAfter}
	}
	return supported, failure, nil
}

// sharedGrant reports whether ending this grant would end another connection's too. Where it is not known whose account
// it was, every other connection of the integration might be the same.
func (b *Broker) sharedGrant(ctx context.Context, f *Facts, i *Integration, r *Revocation) (bool, error) {
	if !f.RevokesGrant {
		return false, nil
	}
	if len(r.AccountHash) == 0 {
		n, err := b.store.CountConnections(ctx, i.ID)
		return n > 0, err
	}
	return b.store.SharesGrant(ctx, r.AccountHash, r.Connection)
}

// deadHolding opens what was left of a credential.
func (b *Broker) deadHolding(i *Integration, r *Revocation) (*Holding, error) {
	client, err := b.client(i)
	if err != nil {
		return nil, err
	}
	m, err := b.openMaterial(r.Environment, &Credential{
		Connection: r.Connection, Version: r.Version, Type: r.Type, Origins: r.Origins,
		Access: r.Access, Refresh: r.Refresh, Details: r.Details,
	})
	if err != nil {
		return nil, err
	}
	return &Holding{Client: client, Config: configValues(r.Config, m.Details), Material: m}, nil
}

// revokeLater puts a job back that the provider was asked about in vain, or gives it up. A longer pause than our own was the
// provider's wish.
func (b *Broker) revokeLater(ctx context.Context, r *Revocation, after time.Duration) error {
	if b.Now().Sub(r.CreatedAt)-r.Waited >= revokeFor {
		return b.finishRevocation(ctx, r, OutcomeGaveUp)
	}
	pause := revokePause(r.Attempts)
	r.Attempts++
	return b.retryRevocation(ctx, r, max(pause, after), max(0, after-pause))
}

// putOff puts a job back that could not be tried.
func (b *Broker) putOff(ctx context.Context, r *Revocation, after time.Duration) error {
	pause := max(revokePause(r.Attempts), after)
	return b.retryRevocation(ctx, r, pause, pause)
}

// retryRevocation has the job come back after a pause, of which a part does not count.
func (b *Broker) retryRevocation(ctx context.Context, r *Revocation, pause, waited time.Duration) error {
	now := b.Now()
	if now.Sub(r.CreatedAt) >= revokeAtMost {
		return b.finishRevocation(ctx, r, OutcomeGaveUp)
	}
	return b.store.RetryRevocation(ctx, r.ID, r.Attempts, r.Waited+waited, cut(now.Add(pause)))
}

// revokePause is the pause after so many attempts.
func revokePause(attempts int) time.Duration {
	if attempts < 10 {
		return jitter(min(lastRevokePause, firstRevokePause<<attempts))
	}
	return jitter(lastRevokePause)
}

// finishRevocation writes the receipt and erases the credential.
func (b *Broker) finishRevocation(ctx context.Context, r *Revocation, outcome string) error {
	line := b.line(System(r.Environment), "grant.revoke", string(r.Connection))
	line.Result = outcome
	trail := Trail{Audit: []AuditEntry{line}}
	if outcome == OutcomeGaveUp {
		trail.Events = []Event{b.event(EventRevocationEnded, &Connection{ID: r.Connection, Environment: r.Environment, Integration: r.Integration}, outcome)}
	}
	return b.store.FinishRevocation(ctx, r.ID, outcome, b.Now(), trail)
}
