package broker

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/broker/internal/gate"
)

// How long the scheduler waits before it looks again: with nothing to do, with work that a closed gate holds back, and
// with more to do than there are places.
const (
	idleLook   = 30 * time.Second
	closedLook = time.Second
	busyLook   = 20 * time.Millisecond
)

// scheduler renews credentials when they are due, so many at a time. A token endpoint that is slow, closed or at its limit
// takes none of the other places: its credentials are passed over until it lets somebody in again.
type scheduler struct {
	b     *Broker
	under *underWay
	queue []DueRefresh // listed and not looked at yet
	// except are integrations whose gate held them back since passedAt; lists leave them out for a second.
	except   []IntegrationID
	passedAt time.Time
}

// renewInBackground renews credentials before they expire, until ctx ends.
func (b *Broker) renewInBackground(ctx context.Context) {
	s := &scheduler{b: b, under: newUnderWay(gate.Ahead*b.workers, gate.Ahead*b.perHost)}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.stopping:
			return
		case <-b.wake:
		case <-timer.C:
		}
		pause, err := s.dispatch(ctx)
		if err != nil && ctx.Err() == nil {
			b.log.LogAttrs(ctx, slog.LevelError, "the due renewals could not be listed", because(err))
			pause = closedLook
		}
		timer.Reset(pause)
	}
}

// dispatch starts renewals that are due, as long as there are places, and says how long to wait if nobody wakes us.
func (s *scheduler) dispatch(ctx context.Context) (pause time.Duration, err error) {
	if s.b.Paused() != NotPaused {
		s.queue = nil
		return idleLook, nil // adopting wakes us
	}
	for s.under.room() > 0 {
		if len(s.queue) == 0 {
			if pause, err = s.list(ctx); err != nil || len(s.queue) == 0 {
				return pause, err
			}
		}
		if !s.startSome(ctx) {
			return busyLook, nil // all of them are under way
		}
	}
	return busyLook, nil
}

// list fills the queue. When nothing is left to start it says when to look again.
func (s *scheduler) list(ctx context.Context) (pause time.Duration, err error) {
	now := s.b.Now()
	if now.Sub(s.passedAt) >= closedLook {
		s.except = nil
	}
	if s.queue, err = s.b.store.DueRefreshes(ctx, now, s.except, 4*s.b.workers); err != nil || len(s.queue) > 0 {
		return 0, err
	}
	if len(s.except) > 0 {
		s.except = nil
		return closedLook, nil
	}
	next, err := s.b.store.NextRefresh(ctx)
	if err != nil || next.IsZero() {
		return idleLook, err
	}
	return min(idleLook, max(busyLook, next.Sub(now))), nil
}

// startSome works the queue off until it is empty or the places are taken. It reports whether it got anywhere.
func (s *scheduler) startSome(ctx context.Context) bool {
	progress := false
	for len(s.queue) > 0 && s.under.room() > 0 {
		d := s.queue[0]
		s.queue = s.queue[1:]
		if slices.Contains(s.except, d.Integration) {
			continue
		}
		name := s.b.gateOf(d.Integration)
		if s.b.gates.IsClosed(name) || s.under.isFull(name) {
			if len(s.except) == 0 {
				s.passedAt = s.b.Now()
			}
			s.except, progress = append(s.except, d.Integration), true
			continue
		}
		if s.under.begin(d.Connection, name) {
			progress = true
			s.start(ctx, d, name)
		}
	}
	return progress
}

// start renews one on a goroutine of its own.
func (s *scheduler) start(ctx context.Context, d DueRefresh, gate string) {
	b := s.b
	b.work.run(func() {
		defer b.swallow(ctx, "a renewal in the background")
		defer b.rouse()
		defer s.under.end(d.Connection, gate)
		ctx := context.WithoutCancel(ctx)
		c, err := b.renew(ctx, renewal{environment: d.Environment, connection: d.Connection, why: whenDue, background: true})
		if !b.settle(ctx, d, c, err) {
			b.rest()
		}
	})
}

// rest waits a while, or until nothing new may begin: what could not be put off is due again at once.
func (b *Broker) rest() {
	select {
	case <-time.After(closedLook):
	case <-b.stopping:
	}
}

// settle makes sure that a credential whose renewal ended without leaving its mark is not listed again at once: its
// integration's client is refused, its provider left the catalogue, or there is nothing to renew. It reports whether it could.
func (b *Broker) settle(ctx context.Context, d DueRefresh, c *Credential, err error) (settled bool) {
	var failure *RefreshError
	if errors.As(err, &failure) && failure.Attempted || errors.Is(err, ErrNotFound) || errors.Is(err, errElsewhere) {
		return true
	}
	now := b.Now()
	if err == nil && (c.RefreshAt.IsZero() || c.RefreshAt.After(now)) {
		return true
	}
	next := time.Time{} // nothing to renew it with
	if err == nil && b.renewable(d, c) {
		next = now.Add(time.Minute + spread(time.Minute)) // somebody else's attempt came first, who was content with it
	}
	if err != nil {
		b.log.LogAttrs(ctx, slog.LevelWarn, "a renewal in the background came to nothing",
			slog.String("connection", string(d.Connection)), slog.String("code", AsError(err).Code))
		pause := max(AsError(err).RetryAfter, time.Minute)
		if c, err = b.store.Credential(ctx, d.Connection); err != nil || c.isLost() || c.RefreshAt.After(now) { // it has been put off
			return err == nil || errors.Is(err, ErrNotFound)
		}
		if c.Failures > 0 {
			pause = time.Minute // callers keep to the date of one that has failed, and what stands in the way may go sooner
		}
		next = now.Add(pause + spread(time.Minute))
	}
	if err := b.store.SetRefreshAt(ctx, d.Connection, c.Version, c.RefreshAt, cut(next)); err != nil {
		b.log.LogAttrs(ctx, slog.LevelWarn, "a renewal could not be put off", slog.String("connection", string(d.Connection)), because(err))
		return false
	}
	return true
}

// renewable reports whether there is something to renew a credential with.
func (b *Broker) renewable(d DueRefresh, c *Credential) bool {
	i, ok := b.snapshot.Load().integrations[d.Integration]
	if !ok {
		return false
	}
	p, _ := b.catalogue.Provider(i.Provider)
	r, ok := p.(Renewer)
	if !ok {
		return false
	}
	m, err := b.openMaterial(d.Environment, c)
	return err == nil && r.Renewable(m)
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
	return gateName(p.Facts(), i, "")
}

// rouse makes the scheduler look again.
func (b *Broker) rouse() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// underWay are the renewals that the scheduler has started, in all and at each gate. They are more than may call at a time:
// some are leased before it is their turn, and some stored after it.
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
