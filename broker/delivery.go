package broker

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
)

// Courier takes a notice to the app's receiver.
type Courier interface {
	// CheckURL reports whether a receiver may have this address. Errors: url_not_allowed.
	CheckURL(raw string) error
	// Deliver makes one attempt, within ctx. It follows no redirect, and what it gives back holds no address.
	Deliver(ctx context.Context, p *Parcel) Receipt
}

// Parcel is a notice on its way.
type Parcel struct {
	ID              string // of the event, the same at every attempt and for every receiver
	URL             string
	At              time.Time // of the attempt
	Keys            []Secret  // the valid signing keys, the newest first
	LegacySignature bool      // the older of the primary API's two is wanted
	Notice          *Notice
}

// Receipt is what came of an attempt.
type Receipt struct {
	Status     int    // of the answer; zero: there was none
	Code       string // why there was none
	RetryAfter time.Duration
	Answer     string // the beginning of an answer that is no success
}

// Delivery is an event on its way to one endpoint.
type Delivery struct {
	Number      int64  // given by the store: the order of commits
	Event       string // its id
	Environment EnvironmentID
	Endpoint    string // the environment's id, a space, and primary, secondary or an address
	About       string // the connection's id, or the key of one that did not come to be: what is told of it keeps its order
	Kind        EventKind
	Notice      []byte // opened by the broker alone
	Attempts    int
	CreatedAt   time.Time
	NextAt      time.Time // zero: it waits behind another, or has ended
	TriedAt     time.Time
	DoneAt      time.Time // zero: it has not ended
	Outcome     string    // empty as long as it has not ended
	Status      int       // of the last answer
	Code        string    // of the last failure
	Answer      string    // the beginning of the last refusal
}

// Outcomes of a delivery.
const (
	OutcomeDelivered = "delivered"
	OutcomeDead      = "dead" // given up; it can be replayed
)

// Codes of deliveries that were given up without another attempt.
const (
	codeReceiverGone = "receiver_gone" // the address has answered 410
	codeNoReceiver   = "no_receiver"   // the environment has no such address any more
)

const (
	deliverTimeout     = 15 * time.Second
	deliverClaim       = time.Minute // longer than an attempt can take
	deliverPerEndpoint = 4
	deliverAtOnce      = 512
	deliverLook        = time.Second // what a command writes is noticed so soon
	longestRetryAfter  = 24 * time.Hour

	keepDelivered = 7 * 24 * time.Hour
	keepDead      = 31 * 24 * time.Hour
	sweepBatch    = 500
)

// deliverPauses are the waits between attempts; after the last the delivery is given up.
var deliverPauses = [...]time.Duration{
	5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour,
	24 * time.Hour,
}

// outbox is what the delivering side of a broker has under way: at each endpoint a few runners, so that one that is slow
// delays no other.
type outbox struct {
	wake    chan struct{}
	mu      sync.Mutex
	runners map[string]int // by endpoint
	total   int
}

// begin takes a place at an endpoint, if there is one.
func (o *outbox) begin(endpoint string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.runners[endpoint] >= deliverPerEndpoint || o.total >= deliverAtOnce {
		return false
	}
	o.runners[endpoint]++
	o.total++
	return true
}

// crowded reports whether somebody else may be waiting for a place.
func (o *outbox) crowded() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.total >= deliverAtOnce
}

func (o *outbox) end(endpoint string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.total--
	if o.runners[endpoint]--; o.runners[endpoint] == 0 {
		delete(o.runners, endpoint)
	}
}

// rouseCourier has what was just committed delivered without waiting for the next look.
func (b *Broker) rouseCourier(t Trail) {
	if len(t.Deliveries) == 0 {
		return
	}
	select {
	case b.outbox.wake <- struct{}{}:
	default:
	}
}

// tellInBackground delivers what is due until ctx ends.
func (b *Broker) tellInBackground(ctx context.Context) {
	if b.courier == nil {
		return
	}
	tick := time.NewTicker(deliverLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.stopping:
			return
		case <-b.outbox.wake:
		case <-tick.C:
		}
		if _, err := b.startDeliveries(ctx); err != nil && ctx.Err() == nil {
			b.log.LogAttrs(ctx, slog.LevelError, "the due deliveries could not be listed", because(err))
		}
	}
}

// startDeliveries puts a runner to work wherever something is due and a place is free. started counts the runners that
// are not done yet.
func (b *Broker) startDeliveries(ctx context.Context) (started *sync.WaitGroup, err error) {
	if b.Paused() != NotPaused {
		return new(sync.WaitGroup), nil // what waits may have been delivered from elsewhere
	}
	queues, err := b.store.DeliveryQueues(ctx)
	if err != nil {
		return nil, err
	}
	// The one that has waited longest comes first, in case the places do not suffice.
	slices.SortFunc(queues, func(x, y DeliveryQueue) int { return x.NextAt.Compare(y.NextAt) })
	started = new(sync.WaitGroup)
	for _, q := range queues {
		if b.Now().Before(q.NextAt) {
			continue
		}
		for b.outbox.begin(q.Endpoint) {
			started.Add(1)
			b.work.run(func() {
				defer started.Done()
				defer b.outbox.end(q.Endpoint)
				defer b.swallow(ctx, "a delivery")
				b.runEndpoint(context.WithoutCancel(ctx), q.Endpoint)
			})
		}
	}
	return started, nil
}

// runEndpoint delivers what is due at an endpoint, one after the other, until there is nothing more, or until its place is
// wanted: those who have waited longest get it next.
func (b *Broker) runEndpoint(ctx context.Context, endpoint string) {
	for first := true; !b.isStopping() && (first || !b.outbox.crowded()); first = false {
		now := b.Now()
		d, err := b.store.ClaimDelivery(ctx, endpoint, now, b.claimedUntil(now, deliverClaim))
		if err != nil {
			b.log.LogAttrs(ctx, slog.LevelError, "a delivery could not be claimed", because(err))
			return
		}
		if d == nil {
			return
		}
		r := b.deliver(ctx, d)
		if err := b.settleDelivery(ctx, d, r); err != nil {
			// It is repeated when the claim has run out: an app is told twice rather than not at all.
			b.log.LogAttrs(ctx, slog.LevelError, "what came of a delivery could not be recorded",
				slog.Int64("delivery", d.Number), because(err))
			return
		}
	}
}

// verdict is what an attempt means for the delivery.
type verdict struct {
	Receipt
	final bool // no attempt after this one
	began time.Time
}

// deliver makes one attempt, if there is still somebody to tell.
func (b *Broker) deliver(ctx context.Context, d *Delivery) (v verdict) {
	began := b.Now()
	defer func() {
		if p := recover(); p != nil {
			b.log.LogAttrs(ctx, slog.LevelError, "a delivery panicked", slog.Int64("delivery", d.Number), slog.String("stack", string(debug.Stack())))
			v = verdict{Receipt: Receipt{Code: ErrInternal.Code}}
		}
		v.began = began
	}()
	parcel, code, err := b.parcel(ctx, d)
	switch {
	case err != nil:
		return verdict{Receipt: Receipt{Code: AsError(err).Code}}
	case code != "":
		return verdict{Receipt: Receipt{Code: code}, final: true}
	}
	asking, cancel := context.WithTimeout(ctx, deliverTimeout)
	defer cancel()
	r := b.courier.Deliver(asking, parcel)
	if r.Status == 410 {
		r.Code = codeReceiverGone
		return verdict{Receipt: r, final: b.stopReceiver(ctx, d.Environment, parcel.URL) == nil}
	}
	return verdict{Receipt: r}
}

// parcel makes ready what is sent. A code says that there is nobody to send it to.
func (b *Broker) parcel(ctx context.Context, d *Delivery) (p *Parcel, code string, err error) {
	n, err := decodeNotice(d.Notice)
	if err != nil {
		return nil, "", err
	}
	w := b.snapshot.Load().webhooks[d.Environment]
	address := d.receiver(w)
	if w == nil || address == "" || slices.Contains(w.Stopped, address) {
		// A command or another node may have named an address, made a key, or let an address be tried again, a moment ago.
		if w, err = b.storedWebhook(ctx, d.Environment); err != nil {
			return nil, "", err
		}
		address = d.receiver(w)
	}
	switch {
	case address == "":
		return nil, codeNoReceiver, nil
	case slices.Contains(w.Stopped, address):
		return nil, codeReceiverGone, nil
	case len(w.Key) == 0: // the connection has an address of its own, and the environment none
		w, err = b.changeWebhook(ctx, System(d.Environment), "webhook.create", func(*Webhook) (bool, error) { return false, nil })
		if errors.Is(err, ErrNotFound) { // the environment was deleted meanwhile
			return nil, codeNoReceiver, nil
		}
		if err != nil {
			return nil, "", err
		}
	}
	keys, err := b.webhookKeys(w)
	if err != nil {
		return nil, "", err
	}
	return &Parcel{ID: d.Event, URL: address, At: b.Now(), Keys: keys, LegacySignature: !w.NoLegacySignature, Notice: n}, "", nil
}

// receiver gives the address that the delivery's endpoint stands for; nil: the environment has none of its own.
func (d *Delivery) receiver(w *Webhook) string {
	_, to, _ := strings.Cut(d.Endpoint, " ")
	switch {
	case to != endpointPrimary && to != endpointSecondary:
		return to
	case w == nil:
		return ""
	case to == endpointPrimary:
		return w.URL
	}
	return w.SecondaryURL
}

// settleDelivery records an attempt, and writes the one line that the log has of it.
func (b *Broker) settleDelivery(ctx context.Context, d *Delivery, v verdict) error {
	now := b.Now()
	r := DeliveryResult{Number: d.Number, Attempts: d.Attempts, At: now, Status: v.Status, Code: v.Code}
	level := slog.LevelInfo
	switch {
	case v.Status >= 200 && v.Status < 300:
		r.Outcome = OutcomeDelivered
	case v.final || d.Attempts >= len(deliverPauses):
		r.Outcome, r.Answer, level = OutcomeDead, v.Answer, slog.LevelError
	default:
		pause := deliverPauses[d.Attempts]
		r.Answer, level = v.Answer, slog.LevelWarn
		r.NextAt = cut(now.Add(max(pause+spread(pause/10), min(v.RetryAfter, longestRetryAfter))))
	}
	b.log.LogAttrs(ctx, level, "webhook",
		slog.Int64("delivery", d.Number), slog.String("event", d.Event), slog.String("kind", string(d.Kind)),
		slog.String("environment", string(d.Environment)), slog.String("about", d.About), slog.Int("attempt", d.Attempts+1),
		slog.Int("status", v.Status), slog.String("code", v.Code), slog.String("outcome", r.Outcome),
		slog.Int64("ms", now.Sub(v.began).Milliseconds()))
	return b.store.SettleDelivery(ctx, r)
}

// Deliveries lists an environment's deliveries, newest first, for the command line. The filter's environment is set here.
func (b *Broker) Deliveries(ctx context.Context, who Actor, f DeliveryFilter) ([]*Delivery, error) {
	if err := who.Allow(ScopeAll); err != nil {
		return nil, err
	}
	f.Environment = who.Environment
	return b.store.Deliveries(ctx, f)
}

// Replay has ended deliveries of those numbers tried again, and all that were given up where none is named. Addresses
// that were given up get another chance. It says how many there are. Errors: not_found for a number that is no ended
// delivery of the environment.
func (b *Broker) Replay(ctx context.Context, who Actor, numbers []int64) (int, error) {
	if err := who.Allow(ScopeAll); err != nil {
		return 0, err
	}
	_, err := b.changeWebhook(ctx, who, "webhook.resume", func(w *Webhook) (changed bool, err error) {
		changed, w.Stopped = len(w.Stopped) > 0, nil
		return changed, nil
	})
	if err != nil {
		return 0, err
	}
	all := len(numbers) == 0
	if all {
		if numbers, err = b.deadNumbers(ctx, who.Environment); err != nil {
			return 0, err
		}
	}
	slices.Sort(numbers) // so that what is told of one connection keeps its order
	total := 0
	for some := range slices.Chunk(slices.Compact(numbers), sweepBatch) {
		line := b.line(who, "webhook.replay", "")
		line.Count = int64(len(some))
		n, err := b.store.ReplayDeliveries(ctx, who.Environment, some, b.Now(), Trail{Audit: []AuditEntry{line}})
		if total += n; err != nil {
			return total, err
		}
	}
	if !all && total < len(numbers) {
		return total, ErrNotFound.Saying("some of the numbers are no deliveries that have ended")
	}
	return total, nil
}

// deadNumbers lists all deliveries that were given up.
func (b *Broker) deadNumbers(ctx context.Context, env EnvironmentID) (numbers []int64, err error) {
	f := DeliveryFilter{Environment: env, Outcome: OutcomeDead, Limit: sweepBatch}
	for {
		page, err := b.store.Deliveries(ctx, f)
		if err != nil || len(page) == 0 {
			return numbers, err
		}
		for _, d := range page {
			numbers = append(numbers, d.Number)
		}
		f.Before = page[len(page)-1].Number
	}
}

// sweepDeliveries forgets deliveries that ended long ago, some at a time.
func (b *Broker) sweepDeliveries(ctx context.Context, now time.Time) error {
	for outcome, keep := range map[string]time.Duration{OutcomeDelivered: keepDelivered, OutcomeDead: keepDead} {
		for n := sweepBatch; n == sweepBatch; {
			var err error
			if n, err = b.store.SweepDeliveries(ctx, outcome, now.Add(-keep), sweepBatch); err != nil {
				return err
			}
		}
	}
	return nil
}
