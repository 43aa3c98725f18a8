package connect

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Names in addresses and forms. Those of the Nango client, which loads the pages into a frame, are its own.
const (
	paramLang    = "lang"
	paramTheme   = "theme"
	paramWatch   = "detectClosedAuthWindow"
	paramParent  = "parent"
	paramAttempt = "attempt"
	paramResult  = "result"
)

// manner is how somebody wants to see the pages. It goes along in links and forms and, past the provider's pages, in the
// flow's cookie. Only values that are known are taken over, so that nothing of a stranger's is carried along.
type manner struct {
	Lang  string `json:"l,omitempty"` // as it was asked for; empty: as the browser says
	Theme string `json:"m,omitempty"` // light or dark; empty: as the system has it
	// Parent is the origin of the app's page that has ours inside it; empty: none has. It may be anyone's until
	// [UI.look] has looked at it.
	Parent string `json:"p,omitempty"`
	// Attempt is the number of the sign-in that an embedded page waits for while this one goes through it in a window of
	// its own; empty: it is not such a window.
	Attempt string `json:"-"`
	Watch   bool   `json:"-"` // the page around wants to know that the window was closed
}

// mannerOf reads what a link or a form asks for.
func mannerOf(v url.Values) manner {
	m := manner{Lang: baseLanguage(v.Get(paramLang)), Parent: plainOrigin(v.Get(paramParent)), Watch: v.Get(paramWatch) == "true"}
	if languages[m.Lang] == nil {
		m.Lang = ""
	}
	if theme := v.Get(paramTheme); theme == "light" || theme == "dark" {
		m.Theme = theme
	}
	if attempt := v.Get(paramAttempt); m.Parent != "" && isAttempt(attempt) {
		m.Attempt = attempt
	}
	return m
}

// params is what a form hands on.
func (m manner) params() []param {
	var out []param
	for _, p := range []param{{paramLang, m.Lang}, {paramTheme, m.Theme}, {paramParent, m.Parent}} {
		if p.Value != "" {
			out = append(out, p)
		}
	}
	if m.Watch {
		out = append(out, param{paramWatch, "true"})
	}
	return out
}

// query makes the address of a page.
func (m manner) query(path string, more ...param) string {
	q := make(url.Values)
	for _, p := range append(m.params(), more...) {
		q.Set(p.Name, p.Value)
	}
	return path + "?" + q.Encode()
}

// address makes the address of a page of a session.
func (m manner) address(path, token string, more ...param) string {
	return m.query(path, append(more, param{paramToken, token})...)
}

// look is a manner together with the words for it.
type look struct {
	manner
	*texts
	embedded  bool     // the page is inside an app's page
	ancestors []string // whose pages may have it inside them
}

// rules are those of a page that looks so.
func (l look) rules(formTo string) rules { return rules{formTo: formTo, ancestors: l.ancestors} }

// lookOf reads how a request's page is to look.
func lookOf(r *http.Request) look {
	if r.Method == http.MethodPost {
		return mannerOf(r.PostForm).look(r)
	}
	return mannerOf(r.URL.Query()).look(r)
}

// aloneLook is the look of a page that nobody may have inside theirs, whatever its address says.
func aloneLook(r *http.Request) look {
	l := lookOf(r)
	l.Parent, l.Attempt, l.Watch = "", "", false
	return l
}

// look finds the words: in the language that was asked for, else in one that the browser names, else in English.
func (m manner) look(r *http.Request) look {
	lang := m.Lang
	if lang == "" {
		lang = acceptedLanguage(r.Header.Get("Accept-Language"))
	}
	return look{manner: m, texts: languages[lang]}
}

// languages are the words of the pages, by language.
var languages = map[string]*texts{defaultLanguage: english(), "de": german(), "es": spanish(), "fr": french()}

const defaultLanguage = "en"

// baseLanguage drops what follows the language in a tag, as the region in de-CH.
func baseLanguage(tag string) string {
	if i := strings.IndexAny(tag, "-_"); i >= 0 {
		tag = tag[:i]
	}
	return strings.ToLower(tag)
}

// maxAccepted bounds how much of an Accept-Language header is read. Browsers name a handful.
const maxAccepted = 20

// acceptedLanguage gives the language that a browser likes best among those that there are words for (RFC 9110, section
// 12.5.4). Of equal ones the first wins.
func acceptedLanguage(header string) string {
	best, most := defaultLanguage, 0.0
	for n, entry := range strings.Split(header, ",") {
		if n == maxAccepted {
			break
		}
		tag, weight, weighed := strings.Cut(entry, ";")
		quality := 1.0
		if weighed {
			text, ok := strings.CutPrefix(strings.ReplaceAll(strings.ToLower(weight), " ", ""), "q=")
			q, err := strconv.ParseFloat(text, 64)
			if !ok || err != nil || !(q >= 0 && q <= 1) {
				continue
			}
			quality = q
		}
		lang := baseLanguage(strings.TrimSpace(tag))
		if lang == "*" {
			lang = defaultLanguage
		}
		if languages[lang] != nil && quality > most {
			best, most = lang, quality
		}
	}
	return best
}

// sayer fills the names into texts, or what stands for them where they are unknown. A name keeps its letters, but what
// stands for one begins a sentence as words do.
func (t *texts) sayer(app, provider string) func(string) string {
	known := app != "" && provider != ""
	if app == "" {
		app = t.TheApp
	}
	if provider == "" {
		provider = t.Provider
	}
	return func(text string) string {
		text = fill(text, "{app}", app, "{provider}", provider)
		if !known && (strings.HasPrefix(text, t.TheApp) || strings.HasPrefix(text, t.Provider)) {
			return strings.ToUpper(text[:1]) + text[1:]
		}
		return text
	}
}
