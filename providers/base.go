package providers

import (
	"net/url"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// base is what all modes share.
type base struct {
	spec *spec
	deps *deps
	// staticBase is the API's address where the entry gives one without placeholders. It is the same for every connection,
	// and for whoever gets it to read only.
	staticBase func() (*url.URL, error)
}

// newProvider gives the provider of a spec: what the mode can do is what interfaces it has.
func newProvider(s *spec, d *deps) broker.Provider {
	b := base{spec: s, deps: d}
	b.staticBase = sync.OnceValues(func() (*url.URL, error) { return b.expandBase(&scope{}) })
	if !s.facts.Usable {
		return &unsupported{b}
	}
	switch s.mode {
	case modeOAuth2:
		return &oauth2Provider{b}
	case modeOAuth1:
		return &oauth1Provider{b}
	case modeClientCredentials:
		return &clientCredentials{b}
	case modeAPIKey:
		return &apiKey{b}
	case modeBasic:
		return &basic{b}
	case modeMCP, modeMCPGeneric:
		return &mcpProvider{oauth2Provider{b}}
	case modeNone:
		return &none{b}
	case modeTwoStep:
		return &twoStep{b}
	case modeJWT:
		return &jwtProvider{b}
	case modeSignature:
		return &wsse{b}
	case modeBill:
		return &bill{twoStep{b}}
	case modePlugin:
		return &plugin{b}
	case modeTBA:
		return &tba{b}
	case modeAWS:
		return &awsProvider{b}
	case modeApp:
		return &app{b}
	case modeCustom:
		return newCustom(b)
	}
	return &unsupported{b}
}

// Facts gives the entry's facts.
func (b *base) Facts() *broker.Facts { return b.spec.facts }

// scope gives templates what they may speak of. Values of a credential are under the names that the catalogue uses.
func (b *base) scope(h *broker.Holding) *scope {
	s := &scope{config: h.Config, defaults: b.spec.defaults, named: map[string]string{}, now: b.now()}
	set := func(name string, v broker.Secret) {
		if !v.IsZero() {
			s.named[name] = v.Reveal()
		}
	}
	client := b.client(h)
	for _, f := range b.spec.settings {
		if v := setting(h, f.Name); v != "" {
			s.named[settingPrefix+f.Name] = v
		}
	}
	if client != nil && b.spec.mode != modeAPIKey && b.spec.mode != modeBasic {
		set("clientId", broker.NewSecret(client.ID))
		set("clientSecret", client.Secret)
	}
	m := h.Material
	if m == nil {
		return s
	}
	for name, v := range m.Details {
		s.named[name] = v.Reveal()
	}
	if b.spec.mode == modeAPIKey {
		set("apiKey", m.Access)
		return s
	}
	if b.spec.mode == modeBill {
		set("session_id", m.Access)
	}
	set("accessToken", m.Access)
	set("refreshToken", m.Refresh)
	return s
}

// client is who asks: the end user's own client, if the credential holds one, or else the integration's.
func (b *base) client(h *broker.Holding) *broker.Client {
	if h.Material == nil {
		return h.Client
	}
	id, secret := h.Material.Details["client_id"], h.Material.Details["client_secret"]
	if key := h.Material.Details["client_private_key"]; b.spec.tokenAuth.asserted && !key.IsZero() {
		secret = key // it is the secret of such a client
	}
	if id.IsZero() || (b.spec.mode == modeOAuth2 || b.spec.oauth1 != nil) && secret.IsZero() {
		return h.Client
	}
	own := broker.Client{}
	if h.Client != nil {
		own = *h.Client
	}
	own.ID, own.Secret = id.Reveal(), secret
	return &own
}

func (b *base) now() time.Time { return b.deps.now() }

// checkToken refuses what cannot be a token: nothing, control characters or spaces, or more than 16 KiB.
func checkToken(s broker.Secret, name string) error {
	v := s.Reveal()
	switch {
	case v == "":
		return invalid(name, "is missing")
	case len(v) > maxToken:
		return invalid(name, "is too long")
	case !visibleASCII(v):
		return invalid(name, "holds a character that it cannot have")
	}
	return nil
}

// maxToken is the length of the longest token or key, in bytes.
const maxToken = 16 << 10

func visibleASCII(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
