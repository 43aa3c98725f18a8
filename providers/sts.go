package providers

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/xml"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/coatcheck/coatcheck/broker"
)

// The calls of AWS's token service that are made, and how long its sessions are to last.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
const (
	stsVersion  = "2011-06-15"
	stsLifetime = time.Hour
)

// stsURL is the token service's address in a region, or the entry's own.
func (p *awsProvider) stsURL(region string) (*url.URL, error) {
	if t := p.spec.token; t != nil {
		return t.expand(&scope{config: map[string]string{awsRegion: region}}, p.deps.checkURL)
	}
	host := "sts." + region + ".amazonaws.com"
	if strings.HasPrefix(region, "cn-") {
		host += ".cn"
	}
	return p.deps.checkURL("https://"+host+"/", true)
}

// stsCredentials are a session as the service gives it.
type stsCredentials struct {
	AccessKeyID     string `xml:"AccessKeyId" json:"AccessKeyId"`
	SecretAccessKey string
	SessionToken    string
	Expiration      string
}

// stsResult is what both calls answer.
type stsResult struct {
	Credentials stsCredentials `xml:"AssumeRoleResult>Credentials"`
	AssumedRole string         `xml:"AssumeRoleResult>AssumedRoleUser>Arn"`
	Caller      string         `xml:"GetCallerIdentityResult>Arn"`
}

// stsError is how it refuses.
type stsError struct {
	XMLName xml.Name `xml:"ErrorResponse"`
	Code    string   `xml:"Error>Code"`
	Message string   `xml:"Error>Message"`
}

// assume opens a session in a role.
func (p *awsProvider) assume(ctx context.Context, h *broker.Holding, a *assumption) (*broker.Obtained, error) {
	id, secret, err := p.account(h)
	if err != nil {
		return nil, err
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails: it ends the process instead
	form := url.Values{
		"Action": {"AssumeRole"}, "Version": {stsVersion}, "RoleArn": {a.role}, "RoleSessionName": {"coatcheck-" + hex.EncodeToString(random[:])},
		"DurationSeconds": {strconv.Itoa(int(stsLifetime.Seconds()))},
	}
	if a.external != "" {
		form.Set("ExternalId", a.external)
	}
	reply, got, err := p.askSTS(ctx, a.region, form, &awsKeys{id: id, secret: secret})
	if err != nil {
		return nil, err
	}
	c := got.Credentials
	end, err := time.Parse(time.RFC3339, c.Expiration)
	m := &broker.Material{Type: p.spec.facts.CredentialType, Access: broker.NewSecret(c.SessionToken), Details: a.details(), ExpiresAt: end}
	m.Details[awsAccessID], m.Details[awsAccessKey] = broker.NewSecret(c.AccessKeyID), broker.NewSecret(c.SecretAccessKey)
	if err != nil || p.CheckMaterial(m) != nil || m.Access.IsZero() || !end.After(reply.at) {
		return nil, unreadable(reply, codeNoToken, 0)
	}
	if !isSessionOf(got.AssumedRole, a) {
		return nil, &broker.ProviderError{Class: broker.GrantLost, Code: codeOtherRole, Status: reply.status}
	}
	raw, err := json.Marshal(map[string]any{"Credentials": c, "AssumedRoleUser": map[string]string{"Arn": got.AssumedRole}}, json.Deterministic(true))
	if err != nil {
		return nil, broker.ErrInternal.Because(err)
	}
	m.Answer = broker.NewSecret(string(raw))
	return &broker.Obtained{Material: m, Config: a.config(), Account: a.role}, nil
}

// codeOtherRole is the code of a session that is not one of the role that was asked for.
const codeOtherRole = "another_role"

// isSessionOf reports whether an ARN is that of a session in the role: its account and its name are in it.
func isSessionOf(arn string, a *assumption) bool {
	account := strings.Split(a.role, ":")[4]
	return strings.Contains(arn, ":sts::"+account+":assumed-role/"+a.roleName()+"/")
}

// identity asks in whose name a session speaks.
func (p *awsProvider) identity(ctx context.Context, m *broker.Material, a *assumption) error {
	reply, got, err := p.askSTS(ctx, a.region, url.Values{"Action": {"GetCallerIdentity"}, "Version": {stsVersion}}, &awsKeys{
		id: m.Details[awsAccessID].Reveal(), secret: m.Details[awsAccessKey], token: m.Access,
	})
	if err != nil {
		return err
	}
	if !isSessionOf(got.Caller, a) {
		return &broker.ProviderError{Class: broker.GrantLost, Code: codeOtherRole, Status: reply.status}
	}
	return nil
}

// askSTS makes a call, once. Errors: *ProviderError.
func (p *awsProvider) askSTS(ctx context.Context, region string, form url.Values, k *awsKeys) (*reply, *stsResult, error) {
	u, err := p.stsURL(region)
	if err != nil {
		return nil, nil, asFailure(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, nil, asFailure(broker.ErrURLNotAllowed)
	}
	req.Header.Set("Content-Type", formType)
	req.Header.Set("Accept", "text/xml")
	if err := newAWSSigner(p.deps.now, "sts", region, k).sign(req); err != nil {
		return nil, nil, asFailure(err)
	}
	a, err := p.deps.send(req)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case a.status >= 300 && a.status < 400:
		return nil, nil, unreadable(a, codeRedirect, 0)
	case a.status >= 400:
		return nil, nil, p.stsFailure(a, k)
	}
	var got stsResult
	if err := xml.Unmarshal(a.body, &got); err != nil {
		return nil, nil, unreadable(a, codeBadAnswer, 0)
	}
	return a, &got, nil
}

// Codes of refusals that are about our own access key, and those that are about the role.
var (
	stsClientCodes = []string{
		"InvalidClientTokenId", "SignatureDoesNotMatch", "IncompleteSignature", "MissingAuthenticationToken", "UnrecognizedClientException",
		"OptInRequired", "InvalidAccessKeyId", "RequestExpired",
	}
	stsRoleCodes = []string{"AccessDenied", "ValidationError", "RegionDisabledException", "ExpiredToken", "ExpiredTokenException"}
)

// stsFailure reads a refusal.
func (p *awsProvider) stsFailure(a *reply, k *awsKeys) error {
	var said stsError
	if xml.Unmarshal(a.body, &said) != nil || len(said.Code) > maxErrorCode || !errorCode().MatchString(said.Code) {
		said = stsError{}
	}
	e := p.spec.rules.failure(a, &verdict{code: said.Code, codes: []string{said.Code}, text: said.Message}, []string{k.secret.Reveal(), k.token.Reveal()})
	switch {
	case a.status >= 500 || a.status == http.StatusTooManyRequests:
	case slices.Contains(stsRoleCodes, said.Code), !k.token.IsZero() && slices.Contains(stsClientCodes, said.Code):
		e.Class = broker.GrantLost
	case slices.Contains(stsClientCodes, said.Code):
		e.Class = broker.ClientRefused
	default:
		e.Class = broker.Transient
	}
	return e
}
