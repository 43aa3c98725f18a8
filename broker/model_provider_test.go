package broker_test

import (
	"context"
	"fmt"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// grantFamily is a grant as the provider sees it: a line of refresh tokens, each of which is spent by its use.
type grantFamily struct {
	name    string
	tokens  int    // given so far; grants are used at the same moment, so each counts for itself
	current string // the refresh token that is not spent
	access  string // the latest
	expires time.Time
	spent   string // the last one that was
	spentAt time.Time
	ended   string // why it gives no tokens any more
}

const (
	endedByReuse = "reuse"
	endedByUser  = "user"
)

// presentation is a refresh token on its way to the provider, and what became of it as far as its sender can know.
type presentation struct {
	number int
	node   *modelNode
	token  string
	state  presentationState
	gave   *broker.Material // the answer
}

type presentationState int

const (
	underWay   presentationState = iota
	turnedDown                   // the sender knows that it did not count
	doubtful                     // the sender cannot know whether it did
	delivered                    // the sender has the answer
)

// The names of a renewal's parked calls.
const (
	callRenew  = "renew"
	callAnswer = "renew answer"
)

// nodeCatalogue is the provider as a node reaches it.
type nodeCatalogue struct {
	*fakeProvider
	n *modelNode
}

func (c nodeCatalogue) Provider(name string) (broker.Provider, bool) {
	if name == "fake" {
		return nodeProvider(c), true
	}
	return c.fakeProvider.Provider(name)
}

type nodeProvider struct {
	*fakeProvider
	n *modelNode
}

// Errors of the model's provider.
var (
	errCut          = &broker.ProviderError{Class: broker.Transient, Code: "connection_reset", InDoubt: true}
	errUnavailable  = &broker.ProviderError{Class: broker.Transient, Code: "http_503", Status: 503}
	errBadClient    = &broker.ProviderError{Class: broker.ClientRefused, Code: "invalid_client", Status: 401}
	errInvalidGrant = &broker.ProviderError{Class: broker.GrantLost, Code: "invalid_grant", Status: 400}
)

// Renew presents the token. The request is parked before it arrives, and its answer on the way back.
func (p nodeProvider) Renew(ctx context.Context, h *broker.Holding) (*broker.Obtained, error) {
	w, token := p.n.w, h.Material.Refresh.Reveal()
	pr := w.present(p.n, operation(ctx), token)
	about := w.grantOf(token)
	f := w.park(ctx, p.n, callRenew, about, patience, unavailable, refuseClient, cutBefore, cutAfter)
	switch f {
	case die:
		return nil, errCut
	case unavailable:
		w.conclude(pr, turnedDown, nil)
		return nil, errUnavailable
	case refuseClient:
		w.conclude(pr, turnedDown, nil)
		return nil, errBadClient
	case gaveUp, cutBefore, cutAfter:
		if f == cutAfter || f == gaveUp && pr.number%2 == 0 {
			_, _ = w.rotate(token)
		}
		w.conclude(pr, doubtful, nil)
		return nil, errCut
	case goOn:
	}
	got, err := w.rotate(token)
	switch w.park(ctx, p.n, callAnswer, about, patience, cutAfter) {
	case die:
		return nil, errCut
	case gaveUp, cutAfter:
		w.conclude(pr, doubtful, nil)
		return nil, errCut
	case goOn, unavailable, refuseClient, cutBefore:
	}
	if err != nil {
		w.conclude(pr, turnedDown, nil)
		return nil, err
	}
	w.conclude(pr, delivered, got.Material)
	return got, nil
}

// Revoke ends the grant of a token.
func (p nodeProvider) Revoke(_ context.Context, h *broker.Holding) (bool, error) {
	w := p.n.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.n.dead {
		return false, errCut
	}
	token := h.Material.Refresh.Reveal()
	w.history.revoked[token] = true
	if f := w.history.families[token]; f != nil && f.ended == "" {
		f.ended = endedByUser
	}
	return true, nil
}

// issue begins a grant.
func (w *world) issue() *broker.Material {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history.grants++
	return w.next(&grantFamily{name: fmt.Sprintf("g%d", w.history.grants)})
}

// next gives a grant's next tokens; the caller holds the lock.
func (w *world) next(f *grantFamily) *broker.Material {
	f.tokens++
	f.current = fmt.Sprintf("refresh-token-%s-%04d", f.name, f.tokens)
	w.history.families[f.current] = f
	return w.give(f)
}

// give gives a new access token with a grant's current refresh token; the caller holds the lock.
func (w *world) give(f *grantFamily) *broker.Material {
	f.tokens++
	f.access, f.expires = fmt.Sprintf("access-token-%s-%04d", f.name, f.tokens), time.Now().Add(w.life)
	return &broker.Material{
		Type: "OAUTH2", Access: broker.NewSecret(f.access), Refresh: broker.NewSecret(f.current), ExpiresAt: f.expires,
		Scopes: []string{"read"},
	}
}

// rotate is what the provider does with a token that arrives: it spends it; gives a repetition of the last spent one within
// the grace the same refresh token as the first time; and ends the grant at any other.
func (w *world) rotate(token string) (*broker.Obtained, error) {
	w.mu.Lock()
	f, now := w.history.families[token], time.Now()
	switch {
	case f.ended != "":
		w.mu.Unlock()
		return nil, errInvalidGrant
	case token == f.current:
		f.spent, f.spentAt = token, now
		m := w.next(f)
		w.mu.Unlock()
		return &broker.Obtained{Material: m}, nil
	case token == f.spent && now.Sub(f.spentAt) <= w.grace:
		w.history.stats.repeated++
		m := w.give(f)
		w.mu.Unlock()
		return &broker.Obtained{Material: m}, nil
	}
	f.ended = endedByReuse
	w.history.stats.lost++
	last, after := token == f.spent, now.Sub(f.spentAt)
	w.mu.Unlock()
	w.note("%s ends %s after its token was spent", f.name, after)
	if !last {
		w.breach("%s was ended by a token that was spent long ago", f.name)
	}
	return nil, errInvalidGrant
}

// grantOf names the grant of a refresh token.
func (w *world) grantOf(token string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.history.families[token].name
}
