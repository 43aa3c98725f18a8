package providers

import (
	"context"

	"github.com/coatcheck/coatcheck/broker"
)

// plugin is an app that an end user installs at the provider. What it calls with is the integration's own, a user name and
// a password; the installation says for whom.
// https://docs.crisp.chat/guides/rest-api/authentication/
type plugin struct{ base }

// settingAppLink names the setting that says where the app is installed.
const settingAppLink = "app_link"

// AuthorizeURL is where the end user installs the app. It sends the browser back with what we send along.
func (p *plugin) AuthorizeURL(r *broker.AuthorizeRequest) (string, error) {
	link := r.Client.Settings[settingAppLink]
	if link == "" || r.Client.ID == "" {
		return "", broker.ErrNotSupported.Saying("the integration has no address to install the app at, or no user name of the app; whoever runs this service has to set them")
	}
	u, err := p.deps.checkURL(link, true)
	if err != nil {
		return "", broker.ErrProviderURLInvalid.Because(err)
	}
	query := u.Query()
	query.Set(broker.PluginStateParam, r.State)
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// Exchange takes the installation: there is no code, and nothing to exchange it for.
func (p *plugin) Exchange(ctx context.Context, r *broker.ExchangeRequest) (*broker.Obtained, error) {
	returned, config, err := p.returnedConfig(r)
	if err != nil {
		return nil, asFailure(err)
	}
	m := &broker.Material{Type: p.spec.facts.CredentialType, Details: map[string]broker.Secret{
		"username": broker.NewSecret(r.Client.ID), "password": r.Client.Secret,
	}}
	if err := p.CheckMaterial(m); err != nil {
		return nil, asFailure(err)
	}
	if _, err := p.Verify(ctx, &broker.Holding{Client: r.Client, Config: config, Material: m}); err != nil {
		return nil, err
	}
	return &broker.Obtained{Material: m, Config: undecided(returned, r.Config)}, nil
}

// CheckMaterial refuses what a Basic header cannot carry.
func (p *plugin) CheckMaterial(m *broker.Material) error { return checkUser(m) }
