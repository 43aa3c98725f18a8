package providers

import (
	"context"
	"errors"
	"net/http"

	"github.com/coatcheck/coatcheck/broker"
)

// longLivedEntry is how a provider without refresh tokens lets a token be traded for one that lasts longer.
type longLivedEntry struct {
	URL         string `yaml:"url"`
	Params      pairs  `yaml:"params"`
	RenewURL    string `yaml:"renew_url"`
	RenewParams pairs  `yaml:"renew_params"`
}

// trade is a request that gives another token for the one that there is: a GET with everything in the query, as these
// providers have it.
type trade struct {
	url    *urlTemplate
	params []namedTemplate
}

// compileLongLived reads the two trades: the one right after the exchange, and the one in place of a refresh, which is the
// same unless the entry says otherwise.
func (c *compiler) compileLongLived() {
	e := c.entry.LongLived
	if e == nil {
		return
	}
	const key = "long_lived_token"
	first := &trade{url: c.url([]string{key, "url"}, e.URL), params: c.named([]string{key, "params"}, e.Params)}
	if first.url == nil {
		c.broken([]string{key}, "needs a url")
		return
	}
	again := *first
	if e.RenewURL != "" {
		again.url = c.url([]string{key, "renew_url"}, e.RenewURL)
	}
	if len(e.RenewParams) > 0 {
		again.params = c.named([]string{key, "renew_params"}, e.RenewParams)
	}
	c.lengthen, c.relengthen = first, &again
}

// lasting trades the token of an exchange for one that lasts. A provider that refuses leaves no usable grant, so the
// error is that of the exchange.
func (p *oauth2Provider) lasting(ctx context.Context, m *broker.Material, r *broker.ExchangeRequest, config map[string]string) (*broker.Material, error) {
	if p.spec.lengthen == nil {
		return m, nil
	}
	return p.traded(ctx, p.spec.lengthen, &broker.Holding{Client: r.Client, Config: config, Material: m})
}

// traded makes a trade and gives the material with the new token.
func (p *oauth2Provider) traded(ctx context.Context, how *trade, h *broker.Holding) (*broker.Material, error) {
	sc := p.scope(h)
	u, err := how.url.expand(sc, p.deps.checkURL)
	if err != nil {
		return nil, asFailure(err)
	}
	params, err := fillAll(how.params, sc)
	if err != nil {
		return nil, asFailure(err)
	}
	target := *u
	query := target.Query()
	for _, x := range params {
		query.Set(x.Key, x.Value)
	}
	target.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
	if err != nil {
		return nil, asFailure(broker.ErrURLNotAllowed)
	}
	req.Header.Set("Accept", jsonType)
	a, err := p.deps.send(req)
	if err != nil {
		return nil, notSpent(err)
	}
	t, err := p.spec.rules.read(a, []string{p.client(h).Secret.Reveal(), h.Material.Access.Reveal()})
	if err != nil {
		return nil, notSpent(err)
	}
	return p.material(t, h.Material), nil
}

// notSpent marks a failure as one after which the old token still works: a trade uses nothing up.
func notSpent(err error) error {
	var failure *broker.ProviderError
	if errors.As(err, &failure) {
		failure.InDoubt = false
	}
	return err
}
