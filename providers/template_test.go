package providers

import (
	"slices"
	"strings"
	"testing"
	"time"
)

var templateScope = &scope{
	config:   map[string]string{"subdomain": "acme", "accounts-server": "https://accounts.example", "installation.uuid": "u-1", "empty": ""},
	defaults: map[string]string{"region": "eu"},
	named:    map[string]string{"apiKey": "k", "username": "ann", "password": "p:w", "none": ""},
	now:      time.Date(2026, 3, 4, 5, 6, 7, 89e6, time.UTC),
}

func TestTemplates(t *testing.T) {
	for _, tt := range []struct {
		in, want string
		missing  []string
	}{
		{in: "plain", want: "plain"},
		{in: "", want: ""},
		{in: "a ${connectionConfig.subdomain} b", want: "a acme b"},
		{in: "${connectionConfig.accounts-server}/x", want: "https://accounts.example/x"},
		{in: "${connectionConfig.installation.uuid}", want: "u-1"},
		{in: "${connectionConfig.region}", want: "eu"},
		{in: "${connectionConfig.empty}", missing: []string{"connectionConfig.empty"}},
		{in: "${credentials.apiKey}-${apiKey}", want: "k-k"},
		{in: "${credentials.none}|", want: "|"},
		{in: "${subdomain}", missing: []string{"subdomain"}},
		{in: "Basic ${base64(${username}:${credentials.password})}", want: "Basic YW5uOnA6dw=="},
		{in: "${base64(${base64(x)}${apiKey})}", want: "ZUE9PWs="},
		{in: "${base64(${nothing})}", want: "", missing: []string{"nothing"}},
		{in: "${connectionConfig.subdomain}.a || b", want: "acme.a"},
		{in: "${connectionConfig.nothing}.a || b", want: "b"},
		{in: "${connectionConfig.nothing}.a||${apiKey}", want: "k"},
		// A left side that is filled in by half wins, so that what is missing shows.
		{in: "${connectionConfig.subdomain}${connectionConfig.nothing} || b", want: "acme", missing: []string{"connectionConfig.nothing"}},
		{in: "${a} || ${b} || c", want: "c"},
		{in: "${now}", want: "2026-03-04T05:06:07.089Z"},
		{in: "${now:YYYY-MM-DDTHH:mm:ss}", want: "2026-03-04T05:06:07"},
		{in: "${now:YYYYMMDDTHHmmss[Z]}", want: "20260304T050607Z"},
		{in: "${now:ddd, DD MMM YYYY HH:mm:ss ZZ}", want: "Wed, 04 Mar 2026 05:06:07 +0000"},
		{in: "${now:X}.${now:x}.${now:SSS}", want: "1772600767.1772600767089.089"},
		{in: "${now-1:day:YYYY-MM-DD}", want: "2026-03-03"},
		{in: "${now+90:minutes:HH:mm}", want: "06:36"},
	} {
		tpl, err := parseTemplate(tt.in)
		if err != nil {
			t.Errorf("%q: %v", tt.in, err)
			continue
		}
		got, missing := tpl.fill(templateScope)
		if got != tt.want || !slices.Equal(missing, tt.missing) {
			t.Errorf("%q: got %q, missing %v", tt.in, got, missing)
		}
	}
}

func TestTemplatesThatAreRefused(t *testing.T) {
	for _, in := range []string{"${", "${a", "${base64(x", "${base64(${a)}", "${}", "${(a)}", strings.Repeat("${base64(", 20) + strings.Repeat(")}", 20)} {
		if _, err := parseTemplate(in); err == nil {
			t.Errorf("%q: accepted", in)
		}
	}
	for in, name := range map[string]string{
		"${md5(${a})}": "md5", "${a b}": "a b", "${now+1:fortnight}": "now+1:fortnight", "${nowhere}": "",
	} {
		tpl, err := parseTemplate(in)
		if err != nil || tpl.unsupported() != name {
			t.Errorf("%q: %v, %v", in, tpl, err)
		}
	}
}

func TestRandomIsDifferentEachTime(t *testing.T) {
	tpl, err := parseTemplate("${random}${random}")
	if err != nil {
		t.Fatal(err)
	}
	one, _ := tpl.fill(templateScope)
	two, _ := tpl.fill(templateScope)
	if len(one) != 72 || one == two || one[:36] == one[36:] || !tpl.volatile() {
		t.Errorf("%q %q", one, two)
	}
}

func FuzzTemplate(f *testing.F) {
	for _, seed := range []string{
		"https://${connectionConfig.subdomain}.example.com/a || b", "${base64(${a}:${b})}", "${now-1:day:YYYY}", "${}", "a)}b", "${a||b}",
	} {
		f.Add(seed, "value")
	}
	f.Fuzz(func(t *testing.T, in, value string) {
		tpl, err := parseTemplate(in)
		if err != nil {
			return
		}
		named := map[string]string{}
		for _, ref := range tpl.refs() {
			named[strings.TrimPrefix(ref, "credentials.")] = value
		}
		out, missing := tpl.fill(&scope{named: named, config: map[string]string{}})
		if len(missing) == 0 && tpl.unsupported() == "" && !strings.Contains(value, "${") && strings.Contains(out, "${") &&
			!strings.Contains(strings.ReplaceAll(value+in, "${", ""), "$") {
			t.Errorf("%q: a placeholder is left in %q", in, out)
		}
	})
}
