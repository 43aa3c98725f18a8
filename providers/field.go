package providers

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/coatcheck/coatcheck/broker"
)

// field is something that somebody is asked for, with its pattern compiled.
type field struct {
	broker.Field
	order     *int
	pattern   *regexp.Regexp
	sometimes bool // asked for only with certain values of others, so it may be missing
}

// baseFields are what a mode asks for where the entry says nothing about it.
var baseFields = map[string][]broker.Field{
	modeAPIKey: {{Name: "apiKey", Title: "API key"}},
	modeBasic:  {{Name: "username", Title: "User name"}, {Name: "password", Title: "Password"}},
	modeClientCredentials: {
		{Name: "client_id", Title: "Client id"},
		{Name: "client_secret", Title: "Client secret"},
	},
	modeSignature: {{Name: "username", Title: "User name"}, {Name: "password", Title: "Password"}},
	modeAWS:       {{Name: awsRole, Title: "Role ARN", Example: "arn:aws:iam::123456789012:role/name"}, {Name: awsRegion, Title: "Region", Example: "us-east-1", Optional: true}},
	modeBill:      {{Name: "username", Title: "User name"}, {Name: "password", Title: "Password"}, {Name: "organization_id", Title: "Organization id"}, {Name: "dev_key", Title: "Developer key"}},
	modeTBA: {
		{Name: tbaToken, Title: "Token id"},
		{Name: tbaSecret, Title: "Token secret"},
		{Name: tbaConsumer, Title: "Consumer key", Optional: true},
		{Name: tbaConsumerSecret, Title: "Consumer secret", Optional: true},
	},
}

// Names of what proves a client that has no secret, or not only one.
const (
	nameCertificate = "client_certificate"
	namePrivateKey  = "client_private_key"
)

// baseFields gives the fields of the entry's mode. A client that proves itself with a key has no secret, and one that shows
// a certificate has both besides.
func (c *compiler) baseFields() []broker.Field {
	fields := slices.Clone(baseFields[c.mode])
	if c.mode != modeClientCredentials {
		return fields
	}
	if c.compileTokenAuth().asserted {
		fields = append(fields[:1], broker.Field{Name: namePrivateKey, Title: "Private key"})
	}
	if c.entry.RequireCertificate {
		fields = append(fields, broker.Field{Name: nameCertificate, Title: "Client certificate"}, broker.Field{Name: namePrivateKey, Title: "Private key of the certificate"})
	}
	return fields
}

// secretNames are credentials that are secret whatever the entry says.
var secretNames = []string{
	"apiKey", "password", "client_secret", "oauth_client_secret_override", "token_id", "token_secret", "dev_key",
	namePrivateKey, nameCertificate, "private_key", "privateKey", awsSecret,
}

var fieldFormats = map[string]func() *regexp.Regexp{
	"hostname": expression(`^[a-zA-Z0-9.-]+$`),
	"uuid":     expression(`^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`),
	"uri":      expression(`^https?://[^\s]+$`),
	"email":    expression(`^[^@\s]+@[^@\s]+$`),
}

// maxValue is the length of the longest value of connection config.
const maxValue = 4096

// check says what is wrong with a value; untrusted values must also have the form that the entry asks for.
func (f *field) check(v string, trusted bool) error {
	limit := maxValue
	if f.Section == broker.CredentialField {
		limit = maxToken
	}
	switch {
	case len(v) > limit:
		return invalid(f.Name, "is too long")
	case hasControl(v) && !(f.Section == broker.CredentialField && isBlock(v)):
		return invalid(f.Name, "holds a character that it cannot have")
	case trusted:
		return nil
	case len(f.Options) > 0 && !slices.Contains(f.Options, v):
		return invalid(f.Name, "is not one of those to choose from")
	case f.pattern != nil && !f.pattern.MatchString(v):
		return invalid(f.Name, "does not have the form that the provider needs")
	case fieldFormats[f.Format] != nil && !fieldFormats[f.Format]().MatchString(v):
		return invalid(f.Name, "is not of the format "+f.Format)
	}
	return nil
}

// isBlock reports whether a credential is a text of several lines, as keys and certificates are (RFC 7468) and as JSON may
// be, and has no other character that it cannot have.
func isBlock(v string) bool {
	return (strings.Contains(v, "-----BEGIN ") || strings.HasPrefix(strings.TrimSpace(v), "{")) &&
		!hasControl(strings.NewReplacer("\n", "", "\r", "", "\t", "").Replace(v))
}

// closed reports whether the values that pass are a short list.
func (f *field) closed() bool {
	return len(f.Options) > 0 || f.Pattern != "" && closedPattern(f.Pattern)
}

// compileFields turns an entry's definitions into fields. A pattern that Go's regular expressions do not know is an error
// in our catalogue and of no effect in an overlay: what keeps hosts safe is not the pattern.
func (c *compiler) compileFields(section broker.FieldSection, key string, defs fieldMap) []*field {
	var out []*field
	for _, d := range defs {
		f := &field{order: d.Order, Field: broker.Field{
			Name: d.Name, Section: section, Title: d.Title, Description: d.Description, Example: d.Example,
			Format: d.Format, Options: d.Enum, Prefix: d.Prefix, Suffix: d.Suffix, DocSection: d.DocSection,
			Optional: d.Optional, Hidden: d.Hidden, Automated: d.Automated,
			Secret: d.Secret || section == broker.CredentialField && slices.Contains(secretNames, d.Name),
		}}
		f.sometimes = !d.VisibleWhen.IsZero()
		if d.Default != nil {
			f.Default, f.HasDefault = *d.Default, true
		}
		if d.Pattern != "" {
			c.compilePattern(f, []string{key, d.Name, "pattern"}, d.Pattern)
		}
		if d.Format != "" && fieldFormats[d.Format] == nil {
			c.fail([]string{key, d.Name, "format"}, "there is no format %s: hostname, uuid, uri or email", d.Format)
		}
		if d.Type != "" && d.Type != "string" {
			c.fail([]string{key, d.Name, "type"}, "the type of a field is string")
		}
		out = append(out, f)
	}
	return out
}

func (c *compiler) compilePattern(f *field, path []string, pattern string) {
	whole, err := anchored(pattern)
	if err == nil {
		f.Pattern, f.pattern = whole, regexp.MustCompile(whole)
		return
	}
	if c.builtin {
		c.fail(path, "the pattern is not a regular expression of RE2")
		return
	}
	c.ignore("the pattern of " + f.Name)
}

// formOrder puts the fields into the order of the form: connection config with a place in the order, the mode's own
// credentials, further credentials, the rest of the connection config.
func formOrder(basic []broker.Field, config, credentials []*field) []*field {
	var out, rest []*field
	for _, f := range config {
		if f.order != nil {
			out = append(out, f)
		} else {
			rest = append(rest, f)
		}
	}
	slices.SortStableFunc(out, func(a, b *field) int { return cmp.Compare(*a.order, *b.order) })
	taken := map[string]bool{}
	for _, base := range basic {
		f := &field{Field: base}
		f.Section, f.Secret = broker.CredentialField, slices.Contains(secretNames, base.Name)
		if i := slices.IndexFunc(credentials, func(c *field) bool { return c.Name == base.Name }); i >= 0 {
			f = credentials[i]
			f.Title = cmp.Or(f.Title, base.Title)
		}
		taken[base.Name] = true
		out = append(out, f)
	}
	for _, f := range credentials {
		if !taken[f.Name] {
			out = append(out, f)
		}
	}
	return append(out, rest...)
}

// anchored gives a pattern that matches the whole text. Catalogues write ^https:// and mean the beginning alone.
func anchored(pattern string) (string, error) {
	left, right := "^(?:", ")$"
	if !strings.HasPrefix(pattern, "^") {
		left = "^(?s:.*)(?:"
	}
	if !strings.HasSuffix(pattern, "$") || strings.HasSuffix(pattern, `\$`) {
		right = ")(?s:.*)$"
	}
	if left == "^(?:" && right == ")$" && !strings.Contains(pattern, "|") {
		left, right = "", ""
	}
	_, err := regexp.Compile(left + pattern + right)
	return left + pattern + right, err
}

// expression compiles a regular expression when it is first needed: compiling all of them would take a part of each start
// that shows.
func expression(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}
