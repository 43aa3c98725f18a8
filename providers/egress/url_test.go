package egress

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckURLRefuses(t *testing.T) {
	p := newPolicy(t, Options{Allow: []string{"10.0.0.0/8", "idp.corp"}})
	tests := map[string][]string{
		"scheme": {
			"", "example.com", "//example.com/x", "javascript:alert(1)", "data:text/html,x", "file:///etc/passwd",
			"ftp://example.com", "http://example.com", "http://localhost", "http://8.8.8.8", "http://example.com:443",
			"http://sub.idp.corp", "https:example.com", "https:/example.com",
		},
		"host missing":    {"https://", "https:///x", "https://?x", "https://:443/"},
		"userinfo":        {"https://a@example.com", "https://a:b@example.com", "https://@example.com", "https://example.com@evil.com"},
		"fragment":        {"https://example.com/#", "https://example.com/#x", "https://example.com#@evil.com"},
		"characters":      {"https://example.com/a b", "https://example.com/\n", "https://example.com\\@evil.com", "https://x.evil.com\\.example.com/", "https://example.com/é", " https://example.com", "https://example.com/\x00", `https://example.com/a\b`},
		"host characters": {"https://ex_ample.com", "https://exam%70le.com", "https://example%2ecom", "https://example。com", "https://b\u00fccher.example", "https://example%E3%80%82com", "https://*.example.com", "https://a,b.com", "https://example%25.com"},
		"labels":          {"https://.example.com", "https://a..example.com", "https://example.com.", "https://-a.com", "https://a-.com", "https://" + strings.Repeat("a", 64) + ".com"},
		"punycode":        {"https://xn--a.com", "https://xn--example-.com", "https://xn--0.com", "https://xn--.com", "https://xn--u-ccb.com"},
		"numbers":         {"https://2130706433", "https://0x7f000001", "https://017700000001", "https://127.1", "https://0177.0.0.1", "https://0x7f.0.0.1", "https://127.0.0.0x1", "https://0x", "https://1.2.3.4.5", "https://127.0.0.1.", "https://256.256.256.256"},
		"literals":        {"https://8.8.8.8", "https://[2606:4700:4700::1111]", "https://10.0.0.1", "https://127.0.0.1", "https://[::1]", "https://[::ffff:169.254.169.254]", "https://[64:ff9b::7f00:1]"},
		"brackets":        {"https://[example.com]", "https://[8.8.8.8]", "https://[::1", "https://::1/", "https://[fe80::1%25eth0]", "https://2606:4700:4700::1111/"},
		"ports":           {"https://example.com:80", "https://example.com:8443", "https://example.com:", "https://example.com:0", "https://example.com:0443", "https://example.com:65979", "https://example.com:x", "https://example.com:-1", "https://idp.corp:"},
	}
	for group, raws := range tests {
		for _, raw := range raws {
			u, err := p.CheckURL(raw, URLOptions{})
			if !errors.Is(err, ErrURL) || u != nil {
				t.Errorf("%s %q: got %v, %v, want ErrURL", group, raw, u, err)
			}
		}
	}
}

func TestCheckURLErrorQuotesNothing(t *testing.T) {
	p := newPolicy(t, Options{})
	for _, raw := range []string{
		"http://hunter2.example/?code=hunter2", "https://u:hunter2@example.com/", "https://%zz/hunter2", "hunter2://x",
		"https://hunter2_.example/", "https://example.com:99/hunter2", "https://example.com/hunter2#",
	} {
		_, err := p.CheckURL(raw, URLOptions{})
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: got %v", raw, err)
		}
	}
}

func TestCheckURLAccepts(t *testing.T) {
	p := newPolicy(t, Options{Allow: []string{"10.0.0.0/8", "127.0.0.0/8", "idp.corp", "169.254.169.254"}})
	dev := newPolicy(t, Options{Dev: true})
	literal := URLOptions{Literal: true}
	tests := []struct {
		policy *Policy
		raw    string
		opts   URLOptions
		want   string
	}{
		{p, "https://example.com", URLOptions{}, "https://example.com"},
		{p, "HTTPS://API.Example.com:443/Path?q=A%2Fb", URLOptions{}, "https://api.example.com:443/Path?q=A%2Fb"},
		{p, "https://xn--bcher-kva.example/", URLOptions{}, "https://xn--bcher-kva.example/"},
		{p, "https://r3---sn-x.example.com/a%2Fb/../c", URLOptions{}, "https://r3---sn-x.example.com/a%2Fb/../c"},
		{p, "https://1234567-sb1.example.com/", URLOptions{}, "https://1234567-sb1.example.com/"},
		{p, "http://idp.corp", URLOptions{}, "http://idp.corp"},
		{p, "http://IDP.corp:8080/realms/x", URLOptions{}, "http://idp.corp:8080/realms/x"},
		{p, "https://idp.corp:8443", URLOptions{}, "https://idp.corp:8443"},
		{p, "http://localhost:8080/hooks", URLOptions{}, "http://localhost:8080/hooks"},
		{p, "http://app.localhost:8080/", URLOptions{}, "http://app.localhost:8080/"},
		{p, "http://127.0.0.1:8080", literal, "http://127.0.0.1:8080"},
		{p, "http://10.1.2.3", literal, "http://10.1.2.3"},
		{p, "http://[::ffff:10.1.2.3]:8080", literal, "http://[::ffff:10.1.2.3]:8080"},
		{p, "http://169.254.169.254/", literal, "http://169.254.169.254/"},
		{p, "https://8.8.8.8/", literal, "https://8.8.8.8/"},
		{p, "https://[2606:4700:4700::1111]/", literal, "https://[2606:4700:4700::1111]/"},
		{dev, "https://example.com:80/", URLOptions{}, "https://example.com:80/"},
	}
	for _, tt := range tests {
		u, err := tt.policy.CheckURL(tt.raw, tt.opts)
		if err != nil {
			t.Errorf("%s: %v", tt.raw, err)
		} else if u.String() != tt.want {
			t.Errorf("%s: got %s, want %s", tt.raw, u, tt.want)
		}
	}
}

func TestCheckURLLiterals(t *testing.T) {
	p := newPolicy(t, Options{Allow: []string{"10.0.0.0/8", "169.254.0.0/16"}})
	for _, raw := range []string{
		"https://127.0.0.1", "https://192.168.0.1", "https://[::1]", "https://[::ffff:169.254.169.254]", "https://[64:ff9b::7f00:1]",
		"http://169.254.169.254/latest/meta-data", "https://[fd00:ec2::254]",
	} {
		_, err := p.CheckURL(raw, URLOptions{Literal: true})
		if !errors.Is(err, ErrURL) || !errors.Is(err, ErrBlocked) {
			t.Errorf("%s: got %v, want ErrURL and ErrBlocked", raw, err)
		}
	}
	for _, raw := range []string{
		"http://8.8.8.8", "https://8.8.8.8:8443", "https://[::1%25lo]", "https://2130706433", "https://0177.0.0.1", "https://0x7f.1",
		"https://[8.8.8.8]", "https://10.1", "https://10.0.0.01",
	} {
		if _, err := p.CheckURL(raw, URLOptions{Literal: true}); !errors.Is(err, ErrURL) {
			t.Errorf("%s: got %v, want ErrURL", raw, err)
		}
	}
}

func TestCheckHost(t *testing.T) {
	long := strings.Repeat("a", 63)
	for _, host := range []string{
		"evil.com/", "evil.com#", "a@evil.com", `x.evil.com\`, "evil.com:443/?", "evil.com\n", "\nevil.com", "evil。com",
		"evil%2ecom", "%2e", "", ".", "..", "a..b", ".a", "a.", "-a.com", "a-.com", "a_b.com", "a b.com", "a\x00.com",
		"evil.com:443", "evil.com?", "evil.com;", "b\u00fccher.example", "evil\uff0ecom", "[::1]", "::1", "127.0.0.1", "2130706433",
		"0x7f000001", "0177.0.0.1", "a.0x1f", "a.0X", long + "a.com", strings.Repeat("a.", 126) + "aa", "xn--a", "xn--example-.com",
	} {
		if err := CheckHost(host); !errors.Is(err, ErrURL) {
			t.Errorf("%q: got %v, want ErrURL", host, err)
		} else if len(host) > 2 && strings.Contains(err.Error(), host) {
			t.Errorf("%q: the error quotes it: %v", host, err)
		}
	}
	for _, host := range []string{
		"a", "localhost", "example.com", "EXAMPLE.com", "1.example", "a--b.example", "xn--bcher-kva.example", "XN--BCHER-KVA.example",
		long + ".com", strings.Repeat("a.", 126) + "a", "0x7f.example", "a.0xg", "a.b1",
	} {
		if err := CheckHost(host); err != nil {
			t.Errorf("%q: %v", host, err)
		}
	}
}

func TestCheckLabel(t *testing.T) {
	for _, label := range []string{"acme", "1234567", "1234567-sb1", "Acme", "xn--bcher-kva", strings.Repeat("a", 63)} {
		if err := CheckLabel(label); err != nil {
			t.Errorf("%q: %v", label, err)
		}
	}
	for _, label := range []string{"", "a.b", "acme.", "-a", "a-", "a_b", "a/", "a#", "a@b", `a\`, "a:1", "a\n", "a。b", "%2e", "xn--a", strings.Repeat("a", 64)} {
		if err := CheckLabel(label); !errors.Is(err, ErrURL) {
			t.Errorf("%q: got %v, want ErrURL", label, err)
		}
	}
}
