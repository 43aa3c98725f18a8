package providers

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
)

// custom is an app that an end user installs, and signs in to at the same time. The connection has a token of the
// installation, as in [app], and one of its user, as in [oauth2Provider]; each is renewed whatever becomes of the other.
// Requests carry the installation's. Without an installation, because an owner of the account has still to approve it, they
// carry the user's.
// https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-user-access-token-for-a-github-app
type custom struct {
	oauth2Provider
	app *app
}

// installSpec is what an entry says of installations besides what it says of their users.
type installSpec struct {
	tokens  *urlTemplate // of an installation
	visible *urlTemplate // the installations that a user may see
	revoke  *revokeSpec  // of an installation's token
}

// settingPrivateKey is the setting that holds the key which an app signs with, where the client secret is that of its users'
// sign-ins.
const settingPrivateKey = "private_key"

// installationsPath ends the address of an installation's tokens; what comes before it is the API.
const installationsPath = "/app/installations/${connectionConfig." + appInstallation + "}" + tokensPath

func (c *compiler) compileCustom() {
	if c.mode != modeCustom {
		return
	}
	c.knownOfApps()
	path, address := []string{"token_url", modeApp}, c.entry.TokenURL.ByMode.get(modeApp)
	api, ok := strings.CutSuffix(address, installationsPath)
	if !ok || c.token == nil {
		c.broken([]string{"token_url"}, "needs OAUTH2, and APP as the address of an installation's tokens")
		return
	}
	c.installs = &installSpec{
		tokens: c.url(path, address), visible: c.url(path, api+"/user/installations"),
		revoke: &revokeSpec{
			url: c.url(path, api+"/installation/token"), method: http.MethodDelete, recipe: true, auth: "bearer", format: "none",
			param: "token", tokens: []string{"access"},
		},
	}
}

func newCustom(b base) *custom {
	own := *b.spec
	own.mode, own.token, own.revoke = modeApp, b.spec.installs.tokens, b.spec.installs.revoke
	return &custom{oauth2Provider{b}, &app{base{spec: &own, deps: b.deps, staticBase: b.staticBase}}}
}

// speaker is an integration as the app that it is, and not as the client that its users sign in to.
func speaker(c *broker.Client) *broker.Client {
	out := *c
	out.ID, out.Secret = c.Settings[appID], broker.NewSecret(c.Settings[settingPrivateKey])
	return &out
}

// AuthorizeURL is where the end user installs the app. The provider goes on from there to the sign-in by itself: it takes
// neither an address to come back to nor a challenge (RFC 7636), so that only the state ties its answer to the browser.
func (p *custom) AuthorizeURL(r *broker.AuthorizeRequest) (string, error) {
	if !installationNumber().MatchString(r.Client.Settings[appID]) {
		return "", broker.ErrNotSupported.Saying("the integration does not say which app it is; whoever runs this service has to set app_id")
	}
	if _, err := keyOf(speaker(r.Client)); err != nil {
		return "", broker.ErrNotSupported.Saying(broker.AsError(err).Msg)
	}
	return p.app.AuthorizeURL(r)
}

// Exchange trades the code for the user's token and finds out with it whether the installation that the browser names is one
// of theirs. If it is not, the user's token comes with the refusal, to be ended.
func (p *custom) Exchange(ctx context.Context, r *broker.ExchangeRequest) (*broker.Obtained, error) {
	named := r.Callback.Get(appInstallation)
	if len(r.Callback[appInstallation]) > 1 || named != "" && !installationNumber().MatchString(named) {
		return nil, asFailure(invalid(appInstallation, "is not a number"))
	}
	signIn := *r
	if !r.Begun.IsZero() { // it began where the app is installed
		signIn.RedirectURI, signIn.Verifier = "", ""
	}
	got, err := p.oauth2Provider.Exchange(ctx, &signIn)
	if err != nil {
		return nil, err
	}
	got.Material.Scopes = nil // what the app may do is set with the app
	got.Config[appID] = r.Client.Settings[appID]
	id, account, err := p.chosen(ctx, r, named, got.Material)
	if err != nil || id == "" {
		return got, err
	}
	own, err := p.app.mintFor(ctx, speaker(r.Client), r.Config, id, account)
	if err != nil {
		return got, err
	}
	own.Material.SetUser(got.Material)
	maps.Copy(got.Config, own.Config)
	return &broker.Obtained{Material: own.Material, Config: got.Config}, nil
}

// Reasons to refuse an installation.
var (
	errNotVisible = &broker.ProviderError{
		Class: broker.GrantLost, Code: "installation_not_visible", Status: http.StatusOK,
		Text: "the installation is not one that this user may see",
	}
	errNotDecided = &broker.ProviderError{
		Class: broker.GrantLost, Code: "installation_differs", Status: http.StatusOK,
		Text: "another installation was chosen than the one that this connection is for",
	}
)

// chosen decides which installation the connection is of, and whose that is; "" if it has to wait for one. The browser can
// name anybody's, and the app's own key would open it. So it must be one that the user may see, which only the user's token
// can tell; and as a user may see an account's without having a say in it, it must also have come about, or have been
// changed, while this sign-in lasted, or be known already: the app's backend decided on it, or it is the connection's own. A
// connection that waits takes what came about since it was made, and finds it by itself where there is only one.
func (p *custom) chosen(ctx context.Context, r *broker.ExchangeRequest, named string, user *broker.Material) (id, account string, err error) {
	known, since, waits := r.Config[appInstallation], r.Begun, false
	if known != "" && named != "" && named != known {
		return "", "", errNotDecided
	}
	if old := r.Repaired; old != nil && known == "" {
		known = old.Config[appInstallation]
		if waits = known == ""; waits {
			since = old.AuthorizedAt
		}
	}
	if named == "" && known == "" && !waits {
		return "", "", nil
	}
	list, err := p.visible(ctx, r.Client, r.Config, user)
	if err != nil {
		return "", "", err
	}
	if id = cmp.Or(named, known); id == "" {
		id = onlyNew(list, since)
	}
	in := list[id]
	switch {
	case in == nil && named == "" && r.Config[appInstallation] == "":
		return "", "", nil // nothing came about, or what the connection had is gone
	case in == nil:
		return "", "", errNotVisible
	case named != "" && named != known && !in.since(since):
		return "", "", errNotNew
	}
	return id, in.account, nil
}

// onlyNew gives the one installation that came about since then, "" if there is none or more than one.
func onlyNew(list map[string]*installed, since time.Time) (found string) {
	for id, in := range list {
		if in.created.Before(since.Add(-maxClockSkew)) {
			continue
		}
		if found != "" {
			return ""
		}
		found = id
	}
	return found
}

// How many of a user's installations are looked at, in pages that an answer has room for.
const (
	visiblePage  = 30
	visiblePages = 20
)

// visible asks, with a user's token, which installations of the app the user may see, by their ids. Errors: *ProviderError.
func (p *custom) visible(ctx context.Context, client *broker.Client, config map[string]string, user *broker.Material) (map[string]*installed, error) {
	u, err := p.spec.installs.visible.expand(p.flowScopeOf(client, config), p.deps.checkURL)
	if err != nil {
		return nil, asFailure(err)
	}
	out := make(map[string]*installed)
	for page := 1; page <= visiblePages; page++ {
		u.RawQuery = url.Values{"per_page": {strconv.Itoa(visiblePage)}, "page": {strconv.Itoa(page)}}.Encode()
		a, err := p.authorized(ctx, &broker.Holding{Client: client, Config: config, Material: user}, http.MethodGet, u, nil, "")
		if err != nil {
			return nil, err
		}
		raw, err := p.spec.rules.readCall(a)
		if err != nil {
			return nil, err
		}
		var answer struct {
			Installations []struct {
				ID      jsontext.Value `json:"id"`
				Account jsontext.Value `json:"account"`
				Created time.Time      `json:"created_at"`
				Updated time.Time      `json:"updated_at"`
			} `json:"installations"`
		}
		if err := json.Unmarshal(raw, &answer); err != nil {
			return nil, unreadable(a, codeBadAnswer, 0)
		}
		for _, in := range answer.Installations {
			out[scalarText(in.ID)] = &installed{created: in.Created, updated: in.Updated, account: scalarText(get(in.Account, "id"))}
		}
		if len(answer.Installations) < visiblePage {
			break
		}
	}
	return out, nil
}

// Submit takes an installation that the app's backend knows of, and leaves beside it what there is of its user.
func (p *custom) Submit(ctx context.Context, h *broker.Holding, fields map[string]broker.Secret) (*broker.Obtained, error) {
	app := *h
	app.Client = speaker(h.Client)
	got, err := p.app.Submit(ctx, &app, fields)
	if err != nil {
		return nil, err
	}
	got.Material.SetUser(h.Material.User())
	got.Account = "" // a connection's is its user's
	return got, nil
}

// Renewable reports whether it is known which installation to get another token of, or how to renew its user's.
func (p *custom) Renewable(m *broker.Material) bool { return m.Installed() || !m.Refresh.IsZero() }

// Endpoint names the hosts that give the user's tokens and the installation's.
func (p *custom) Endpoint(h *broker.Holding) string {
	user := p.endpointHost(p.spec.refresh, h)
	u, err := p.app.tokens(h.Client, h.Config, "1") // which one does not matter: it is in the path
	if user == "" || err != nil {
		return ""
	}
	return user + " " + u.Host
}

const (
	// userMargin is how long before its end a user's token is renewed. It is renewed together with the installation's, which
	// lasts an hour, so that some attempts may fail before it matters.
	userMargin = 2 * time.Hour
	// installationPatience is how long an installation's token is waited for: what is left is for the user's, whose refresh
	// token is spent by asking.
	installationPatience = 8 * time.Second
	// keepLostUser is how long a refresh token that the provider refused is kept, for whoever insists that it works.
	keepLostUser = 30 * 24 * time.Hour
)

// Renew gets another token of the installation, and of its user where that is due.
func (p *custom) Renew(ctx context.Context, h *broker.Holding) (*broker.Obtained, error) {
	if !h.Material.Installed() {
		return p.oauth2Provider.Renew(ctx, h)
	}
	soon, cancel := context.WithTimeout(ctx, installationPatience)
	got, failure := p.app.mint(soon, speaker(h.Client), h.Config, h.Material.Details[appInstallation].Reveal())
	cancel()
	var refused *broker.ProviderError
	if errors.As(failure, &refused) && refused.Class == broker.GrantLost {
		return nil, failure // the user's is of no use without it
	}
	out := &broker.Obtained{Material: new(broker.Material)}
	*out.Material = *h.Material
	if failure == nil {
		out.Config = got.Config
		*out.Material = *got.Material
		out.Material.Details = maps.Clone(h.Material.Details)
		maps.Copy(out.Material.Details, got.Material.Details)
		out.Material.Refresh, out.Material.RefreshExpiresAt = h.Material.Refresh, h.Material.RefreshExpiresAt
	}
	if changed := p.renewUser(ctx, h, out); !changed && failure != nil {
		return nil, failure
	}
	return out, failure
}

// renewUser renews the user's token where that is due, and reports whether there is anything to keep of it. What it fails
// with is a matter of this part alone.
func (p *custom) renewUser(ctx context.Context, h *broker.Holding, out *broker.Obtained) (changed bool) {
	user := h.Material.User()
	lost, _ := h.Material.UserLost()
	if !lost.IsZero() && p.now().Sub(lost) >= keepLostUser {
		out.Material.SetUser(nil)
		out.Erases = true
		return true
	}
	if user == nil || user.Refresh.IsZero() || !h.Insisted && (!lost.IsZero() || user.ExpiresAt.IsZero() || user.ExpiresAt.Sub(p.now()) >= userMargin) {
		return false
	}
	got, err := p.oauth2Provider.Renew(ctx, &broker.Holding{Client: h.Client, Config: h.Config, Material: user})
	if err == nil {
		out.Material.SetUser(got.Material)
		return true
	}
	out.Partly = &broker.ProviderError{Class: broker.Transient, Code: "provider_error"}
	errors.As(err, &out.Partly)
	if out.Partly.Class == broker.GrantLost {
		out.Material.LoseUser(out.Partly.Code, p.now())
		return true
	}
	return out.Partly.InDoubt
}

// Revoke ends the installation's token, and the user's grant unless another connection has the same. The installation stays:
// removing it is its owner's business.
func (p *custom) Revoke(ctx context.Context, h *broker.Holding) (bool, error) {
	user := h.Material.User()
	var own bool
	var failures []error
	if h.Material.Installed() && !h.Material.Access.IsZero() {
		supported, err := p.app.Revoke(ctx, h)
		own, failures = supported, append(failures, err)
	}
	if user == nil || h.Shared {
		return own, errors.Join(failures...)
	}
	supported, err := p.endUser(ctx, h, user)
	return own || supported, errors.Join(append(failures, err)...)
}

// endUser ends a user's grant. A token that has run out does not name it any more.
func (p *custom) endUser(ctx context.Context, h *broker.Holding, user *broker.Material) (bool, error) {
	of := &broker.Holding{Client: h.Client, Config: h.Config, Material: user}
	lost, _ := h.Material.UserLost()
	if p.spec.revoke != nil && lost.IsZero() && !user.Refresh.IsZero() && !user.ExpiresAt.IsZero() && !user.ExpiresAt.After(p.now()) {
		got, err := p.oauth2Provider.Renew(ctx, of)
		if err != nil {
			return true, alreadyEnded(err)
		}
		of.Material = got.Material
	}
	return p.oauth2Provider.Revoke(ctx, of)
}

// ofUser is a holding as its user has it; nil: there is no user.
func ofUser(h *broker.Holding) *broker.Holding {
	user := h.Material.User()
	if user == nil || user.Access.IsZero() {
		return nil
	}
	return &broker.Holding{Client: h.Client, Config: h.Config, Material: user}
}

// Identify gives the user's account; "" where nobody signed in.
func (p *custom) Identify(ctx context.Context, h *broker.Holding) (string, error) {
	if of := ofUser(h); of != nil {
		return p.oauth2Provider.Identify(ctx, of)
	}
	return "", nil
}

// Complete asks as the user.
func (p *custom) Complete(ctx context.Context, h *broker.Holding) (map[string]string, error) {
	if of := ofUser(h); of != nil {
		return p.oauth2Provider.Complete(ctx, of)
	}
	return nil, nil //nolint:nilnil // nothing to add is an answer
}

// Verify asks whether the token works that requests carry. Whose account it is only a user can be asked.
func (p *custom) Verify(ctx context.Context, h *broker.Holding) (bool, error) {
	if p.spec.verify == nil && h.Material.Installed() {
		return false, nil
	}
	return p.oauth2Provider.Verify(ctx, h)
}

// CheckMaterial refuses what can be neither an installation's credential nor its user's.
func (p *custom) CheckMaterial(m *broker.Material) error {
	if m.Installed() {
		if err := p.app.CheckMaterial(m); err != nil {
			return err
		}
		if user := m.User(); user != nil {
			return p.oauth2Provider.CheckMaterial(user)
		}
		return nil
	}
	return p.oauth2Provider.CheckMaterial(m)
}
