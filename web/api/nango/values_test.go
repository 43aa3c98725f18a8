package nango

import (
	"encoding/xml"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
)

func TestWithoutRefreshTokens(t *testing.T) {
	in := map[string]any{
		"refresh_token": "a", "refreshToken": "a", "REFRESH-TOKEN": "a", "refresh token 2": "a", "refresh_token_expires_in": 1,
		"refreshtokens": "kept", "big": jsontext.Value("12345678901234567890"), "list": []any{map[string]any{"Refresh_Token": "a", "b": "kept"}, "refresh_token"},
		"deep": map[string]any{"deep": map[string]any{"refresh.token": "a"}},
	}
	out, err := withoutRefreshTokens(in)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"big":12345678901234567890,"deep":{"deep":{}},"list":[{"b":"kept"},"refresh_token"],"refresh_token_expires_in":1,"refreshtokens":"kept"}`
	if string(out) != want {
		t.Errorf("got  %s\nwant %s", out, want)
	}
	if out, err := withoutRefreshTokens(nil); err != nil || string(out) != "{}" {
		t.Errorf("nothing: got %s, %v", out, err)
	}
}

func TestCredentialShapes(t *testing.T) {
	secret := broker.NewSecret
	for name, c := range map[string]struct {
		m    *broker.Material
		want string
	}{
		"none":        {nil, `{}`},
		"nothing":     {&broker.Material{Type: "NONE"}, `{}`},
		"bare token":  {&broker.Material{Type: "OAUTH2", Access: secret("t")}, `{"access_token":"t","raw":{},"type":"OAUTH2"}`},
		"broken raw":  {&broker.Material{Type: "OAUTH2", Access: secret("t"), Answer: secret("a=b")}, `{"access_token":"t","raw":{},"type":"OAUTH2"}`},
		"basic":       {&broker.Material{Type: "BASIC", Details: map[string]broker.Secret{"username": secret("u")}}, `{"password":"","type":"BASIC","username":"u"}`},
		"secret part": {&broker.Material{Type: "API_KEY", Access: secret("k"), Details: map[string]broker.Secret{"connection_config.x": secret("s")}}, `{"apiKey":"k","type":"API_KEY"}`},
		"another mode": {
			&broker.Material{Type: "TWO_STEP", Access: secret("t"), Details: map[string]broker.Secret{"user": secret("u"), "connection_config.x": secret("s")}},
			`{"raw":{},"token":"t","type":"TWO_STEP","user":"u"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := encoded(credentialsOf(c.m))
			if err != nil || string(got) != c.want {
				t.Errorf("got %s, %v\nwant %s", got, err, c.want)
			}
		})
	}
}

func TestDerivedTags(t *testing.T) {
	many := make(map[string]string)
	for i := range 6 {
		many[fmt.Sprintf("k%d", i)] = "v"
	}
	base := broker.EndUser{ID: "u", Email: "a@b.test", DisplayName: strings.Repeat("ü", 300), OrganizationID: "o", OrganizationName: "O"}
	with := func(tags map[string]string) *broker.EndUser {
		u := base
		u.Tags = tags
		return &u
	}
	derived := map[string]string{
		"end_user_id": "u", "end_user_email": "a@b.test", "end_user_display_name": strings.Repeat("ü", 255), "organization_id": "o",
		"organization_display_name": "O",
	}
	plus := func(more map[string]string) map[string]string {
		out := maps.Clone(derived)
		maps.Copy(out, more)
		return out
	}
	for name, c := range map[string]struct {
		user *broker.EndUser
		want map[string]string
	}{
		"nobody":       {nil, map[string]string{}},
		"only an id":   {&broker.EndUser{ID: "u"}, map[string]string{"end_user_id": "u"}},
		"all":          {with(nil), derived},
		"own tags":     {with(map[string]string{"Team": "a", "end_user_id": "x"}), plus(map[string]string{"team": "a", "end_user_id": "x"})},
		"an empty one": {with(map[string]string{"team": "a", "b": ""}), derived},
		"a bad key":    {with(map[string]string{"1team": "a", "b": "c"}), plus(map[string]string{"b": "c"})},
		"a long key":   {with(map[string]string{strings.Repeat("k", 70): "a"}), plus(map[string]string{strings.Repeat("k", 64): "a"})},
		"too many":     {with(many), derived},
	} {
		t.Run(name, func(t *testing.T) {
			if got := derivedTags(c.user); !maps.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestMoment(t *testing.T) {
	second := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Time{
		"1772366400": second, "1772366400000": second, "1772366400.5": second.Add(500 * time.Millisecond), "1.7723664e9": second,
		"63072000000": time.Date(1972, 1, 1, 0, 0, 0, 0, time.UTC), // the first that is read as milliseconds
		"0":           {}, "-1": {}, "1e300": {}, "NaN": {}, "x": {},
	} {
		got, ok := moment(in)
		if !got.Equal(want) || ok == want.IsZero() {
			t.Errorf("%s: got %v, %v; want %v", in, got, ok, want)
		}
	}
}

func TestDates(t *testing.T) {
	at := time.Date(2024, 5, 1, 12, 34, 56, 789_012_345, time.FixedZone("", 7200))
	for got, want := range map[string]string{
		stamp(at): "2024-05-01T10:34:56.789Z", stampOffset(at): "2024-05-01T10:34:56.789+00:00", stampDatabase(at): "2024-05-01T10:34:56.789012+00:00",
		stampDatabase(at.Truncate(time.Second)): "2024-05-01T10:34:56+00:00",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	for text, want := range map[string]bool{
		`"2026-03-01T12:00:00Z"`: true, `"2026-03-01T12:00:00.123+02:00"`: true, `"2026-03-01 12:00:00"`: true, `"2026-03-01"`: true,
		`"2026-03-01T12:00:00"`: true, `null`: true, `"tomorrow"`: false, `true`: false, `[]`: false, `""`: false,
	} {
		o := newObject(&check{}, jsontext.Value(`{"expires_at":`+text+`}`))
		o.expiry()
		if (len(o.issues) == 0) != want {
			t.Errorf("%s: got %v", text, o.issues)
		}
	}
}

func TestTiles(t *testing.T) {
	for display, want := range map[string]string{
		"GitHub": "GI", "Google Drive": "GD", "mail & more": "MM", "x": "X", "": "?", "<b>": "B", "日本": "日本", "3 Dots (new)": "3D",
	} {
		if got := initialsOf(display); got != want {
			t.Errorf("%q: got %q, want %q", display, got, want)
		}
	}
	for _, hostile := range []string{`"><svg onload="x">`, `</text><script>`, "a&b", "\x00\x01"} {
		var doc struct {
			Label string `xml:"aria-label,attr"`
			Inner []struct {
				XMLName xml.Name
			} `xml:",any"`
		}
		raw := tile("name", hostile)
		if err := xml.Unmarshal(raw, &doc); err != nil {
			t.Errorf("%q: not XML: %v", hostile, err)
		}
		if len(doc.Inner) != 2 {
			t.Errorf("%q adds elements: %s", hostile, raw)
		}
	}
	if string(tile("a", "X")) == string(tile("b", "X")) {
		t.Error("two providers look the same")
	}
}

func TestEmails(t *testing.T) {
	for in, want := range map[string]bool{
		"ann@corp.test": true, "a.b+c@x.y.test": true, "o'hara@corp.test": true, "a@b": false, "a..b@corp.test": false, ".a@corp.test": false,
		"a@corp.test ": false, "a b@corp.test": false, "a@-corp.test": false, "@corp.test": false, "a@corp.t": false,
	} {
		var c check
		c.text(in, isEmail)
		if (len(c.issues) == 0) != want {
			t.Errorf("%q: got %v", in, c.issues)
		}
	}
}

func TestOverlongValues(t *testing.T) {
	long := strings.Repeat("a", 256)
	var c check
	for _, rules := range [][]rule{isIntegrationKey, isProviderName, isConnectionID} {
		c.text(long, rules)
		c.text(long[:255], rules)
		c.text("", rules)
	}
	codes := make([]string, 0, len(c.issues))
	for _, i := range c.issues {
		codes = append(codes, i.Code)
	}
	if want := slices.Repeat([]string{codeBig, codeFormat}, 3); !slices.Equal(codes, want) {
		t.Errorf("got %v, want %v", codes, want)
	}
}

// A provider may nest as it likes.
func TestStripIsQuick(t *testing.T) {
	const depth = 9_000
	deep := strings.Repeat(`[{"a":`, depth/2) + `{"refresh_token":1}` + strings.Repeat(`}]`, depth/2)
	out, err := strip(jsontext.Value(deep))
	if want := strings.Replace(deep, `"refresh_token":1`, "", 1); err != nil || string(out) != want {
		t.Errorf("got %d bytes, %v", len(out), err)
	}
}

// FuzzStrip looks for JSON that we lose, or tokens that stay.
func FuzzStrip(f *testing.F) {
	for _, seed := range []string{`{"refresh_token":1}`, `[{"a":[{"refreshToken":"x"}]}]`, `1e999`, `"refresh_token"`, `{"":{"refresh_token":{}}}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		raw := jsontext.Value(text)
		if !raw.IsValid() {
			return
		}
		out, err := strip(raw)
		if err != nil || !out.IsValid() {
			t.Fatalf("%q became %q, %v", text, out, err)
		}
		again, err := strip(out)
		if err != nil || string(again) != string(out) {
			t.Errorf("%q became %q and then %q", text, out, again)
		}
	})
}
