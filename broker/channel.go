package broker

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
)

// FlowEnd is what a flow has come to.
type FlowEnd struct {
	Integration string // its key
	Connection  string // the connection's key; empty: there is none
	Err         *Error // nil: it succeeded
	Pending     bool   // as in [Outcome]
}

// FlowState is how far a flow has got.
type FlowState struct {
	Status      FlowStatus // an open one whose time is over has failed
	Integration string     // its key
	Connection  string     // the connection's key, once it has succeeded
	Code        string     // why it failed
	Missing     []string   // scopes that were asked for and not granted, once it has succeeded
	Pending     bool       // as in [Outcome], once it has succeeded
}

// A channel is as long as this at least: 128 bits in hex.
const (
	minChannel = 32
	maxChannel = 128
)

// NewChannel makes a channel: a name that nobody can guess, for the one result that is sent to it.
func NewChannel() string { return randomHex(minChannel / 2) }

// channelHash gives what is stored of a channel: whoever reads the database cannot listen.
func channelHash(channel string) ([]byte, error) {
	if channel == "" {
		return nil, nil
	}
	if len(channel) < minChannel || len(channel) > maxChannel {
		return nil, ErrInvalidRequest.Saying("the channel has the wrong length").On("channel")
	}
	sum := sha256.Sum256([]byte(channel))
	return sum[:], nil
}

// waiting holds those who wait for the end of a flow, by the hash of its channel.
type waiting struct {
	mu   sync.Mutex
	ends map[string]*waiter
}

type waiter struct {
	end     chan FlowEnd
	origin  string    // of the page that waits; empty: it is no page
	session SessionID // whose flow it waits for, once there is one
}

// maxWaiting is how many may wait for flows of one session.
const maxWaiting = 5

// claim notes whose flow the channel's waiter waits for. Errors: conflict when it waits for another session's,
// origin_not_allowed for a page that may not hear of the session, rate_limited when too many wait already.
func (w *waiting) claim(channel []byte, s SessionID, allowed func(origin string) bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	mine, ok := w.ends[string(channel)]
	if !ok {
		return nil // it waits elsewhere, or asks
	}
	if mine.session != "" && mine.session != s {
		return ErrConflict.Saying("somebody else's sign-in is waited for here")
	}
	if mine.origin != "" && !allowed(mine.origin) {
		return ErrOriginRefused
	}
	n := 0
	for _, other := range w.ends {
		if other.session == s && other != mine {
			n++
		}
	}
	if n >= maxWaiting {
		return ErrRateLimited.Saying("too many wait for sign-ins of this session")
	}
	mine.session = s
	return nil
}

// unclaim forgets whose flow it was to be: there is none.
func (w *waiting) unclaim(channel []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if mine, ok := w.ends[string(channel)]; ok {
		mine.session = ""
	}
}

// refuse is tell for a flow that never began. Where one has, its own end is waited for.
func (w *waiting) refuse(channel []byte, end FlowEnd) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if mine, ok := w.ends[string(channel)]; ok && mine.session == "" {
		mine.end <- end // has room for one
		delete(w.ends, string(channel))
	}
}

// tellSession tells everybody who waits for a flow of the session.
func (w *waiting) tellSession(s SessionID, end FlowEnd) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for channel, waiter := range w.ends {
		if waiter.session == s {
			waiter.end <- end // has room for one
			delete(w.ends, channel)
		}
	}
}

// tell hands the end to whoever waits for it, once.
func (w *waiting) tell(channel []byte, end FlowEnd) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if waiter, ok := w.ends[string(channel)]; ok {
		waiter.end <- end // has room for one
		delete(w.ends, string(channel))
	}
}

// Await tells of the end of the flow that is begun with the channel, once. Where a page waits, origin is its own: only a
// session that allows it can begin the flow. stop must be called in the end.
func (b *Broker) Await(channel, origin string) (ends <-chan FlowEnd, stop func()) {
	w, sum := &b.waiting, sha256.Sum256([]byte(channel))
	mine := &waiter{end: make(chan FlowEnd, 1), origin: origin}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ends == nil {
		w.ends = make(map[string]*waiter)
	}
	w.ends[string(sum[:])] = mine
	return mine.end, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.ends[string(sum[:])] == mine {
			delete(w.ends, string(sum[:]))
		}
	}
}

// RefuseFlow tells whoever waits on the channel that no flow will begin, and why. Where one has begun, it says nothing.
func (b *Broker) RefuseFlow(channel, integration string, err error) {
	if hash, bad := channelHash(channel); bad == nil {
		b.waiting.refuse(hash, FlowEnd{Integration: integration, Err: AsError(err)})
	}
}

// FlowByChannel tells how far the flow has got that the actor's session began with the channel. Errors: not_found, until
// it has begun.
func (b *Broker) FlowByChannel(ctx context.Context, who Actor, channel string) (*FlowState, error) {
	if who.Kind != BySession {
		return nil, ErrSessionInvalid
	}
	hash, err := channelHash(channel)
	if err != nil {
		return nil, err
	}
	f, err := b.store.FlowByChannel(ctx, hash)
	if err != nil || f.Session != who.Session {
		if err == nil || errors.Is(err, ErrNotFound) {
			err = ErrNotFound.Saying("no sign-in has begun here")
		}
		return nil, err
	}
	s := &FlowState{Status: f.Status, Code: f.Code}
	if i, ok := b.snapshot.Load().integrations[f.Integration]; ok {
		s.Integration = i.Key
	}
	switch f.Status {
	case FlowSucceeded:
		c, err := b.store.Connection(ctx, f.Environment, f.Connection)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		if err == nil {
			s.Connection, s.Missing, s.Pending = c.Key, c.MissingScopes(), b.awaitsInstallation(c)
		}
	case FlowOpen:
		if !b.Now().Before(f.ExpiresAt) {
			s.Status, s.Code = FlowFailed, ErrStateExpired.Code
		}
	case FlowConsumed, FlowFailed:
	}
	return s, nil
}
