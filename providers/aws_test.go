package providers

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
)

// sum256 and mac256 are what signatures of AWS are made of.
func sum256(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func mac256(key []byte, s string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(s))
	return mac.Sum(nil)
}

// awsSignatureOf works a signature out of a request as it came, from AWS's description of how one is made. Paths of these
// tests need no escaping.
func awsSignatureOf(r *http.Request, body, secret string) string {
	_, rest, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	credential, rest, _ := strings.Cut(rest, ", SignedHeaders=")
	names, _, _ := strings.Cut(rest, ", ")
	_, scope, _ := strings.Cut(credential, "/")
	path, query, _ := strings.Cut(r.RequestURI, "?")
	params := strings.Split(query, "&")
	for i, p := range params {
		if p != "" && !strings.Contains(p, "=") {
			params[i] += "="
		}
	}
	slices.Sort(params)
	var headers strings.Builder
	for name := range strings.SplitSeq(names, ";") {
		v := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			v = r.Host
		case "content-length":
			v = fmt.Sprint(len(body))
		}
		headers.WriteString(name + ":" + v + "\n")
	}
	hash := r.Header.Get("X-Amz-Content-Sha256")
	if hash == "" {
		hash = sum256(body)
	}
	canonical := strings.Join([]string{r.Method, path, strings.Join(params, "&"), headers.String(), names, hash}, "\n")
	text := strings.Join([]string{"AWS4-HMAC-SHA256", r.Header.Get("X-Amz-Date"), scope, sum256(canonical)}, "\n")
	key := []byte("AWS4" + secret)
	for part := range strings.SplitSeq(scope, "/") {
		key = mac256(key, part)
	}
	return hex.EncodeToString(mac256(key, text))
}

// awsSigned reports whether a request is signed with a key, and its body is the one that was signed.
func awsSigned(r *http.Request, body, id, secret string) bool {
	header := r.Header.Get("Authorization")
	hash := r.Header.Get("X-Amz-Content-Sha256")
	return strings.HasPrefix(header, "AWS4-HMAC-SHA256 Credential="+id+"/") && (hash == awsUnsigned || hash == sum256(body)) &&
		strings.HasSuffix(header, ", Signature="+awsSignatureOf(r, body, secret))
}

// The example of AWS's description of a signed request, and those of S3's whose headers are those that we sign.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
func TestAWSSignaturesAreThoseThatAWSPublished(t *testing.T) {
	example := httptest.NewRequestWithContext(t.Context(), "GET", "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08", nil)
	example.RequestURI = "/?Action=ListUsers&Version=2010-05-08"
	example.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	example.Header.Set("X-Amz-Date", "20150830T123600Z")
	example.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=")
	if got := awsSignatureOf(example, "", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"); got != "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7" {
		t.Fatalf("the double of these tests signs %s", got)
	}
	s := newAWSSigner(func() time.Time { return time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC) }, "s3", "us-east-1", &awsKeys{
		id: "AKIAIOSFODNN7EXAMPLE", secret: broker.NewSecret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
	})
	for target, want := range map[string]string{
		"https://examplebucket.s3.amazonaws.com/?lifecycle":           "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
		"https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J": "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
	} {
		r := toSign(t, "GET", target, "")
		r.Header.Set("Accept", "changes on its way")
		if err := s.sign(r); err != nil {
			t.Fatal(err)
		}
		want := "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=" + want
		if got := r.Header.Get("Authorization"); got != want {
			t.Errorf("%s: %s", target, got)
		}
	}
}

const (
	ourKey, ourSecret   = "AKIDOURS0000", "our+secret/key"
	roleARN             = "arn:aws:iam::123456789012:role/team/reader"
	sessionID           = "ASIASESSION00"
	sessionKey          = "session+secret"
	sessionToken        = "session-token//="
	externalID          = "6c0b3f6e-1111-8222-9333-444455556666"
	assumedRole         = "arn:aws:sts::123456789012:assumed-role/reader/coatcheck-1"
	roleAnswer          = `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><AssumedRoleUser><Arn>%s</Arn></AssumedRoleUser><Credentials><AccessKeyId>ASIASESSION00</AccessKeyId><SecretAccessKey>session+secret</SecretAccessKey><SessionToken>session-token//=</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`
	identityAnswer      = `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>%s</Arn></GetCallerIdentityResult></GetCallerIdentityResponse>`
	awsRefusal          = `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>%s</Code><Message>not with our+secret/key</Message></Error></ErrorResponse>`
	awsIntegrationEntry = `
x:
  display_name: X
  auth_mode: AWS_SIGV4
  token_url: SERVER/
  integration_config:
    service: {title: Service, description: d}
    awsAccessKeyId: {title: Key, description: d}
    awsSecretAccessKey: {title: Secret, description: d}
    defaultRegion: {title: Region, description: d, optional: true}
    stsMode: {title: Mode, description: d, optional: true}
  proxy: {base_url: "https://${connectionConfig.service}.${connectionConfig.region}.amazonaws.com"}
`
)

// tokenService is a double of STS: it checks signatures, roles and external ids.
type tokenService struct {
	*door
	refuse string // with this code
	status int
	arn    string // whose session it is
}

func newTokenService(t *testing.T) (*tokenService, *awsProvider) {
	t.Helper()
	s := &tokenService{arn: assumedRole, status: 403}
	s.door = newDoor(t, s.serve)
	return s, provider[*awsProvider](t, load(t, strings.ReplaceAll(awsIntegrationEntry, "SERVER", s.URL)), "x")
}

func (s *tokenService) serve(w http.ResponseWriter, r *http.Request, body string) {
	form, _ := url.ParseQuery(body)
	w.Header().Set("Content-Type", "text/xml")
	code := s.refuse
	switch {
	case code != "":
	case form.Get("Action") == "AssumeRole" && !awsSigned(r, body, ourKey, ourSecret):
		code = "SignatureDoesNotMatch"
	case form.Get("Action") == "AssumeRole" && form.Get("RoleArn") == roleARN && form.Get("ExternalId") == externalID && form.Get("DurationSeconds") == "3600":
		_, _ = fmt.Fprintf(w, roleAnswer, s.arn, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
		return
	case form.Get("Action") == "GetCallerIdentity" && awsSigned(r, body, sessionID, sessionKey) && r.Header.Get("X-Amz-Security-Token") == sessionToken:
		_, _ = fmt.Fprintf(w, identityAnswer, s.arn)
		return
	default:
		code = "AccessDenied"
	}
	w.WriteHeader(s.status)
	_, _ = fmt.Fprintf(w, awsRefusal, code)
}

func awsHolding(more ...string) *broker.Holding {
	settings := map[string]string{"service": "s3", "awsAccessKeyId": ourKey, "awsSecretAccessKey": ourSecret}
	for i := 0; i+1 < len(more); i += 2 {
		settings[more[i]] = more[i+1]
	}
	return &broker.Holding{Client: &broker.Client{Settings: settings}, Config: map[string]string{"external_id": externalID}}
}

func TestRolesAreAssumedAndSignWith(t *testing.T) {
	s, p := newTokenService(t)
	if f := p.Facts(); !f.Usable || f.Interactive || f.Assigned == nil || f.Assigned.Name != "external_id" || !slices.Equal(f.SecretSettings, []string{"awsSecretAccessKey"}) {
		t.Fatalf("facts %+v", f)
	}
	h := awsHolding()
	got, err := p.Submit(t.Context(), h, secrets("role_arn", " "+roleARN, "region", "eu-central-1"))
	if err != nil {
		t.Fatal(err)
	}
	m := got.Material
	if left := time.Until(m.ExpiresAt); m.Type != "AWS_SIGV4" || m.Access.Reveal() != sessionToken || left > time.Hour || left < 59*time.Minute || got.Account != roleARN {
		t.Errorf("material %s, %v left", m.Type, left)
	}
	want := map[string]string{"external_id": externalID, "region": "eu-central-1", "role_arn": roleARN, "service": "s3"}
	for name, v := range want {
		if got.Config[name] != v || m.Details[name].Reveal() != v {
			t.Errorf("%s: %q", name, got.Config[name])
		}
	}
	h.Config, h.Material = got.Config, m
	if checked, err := p.Verify(t.Context(), h); !checked || err != nil {
		t.Error(checked, err)
	}
	if p.Endpoint(h) != strings.TrimPrefix(s.URL, "http://") || !p.Renewable(m) || p.CheckMaterial(m) != nil {
		t.Errorf("renewed at %q", p.Endpoint(h))
	}
	again, err := p.Renew(t.Context(), h)
	if err != nil || again.Material.Access.Reveal() != sessionToken || again.Material.Details["role_arn"].Reveal() != roleARN {
		t.Fatal(err)
	}
	shown, err := p.Present(h)
	if err != nil || shown.BaseURL.String() != "https://s3.eu-central-1.amazonaws.com" || shown.Headers[0].Values[0] != sessionToken {
		t.Fatal(shown.BaseURL, err)
	}
	answer := send(t, shown, toSign(t, "PUT", "http://SERVER/key?b=2&a=1", "hello"), sessionID, sessionKey)
	if answer != "signed "+sum256("hello") {
		t.Error(answer)
	}
}

// send signs a request and has it checked on the other side of a wire.
func send(t *testing.T, p *broker.Presentation, r *http.Request, id, secret string) string {
	t.Helper()
	d := newDoor(t, func(w http.ResponseWriter, r *http.Request, body string) {
		said := "refused"
		if awsSigned(r, body, id, secret) {
			said = "signed " + r.Header.Get("X-Amz-Content-Sha256")
		}
		_, _ = io.WriteString(w, said)
	})
	r.URL.Host, r.Host = strings.TrimPrefix(d.URL, "http://"), ""
	for _, h := range p.Headers {
		r.Header[h.Key] = h.Values
	}
	if err := p.Sign(r); err != nil {
		return err.Error()
	}
	res, err := loopback(t).TokenClient().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestBodiesThatAreSigned(t *testing.T) {
	sessionOf := func(service string) *broker.Presentation {
		p := provider[*awsProvider](t, load(t, "x:\n  display_name: X\n  auth_mode: AWS_SIGV4\n"), "x")
		shown, err := p.Present(&broker.Holding{Material: &broker.Material{Access: broker.NewSecret(sessionToken), Details: secrets(
			"role_arn", roleARN, "region", "us-east-1", "service", service, "access_key_id", sessionID, "secret_access_key", sessionKey)}})
		if err != nil {
			t.Fatal(err)
		}
		return shown
	}
	stream := func(scheme string, length int64) *http.Request {
		r := toSign(t, "PUT", scheme+"://x.example/a", "")
		r.Body, r.GetBody, r.ContentLength = io.NopCloser(bytes.NewReader([]byte("hello"))), nil, length
		return r
	}
	s3, other := sessionOf("s3"), sessionOf("dynamodb")
	for _, p := range []*broker.Presentation{s3, other} {
		for _, body := range []string{"", "hello"} {
			if got := send(t, p, toSign(t, "POST", "http://x.example/a?x=1+2&X=%2F", body), sessionID, sessionKey); got != "signed "+sum256(body) {
				t.Errorf("%q: %s", body, got)
			}
		}
	}
	r := stream("https", -1)
	if err := s3.Sign(r); err != nil || r.Header.Get("X-Amz-Content-Sha256") != "UNSIGNED-PAYLOAD" {
		t.Errorf("a stream to S3: %v", err)
	}
	for what, try := range map[string]struct {
		p    *broker.Presentation
		r    *http.Request
		want *broker.Error
	}{
		"a stream":                   {other, stream("https", -1), broker.ErrBodyTooLarge},
		"a long body":                {other, stream("https", 1<<20+1), broker.ErrBodyTooLarge},
		"a stream to S3 without TLS": {s3, stream("http", -1), broker.ErrBodyTooLarge},
		"a body that was not kept":   {other, stream("https", 5), broker.ErrRateLimited},
		"a signature in the query":   {s3, toSign(t, "GET", "https://x.example/?x-amz-signature=x", ""), broker.ErrReservedParam},
		"a query with a semicolon":   {s3, toSign(t, "GET", "https://x.example/?a;b=c", ""), broker.ErrInvalidRequest},
	} {
		if err := try.p.Sign(try.r); !errors.Is(err, try.want) || try.r.Header.Get("Authorization") != "" {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestRolesThatAreRefused(t *testing.T) {
	s, p := newTokenService(t)
	typed := secrets("role_arn", roleARN, "region", "us-east-1")
	submit := func() *broker.ProviderError {
		_, err := p.Submit(t.Context(), awsHolding(), typed)
		return failed(t, err)
	}
	for code, want := range map[string]broker.FailureClass{
		"AccessDenied": broker.GrantLost, "ValidationError": broker.GrantLost, "RegionDisabledException": broker.GrantLost,
		"InvalidClientTokenId": broker.ClientRefused, "SignatureDoesNotMatch": broker.ClientRefused, "Throttling": broker.Transient,
	} {
		s.refuse = code
		if e := submit(); e.Class != want || e.Code != code || e.Text != "" || e.Status != 403 {
			t.Errorf("%s: %+v", code, e)
		}
	}
	s.refuse, s.status = "AccessDenied", 503
	if e := submit(); e.Class != broker.Transient {
		t.Errorf("%+v", e)
	}
	s.refuse, s.status, s.arn = "", 403, "arn:aws:sts::123456789012:assumed-role/another/x"
	if e := submit(); e.Class != broker.GrantLost || e.Code != "another_role" {
		t.Errorf("%+v", e)
	}
	s.arn = "arn:aws:sts::999999999999:assumed-role/reader/x"
	if e := submit(); e.Code != "another_role" {
		t.Errorf("%+v", e)
	}
	// A session that has been ended is not our access key's fault.
	s.refuse = "InvalidClientTokenId"
	h := awsHolding()
	h.Material = &broker.Material{Access: broker.NewSecret("t"), Details: secrets("role_arn", roleARN, "region", "us-east-1", "access_key_id", sessionID, "secret_access_key", "x")}
	if _, err := p.Verify(t.Context(), h); failed(t, err).Class != broker.GrantLost {
		t.Error(err)
	}
	s.refuse, s.arn = "", assumedRole
	h.Client.Settings["awsSecretAccessKey"] = "wrong"
	if _, err := p.Renew(t.Context(), h); failed(t, err).Class != broker.ClientRefused {
		t.Error(err)
	}
	delete(h.Client.Settings, "awsSecretAccessKey")
	if _, err := p.Renew(t.Context(), h); failed(t, err).Class != broker.ClientRefused {
		t.Errorf("without an access key: %v", err)
	}
}

func TestRolesThatCannotBeAssumed(t *testing.T) {
	s, p := newTokenService(t)
	for _, tt := range []struct{ what, role, region, field string }{
		{"no role", "", "us-east-1", "role_arn"},
		{"a user", "arn:aws:iam::123456789012:user/x", "us-east-1", "role_arn"},
		{"no region", roleARN, "", "region"},
		{"another host", roleARN, "evil.example/", "region"},
	} {
		_, err := p.Submit(t.Context(), awsHolding(), secrets("role_arn", tt.role, "region", tt.region))
		wantInvalid(t, tt.what, err, tt.field)
	}
	typed := secrets("role_arn", roleARN, "region", "us-east-1")
	for what, h := range map[string]*broker.Holding{
		"no key": awsHolding("awsAccessKeyId", ""), "no secret": awsHolding("awsSecretAccessKey", ""), "no service": awsHolding("service", ""),
	} {
		if _, err := p.Submit(t.Context(), h, typed); !errors.Is(err, broker.ErrMisconfigured) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := p.Submit(t.Context(), awsHolding("stsMode", "custom"), typed); !errors.Is(err, broker.ErrNotSupported) {
		t.Error(err)
	}
	if n := len(s.requests()); n != 0 {
		t.Errorf("the token service was asked %d times", n)
	}
	if _, err := p.Submit(t.Context(), awsHolding("defaultRegion", "us-west-2"), secrets("role_arn", roleARN)); err != nil {
		t.Error(err)
	}
}

// A session's token goes to AWS, or to where the operator says.
func TestAddressesOfAWS(t *testing.T) {
	p := provider[*awsProvider](t, load(t, "x:\n  display_name: X\n  auth_mode: AWS_SIGV4\n"), "x")
	for base, ok := range map[string]bool{
		"https://bucket.s3.us-east-1.amazonaws.com/": true, "https://x.execute-api.cn-north-1.amazonaws.com.cn": true, "https://x.lambda-url.us-east-1.on.aws": true,
		"https://listed.example": true, "https://evil.example": false, "https://amazonaws.com.evil.example": false, "http://s3.amazonaws.com": false,
	} {
		h := &broker.Holding{Client: &broker.Client{Hosts: []string{"listed.example"}}, Config: map[string]string{"base_url": base}, Material: &broker.Material{
			Access: broker.NewSecret("t"), Details: secrets("region", "us-east-1", "service", "s3", "access_key_id", sessionID, "secret_access_key", "x"),
		}}
		shown, err := p.Present(h)
		if (err == nil) != ok || ok && shown.BaseURL.String() != strings.TrimSuffix(base, "/") {
			t.Errorf("%s: %v", base, err)
		}
	}
	for region, host := range map[string]string{"eu-west-1": "sts.eu-west-1.amazonaws.com", "cn-north-1": "sts.cn-north-1.amazonaws.com.cn"} {
		h := &broker.Holding{Client: &broker.Client{Settings: map[string]string{"service": "s3"}}, Material: &broker.Material{Details: secrets("role_arn", roleARN, "region", region)}}
		if got := p.Endpoint(h); got != host {
			t.Errorf("%s: %s", region, got)
		}
	}
	// What an end user types is not where requests go.
	config, err := p.CheckConfig(map[string]string{"base_url": "https://evil.example", "external_id": "x", "service": "sts"}, nil, false)
	if err != nil || len(config) != 0 {
		t.Error(config, err)
	}
}
