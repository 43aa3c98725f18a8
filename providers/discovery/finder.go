package discovery

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/providers/egress"
)

// ErrNone says that an address is not that of a server which tells how to sign in to it.
var ErrNone = errors.New("there is no metadata that says how to sign in")

// ErrNotTrusted is the cause of an issuer_mismatch where the server does not trust the issuer that is wanted. Without it, it
// is the issuer's own metadata that names another one.
var ErrNotTrusted = errors.New("the server does not trust this issuer")

// Finder finds authorization servers. All of its fields are needed.
type Finder struct {
	// Calls makes the requests that no redirect is followed of, and Metadata those for documents. Their transports decide
	// which addresses may be reached.
	Calls, Metadata *http.Client
	// CheckURL parses a URL and says whether it may be used. literal lets its host be an IP address.
	CheckURL func(raw string, literal bool) (*url.URL, error)
	// Reach says what a caller may learn of a request that brought no answer.
	Reach func(error) *broker.Error
	Now   func() time.Time
}

// maxURL is the length of the longest address that is believed.
const maxURL = 2048

// Ping is a request that changes nothing, whatever the server thinks of it.
const Ping = `{"jsonrpc":"2.0","id":1,"method":"ping"}`

// search is the search for one server's authorization server.
type search struct {
	*Finder
	server *url.URL
	issuer string // the one that is wanted; empty: any
}

// Find finds the authorization server of the server at that address, which must have been checked. issuer names the one
// that is wanted where the server trusts several; empty: the first. Errors: [ErrNone]; url_not_allowed,
// provider_url_invalid, resource_mismatch, issuer_mismatch, pkce_unsupported; *broker.ProviderError.
func (f *Finder) Find(ctx context.Context, server *url.URL, issuer string) (*broker.Server, error) {
	s := &search{Finder: f, server: server, issuer: issuer}
	asked, err := s.challenge(ctx)
	if err != nil {
		return nil, err
	}
	about, err := s.resource(ctx, asked.Metadata)
	if err != nil {
		return nil, err
	}
	out, err := s.authorizationServer(ctx, about)
	if err != nil {
		return nil, err
	}
	out.API, out.Resource, out.FoundAt = server.String(), about.Resource, f.Now().UTC()
	if asked.Scopes == nil {
		asked.Scopes = Scopes(about.Scopes)
	}
	// Without that scope many servers give no refresh token (OpenID Connect Core section 11).
	if slices.Contains(out.Scopes, offline) && !slices.Contains(asked.Scopes, offline) {
		asked.Scopes = append(slices.Clone(asked.Scopes), offline)
	}
	out.Scopes = asked.Scopes
	return out, nil
}

const offline = "offline_access"

// challenge asks the server for something, without a token.
func (s *search) challenge(ctx context.Context) (Challenge, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.server.String(), strings.NewReader(Ping))
	if err != nil {
		return Challenge{}, broker.ErrURLNotAllowed
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := s.send(s.Calls, req)
	if err != nil {
		return Challenge{}, err
	}
	_ = resp.Body.Close() // nothing in it counts, and it may be a stream
	if resp.StatusCode != http.StatusUnauthorized {
		return Challenge{}, nil
	}
	c, _ := ReadChallenge(resp.Header)
	return c, nil
}

// resourceMetadata is what counts here of a protected resource's metadata (RFC 9728 section 2).
type resourceMetadata struct {
	Resource string   `json:"resource"`
	Servers  []string `json:"authorization_servers"`
	Scopes   []string `json:"scopes_supported"`
}

// resource finds the metadata of the server: where the challenge says, or else below its path, or at the root. None at all
// is no error: a server of the older version has none.
func (s *search) resource(ctx context.Context, named string) (*resourceMetadata, error) {
	var places []*url.URL
	if named != "" {
		u, err := s.check(named)
		if err != nil {
			return nil, err
		}
		places = append(places, u)
	}
	const suffix = "/.well-known/oauth-protected-resource"
	if path := strings.TrimSuffix(s.server.EscapedPath(), "/"); path != "" {
		places = append(places, s.at(s.server, suffix+path))
	}
	places = append(places, s.at(s.server, suffix))
	for _, place := range places {
		m := new(resourceMetadata)
		found, err := s.document(ctx, place, m)
		switch {
		case err != nil:
			return nil, err
		case found && !s.covers(m.Resource):
			return nil, broker.ErrResourceMismatch
		case found:
			return m, nil
		}
	}
	return new(resourceMetadata), nil
}

// at gives an address of the same origin.
func (s *search) at(origin *url.URL, path string) *url.URL {
	u := url.URL{Scheme: origin.Scheme, Host: origin.Host}
	u.Path, u.RawPath = unescaped(path), path
	return &u
}

func unescaped(path string) string {
	if plain, err := url.PathUnescape(path); err == nil {
		return plain
	}
	return path
}

// covers reports whether metadata of that resource is about the server: the same origin, and a path that the server's
// begins with, segment by segment.
func (s *search) covers(resource string) bool {
	u, err := s.check(resource)
	if err != nil || origin(u) != origin(s.server) || u.RawQuery != "" {
		return false
	}
	above, below := strings.TrimSuffix(u.EscapedPath(), "/"), strings.TrimSuffix(s.server.EscapedPath(), "/")
	return above == below || strings.HasPrefix(below, above+"/")
}

// origin gives scheme, host and port of a URL, without the scheme's own port.
func origin(u *url.URL) string {
	port := ":443"
	if u.Scheme == "http" {
		port = ":80"
	}
	return u.Scheme + "://" + strings.TrimSuffix(strings.ToLower(u.Host), port)
}

// Origin is that of a URL that was checked; empty of what is none.
func Origin(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return ""
	}
	return origin(u)
}

// check parses an address that a stranger wrote. Its host may be an IP address only where the server's is the same one:
// then the app's backend chose it.
func (s *search) check(raw string) (*url.URL, error) { return s.checkNear(raw, s.server) }

// checkNear is check without a search.
func (f *Finder) checkNear(raw string, server *url.URL) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || len(raw) > maxURL || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, broker.ErrProviderURLInvalid
	}
	checked, err := f.CheckURL(raw, server != nil && u.Host == server.Host)
	switch {
	case err != nil && u.Scheme == "http":
		return nil, broker.ErrProviderURLInvalid.Because(err)
	case err != nil:
		return nil, broker.ErrURLNotAllowed.Because(err)
	}
	return checked, nil
}

// document gets a JSON object. found is false where the address has none; a server that cannot answer is an error.
func (s *search) document(ctx context.Context, place *url.URL, into any) (found bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, place.String(), http.NoBody)
	if err != nil {
		return false, broker.ErrURLNotAllowed
	}
	req.Header.Set("Accept", "application/json")
	resp, err := s.send(s.Metadata, req)
	if err != nil {
		return false, err
	}
	defer func() { _ = resp.Body.Close() }()
	switch {
	case resp.StatusCode >= http.StatusInternalServerError, resp.StatusCode == http.StatusTooManyRequests:
		return false, &broker.ProviderError{Class: broker.Transient, Code: "metadata_unavailable", Status: resp.StatusCode}
	case resp.StatusCode != http.StatusOK:
		return false, nil
	}
	body, err := egress.ReadBody(resp, egress.MaxBody)
	if errors.Is(err, egress.ErrTooLarge) {
		return false, nil
	}
	if err != nil {
		return false, s.unanswered(err, false)
	}
	// Names in their exact case and once each: the library's defaults.
	return json.Unmarshal(body, into) == nil, nil
}

// callTimeout is how long one request may take, body included.
const callTimeout = 10 * time.Second

const userAgent = "Coatcheck"

// send makes a request, once. Errors: *broker.ProviderError, which tells nothing of addresses.
func (f *Finder) send(client *http.Client, req *http.Request) (*http.Response, error) {
	var wrote atomic.Bool
	ctx, cancel := context.WithTimeout(req.Context(), callTimeout)
	req.Header.Set("User-Agent", userAgent)
	trace := &httptrace.ClientTrace{WroteHeaders: func() { wrote.Store(true) }}
	resp, err := client.Do(req.WithContext(httptrace.WithClientTrace(ctx, trace)))
	if err != nil {
		cancel()
		return nil, f.unanswered(err, wrote.Load())
	}
	resp.Body = &body{resp.Body, cancel}
	return resp, nil
}

// unanswered is the error of a request that brought no answer. The cause is not kept: it names addresses and the URL.
func (f *Finder) unanswered(err error, sent bool) error {
	reach := f.Reach(err)
	return &broker.ProviderError{Class: broker.Transient, Code: reach.Code, InDoubt: sent, Reach: reach}
}
