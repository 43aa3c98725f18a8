package providers

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
)

// awsProvider calls AWS in a role of the end user's account. The integration's own access key assumes the role, for an hour
// at a time, and what comes of it signs each request (Signature Version 4). Nothing of the end user's is a secret: it is
// the role's trust in the integration's account, together with an external id that we choose, that lets us in.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_common-scenarios_third-party.html
type awsProvider struct{ base }

// Names of an integration's settings.
const (
	awsKey           = "awsAccessKeyId"
	awsSecret        = "awsSecretAccessKey"
	awsServiceName   = "service"
	awsDefaultRegion = "defaultRegion"
	awsSTSMode       = "stsMode"
	awsBuiltin       = "builtin" // the only mode of that
)

// Names of what a credential and its connection config hold.
const (
	awsRole       = "role_arn"
	awsRegion     = "region"
	awsService    = "service"
	awsExternalID = "external_id"
	awsBaseURL    = "base_url"
	awsAccessID   = "access_key_id"
	awsAccessKey  = "secret_access_key"
)

var (
	awsName       = expression(`^[a-z0-9-]{1,64}$`)
	awsRoleARN    = expression(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/(?:[\w+=,.@/-]+/)?([\w+=,.@-]{1,64})$`)
	awsExternal   = expression(`^[\w+=,.@:/-]+$`) // of 2 to 1224 characters
	awsAccessKeys = expression(`^[A-Za-z0-9_]{8,128}$`)
)

func (c *compiler) compileAWS() {
	if c.mode != modeAWS {
		return
	}
	if c.entry.TokenURL.URL != "" {
		c.token = c.url([]string{"token_url"}, c.entry.TokenURL.URL)
	}
	for _, name := range []string{awsRole, awsRegion, awsService, awsExternalID, awsBaseURL} {
		c.known(name, true)
		c.config[name].Automated = true // it is typed elsewhere, or not by an end user at all
	}
}

// account gives the access key of the integration, which assumes the roles.
func (p *awsProvider) account(h *broker.Holding) (key string, secret broker.Secret, err error) {
	if mode := setting(h, awsSTSMode); mode != "" && mode != awsBuiltin {
		return "", secret, broker.ErrNotSupported.Saying("roles are assumed with the integration's own access key alone; stsMode has to be " + awsBuiltin)
	}
	key, secret = setting(h, awsKey), broker.NewSecret(setting(h, awsSecret))
	if key == "" && h.Client != nil {
		key, secret = h.Client.ID, h.Client.Secret
	}
	if !awsAccessKeys().MatchString(key) || secret.IsZero() {
		return "", secret, broker.ErrMisconfigured.Saying("the integration has no access key of AWS; whoever runs this service has to set it")
	}
	return key, secret, nil
}

// assumption is a role that is to be assumed, and where.
type assumption struct {
	role, region, service, external string
}

// details are what is kept of it with the credential.
func (a *assumption) details() map[string]broker.Secret {
	out := map[string]broker.Secret{}
	for name, v := range a.config() {
		out[name] = broker.NewSecret(v)
	}
	return out
}

// config is what is shown of it with the connection.
func (a *assumption) config() map[string]string {
	out := map[string]string{awsRole: a.role, awsRegion: a.region, awsService: a.service}
	if a.external != "" {
		out[awsExternalID] = a.external
	}
	return out
}

// roleName is the last part of the role's name, which the names of its sessions repeat.
func (a *assumption) roleName() string { return awsRoleARN().FindStringSubmatch(a.role)[1] }

// assumption reads which role is meant. What the app's backend has decided goes before what was typed.
func (p *awsProvider) assumption(h *broker.Holding, typed map[string]broker.Secret) (*assumption, error) {
	pick := func(name string, more ...string) string {
		return cmp.Or(append([]string{h.Config[name], strings.TrimSpace(typed[name].Reveal())}, more...)...)
	}
	a := &assumption{
		role: pick(awsRole), region: pick(awsRegion, setting(h, awsDefaultRegion)),
		service: cmp.Or(h.Config[awsService], setting(h, awsServiceName), typed[awsService].Reveal()), external: pick(awsExternalID),
	}
	switch {
	case a.role == "":
		return nil, invalid(awsRole, "is missing")
	case len(a.role) > 2048 || !awsRoleARN().MatchString(a.role):
		return nil, invalid(awsRole, "is not the ARN of a role")
	case a.region == "":
		return nil, invalid(awsRegion, "is missing, and the integration has none by default")
	case !awsName().MatchString(a.region):
		return nil, invalid(awsRegion, "is not the name of a region")
	case !awsName().MatchString(a.service):
		return nil, broker.ErrMisconfigured.Saying("the integration does not say which service of AWS it is for; whoever runs this service has to set it")
	case a.external != "" && (len(a.external) < 2 || len(a.external) > 1224 || !awsExternal().MatchString(a.external)):
		return nil, invalid(awsExternalID, "is not an external id")
	}
	return a, nil
}

// Submit assumes the role for the first time.
func (p *awsProvider) Submit(ctx context.Context, h *broker.Holding, fields map[string]broker.Secret) (*broker.Obtained, error) {
	a, err := p.assumption(h, fields)
	if err != nil {
		return nil, err
	}
	return p.assume(ctx, h, a)
}

// Renewable reports whether it is known which role to assume again.
func (p *awsProvider) Renewable(m *broker.Material) bool { return !m.Details[awsRole].IsZero() }

// Endpoint is the token service's host.
func (p *awsProvider) Endpoint(h *broker.Holding) string {
	if h.Material == nil {
		return ""
	}
	a, err := p.assumption(h, h.Material.Details)
	if err != nil {
		return ""
	}
	u, err := p.stsURL(a.region)
	if err != nil {
		return ""
	}
	return u.Host
}

// Renew assumes the role again.
func (p *awsProvider) Renew(ctx context.Context, h *broker.Holding) (*broker.Obtained, error) {
	a, err := p.assumption(h, h.Material.Details)
	if err != nil {
		return nil, asFailure(err)
	}
	got, err := p.assume(ctx, h, a)
	return got, asFailure(err)
}

// Verify asks the token service in whose name the credential speaks, which has to be the role's.
func (p *awsProvider) Verify(ctx context.Context, h *broker.Holding) (bool, error) {
	a, err := p.assumption(h, h.Material.Details)
	if err != nil {
		return false, asFailure(err)
	}
	return true, p.identity(ctx, h.Material, a)
}

// CheckMaterial refuses what cannot sign, and a credential that names no role.
func (p *awsProvider) CheckMaterial(m *broker.Material) error {
	if role := m.Details[awsRole].Reveal(); !awsRoleARN().MatchString(role) {
		return invalid(awsRole, "is not the ARN of a role")
	}
	if m.Access.IsZero() {
		return nil // the role is assumed when the credential is taken in
	}
	if err := checkToken(m.Access, "session_token"); err != nil {
		return err
	}
	if err := checkToken(m.Details[awsAccessKey], awsAccessKey); err != nil {
		return err
	}
	if !awsAccessKeys().MatchString(m.Details[awsAccessID].Reveal()) {
		return invalid(awsAccessID, "is not the id of an access key")
	}
	return nil
}

// awsDomains are where AWS has its services.
var awsDomains = []string{".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".on.aws"}

// awsBase gives the address that the app's backend has chosen in place of the entry's: one of AWS, or one that the
// integration lists. A session's token goes there with each request. nil: it has chosen none.
func (b *base) awsBase(h *broker.Holding) (*url.URL, error) {
	raw := h.Config[awsBaseURL]
	if b.spec.mode != modeAWS || raw == "" {
		return nil, nil //nolint:nilnil // none is an answer
	}
	u, err := b.deps.checkURL(strings.TrimSuffix(raw, "/"), true)
	if err != nil {
		return nil, invalid(awsBaseURL, "is not an address that may be used").Because(err)
	}
	ours := slices.ContainsFunc(awsDomains, func(d string) bool { return strings.HasSuffix(u.Host, d) })
	if !ours && (h.Client == nil || !hostAllowed(u.Host, h.Client.Hosts)) {
		return nil, invalid(awsBaseURL, "is no address of AWS, nor on the list of hosts that the integration may call")
	}
	return u, nil
}

// awsToken is the header that a session's token goes into.
const awsToken = "X-Amz-Security-Token"

// presentAWS lets each request be signed with a session, over what else sets headers.
func (b *base) presentAWS(out *broker.Presentation, h *broker.Holding) error {
	m := h.Material
	s := newAWSSigner(b.deps.now, m.Details[awsService].Reveal(), m.Details[awsRegion].Reveal(), &awsKeys{
		id: m.Details[awsAccessID].Reveal(), secret: m.Details[awsAccessKey], token: m.Access,
	})
	if !awsName().MatchString(s.service) || !awsName().MatchString(s.region) {
		return broker.ErrMisconfigured.Saying("the credential does not say for which service and region it signs")
	}
	out.Headers = append(out.Headers, broker.Header{Key: awsToken, Values: []string{m.Access.Reveal()}})
	before := out.Sign
	out.Sign = func(r *http.Request) error {
		if before != nil {
			if err := before(r); err != nil {
				return err
			}
		}
		return s.sign(r)
	}
	return nil
}
