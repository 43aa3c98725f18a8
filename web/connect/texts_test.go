package connect

import (
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
)

// said lists a language's texts by where they stand.
func said(t *texts) map[string]string {
	out := make(map[string]string)
	add := func(name string, f failureText) {
		out[name+".Title"], out[name+".Text"], out[name+".Next"] = f.Title, f.Text, f.Next
	}
	v := reflect.ValueOf(*t)
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.String {
			out[v.Type().Field(i).Name] = f.String()
		}
	}
	add("Late", t.Late)
	for code, f := range t.Failures {
		add("Failures["+code+"]", f)
	}
	return out
}

var placeholder = regexp.MustCompile(`\{[a-z]+\}`)

func placeholders(text string) []string {
	found := placeholder.FindAllString(text, -1)
	slices.Sort(found)
	return slices.Compact(found)
}

func TestEveryLanguageSaysEverything(t *testing.T) {
	want := said(english())
	for lang, words := range languages {
		have := said(words)
		if lang != words.Language || !slices.Equal(slices.Sorted(maps.Keys(have)), slices.Sorted(maps.Keys(want))) {
			t.Errorf("%s: another set of texts", lang)
		}
		for name, text := range want {
			switch got := have[name]; {
			case strings.TrimSpace(got) == "":
				t.Errorf("%s: no %s", lang, name)
			case !slices.Equal(placeholders(got), placeholders(text)):
				t.Errorf("%s: %s has %v, not %v", lang, name, placeholders(got), placeholders(text))
			case lang != defaultLanguage && got == text:
				t.Errorf("%s: %s is English: %s", lang, name, got)
			}
		}
		for code, f := range english().Failures {
			if words.Failures[code].Calm != f.Calm {
				t.Errorf("%s: %s is not as calm", lang, code)
			}
		}
	}
}

// TestNoEnglishIsLeft looks for words that only English has.
func TestNoEnglishIsLeft(t *testing.T) {
	foreign := regexp.MustCompile(`(?i)\b(the|you|your|this|that|with|and|can|what|nothing|was|connected|sign|try|again|close|window)\b`)
	german := regexp.MustCompile(`(?i)\bwas\b`) // means what
	for lang, words := range languages {
		if lang == defaultLanguage {
			continue
		}
		for name, text := range said(words) {
			if lang == "de" {
				text = german.ReplaceAllString(text, "")
			}
			if word := foreign.FindString(text); word != "" {
				t.Errorf("%s: %s says %q: %s", lang, name, word, text)
			}
		}
	}
}

// TestGrammarFitsStandIns reads the texts that are said with an unknown app or provider too.
func TestGrammarFitsStandIns(t *testing.T) {
	awkward := map[string]*regexp.Regexp{
		// The stand-in of {app} is a dative, that of {provider} a nominative.
		"de": regexp.MustCompile(`(?i)\b(bei|mit|von|zu|an|für|in) \{provider\}`),
		"fr": regexp.MustCompile(`(?i)\b(de|du|au|à|que) \{provider\}|\b(de|que) \{app\}`),
		"es": regexp.MustCompile(`(?i)\b(de|del|a|al) \{provider\}`),
	}
	// Both are known wherever these are said.
	known := regexp.MustCompile(`^(Form|Repair|Lead|List|Go|Help|Field|Stays|Away)`)
	midway := regexp.MustCompile(`[.!?] \{(app|provider)\}`)
	app := regexp.MustCompile(`(\S*) ?\{app\}`)
	for lang, words := range languages {
		for name, text := range said(words) {
			if known.MatchString(name) {
				continue
			}
			if r := awkward[lang]; r != nil && r.MatchString(text) {
				t.Errorf("%s: %s: %s", lang, name, text)
			}
			for _, m := range app.FindAllStringSubmatch(text, -1) {
				if dative := []string{"bei", "mit", "von", "zu"}; lang == "de" && !slices.Contains(dative, strings.ToLower(m[1])) {
					t.Errorf("de: %s: %s", name, text)
				}
			}
			// What stands for a name is written small in the middle of a text.
			if midway.MatchString(text) {
				t.Errorf("%s: %s: a sentence begins with a name: %s", lang, name, text)
			}
		}
	}
}

func TestNamesAreFilledIntoEveryText(t *testing.T) {
	for lang, words := range languages {
		for name, text := range said(words) {
			got := words.sayer("", "")(fill(text, "{count}", "9", "{example}", "x", "{host}", "h", "{scopes}", "a"))
			if placeholder.MatchString(got) {
				t.Errorf("%s: %s: %s", lang, name, got)
			}
		}
	}
	got := german().sayer("", "")(german().failure(broker.ErrProviderError.Code).Title)
	if got != "Der Anbieter meldet ein Problem" {
		t.Errorf("got %q", got)
	}
}

func TestLanguageIsChosen(t *testing.T) {
	tests := []struct{ lang, accept, want string }{
		{"", "", "en"},
		{"de", "fr", "de"},
		{"de-CH", "", "de"},
		{"FR_ca", "", "fr"},
		{"ja", "es-MX,es;q=0.9", "es"},
		{"", "de", "de"},
		{"", "ja,de;q=0.5,fr;q=0.8", "fr"},
		{"", "fr;q=0.5, de;q=0.5", "fr"},
		{"", "de;q=0, es;q=0.1", "es"},
		{"", "ja, *;q=0.5, de;q=0.3", "en"},
		{"", "de; q=0.4, en; q=0.3", "de"},
		{"", "de;q=x, fr;q=9, es;q=NaN", "en"},
		{"", "de;v=1,es", "es"},
		{"", strings.Repeat("ja,", 500) + "de", "en"},
		{`de"><script>`, "", "en"},
	}
	for _, tt := range tests {
		r := &http.Request{Header: http.Header{"Accept-Language": {tt.accept}}}
		if got := mannerOf(url.Values{"lang": {tt.lang}}).look(r).Language; got != tt.want {
			t.Errorf("lang %q, Accept-Language %.40q: %s, want %s", tt.lang, tt.accept, got, tt.want)
		}
	}
}

func TestThemeIsChosen(t *testing.T) {
	for theme, want := range map[string]string{"light": "light", "dark": "dark", "system": "", "": "", "Dark": "", `dark"`: ""} {
		if got := mannerOf(url.Values{"theme": {theme}}).Theme; got != want {
			t.Errorf("%q: %q", theme, got)
		}
	}
}
