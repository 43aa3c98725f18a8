package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/broker/internal/gate"
)

// Time limits of a renewal. The provider's is shorter than the lease, so that a lease never ends under a living attempt.
const (
	leaseFor        = time.Minute
	providerTimeout = 20 * time.Second
	leaseSlack      = leaseFor - 2*providerTimeout - 5*time.Second // what a lease may last before the provider is asked
	waiterPatience  = 25 * time.Second
	minServed       = 30 * time.Second // a served token lasts at least so long, if it can be renewed at all
	probeEvery      = 5 * time.Minute  // of a client that its provider refuses
	longestPause    = 75 * time.Minute // of a back-off; a provider can ask for an hour
	failingAfter    = time.Hour        // transient failures for so long are told to the app
)

// reason says why somebody wants another token, and with that what may stand in the way.
type reason int

const (
	whenDue  reason = iota // the time has come; a back-off is kept
	rejected               // the API refused the token; a back-off is kept
	demanded               // a caller insists; a back-off is passed over
)

// renewal asks for a credential that is newer than a version, or fresh.
type renewal struct {
	environment EnvironmentID
	connection  ConnectionID
	than        int64 // the version that is not good enough
	why         reason
	background  bool // nobody waits for it
}

// RefreshError says that a credential could not be renewed, and what is known about it.
type RefreshError struct {
	Err        *Error // needs_reauth, provider_unavailable, misconfigured, refresh_timeout, storage_unavailable, ...
	Attempted  bool   // false: a back-off is on, or the grant is known to be lost
	Connection *Connection
	Provider   *ProviderError // nil: the provider was not asked, or was not to blame
}

// Error gives the code and message of the cause.
func (e *RefreshError) Error() string { return e.Err.Error() }

// Unwrap gives the *Error.
func (e *RefreshError) Unwrap() error { return e.Err }

// Unreadable reports whether the provider said that all is well and then nothing that can be read.
func (e *RefreshError) Unreadable() bool {
	return e.Provider != nil && e.Provider.InDoubt && e.Provider.Status/100 == 2
}

// renew gets a credential as asked, by letting one attempt run for everybody who waits. The attempt goes on when the
// caller leaves: a refresh token that a provider has rotated must be stored, whoever is listening.
func (b *Broker) renew(ctx context.Context, r renewal) (*Credential, error) {
	patience := time.NewTimer(waiterPatience)
	defer patience.Stop()
	for again := true; ; again = false {
		flight := b.flights.DoChan(string(r.connection), func() (any, error) {
			b.work.begin()
			defer b.work.done()
			return b.renewSafely(context.WithoutCancel(ctx), r)
		})
		select {
		case res := <-flight:
			if again && r.why == demanded && notTried(res.Err) {
				continue // somebody who did not insist had begun it
			}
			if !r.background && errors.Is(res.Err, errElsewhere) {
				continue // the background had begun it, and does not wait for the other node
			}
			if res.Err != nil {
				return nil, res.Err
			}
			c, ok := res.Val.(*Credential)
			if !ok {
				return nil, ErrInternal
			}
			if r.why == whenDue || c.Version > r.than || !again {
				return c, nil
			}
			// The flight may have been somebody else's, who had an older token and was content with ours.
		case <-ctx.Done():
			return nil, ErrRefreshTimeout.Because(ctx.Err())
		case <-patience.C:
			return nil, ErrRefreshTimeout
		}
	}
}

// notTried reports whether an attempt was not even made.
func notTried(err error) bool {
	var failed *RefreshError
	return errors.As(err, &failed) && !failed.Attempted
}

// renewSafely turns a panic into an error: one in a flight would end the process.
func (b *Broker) renewSafely(ctx context.Context, r renewal) (c *Credential, err error) {
	defer func() {
		if p := recover(); p != nil {
			b.log.LogAttrs(ctx, slog.LevelError, "a renewal panicked", slog.String("connection", string(r.connection)), slog.String("stack", string(debug.Stack())))
			c, err = nil, ErrInternal.Because(fmt.Errorf("panic in a renewal: %T", p))
		}
	}()
	return b.renewOnce(ctx, r)
}

// target is everything that a renewal needs besides the credential.
type target struct {
	connection  *Connection
	integration *Integration
	client      *Client
	facts       *Facts
	provider    Provider
	renewer     Renewer
	gate        string
}

// renewOnce makes sure that the credential is as asked, with at most one attempt at the provider.
func (b *Broker) renewOnce(ctx context.Context, r renewal) (*Credential, error) {
	c, err := b.store.Credential(ctx, r.connection)
	if err != nil {
		return nil, err
	}
	t, err := b.target(ctx, r)
	if err != nil {
		return nil, err
	}
	if t.renewer == nil {
		return c, b.runOut(ctx, t, c)
	}
	if b.satisfies(t, c, r) {
		return c, nil
	}
	if err := b.refusePaused(); err != nil {
		return nil, err
	}
	if err := b.standsInTheWay(t, c, r); err != nil {
		return nil, err
	}
	t.gate = gateName(t.facts, t.integration, c.Origins)
	entering, cancel := b.untilStopping(ctx)
	pass, err := b.gates.Enter(entering, t.gate)
	cancel()
	if err != nil {
		return nil, notLetIn(t, err)
	}
	defer pass.Leave()
	return b.attempt(ctx, t, r, pass)
}

// notLetIn says why the provider cannot be asked now.
func notLetIn(t *target, err error) error {
	var closed *gate.ClosedError
	if !errors.As(err, &closed) {
		return &RefreshError{Err: errStopping.Because(err), Connection: t.connection}
	}
	return &RefreshError{Err: ErrProviderDown.After(closed.RetryAfter).Because(err), Connection: t.connection}
}

// attempt leases the credential, looks again, asks the provider and stores what it says.
func (b *Broker) attempt(ctx context.Context, t *target, r renewal, pass *gate.Pass) (*Credential, error) {
	leased := b.Now()
	c, err := b.lease(ctx, t, r)
	if err != nil {
		return nil, err
	}
	if c.LeaseOwner != b.owner { // somebody else did it while we waited
		return c, nil
	}
	doubtful := !c.AttemptAt.IsZero()
	if doubtful && b.shared != nil {
		if wait := b.away.settles(b.Now()); wait > 0 {
			return nil, errors.Join(&RefreshError{Err: errSettling.After(wait), Connection: t.connection},
				b.store.ReleaseRefresh(ctx, r.connection, b.owner, c.AttemptAt))
		}
		if c, err = b.inherit(ctx, r, c); err != nil {
			return nil, err
		}
		if c.LeaseOwner != b.owner { // there are new tokens, or the lease ended while we waited
			if b.satisfies(t, c, r) {
				return c, nil
			}
			return b.attempt(ctx, t, r, pass)
		}
	}
	if b.satisfies(t, c, r) {
		return c, b.store.ReleaseRefresh(ctx, r.connection, b.owner, c.AttemptAt)
	}
	if err := b.failedLately(t, c, r); err != nil { // somebody else did while we waited
		return nil, errors.Join(err, b.store.ReleaseRefresh(ctx, r.connection, b.owner, c.AttemptAt))
	}
	m, err := b.openMaterial(r.environment, c)
	if err != nil {
		return nil, errors.Join(err, b.store.ReleaseRefresh(ctx, r.connection, b.owner, c.AttemptAt))
	}
	if !t.renewer.Renewable(m) {
		return c, errors.Join(b.store.ReleaseRefresh(ctx, r.connection, b.owner, c.AttemptAt), b.runOut(ctx, t, c))
	}
	h := &Holding{Client: t.client, Config: configValues(t.connection.Config, m.Details), Material: m, Insisted: r.why == demanded}
	if !t.mayRenew(c, h) {
		return nil, errors.Join(b.notRenewed(ctx, t, c), b.store.ReleaseRefresh(ctx, r.connection, b.owner, c.AttemptAt))
	}
	if err := b.await(ctx, pass, r); err != nil {
		return nil, errors.Join(notLetIn(t, err), b.store.ReleaseRefresh(ctx, r.connection, b.owner, c.AttemptAt))
	}
	if b.Now().Sub(leased) > leaseSlack { // its end could come before the attempt's
		pass.Yield()
		if err := b.store.ReleaseRefresh(ctx, r.connection, b.owner, c.AttemptAt); err != nil {
			return nil, err
		}
		return b.attempt(ctx, t, r, pass)
	}
	report, err := pass.Call()
	if err == nil && b.isStopping() {
		report(gate.Result{})
		err = errStopping
	}
	if err != nil {
		return nil, errors.Join(notLetIn(t, err), b.store.ReleaseRefresh(ctx, r.connection, b.owner, c.AttemptAt))
	}
	if err := b.refusePaused(); err != nil { // somebody else has adopted the store while we waited
		report(gate.Result{})
		return nil, errors.Join(err, b.store.ReleaseRefresh(ctx, r.connection, b.owner, c.AttemptAt))
	}
	got, failure, repeated := b.askGuarded(ctx, t.renewer, h, report)
	if got == nil {
		return nil, b.recordFailure(ctx, t, c, m, failure, doubtful || repeated)
	}
	next, ours, err := b.keep(ctx, t, c, m, got)
	if failure == nil || err != nil || !ours {
		return next, err
	}
	return nil, b.recordFailure(ctx, t, next, m, failure, false) // what was in doubt has been kept
}

// await waits for the turn to ask the provider, as long as asking may begin at all.
func (b *Broker) await(ctx context.Context, pass *gate.Pass, r renewal) error {
	waiting, cancel := b.untilStopping(ctx)
	defer cancel()
	return pass.Wait(waiting, r.background)
}

// askGuarded asks and reports to the gate, whatever happens.
func (b *Broker) askGuarded(ctx context.Context, r Renewer, h *Holding, report func(gate.Result)) (got *Obtained, failure *ProviderError, repeated bool) {
	result := gate.Result{Fault: true} // of a panic
	defer func() { report(result) }()
	got, failure, repeated = b.ask(ctx, r, h)
	result = gate.Result{}
	if failure != nil {
		result = gate.Result{Fault: failure.Class == Transient && isFault(failure), RetryAfter: failure.RetryAfter}
	}
	return got, failure, repeated
}

// isFault tells a server's failures from odd answers that concern one connection.
func isFault(e *ProviderError) bool {
	return e.Status == 0 || e.Status == 408 || e.Status == 425 || e.Status == 429 || e.Status >= 500
}

// ask makes one attempt, and one more at once if the first may have arrived without an answer coming back: providers that
// rotate allow a repeat for a short while, and waiting would let it pass. What one part of a credential has come to is
// taken into the repeat that another part needs.
func (b *Broker) ask(ctx context.Context, r Renewer, h *Holding) (got *Obtained, failure *ProviderError, repeated bool) {
	for {
		once, cancel := context.WithTimeout(ctx, providerTimeout)
		more, err := r.Renew(once, h)
		cancel()
		doubtful := more != nil && more.Partly != nil && more.Partly.InDoubt
		if failure = nil; err != nil {
			failure = asProviderError(err)
			doubtful = doubtful || failure.InDoubt
		}
		if more != nil {
			got = more
		}
		if !doubtful || repeated || b.isStopping() {
			return got, failure, repeated
		}
		if repeated = true; got != nil {
			again := *h
			again.Material = merge(h.Material, got.Material)
			h = &again
		}
	}
}

// asProviderError takes an error that is none for a failure of unknown kind, which says nothing about the grant.
func asProviderError(err error) *ProviderError {
	var p *ProviderError
	if errors.As(err, &p) {
		return p
	}
	return &ProviderError{Class: Transient, Code: "provider_error"}
}

// lease takes the lease, or waits until somebody else's attempt has come to something.
func (b *Broker) lease(ctx context.Context, t *target, r renewal) (*Credential, error) {
	deadline := time.NewTimer(waiterPatience)
	defer deadline.Stop()
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		c, ok, err := b.store.LeaseRefresh(ctx, r.connection, b.owner, leaseFor)
		if err != nil {
			b.away.note(err, b.Now())
			return nil, &RefreshError{Err: AsError(err), Connection: t.connection}
		}
		if ok {
			return c, nil
		}
		if c, err = b.store.Credential(ctx, r.connection); err != nil {
			return nil, err
		}
		if b.satisfies(t, c, r) {
			c.LeaseOwner = ""
			return c, nil
		}
		if r.background && b.shared != nil {
			return nil, errElsewhere
		}
		select {
		case <-time.After(jitter(pause)):
		case <-deadline.C:
			return nil, ErrRefreshTimeout
		case <-ctx.Done():
			return nil, ErrRefreshTimeout.Because(ctx.Err())
		}
	}
}

// heldPause is how long whoever holds tokens that the store did not take waits at most before trying again.
const heldPause = 5 * time.Second

// inherited is how long another node that has tokens which the store did not take may need to store them, once it can.
const inherited = heldPause + time.Second

// inherit waits before an attempt is repeated that another node left without an outcome: that node may live, and hold the
// new tokens, if the store took no writes for longer than its lease. To ask again then would spend the old one twice.
func (b *Broker) inherit(ctx context.Context, r renewal, c *Credential) (*Credential, error) {
	timer := time.NewTimer(inherited)
	defer timer.Stop()
	select {
	case <-timer.C:
		now, err := b.store.Credential(ctx, r.connection)
		if err == nil && now.LeaseOwner == b.owner {
			now.AttemptAt = c.AttemptAt // the mark is ours by now
		}
		return now, err
	case <-b.stopping:
		return nil, errors.Join(errStopping, b.store.ReleaseRefresh(ctx, r.connection, b.owner, c.AttemptAt))
	}
}

// errElsewhere leaves a renewal that nobody waits for to the node that has begun it.
var errElsewhere = errors.New("another node renews it")

// satisfies reports whether the credential is what was asked for.
func (b *Broker) satisfies(t *target, c *Credential, r renewal) bool {
	now := b.Now()
	switch r.why {
	case rejected, demanded:
		return c.Version > r.than && !c.hasExpired(now)
	case whenDue:
		return !due(t.facts, c, now)
	}
	return false
}

// standsInTheWay gives the error that keeps a renewal from being tried: the grant is lost, the last failure is too
// recent, or the provider refuses the client.
func (b *Broker) standsInTheWay(t *target, c *Credential, r renewal) error {
	if r.why == demanded {
		return nil
	}
	if err := b.failedLately(t, c, r); err != nil {
		return err
	}
	now := b.Now() // last: whoever passes here is the one who tries whether the client is accepted again
	if next, code, ok := b.faults.of(t.integration.ID, now); ok {
		return &RefreshError{
			Err: ErrMisconfigured.After(next.Sub(now)), Connection: t.connection,
			Provider: &ProviderError{Class: ClientRefused, Code: code},
		}
	}
	return nil
}

// failedLately gives the error of a credential whose grant is lost, or whose last failure is too recent for another attempt.
func (b *Broker) failedLately(t *target, c *Credential, r renewal) error {
	if r.why == demanded || c.Failures == 0 {
		return nil
	}
	if c.isLost() {
		return knownLost(t.connection, c)
	}
	if wait := c.RefreshAt.Sub(b.Now()); wait > 0 && wait <= longestPause { // longer: it was written by a clock that was ahead
		return &RefreshError{
			Err: ErrProviderDown.After(wait), Connection: t.connection,
			Provider: &ProviderError{Class: Transient, Code: c.FailCode},
		}
	}
	return nil
}

// knownLost is the error of a grant that is known to be lost.
func knownLost(conn *Connection, c *Credential) *RefreshError {
	return &RefreshError{Err: ErrNeedsReauth, Connection: conn, Provider: &ProviderError{Class: GrantLost, Code: c.FailCode}}
}

// target collects what a renewal needs. A provider that cannot renew gives a nil renewer.
func (b *Broker) target(ctx context.Context, r renewal) (*target, error) {
	c, err := b.store.Connection(ctx, r.environment, r.connection)
	if err != nil {
		return nil, err
	}
	i, ok := b.snapshot.Load().integrations[c.Integration]
	if !ok {
		return nil, ErrNotFound.On("integration")
	}
	p, ok := b.catalogue.Provider(i.Provider)
	if !ok {
		return nil, ErrNotSupported.Saying("the provider left the catalogue")
	}
	t := &target{connection: c, integration: i, facts: p.Facts(), provider: p}
	if t.renewer, ok = p.(Renewer); !ok {
		return t, nil
	}
	if t.client, err = b.client(i); err != nil {
		return nil, err
	}
	if len(c.AskedScopes) > 0 { // what this connection was made with, which a session may have chosen
		own := *t.client
		own.Scopes, t.client = c.AskedScopes, &own
	}
	return t, nil
}

// gateName is the token endpoint's host and the client: what a provider's limits are counted by. Where connections have
// hosts of their own, the credential's origins say which; empty: they are not known.
func gateName(f *Facts, i *Integration, origins string) string {
	if f.TokenOrigin == "" {
		_, host, _ := strings.Cut(origins, " ")
		return strings.TrimSpace(string(i.ID) + " " + host)
	}
	return f.TokenOrigin + " " + i.ClientID
}
