package proxy

import (
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
)

// Whatever a caller asks for, a path that is accepted is sent to the byte, and no number of decodings makes a server
// that resolves dots leave the base path.
func FuzzPath(f *testing.F) {
	for _, s := range []string{
		"/", "/user", "/a%2Fb", "/..", "/%2e%2e/x", "/%252e%252e/x", "/a\\b", "//x", "/https://api.example.com/v1/x", "/https://api.example.com.evil/x",
		"/@x", "/a;b", "/..;/x", "/%c0%ae", "/a|b", "/caf\xc3\xa9", "/%", "/a?b", "/a#b", "/%2Fx", "/..%2fx",
	} {
		f.Add(s)
	}
	bases := []*url.URL{
		{Scheme: "https", Host: "api.example.com"},
		{Scheme: "https", Host: "api.example.com", Path: "/v1"},
		{Scheme: "https", Host: "api.example.com", Path: "/v1/a'b", RawPath: "/v1/a%27b"},
	}
	f.Fuzz(func(t *testing.T, endpoint string) {
		for _, base := range bases {
			target, err := at(base, endpoint)
			if err != nil {
				continue
			}
			var u url.URL
			if err := target.apply(&u, nil); err != nil {
				t.Fatalf("%q was accepted and cannot be sent: %v", endpoint, err)
			}
			if !target.holds(&u) || u.RequestURI() != target.path || u.Scheme != "https" || u.Host != "api.example.com" {
				t.Fatalf("%q: sent to %s as %q, checked as %q", endpoint, u.Host, u.RequestURI(), target.path)
			}
			if !strings.HasSuffix(endpoint, target.path[len(target.base):]) && target.path != target.base+"/" {
				t.Fatalf("%q: became %q", endpoint, target.path)
			}
			prefix := strings.TrimSuffix(base.Path, "/")
			for plain := target.path; ; {
				if strings.ContainsAny(plain, "\x00\\\r\n") {
					t.Fatalf("%q: decodes to %q", endpoint, plain)
				}
				cleaned := path.Clean(plain)
				if !strings.HasPrefix(cleaned+"/", prefix+"/") && !strings.HasPrefix(cleaned+"/", target.base+"/") {
					t.Fatalf("%q: leads to %q", endpoint, cleaned)
				}
				next, err := url.PathUnescape(plain)
				if err != nil || next == plain {
					break
				}
				plain = next
			}
		}
	})
}

// Whatever a query is, one that is accepted reads the same to net/url, and no parameter in it goes unseen.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{"", "a=b", "api_key=x", "API%5fKEY=x", "a&b&", "a;b", "%zz", "a=%26api_key=x", "api+key", "a#b", "=", "api_key"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		if checkQuery(query) != nil {
			return
		}
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatalf("%q was accepted: %v", query, err)
		}
		hidden := false
		for name := range values {
			hidden = hidden || strings.EqualFold(name, "api_key")
		}
		if names(query, "api_key") != hidden {
			t.Fatalf("%q: names the parameter: %t, net/url finds it: %t", query, !hidden, hidden)
		}
		with := withParams(query, []broker.Param{{Key: "api_key", Value: "k%20"}})
		if after, err := url.ParseQuery(with); err != nil || !strings.HasPrefix(with, query) || !hidden && after.Get("api_key") != "k " {
			t.Fatalf("%q became %q: %v, %v", query, with, after, err)
		}
	})
}

// Wherever a provider redirects to, the call stays at its origin and below the base path.
func FuzzRedirect(f *testing.F) {
	for _, s := range []string{
		"/v1/b", "https://api.example.com/v1/b?c#d", "//api.example.com/v1", "//evil.example/v1/", "b", "../x", "?q", "", "https:/v1/x",
		"https://api.example.com@evil.example/v1/x", "javascript:alert(1)", "/v1/%2e%2e", "/v1x", "https://api.example.com:443/v1/x",
	} {
		f.Add(s)
	}
	base := &url.URL{Scheme: "https", Host: "api.example.com", Path: "/v1"}
	from, err := at(base, "/a/b")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, location string) {
		to, ok := from.redirected(location)
		if !ok {
			return
		}
		var u url.URL
		if err := to.apply(&u, nil); err != nil || !to.holds(&u) || u.Host != "api.example.com" || u.Scheme != "https" || !strings.HasPrefix(u.RequestURI(), "/v1/") {
			t.Fatalf("%q leads to %s (%v)", location, u.String(), err)
		}
		// A browser goes there too, unless it cannot read it.
		if want, err := (&url.URL{Scheme: "https", Host: "api.example.com", Path: "/v1/a/b"}).Parse(location); err == nil && want.Host != "" {
			if !sameHost("https", want.Host, "api.example.com") {
				t.Fatalf("%q leads to %s, and was followed at api.example.com", location, want)
			}
		}
	})
}

func TestDecode(t *testing.T) {
	for _, test := range []struct {
		text string
		want string
	}{{"no escape", "no escape"}, {"%41%4a%zz%", "AJ%zz%"}, {"%25%32%35", "%25"}} {
		if got := decode(test.text); got != test.want {
			t.Errorf("%q: got %q, want %q", test.text, got, test.want)
		}
	}
}
