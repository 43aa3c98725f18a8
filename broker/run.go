package broker

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// How often the background looks, and how long things are kept.
const (
	watchEvery       = time.Second
	revokeEvery      = 2 * time.Second
	sweepEvery       = time.Minute
	interruptedAfter = time.Minute     // a flow without a result for so long was interrupted
	clockSkew        = 2 * time.Minute // that nodes may have
	sweepAfter       = time.Hour       // sessions and flows stay so long after their end, for whoever still asks
	eraseAtOnce      = 200             // lost grants whose tokens a sweep erases; there is another sweep in a minute
	drainFor         = 25 * time.Second
)

// Run does the background work until ctx ends: it renews tokens before they expire, ends revoked grants, tells apps what
// happened, sweeps, and writes what the hot path collected. Then it lets exchanges, renewals and deliveries that are under
// way finish and returns. A worker that panics is started again.
func (b *Broker) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	b.work.run(func() { b.takeReserve(ctx) })
	for name, work := range b.background() {
		workers.Go(func() { b.keepRunning(ctx, name, work) })
	}
	<-ctx.Done()
	b.Stop()
	workers.Wait()
	return b.drain(context.WithoutCancel(ctx))
}

// background is the work that goes on all the time, by its name.
func (b *Broker) background() map[string]func(context.Context) {
	work := map[string]func(context.Context){
		"renew":  b.renewInBackground,
		"watch":  b.watch,
		"revoke": func(ctx context.Context) { b.every(ctx, revokeEvery, nil, "revoke", b.RevokeDue) },
		"tell":   b.tellInBackground,
		"sweep":  func(ctx context.Context) { b.every(ctx, sweepEvery, nil, "sweep", b.Sweep) },
		"flush":  func(ctx context.Context) { b.every(ctx, flushEvery, nil, "write what was read", b.flushReads) },
	}
	if b.shared != nil {
		work["listen"] = func(ctx context.Context) { b.shared.Listen(ctx, b.heardNews) }
	}
	return work
}

// Stop lets nothing new begin: no renewal asks a provider any more, and no revocation or delivery is taken up. What has been asked is
// still waited for, and stored.
func (b *Broker) Stop() { b.stopOnce.Do(func() { close(b.stopping) }) }

// isStopping reports whether nothing new may begin.
func (b *Broker) isStopping() bool {
	select {
	case <-b.stopping:
		return true
	default:
		return false
	}
}

// untilStopping gives a context that ends when nothing new may begin.
func (b *Broker) untilStopping(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-b.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// errStopping refuses work that would begin while the process ends. Whoever asks again finds the next process.
var errStopping = ErrStorageUnavailable.Saying("the service is restarting").After(time.Second)

// drain waits for what must finish, and saves what could not be stored.
func (b *Broker) drain(ctx context.Context) error {
	if !b.work.finished(b.patience) {
		b.held.close() // holding on is of no use any more
		if !b.work.finished(time.Second) {
			b.log.LogAttrs(ctx, slog.LevelError, "work was still under way at the end of the shutdown")
		}
	}
	b.held.close()
	if swaps := b.held.all(); len(swaps) > 0 && b.reserve != nil {
		if err := b.reserve.Spill(swaps); err != nil {
			b.log.LogAttrs(ctx, slog.LevelError, "renewed tokens could not be saved", slog.Int("count", len(swaps)), because(err))
		}
	}
	return errors.Join(b.flushLines(ctx), b.flushUses(ctx, b.Now()))
}

// claimedUntil is when a claim that is made now runs out. A node whose clock is ahead must not take it while it is worked on.
func (b *Broker) claimedUntil(now time.Time, d time.Duration) time.Time {
	if b.shared != nil {
		d += clockSkew
	}
	return now.Add(d)
}

// every does work again and again until ctx ends; sooner each time that it is called for.
func (b *Broker) every(ctx context.Context, interval time.Duration, called <-chan struct{}, what string, work func(context.Context) error) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-called:
		}
		b.do(ctx, what, work)
	}
}

// do does work once.
func (b *Broker) do(ctx context.Context, what string, work func(context.Context) error) {
	if err := work(ctx); err != nil && ctx.Err() == nil {
		b.away.note(err, b.Now())
		b.log.LogAttrs(ctx, slog.LevelError, "background work failed", slog.String("work", what), because(err))
	}
}

// keepRunning starts work again when it panics, a little later each time.
func (b *Broker) keepRunning(ctx context.Context, name string, work func(context.Context)) {
	for pause := time.Second; ctx.Err() == nil; pause = min(2*pause, time.Minute) {
		if b.survives(ctx, name, work) {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// survives runs work and reports whether it ended without a panic.
func (b *Broker) survives(ctx context.Context, name string, work func(context.Context)) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			b.log.LogAttrs(ctx, slog.LevelError, "a background worker panicked and is started again",
				slog.String("worker", name), slog.String("stack", string(debug.Stack())))
		}
	}()
	work(ctx)
	return true
}

// swallow keeps a panic in a job from ending the process.
func (b *Broker) swallow(ctx context.Context, what string) {
	if p := recover(); p != nil {
		b.log.LogAttrs(ctx, slog.LevelError, "a job panicked", slog.String("job", what), slog.String("stack", string(debug.Stack())))
	}
}

// recover puts right what an earlier process left half done. Everything in it may be done twice.
func (b *Broker) recover(ctx context.Context) error {
	if _, err := b.store.DropStaleLeases(ctx); err != nil {
		return err
	}
	if _, err := b.store.DropStaleClaims(ctx); err != nil {
		return err
	}
	if err := b.applySpilled(ctx); err != nil {
		return err
	}
	b.do(ctx, "sweep", b.Sweep) // what it cannot clear away keeps nobody from being served
	return nil
}

// applySpilled stores the tokens that an earlier process could not. One that has been overtaken is dropped; one whose connection
// was deleted meanwhile is ended with the provider, if it is this database that it was deleted from.
func (b *Broker) applySpilled(ctx context.Context) error {
	if b.reserve == nil {
		return nil
	}
	swaps, done, err := b.reserve.Spilled()
	if err != nil {
		return err
	}
	for _, s := range swaps {
		err := b.store.SwapCredential(ctx, s)
		if errors.Is(err, ErrNotFound) {
			err = b.endOrphan(ctx, s)
		}
		if err != nil && !overtaken(err) {
			return err
		}
	}
	if len(swaps) > 0 {
		return done()
	}
	return nil
}

// Sweep fails flows that were interrupted, forgets sessions, flows and deliveries that ended long ago and connections that
// nobody came to make, and erases tokens of grants that were lost long ago. What goes wrong with one keeps it from no other.
func (b *Broker) Sweep(ctx context.Context) error {
	now := b.Now()
	interrupted := interruptedAfter
	if b.shared != nil { // by another node, whose clock may be behind
		interrupted += clockSkew
	}
	flows, err := b.store.InterruptedFlows(ctx, now.Add(-interrupted))
	failures := []error{err}
	for _, f := range flows {
		failures = append(failures, b.failFlow(ctx, f, System(f.Environment), codeInterrupted))
	}
	_, err = b.store.SweepSessions(ctx, now.Add(-sweepAfter))
	failures = append(failures, err, b.sweepPending(ctx), b.sweepRegistrations(ctx))
	_, err = b.store.EraseTokens(ctx, now, eraseAtOnce, b.line(System(""), "credential.erase", ""))
	return errors.Join(append(failures, err, b.sweepDeliveries(ctx, now))...)
}
