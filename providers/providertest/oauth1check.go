package providertest

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // what the protocol has
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"hash"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Check verifies a request that was signed with a token, whose body was read (RFC 5849 section 3.2). It gives the problem, ""
// if there is none. A nonce is good for one request.
func (s *OAuth1) Check(r *http.Request, body []byte) (problem string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	secret, ok := s.tokens[headerParams(r)["oauth_token"]]
	if !ok {
		s.counts.Refused++
		return "token_rejected"
	}
	return s.check(r, body, secret)
}

// check verifies a signature and the rest of the header; s.mu is held.
func (s *OAuth1) check(r *http.Request, body []byte, tokenSecret string) (problem string) {
	problem = s.problem(r, body, tokenSecret, headerParams(r))
	if problem != "" {
		s.counts.Refused++
	}
	return problem
}

func (s *OAuth1) problem(r *http.Request, body []byte, tokenSecret string, protocol map[string]string) string {
	method := s.knobs.Method
	if method == "" {
		method = "HMAC-SHA1"
	}
	now := time.Now()
	if s.knobs.Now != nil {
		now = s.knobs.Now()
	}
	at, err := strconv.ParseInt(protocol["oauth_timestamp"], 10, 64)
	nonce := protocol["oauth_nonce"]
	switch {
	case len(r.Header["Authorization"]) != 1 || protocol == nil:
		return "parameter_absent"
	case protocol["oauth_consumer_key"] != ClientID:
		return "consumer_key_unknown"
	case protocol["oauth_signature_method"] != method:
		return "signature_method_rejected"
	case protocol["oauth_version"] != "1.0":
		return "version_rejected"
	case err != nil || now.Unix()-at > 300 || at-now.Unix() > 300:
		return "timestamp_refused"
	case len(nonce) < 8:
		return "parameter_absent"
	case s.nonces[nonce]:
		s.counts.Replays++
		return "nonce_used"
	}
	s.nonces[nonce] = true
	want := signatureOf(method, baseString(r, body, protocol), ClientSecret, tokenSecret)
	if subtle.ConstantTimeCompare([]byte(want), []byte(protocol["oauth_signature"])) != 1 {
		return "signature_invalid"
	}
	return ""
}

// headerParams reads the Authorization header; nil: it is none of this protocol, or names a parameter twice.
func headerParams(r *http.Request) map[string]string {
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "OAuth ")
	if !ok {
		return nil
	}
	out := map[string]string{}
	for field := range strings.SplitSeq(text, ",") {
		name, quoted, ok := strings.Cut(strings.TrimSpace(field), "=")
		value, err := strconv.Unquote(quoted)
		if !ok || err != nil {
			return nil
		}
		if value, err = url.PathUnescape(value); err != nil {
			return nil
		}
		if _, twice := out[name]; twice {
			return nil
		}
		out[name] = value
	}
	return out
}

// escaped is percent encoding, made of Go's own for queries: that differs in the space alone.
func escaped(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// baseString takes the request from its request line, its Host header and its body (section 3.4.1).
func baseString(r *http.Request, body []byte, protocol map[string]string) string {
	path, query, _ := strings.Cut(r.RequestURI, "?")
	scheme, port := "http", ":80"
	if r.TLS != nil {
		scheme, port = "https", ":443"
	}
	// A name and its value, with what sorts before every character of both between them.
	var params []string
	add := func(values url.Values) {
		for name, all := range values {
			for _, v := range all {
				params = append(params, escaped(name)+"\x00"+escaped(v))
			}
		}
	}
	inQuery, _ := url.ParseQuery(query)
	add(inQuery)
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") && r.Header.Get("Content-Encoding") == "" {
		inBody, _ := url.ParseQuery(string(body))
		add(inBody)
	}
	for name, v := range protocol {
		if name != "realm" && name != "oauth_signature" {
			params = append(params, escaped(name)+"\x00"+escaped(v))
		}
	}
	slices.Sort(params)
	text := strings.ReplaceAll(strings.Join(params, "&"), "\x00", "=")
	host := strings.TrimSuffix(strings.ToLower(r.Host), port)
	return strings.Join([]string{r.Method, escaped(scheme + "://" + host + path), escaped(text)}, "&")
}

func signatureOf(method, base, clientSecret, tokenSecret string) string {
	key := escaped(clientSecret) + "&" + escaped(tokenSecret)
	digests := map[string]func() hash.Hash{"HMAC-SHA1": sha1.New, "HMAC-SHA256": sha256.New}
	digest := digests[method]
	if digest == nil {
		return key
	}
	mac := hmac.New(digest, []byte(key))
	mac.Write([]byte(base))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
