package apitest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"html"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/coatcheck/coatcheck/web/internal/kit"
)

var update = flag.Bool("update", false, "write the answers into the golden files")

// Golden plays the golden files that a pattern finds, each on a site of its own. Answers are shown with their headers that
// mean something, and with those that are named here.
func Golden(t *testing.T, pattern string, newSite func(t *testing.T) *Site, headers ...string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	must(t, err)
	if len(files) == 0 {
		t.Fatalf("there are no golden files in %s", pattern)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			play(t, file, newSite(t), append(slices.Clone(shown), headers...))
		})
	}
}

func play(t *testing.T, file string, s *Site, headers []string) {
	t.Helper()
	a, err := txtar.ParseFile(file)
	must(t, err)
	cookies, err := cookiejar.New(nil)
	must(t, err)
	p := &player{site: s, headers: headers, cookies: cookies, names: make(map[string]string)}
	out := &txtar.Archive{Comment: a.Comment}
	for _, f := range a.Files {
		if f.Name == "answer" {
			continue
		}
		out.Files = append(out.Files, f, txtar.File{Name: "answer", Data: p.answer(t, string(f.Data))})
	}
	Same(t, file, txtar.Format(out))
}

// Same compares with what a golden file holds, or writes it there if the test is told to.
func Same(t testing.TB, file string, got []byte) {
	t.Helper()
	if *update {
		must(t, os.WriteFile(file, got, 0o600))
		return
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got\n%s", file, firstDifference(string(got), string(want)))
	}
}

// firstDifference shows some lines from where two texts part.
func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range g {
		if i >= len(w) || g[i] != w[i] {
			return fmt.Sprintf("line %d:\n%s\n\nwant\n%s", i+1,
				strings.Join(g[max(0, i-5):min(len(g), i+5)], "\n"), strings.Join(w[max(0, i-5):min(len(w), i+5)], "\n"))
		}
	}
	return "less than wanted"
}

// player sends requests and writes down answers.
type player struct {
	site    *Site
	headers []string // that are shown
	cookies *cookiejar.Jar
	link    string            // the last address of an answer that begins a sign-in
	last    []byte            // the last answer, as it is shown
	token   string            // the last session token
	made    string            // the last API key
	names   map[string]string // of what differs from run to run
}

var placeholder = regexp.MustCompile(`\{(key|other|account|token|secret|uuid|id|environment)( [^}]+)?\}`)

// fill gives what stands for a placeholder.
func (p *player) fill(t *testing.T, word, more string) string {
	t.Helper()
	switch word {
	case "token":
		return p.token
	case "secret":
		return p.made
	case "other":
		return OtherKey
	case "environment":
		return string(p.site.Env.ID)
	case "account":
		return p.site.AccountKey(t, strings.Fields(more)...)
	case "uuid", "id":
		for id, name := range p.names {
			if name == "<"+word+more+">" {
				return id
			}
		}
		t.Errorf("no answer had a %s%s", word, more)
	}
	if more != "" {
		return p.site.Key(t, strings.Fields(more)...)
	}
	return Key
}

// answer sends one request and gives what came back, in a form that is the same in every run.
func (p *player) answer(t *testing.T, text string) []byte {
	t.Helper()
	for {
		line, rest, _ := strings.Cut(text, "\n")
		wait, ok := strings.CutPrefix(line, "wait ")
		if !ok {
			break
		}
		d, err := time.ParseDuration(wait)
		must(t, err)
		p.site.Advance(d)
		text = rest
	}
	if words := strings.Fields(text); len(words) > 0 && words[0] == "follow" {
		return p.follow(t, words[1:])
	}
	text = placeholder.ReplaceAllStringFunc(text, func(s string) string {
		m := placeholder.FindStringSubmatch(s)
		return p.fill(t, m[1], m[2])
	})
	r := p.request(t, text)
	w := p.site.serve(r)
	res := w.Result()
	p.cookies.SetCookies(p.at(t, r.URL.String()), res.Cookies()) // a sign-in may begin here
	p.note(t, res, w.Body.Bytes())
	p.last = p.render(res, w.Body.Bytes())
	return p.last
}

// at gives an address at the site.
func (p *player) at(t *testing.T, target string) *url.URL {
	t.Helper()
	base, err := url.Parse(p.site.Broker.PublicURL())
	must(t, err)
	u, err := base.Parse(target)
	must(t, err)
	return u
}

// request reads a request as it stands in a golden file.
func (p *player) request(t *testing.T, text string) *http.Request {
	t.Helper()
	head, body, _ := strings.Cut(text, "\n\n")
	body = strings.TrimSuffix(body, "\n")
	head = strings.TrimSuffix(head, "\n") + "\nHost: " + p.at(t, "/").Host + "\n"
	if body != "" {
		head += fmt.Sprintf("Content-Length: %d\n", len(body))
		if !strings.Contains(head, "Content-Type") {
			head += "Content-Type: application/json\n"
		}
	}
	line, headers, _ := strings.Cut(head, "\n")
	raw := line + " HTTP/1.1\r\n" + strings.ReplaceAll(headers, "\n", "\r\n") + "\r\n" + body
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	must(t, err)
	r.RemoteAddr = "192.0.2.1:1234"
	return r
}

// shown are the headers that golden files show.
var shown = []string{
	"Access-Control-Allow-Headers", "Access-Control-Allow-Methods", "Access-Control-Allow-Origin", "Access-Control-Max-Age",
	"Allow", "Cache-Control", "Content-Type", "Location", "Retry-After", "Vary", kit.HeaderErrorCode,
}

// usual are values that say nothing.
var usual = []string{"no-store", "application/json; charset=utf-8"}

// head renders the status and the headers.
func (p *player) head(res *http.Response) []byte {
	var out bytes.Buffer
	fmt.Fprintln(&out, res.StatusCode)
	for _, name := range p.headers {
		for _, v := range res.Header.Values(name) {
			if slices.Contains(usual, v) {
				continue
			}
			text := p.steady([]byte(v))
			switch name {
			case "Retry-After":
				text = []byte("<seconds>") // pauses are drawn at random
			case "Location":
				text = steadyAddress(text) // it need not be a whole one
			}
			fmt.Fprintf(&out, "%s: %s\n", name, text)
		}
	}
	return out.Bytes()
}

// render renders the whole of an answer.
func (p *player) render(res *http.Response, body []byte) []byte {
	out := p.head(res)
	if len(body) == 0 {
		return out
	}
	out = append(out, '\n')
	var indented bytes.Buffer
	if strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
		body = []byte(title(body))
	} else if json.Indent(&indented, body, "", "  ") == nil {
		body = indented.Bytes()
	}
	return append(append(out, p.steady(body)...), '\n')
}

var titleForm = regexp.MustCompile(`(?s)<title>(.*?)</title>`)

// title is what is shown of a page: its looks are the business of its own tests.
func title(page []byte) string {
	if m := titleForm.FindSubmatch(page); m != nil {
		return "a page: " + html.UnescapeString(strings.TrimSpace(string(m[1])))
	}
	return "a page without a title"
}

// note keeps what later requests may need of an answer.
func (p *player) note(t *testing.T, res *http.Response, body []byte) {
	t.Helper()
	for _, text := range [][]byte{[]byte(res.Header.Get("Location")), body} {
		if m := sessionToken.Find(text); m != nil {
			p.token = string(m)
		}
		if m := apiKey.Find(text); m != nil {
			p.made = string(m)
		}
	}
	if to := p.begins(t, res, body); to != "" {
		p.link = to
	}
}

var (
	sessionToken = regexp.MustCompile(kit.SessionPrefix + `[0-9a-f]{64}`)
	signingKey   = regexp.MustCompile(`whsec_[A-Za-z0-9+/]{43}=`)
	uuidForm     = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	apiKey       = regexp.MustCompile(`coat_[0-9a-z_-]+`)
	keyIDForm    = regexp.MustCompile(`"[0-9a-f]{16}"`)
	addressForm  = regexp.MustCompile(`https?://(?:[^"\s<>]|<[^>]*>)+`)
	pieceForm    = regexp.MustCompile(`[^/?&#]+`)
	drawnForm    = regexp.MustCompile(`^[A-Za-z0-9_=|~-]{32,}$`)
)

// steady gives names to what differs from run to run.
func (p *player) steady(text []byte) []byte {
	text = sessionToken.ReplaceAll(text, []byte("<session token>"))
	text = signingKey.ReplaceAll(text, []byte("<signing key>"))
	text = apiKey.ReplaceAll(text, []byte("<API key>"))
	text = keyIDForm.ReplaceAllFunc(text, func(id []byte) []byte {
		return []byte(`"` + p.name("id", strings.Trim(string(id), `"`)) + `"`)
	})
	text = uuidForm.ReplaceAllFunc(text, func(id []byte) []byte { return []byte(p.name("uuid", string(id))) })
	return addressForm.ReplaceAllFunc(text, steadyAddress)
}

// steadyAddress hides what is long and drawn at random: a parameter by its name, a segment by a word.
func steadyAddress(address []byte) []byte {
	return pieceForm.ReplaceAllFunc(address, func(piece []byte) []byte {
		name, value, isParam := strings.Cut(string(piece), "=")
		if !isParam {
			name, value = "", name
		}
		plain, err := url.QueryUnescape(value)
		switch {
		case err != nil || !drawnForm.MatchString(plain) || strings.ToLower(plain) == plain && !strings.ContainsAny(plain, "0123456789"):
			return piece
		case isParam:
			return []byte(name + "=<" + name + ">")
		}
		return []byte("<random>")
	})
}

// name gives an id the same name each time that it turns up.
func (p *player) name(kind, id string) string {
	if _, ok := p.names[id]; !ok {
		p.names[id] = fmt.Sprintf("<%s %d>", kind, len(p.names)+1)
	}
	return p.names[id]
}
