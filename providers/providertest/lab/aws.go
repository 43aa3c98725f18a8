package lab

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Trusts says which external id a user's role asks for: what the user was shown.
func (p *Provider) Trusts(u *User, externalID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trusted[u] = externalID
}

// sts answers the token service of a region; nil: the request is not to it.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
func (p *Provider) sts(q *request) *reply {
	if p.entry.Mode() != modeAWS {
		return nil
	}
	for _, g := range slices.Backward(p.grants) {
		if q.url.Host != "sts."+g.user.Answered["region"]+".amazonaws.com" || q.method != http.MethodPost || q.url.EscapedPath() != "/" || q.url.RawQuery != "" {
			continue
		}
		form, err := url.ParseQuery(string(q.body))
		if kind := q.header.Get("Content-Type"); err != nil || !strings.HasPrefix(kind, formType) {
			p.fault("token service: the body is not a form, but %q", kind)
		}
		if form.Get("Action") == "GetCallerIdentity" {
			p.note(Ask)
			return p.caller(q)
		}
		p.note(Exchange)
		return p.assume(q, form)
	}
	return nil
}

// denied is how the service refuses.
func denied(status int, code string) *reply {
	return &reply{status: status, xml: "<ErrorResponse><Error><Type>Sender</Type><Code>" + code + "</Code><Message>no</Message></Error></ErrorResponse>"}
}

// assume opens a session in a user's role.
func (p *Provider) assume(q *request, form url.Values) *reply {
	ours := &session{id: p.client.Settings["awsAccessKeyId"], secret: p.client.Settings["awsSecretAccessKey"]}
	i := slices.IndexFunc(p.grants, func(g *grant) bool { return g.user.Credentials["role_arn"] == form.Get("RoleArn") })
	if i < 0 {
		p.fault("token service: the role is nobody's")
		return denied(http.StatusForbidden, "AccessDenied")
	}
	g := p.grants[i]
	if problem := p.sigv4(q, ours, "sts", g.user.Answered["region"]); problem != "" {
		p.fault("token service: %s", problem)
		return denied(http.StatusForbidden, "SignatureDoesNotMatch")
	}
	want := map[string]string{
		"Action": "AssumeRole", "Version": "2011-06-15", "RoleArn": form.Get("RoleArn"), "RoleSessionName": anything,
		"DurationSeconds": strconv.Itoa(int(p.entry.Life() / time.Second)), "ExternalId": p.trusted[g.user],
	}
	got := map[string]string{}
	for name, all := range form {
		got[name] = strings.Join(all, "\n")
	}
	if problem := differences(want, got); problem != "" {
		p.fault("token service: %s", problem)
	}
	if !g.good {
		return denied(http.StatusForbidden, "AccessDenied")
	}
	p.issue(g)
	g.session = &session{id: fmt.Sprintf("ASIA%016d", p.serial), secret: fmt.Sprintf("secret/%d+of=%s", p.serial, p.entry.Name), token: g.access}
	return &reply{status: http.StatusOK, xml: fmt.Sprintf(
		`<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><AssumedRoleUser><Arn>%s</Arn></AssumedRoleUser>`+
			`<Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>%s</SessionToken><Expiration>%s</Expiration></Credentials>`+
			`</AssumeRoleResult></AssumeRoleResponse>`,
		sessionARN(g), g.session.id, g.session.secret, g.access, g.expires.UTC().Format(time.RFC3339))}
}

// sessionARN names a session in a user's role.
func sessionARN(g *grant) string {
	parts := strings.SplitN(g.user.Credentials["role_arn"], ":", 6)
	name := parts[5][strings.LastIndexByte(parts[5], '/')+1:]
	return "arn:" + parts[1][:3] + ":sts::" + parts[4] + ":assumed-role/" + name + "/lab"
}

// caller tells in whose name a session speaks.
func (p *Provider) caller(q *request) *reply {
	for _, g := range slices.Backward(p.grants) {
		if g.session == nil || p.sigv4(q, g.session, "sts", g.user.Answered["region"]) != "" {
			continue
		}
		if !g.good || !p.lives(g, g.access) {
			return denied(http.StatusForbidden, "ExpiredToken")
		}
		return &reply{status: http.StatusOK, xml: "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>" + sessionARN(g) +
			"</Arn></GetCallerIdentityResult></GetCallerIdentityResponse>"}
	}
	p.fault("token service: nobody's session has signed this")
	return denied(http.StatusForbidden, "SignatureDoesNotMatch")
}

// session is what signs requests: an access key, and the token of those that last an hour.
type session struct{ id, secret, token string }

// sigv4 says what is wrong with a request's signature of version 4.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
func (p *Provider) sigv4(q *request, s *session, service, region string) string {
	fields, found := strings.CutPrefix(q.header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	in := map[string]string{}
	for field := range strings.SplitSeq(fields, ",") {
		name, v, _ := strings.Cut(strings.TrimSpace(field), "=")
		in[name] = v
	}
	at, err := time.Parse("20060102T150405Z", q.header.Get("X-Amz-Date"))
	day := at.Format("20060102")
	scope := strings.Join([]string{day, region, service, "aws4_request"}, "/")
	signed := strings.Split(in["SignedHeaders"], ";")
	hash := q.header.Get("X-Amz-Content-Sha256")
	sum := sha256.Sum256(q.body)
	switch {
	case !found || len(in) != 3:
		return "it is not signed by AWS4-HMAC-SHA256"
	case in["Credential"] != s.id+"/"+scope:
		return "the signature is of another key, or for another service, region or day"
	case err != nil || p.now().Sub(at).Abs() > 5*time.Minute:
		return "the time is not now"
	case q.header.Get("X-Amz-Security-Token") != s.token:
		return "the session's token is not in the header"
	case hash != hex.EncodeToString(sum[:]) && (hash != "" || service == "s3"):
		return "the body's hash is not in the header"
	}
	for name := range q.header {
		if name = strings.ToLower(name); (strings.HasPrefix(name, "x-amz-") || name == "content-type" && len(q.body) > 0) && !slices.Contains(signed, name) {
			return "the header " + name + " is not signed"
		}
	}
	if !slices.Contains(signed, "host") || !slices.IsSorted(signed) {
		return "the host is not signed, or the headers are not sorted"
	}
	canonical := sha256.Sum256([]byte(canonicalRequest(q, signed, hex.EncodeToString(sum[:]), service == "s3")))
	toSign := "AWS4-HMAC-SHA256\n" + q.header.Get("X-Amz-Date") + "\n" + scope + "\n" + hex.EncodeToString(canonical[:])
	key := []byte("AWS4" + s.secret)
	for _, part := range []string{day, region, service, "aws4_request", toSign} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	if hex.EncodeToString(key) != in["Signature"] {
		return "the signature is wrong"
	}
	return ""
}

// canonicalRequest is what is signed. S3 takes a path as it is sent, and all other services escape it once more.
func canonicalRequest(q *request, signed []string, hash string, once bool) string {
	path := q.url.EscapedPath()
	if !once {
		steps := strings.Split(path, "/")
		for i, step := range steps {
			steps[i] = percent(step)
		}
		path = strings.Join(steps, "/")
	}
	var pairs [][2]string
	for name, all := range q.url.Query() {
		for _, v := range all {
			pairs = append(pairs, [2]string{percent(name), percent(v)})
		}
	}
	slices.SortFunc(pairs, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	var query, headers []string
	for _, pair := range pairs {
		query = append(query, pair[0]+"="+pair[1])
	}
	for _, name := range signed {
		v := strings.Join(strings.Fields(strings.Join(q.header.Values(name), ",")), " ")
		switch name {
		case "host":
			v = q.url.Host
		case "content-length":
			v = strconv.Itoa(len(q.body))
		}
		headers = append(headers, name+":"+v+"\n")
	}
	return strings.Join([]string{q.method, path, strings.Join(query, "&"), strings.Join(headers, ""), strings.Join(signed, ";"), hash}, "\n")
}
