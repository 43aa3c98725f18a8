package broker

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// How long the scheduler waits before it looks again: with nothing to do, with work that a closed gate holds back, and
// with more to do than there are places.
const (
	idleLook   = 30 * time.Second
	closedLook = time.Second
	busyLook   = 20 * time.Millisecond
)

// renewInBackground renews credentials when they are due, so many at a time. A token endpoint that is slow, closed or at
// its limit takes none of the other places: its credentials are passed over until it lets somebody in again.
func (b *Broker) renewInBackground(ctx context.Context) {
	under := newUnderWay(b.workers, b.perHost)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.stopping:
			return
		case <-b.wake:
			if under.room() < (b.workers+7)/8 {
				continue // so few places are not worth a look; the next that ends wakes us again
			}
		case <-timer.C:
		}
		pause, err := b.dispatch(ctx, under)
		if err != nil && ctx.Err() == nil {
			b.log.LogAttrs(ctx, slog.LevelError, "the due renewals could not be listed", slog.Any("error", err))
			pause = closedLook
		}
		timer.Reset(pause)
	}
}

// dispatch starts renewals that are due, as long as there are places, and says how long to wait if nobody wakes us.
func (b *Broker) dispatch(ctx context.Context, under *underWay) (pause time.Duration, err error) {
	limit := 4 * b.workers
	var except []IntegrationID
	for under.room() > 0 {
		list, err := b.store.DueRefreshes(ctx, b.Now(), except, limit)
		if err != nil {
			return 0, err
		}
		passed := b.startAll(ctx, under, list)
		if len(passed) > 0 {
			except = append(except, passed...) // there may be others behind them
			continue
		}
		if len(list) == limit {
			return busyLook, nil
		}
		return b.nextLook(ctx, except)
	}
	return busyLook, nil
}

// startAll starts what it may, and gives the integrations whose gate holds them back.
func (b *Broker) startAll(ctx context.Context, under *underWay, list []DueRefresh) []IntegrationID {
	var passed []IntegrationID
	for _, d := range list {
		if slices.Contains(passed, d.Integration) {
			continue
		}
		name := b.gateOf(d.Integration)
		if b.gates.IsClosed(name) || under.isFull(name) {
			passed = append(passed, d.Integration)
			continue
		}
		if !under.begin(d.Connection, name) {
			continue
		}
		b.work.Go(func() {
			defer b.swallow(ctx, "a renewal in the background")
			defer b.rouse()
			defer under.end(d.Connection, name)
			ctx := context.WithoutCancel(ctx)
			c, err := b.renew(ctx, renewal{environment: d.Environment, connection: d.Connection, why: whenDue})
			b.settle(ctx, d, c, err)
		})
	}
	return passed
}

// nextLook is how long to wait when everything that is due has been started or is held back.
func (b *Broker) nextLook(ctx context.Context, except []IntegrationID) (time.Duration, error) {
	if len(except) > 0 {
		return closedLook, nil
	}
	next, err := b.store.NextRefresh(ctx)
	if err != nil || next.IsZero() {
		return idleLook, err
	}
	return min(idleLook, max(busyLook, next.Sub(b.Now()))), nil
}

// settle makes sure that a credential whose renewal ended without leaving its mark is not listed again at once: its
// integration's client is refused, its provider left the catalogue, or there is nothing to renew.
func (b *Broker) settle(ctx context.Context, d DueRefresh, c *Credential, err error) {
	var failure *RefreshError
	if errors.As(err, &failure) && failure.Attempted || errors.Is(err, ErrNotFound) {
		return
	}
	now := b.Now()
	if err == nil && (c.RefreshAt.IsZero() || c.RefreshAt.After(now)) {
		return
	}
	next := time.Time{} // nothing to renew
	if err != nil {
		b.log.LogAttrs(ctx, slog.LevelWarn, "a renewal in the background came to nothing",
			slog.String("connection", string(d.Connection)), slog.String("code", AsError(err).Code))
		next = now.Add(max(AsError(err).RetryAfter, time.Minute) + spread(time.Minute))
		if c, err = b.store.Credential(ctx, d.Connection); err != nil {
			return
		}
	}
	if err := b.store.SetRefreshAt(ctx, d.Connection, c.Version, cut(next)); err != nil {
		b.log.LogAttrs(ctx, slog.LevelWarn, "a renewal could not be put off", slog.String("connection", string(d.Connection)), slog.Any("error", err))
	}
}

// gateOf names the gate of an integration.
func (b *Broker) gateOf(id IntegrationID) string {
	i, ok := b.snapshot.Load().integrations[id]
	if !ok {
		return string(id)
	}
	p, ok := b.catalogue.Provider(i.Provider)
	if !ok {
		return string(id)
	}
	return gateName(p.Facts(), i)
}

// rouse makes the scheduler look again.
func (b *Broker) rouse() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// underWay are the renewals that the scheduler has started, in all and at each gate.
type underWay struct {
	mu      sync.Mutex
	ids     map[ConnectionID]struct{}
	atGate  map[string]int
	limit   int
	perGate int
}

func newUnderWay(limit, perGate int) *underWay {
	return &underWay{ids: make(map[ConnectionID]struct{}), atGate: make(map[string]int), limit: limit, perGate: perGate}
}

func (u *underWay) room() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.limit - len(u.ids)
}

func (u *underWay) isFull(gate string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.atGate[gate] >= u.perGate
}

// begin takes a place; false if there is none, or the connection has one.
func (u *underWay) begin(id ConnectionID, gate string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.ids[id]; ok || len(u.ids) >= u.limit {
		return false
	}
	u.ids[id] = struct{}{}
	u.atGate[gate]++
	return true
}

func (u *underWay) end(id ConnectionID, gate string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.ids, id)
	if u.atGate[gate]--; u.atGate[gate] == 0 {
		delete(u.atGate, gate)
	}
}
