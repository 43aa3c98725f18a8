package kit_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/coatcheck/coatcheck/web/internal/kit"
)

func TestClientIP(t *testing.T) {
	trusted := kit.Proxies{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for name, c := range map[string]struct {
		peer    string
		headers []string
		want    string
	}{
		"no proxy":                       {"203.0.113.7:1", nil, "203.0.113.7"},
		"a stranger's header":            {"203.0.113.7:1", []string{"198.51.100.1"}, "203.0.113.7"},
		"one proxy":                      {"10.0.0.1:1", []string{"198.51.100.1"}, "198.51.100.1"},
		"a forged entry before":          {"10.0.0.1:1", []string{"8.8.8.8, 198.51.100.1"}, "198.51.100.1"},
		"two proxies":                    {"10.0.0.1:1", []string{"8.8.8.8, 198.51.100.1, 10.0.0.2"}, "198.51.100.1"},
		"in several headers":             {"10.0.0.1:1", []string{"8.8.8.8", "198.51.100.1", "10.0.0.2"}, "198.51.100.1"},
		"a trusted entry that is forged": {"10.0.0.1:1", []string{"10.9.9.9, 198.51.100.1"}, "198.51.100.1"},
		"all of them trusted":            {"10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		"rubbish stops":                  {"10.0.0.1:1", []string{"198.51.100.1, x, 10.0.0.2"}, "10.0.0.2"},
		"empty":                          {"10.0.0.1:1", []string{""}, "10.0.0.1"},
		"none":                           {"10.0.0.1:1", nil, "10.0.0.1"},
		"with a port":                    {"10.0.0.1:1", []string{"198.51.100.1:99"}, "198.51.100.1"},
		"IPv6":                           {"[fd00::1]:1", []string{"2001:db8::5"}, "2001:db8::5"},
		"IPv6 in brackets":               {"[fd00::1]:1", []string{"[2001:db8::5]:99"}, "2001:db8::5"},
		"IPv6 with a zone":               {"[fe80::1%eth0]:1", nil, "fe80::1"},
		"IPv4 in IPv6, proxy":            {"[::ffff:10.0.0.1]:1", []string{"198.51.100.1"}, "198.51.100.1"},
		"IPv4 in IPv6, entry":            {"10.0.0.1:1", []string{"198.51.100.1, ::ffff:10.0.0.2"}, "198.51.100.1"},
		"no address":                     {"@", []string{"198.51.100.1"}, "invalid IP"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = c.peer
			r.Header["X-Forwarded-For"] = c.headers
			if got := trusted.ClientIP(r).String(); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
