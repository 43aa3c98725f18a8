package providers

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/discovery"
)

// How old what was found may be: a sign-in wants to know how things are, a renewal whether they are as they were. A server
// that could not be found is not looked for again at each renewal.
const (
	forSignIn      = 5 * time.Minute
	forRenewal     = 24 * time.Hour
	notFoundFor    = time.Hour
	rediscoverTime = 5 * time.Second // of the time that a renewal has
	maxFound       = 1000
)

// finding is what came of looking for a server.
type finding struct {
	server *broker.Server // nil: nothing
	at     time.Time
}

// findings remembers what was found, by address and issuer.
type findings struct {
	mu  sync.Mutex
	all map[string]finding
}

func (f *findings) get(key string) (finding, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	got, ok := f.all[key]
	return got, ok
}

// put remembers a finding. When there are too many, as only somebody makes who tries addresses, all are forgotten: each of
// them costs a few requests to find again.
func (f *findings) put(key string, got finding) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all == nil || len(f.all) >= maxFound {
		f.all = make(map[string]finding)
	}
	f.all[key] = got
}

// discover finds a server's authorization server, or remembers it from so long ago. Errors: those of
// [discovery.Finder.Find].
func (d *deps) discover(ctx context.Context, api, issuer string, age time.Duration) (*broker.Server, error) {
	key := api + " " + issuer
	if got, ok := d.found.get(key); ok && got.server != nil && d.now().Sub(got.at).Abs() < age {
		return got.server, nil
	}
	u, err := url.Parse(api)
	if err != nil {
		return nil, discovery.ErrNone
	}
	s, err := d.finder.Find(ctx, u, issuer)
	if err != nil {
		return nil, err
	}
	d.found.put(key, finding{s, d.now()})
	return s, nil
}

// stillThere gives the server that a grant is of, as it is now, where that has not been looked at for a day. A server that
// cannot be found says nothing; one that has become another gets nothing that was meant for the first.
func (p *mcpProvider) stillThere(ctx context.Context, h *broker.Holding, pinned *broker.Server) (*broker.Server, error) {
	if p.spec.mcp.server == nil || p.now().Sub(pinned.FoundAt).Abs() < forRenewal {
		return pinned, nil
	}
	found := p.rediscover(ctx, pinned.API, cmp.Or(setting(h, issuerSetting), pinned.Issuer))
	if found == nil {
		return pinned, nil
	}
	if !sameServer(pinned, found) {
		return nil, issuerChanged()
	}
	now := *pinned
	now.Token, now.FoundAt = found.Token, found.FoundAt
	if found.Revocation != "" && pinned.Revocation != "" {
		now.Revocation = found.Revocation
	}
	return &now, nil
}

// issuerChanged is the error of a grant that must not be renewed where it would have to be.
func issuerChanged() error {
	return &broker.ProviderError{Class: broker.GrantLost, Code: broker.ReasonIssuerChanged, Moved: true}
}

// rediscover looks for a server beside a renewal, with that issuer if the server still trusts it; nil: it was not found.
func (p *mcpProvider) rediscover(ctx context.Context, api, issuer string) *broker.Server {
	d, key := p.deps, api+" "+issuer
	if got, ok := d.found.get(key); ok && got.server == nil && d.now().Sub(got.at).Abs() < notFoundFor {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, rediscoverTime)
	defer cancel()
	s, err := d.discover(ctx, api, issuer, forRenewal)
	if err == nil {
		return s
	}
	if errors.Is(err, discovery.ErrNotTrusted) {
		if s, err = d.discover(ctx, api, "", forRenewal); err == nil {
			return s
		}
	}
	d.found.put(key, finding{nil, d.now()})
	return nil
}

// sameServer reports whether a server is the one that a grant is pinned to: its name, and where its endpoints are.
func sameServer(pinned, found *broker.Server) bool {
	same := func(a, b string) bool { return a == "" || b == "" || discovery.Origin(a) == discovery.Origin(b) }
	return pinned.Issuer == found.Issuer && same(pinned.Authorization, found.Authorization) &&
		same(pinned.Token, found.Token) && same(pinned.Revocation, found.Revocation)
}
