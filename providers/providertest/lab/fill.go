package lab

import (
	"encoding/base64"
	"net/url"
	"regexp"
	"strings"
)

var (
	placeholder = regexp.MustCompile(`\$\{([A-Za-z0-9_.-]+)\}`)
	inBase64    = regexp.MustCompile(`\$\{base64\((.*)\)\}`)
	inPrint     = regexp.MustCompile(`\$\{fingerprint\(\$\{([A-Za-z0-9_.-]+)\}\)\}`)
)

// values are what placeholders stand for, by what is written between the braces.
type values map[string]string

// choose takes the alternative of a template that applies: the first of which something is known, or else the last.
func (v values) choose(template string) string {
	all := strings.Split(template, "||")
	for i, one := range all {
		known := false
		for _, m := range placeholder.FindAllStringSubmatch(one, -1) {
			_, ok := v[m[1]]
			known = known || ok
		}
		if known || i == len(all)-1 {
			return strings.TrimSpace(one)
		}
	}
	return ""
}

// text fills a template in; ok is false where a value is missing.
func (v values) text(template string) (out string, ok bool) {
	if strings.Contains(template, "||") {
		template = v.choose(template)
	}
	return v.fill(template, func(_, value string) string { return value })
}

// fill replaces the placeholders of one alternative. encode sees what stands before a value.
func (v values) fill(template string, encode func(before, value string) string) (string, bool) {
	if m := inBase64.FindStringSubmatchIndex(template); m != nil {
		inner, ok := v.fill(template[m[2]:m[3]], encode)
		rest, also := v.fill(template[m[1]:], encode)
		return template[:m[0]] + base64.StdEncoding.EncodeToString([]byte(inner)) + rest, ok && also
	}
	if m := inPrint.FindStringSubmatchIndex(template); m != nil {
		before, ok := v.fill(template[:m[0]], encode)
		rest, also := v.fill(template[m[1]:], encode)
		sum, known := fingerprint(v[template[m[2]:m[3]]])
		return before + sum + rest, ok && also && known
	}
	var b strings.Builder
	complete, last := true, 0
	for _, m := range placeholder.FindAllStringSubmatchIndex(template, -1) {
		b.WriteString(template[last:m[0]])
		value, ok := v[template[m[2]:m[3]]]
		complete = complete && ok
		b.WriteString(encode(b.String(), value))
		last = m[1]
	}
	b.WriteString(template[last:])
	return b.String(), complete
}

// nested fills in texts within objects and lists. What lacks a value is left out: its field may be empty.
func (v values) nested(x any) any {
	switch x := x.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, inner := range x {
			if filled := v.nested(inner); filled != nil {
				out[name] = filled
			}
		}
		return out
	case []any:
		out := []any{}
		for _, inner := range x {
			if filled := v.nested(inner); filled != nil {
				out = append(out, filled)
			}
		}
		return out
	case string:
		text, ok := v.fill(x, func(_, value string) string { return value })
		if !ok {
			return nil
		}
		return text
	}
	return x
}

// object is nested of an object; one that there is not is empty.
func (v values) object(x any) map[string]any {
	m, _ := x.(map[string]any)
	out, _ := v.nested(m).(map[string]any)
	return out
}

// address fills a template of a URL in; nil: a value is missing.
func (v values) address(template string) *url.URL {
	raw, ok := v.fill(v.choose(template), func(before, value string) string {
		_, rest, started := strings.Cut(before, "://")
		switch {
		case !started:
			return strings.TrimSuffix(value, "/")
		case strings.Contains(before, "?"):
			return url.QueryEscape(value)
		case strings.Contains(rest, "/"):
			return url.PathEscape(value)
		}
		return value
	})
	if !ok || raw == "" {
		return nil
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil
	}
	return u
}

// leadsTo reports whether a URL is the one that is wanted, and gives what its query holds beyond that.
func leadsTo(got, want *url.URL) (more url.Values, ok bool) {
	if want == nil || got.Scheme != want.Scheme || !strings.EqualFold(got.Host, want.Host) || got.EscapedPath() != want.EscapedPath() {
		return nil, false
	}
	more = got.Query()
	for name, all := range want.Query() {
		if len(more[name]) != len(all) || more.Get(name) != all[0] {
			return nil, false
		}
		delete(more, name)
	}
	return more, true
}
