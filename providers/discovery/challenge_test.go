package discovery

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
)

func TestChallengesAreRead(t *testing.T) {
	full := Challenge{Metadata: "https://x/meta", Scopes: []string{"a", "b"}, Error: "insufficient_scope"}
	for text, want := range map[string]Challenge{
		`Bearer error="insufficient_scope", scope="a b", resource_metadata="https://x/meta", error_description="x, \"y\" = z"`: full,
		`bearer ERROR=insufficient_scope,Scope="a  b" , resource_metadata = "https://x/meta"`:                                  full,
		`Basic realm="x", Bearer error="insufficient_scope", scope="a b", resource_metadata="https://x/meta", Digest realm=y`:  full,
		`Negotiate abc/+==, Bearer scope="a b", error="insufficient_scope", resource_metadata=https://x/meta`:                  full,
		`, Bearer error="insufficient_scope",, scope="a b",resource_metadata="https://x/meta",`:                                full,
		`Bearer`:              {},
		`Bearer abc==`:        {},
		`Bearer realm="a\"b"`: {},
		`Bearer scope="ok <svg> " , Bearer scope="other"`: {Scopes: []string{"ok", "<svg>"}},
	} {
		got, ok := ReadChallenge(http.Header{"Www-Authenticate": {text}})
		if !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s\ngot  %+v, %v\nwant %+v", text, got, ok, want)
		}
	}
}

func TestChallengesThatReadTwoWaysAreNotRead(t *testing.T) {
	for _, text := range []string{
		``, `Basic realm="x"`, `Bearer scope="a", scope="b"`, `Bearer scope="a`, `scope="a"`, `Bearer scope="a" x`, `Bearer a b`,
		`Bearer scope="a"b`, "Bearer scope=\"a\x00\"", `Be@rer scope="a"`, `Bearer scope="a\`, `Bearer x="` + strings.Repeat("y", maxChallenge) + `"`,
	} {
		if got, ok := ReadChallenge(http.Header{"Www-Authenticate": {text}}); ok {
			t.Errorf("%s was read as %+v", text, got)
		}
	}
	if got, ok := ReadChallenge(http.Header{"Www-Authenticate": {`Basic realm="x"`, `Bearer scope="a"`}}); !ok || len(got.Scopes) != 1 {
		t.Errorf("the second field was not read: %+v", got)
	}
}

func FuzzReadChallenge(f *testing.F) {
	for _, seed := range []string{`Bearer error="insufficient_scope", scope="a b"`, `Basic a==, Bearer x="\"", y=z`, `"`, `a=,`, `Bearer a="b\`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, ok := ReadChallenge(http.Header{"Www-Authenticate": {text}})
		if !ok && (c.Metadata != "" || c.Scopes != nil || c.Error != "") {
			t.Errorf("%q was refused and read: %+v", text, c)
		}
		if len(c.Scopes) > maxScopes {
			t.Errorf("%d scopes", len(c.Scopes))
		}
		for _, s := range c.Scopes {
			if s == "" || len(s) > maxScope || strings.ContainsAny(s, " \"\\\x7f\r\n\t") {
				t.Errorf("the scope %q", s)
			}
		}
	})
}
