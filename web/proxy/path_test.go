package proxy

import (
	"net/url"
	"path"
	"slices"
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

// Whatever a caller writes as a URL, the call goes below the base URL or to a host of the list, and net/http's own reader
// does not find another host in it, nor another path.
func FuzzErrandURL(f *testing.F) {
	for _, s := range []string{
		"", "/files?a=b", "files", "//evil.example/x", "/\\evil.example", "https://api.example.com/v1/x", "https://api.example.com/v2", "HTTPS://API.EXAMPLE.COM:443/v1?x",
		"https://files.example.com/x", "https://files.example.com@evil.example/", "https://u:p@files.example.com", "https://files.example.com#@evil.example", "https:evil.example",
		"https://files.example.com\\@evil.example", "https://api.example.com/v1/../x", "https://file\u017f.example.com/", "javascript:alert(1)", "?https://evil.example", "a:b", "..", "%2e%2e",
		"https://files.example.com:8443/x", "https://files.example.com:443:443/", "/https://files.example.com/x", "https://files.example.com/https://evil.example",
	} {
		f.Add(s)
	}
	hosts := []string{"files.example.com", "up.example.com:8443"}
	base := &url.URL{Scheme: "https", Host: "api.example.com", Path: "/v1"}
	f.Fuzz(func(t *testing.T, raw string) {
		if strings.Contains(logged(raw), "?") {
			t.Fatalf("%q: the query would be logged", raw)
		}
		p, err := placeOf(raw)
		if err != nil || checkQuery(p.query) != nil {
			return
		}
		from := base
		if p.absolute {
			if from, err = reached(p.endpoint, base, hosts); err != nil {
				return
			}
		}
		to, err := at(from, p.endpoint)
		if err != nil {
			return
		}
		to.query = p.query
		var u url.URL
		if err := to.apply(&u, nil); err != nil || !to.holds(&u) {
			t.Fatalf("%q was accepted and cannot be sent: %v", raw, err)
		}
		inside := u.Host == base.Host && strings.HasPrefix(u.RequestURI(), "/v1/")
		if u.Scheme != "https" || !inside && !slices.Contains(hosts, u.Host) || !p.absolute && !inside {
			t.Fatalf("%q leads to %s", raw, u.String())
		}
		if !strings.HasSuffix(raw, p.query) || p.query != u.RawQuery {
			t.Fatalf("%q: the query is sent as %q", raw, u.RawQuery)
		}
		read, err := url.Parse(raw)
		if err != nil || strings.HasPrefix(raw, "/") && strings.Contains(raw, "://") {
			return // a path with a whole URL behind its slash is what /proxy takes for that URL
		}
		if read.User != nil || read.Opaque != "" || read.Fragment != "" || read.IsAbs() != p.absolute || read.Host != "" != p.absolute {
			t.Fatalf("%q: net/url reads %+v", raw, read)
		}
		if p.absolute && !sameHost("https", read.Host, u.Host) {
			t.Fatalf("%q leads to %s, and net/url reads %s", raw, u.Host, read.Host)
		}
		if path := strings.TrimPrefix(read.Path, "/"); !strings.HasSuffix(u.Path, path) && u.Path != "/"+path+"/" { // the base itself
			t.Fatalf("%q is sent as %q, and net/url reads %q", raw, u.Path, read.Path)
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
