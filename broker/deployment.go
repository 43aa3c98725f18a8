package broker

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"
)

// Deployment says which broker a store belongs to. Of two that hold the same grants only one may renew them: many
// providers take a refresh token once, and end the grant when it comes a second time. A copy of the store cannot know
// which of the two it is, so it waits until its operator says so.
type Deployment struct {
	Cluster   string    // random, made anew by every adoption; empty: the store belongs to nobody yet
	PublicURL string    // of the broker that may renew; empty: likewise
	AdoptedAt time.Time // when both were set
	CopiedAt  time.Time // when this copy was made, which nobody has adopted since; zero: it is none
}

// Pause is why nothing is renewed.
type Pause string

// The reasons.
const (
	NotPaused      Pause = ""
	PausedCopy     Pause = "copy"       // the store is a copy of another
	PausedOtherURL Pause = "public_url" // the store belongs to a broker of another public URL
)

// pauseAt is why a broker of that public URL may not renew what is in the store.
func (d *Deployment) pauseAt(publicURL string) Pause {
	switch {
	case !d.CopiedAt.IsZero():
		return PausedCopy
	case d.PublicURL != "" && d.PublicURL != publicURL:
		return PausedOtherURL
	}
	return NotPaused
}

// DeploymentStore keeps which broker the store belongs to.
type DeploymentStore interface {
	// Deployment gives the zero one for a store that belongs to nobody yet.
	Deployment(ctx context.Context) (Deployment, error)
	// SetDeployment replaces it if its Cluster is still from, which is empty for a store that belongs to nobody yet.
	// Conflict: it is another.
	SetDeployment(ctx context.Context, from string, next Deployment, t Trail) error
}

// Deployment is what the store says of itself, as it was last read.
func (b *Broker) Deployment() Deployment { return *b.deployment.Load() }

// Paused says why nothing is renewed: neither in the background nor for a caller, who is refused with renewal_paused.
// Grants are not ended and apps are not told either, because whatever waits for that waits in the other store too. What
// has not run out is served.
func (b *Broker) Paused() Pause { return b.deployment.Load().pauseAt(b.publicURL) }

// refusePaused is the error of a renewal that must not be.
func (b *Broker) refusePaused() error {
	if b.Paused() == NotPaused {
		return nil
	}
	return ErrRenewalPaused
}

// Claim makes a store that belongs to nobody yet this broker's, and complains of one that is another's. The server calls
// it before it serves.
func (b *Broker) Claim(ctx context.Context) error {
	if b.Deployment() == (Deployment{}) {
		_, err := b.takeOver(ctx, System(""), "", "store.claim")
		if !errors.Is(err, ErrConflict) {
			return err
		}
		if err := b.reload(ctx); err != nil { // another process was first
			return err
		}
	}
	if reason := b.Paused(); reason != NotPaused {
		b.logPaused(ctx, reason)
	}
	return nil
}

// Adopt makes the store this broker's, whosever it was, and gives what the store says of itself from now on. Renewals
// begin at once. Conflict: somebody else has just adopted it.
func (b *Broker) Adopt(ctx context.Context, who Actor) (Deployment, error) {
	if err := who.Allow(ScopeAccount); err != nil {
		return Deployment{}, err
	}
	return b.takeOver(ctx, who, b.Deployment().Cluster, "store.adopt")
}

func (b *Broker) takeOver(ctx context.Context, who Actor, from, action string) (Deployment, error) {
	next := Deployment{Cluster: uuid.NewString(), PublicURL: b.publicURL, AdoptedAt: b.Now()}
	if err := b.store.SetDeployment(ctx, from, next, b.audited(who, action, next.Cluster)); err != nil {
		return Deployment{}, err
	}
	b.changed(ctx)
	return next, nil
}

// redeploy takes over what the store says of itself, and lets go on what has waited for it.
func (b *Broker) redeploy(ctx context.Context, d Deployment) {
	old := b.deployment.Swap(&d)
	if old == nil {
		return
	}
	switch before, now := old.pauseAt(b.publicURL), d.pauseAt(b.publicURL); {
	case before == now:
	case now == NotPaused:
		b.log.LogAttrs(ctx, slog.LevelInfo, "the store was adopted: renewals go on", slog.String("cluster", d.Cluster))
		b.rouse()
	default:
		b.logPaused(ctx, now)
	}
}

func (b *Broker) logPaused(ctx context.Context, reason Pause) {
	d := b.Deployment()
	b.log.LogAttrs(ctx, slog.LevelWarn, "renewals are paused until the store is adopted, which only the one broker that is to use these grants may do",
		slog.String("reason", string(reason)), slog.String("public_url", b.publicURL), slog.String("store_public_url", d.PublicURL),
		slog.String("cluster", d.Cluster))
}
