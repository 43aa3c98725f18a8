package nango_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
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

// TestGolden plays testdata/*.txtar: requests as they are sent, and the answers to them. They are the promise of
// compatibility; "go test -update" rewrites the answers, and a reviewer reads the difference.
//
// A request may hold {key}, {other} (another environment's key), {account} (the account's), {key SCOPES},
// {account SCOPES}, {token}, the last session token that an answer held, {secret}, the last API key, {uuid N}, which an
// answer was shown with, and {environment}, the id of dev. Lines before the request line that begin with "wait" move the clock.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	must(t, err)
	if len(files) < 10 {
		t.Fatalf("there are %d golden files", len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			play(t, file)
		})
	}
}

func play(t *testing.T, file string) {
	a, err := txtar.ParseFile(file)
	must(t, err)
	p := &player{site: newSite(t), names: make(map[string]string)}
	out := &txtar.Archive{Comment: a.Comment}
	for _, f := range a.Files {
		if f.Name == "answer" {
			continue
		}
		out.Files = append(out.Files, f, txtar.File{Name: "answer", Data: p.answer(t, string(f.Data))})
	}
	if *update {
		must(t, os.WriteFile(file, txtar.Format(out), 0o600))
		return
	}
	if got, want := txtar.Format(out), txtar.Format(a); !bytes.Equal(got, want) {
		t.Errorf("the answers differ; got\n%s", firstDifference(string(got), string(want)))
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
	site  *site
	token string            // the last session token
	made  string            // the last API key
	names map[string]string // of what differs from run to run
}

var placeholder = regexp.MustCompile(`\{(key|other|account|token|secret|uuid|id|environment)( [^}]+)?\}`)

// fill gives what stands for a placeholder.
func (p *player) fill(t *testing.T, word, more string) string {
	switch word {
	case "token":
		return p.token
	case "secret":
		return p.made
	case "other":
		return otherKey
	case "environment":
		return string(p.site.env.ID)
	case "account":
		return p.site.accountKey(t, strings.Fields(more)...)
	case "uuid", "id":
		for id, name := range p.names {
			if name == "<"+word+more+">" {
				return id
			}
		}
		t.Errorf("no answer had a %s%s", word, more)
	}
	if more != "" {
		return p.site.key(t, strings.Fields(more)...)
	}
	return secretKey
}

// answer sends one request and gives what came back, in a form that is the same in every run.
func (p *player) answer(t *testing.T, text string) []byte {
	for {
		line, rest, _ := strings.Cut(text, "\n")
		wait, ok := strings.CutPrefix(line, "wait ")
		if !ok {
			break
		}
		d, err := time.ParseDuration(wait)
		must(t, err)
		p.site.clock.Add(int64(d))
		text = rest
	}
	text = placeholder.ReplaceAllStringFunc(text, func(s string) string {
		m := placeholder.FindStringSubmatch(s)
		return p.fill(t, m[1], m[2])
	})
	w := httptest.NewRecorder()
	p.site.handler.ServeHTTP(w, request(t, text))
	return p.render(t, w.Result(), w.Body.Bytes())
}

// request reads a request as it stands in a golden file.
func request(t *testing.T, text string) *http.Request {
	head, body, _ := strings.Cut(text, "\n\n")
	body = strings.TrimSuffix(body, "\n")
	head = strings.TrimSuffix(head, "\n") + "\nHost: connect.example.com\n"
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

// told are the headers that golden files show.
var told = []string{
	"Access-Control-Allow-Headers", "Access-Control-Allow-Methods", "Access-Control-Allow-Origin", "Access-Control-Max-Age",
	"Allow", "Cache-Control", "Content-Type", "Retry-After", "Vary", kit.HeaderErrorCode,
}

// usual are values that say nothing.
var usual = []string{"no-store", "application/json; charset=utf-8"}

func (p *player) render(t *testing.T, res *http.Response, body []byte) []byte {
	var out bytes.Buffer
	fmt.Fprintln(&out, res.StatusCode)
	for _, name := range told {
		for _, v := range res.Header.Values(name) {
			if name == "Retry-After" {
				v = "<seconds>" // pauses are drawn at random
			}
			if !slices.Contains(usual, v) {
				fmt.Fprintf(&out, "%s: %s\n", name, v)
			}
		}
	}
	if len(body) == 0 {
		return out.Bytes()
	}
	out.WriteString("\n")
	var indented bytes.Buffer
	if json.Indent(&indented, body, "", "  ") == nil {
		body = indented.Bytes()
	}
	if m := sessionToken.Find(body); m != nil {
		p.token = string(m)
	}
	if m := apiKey.Find(body); m != nil {
		p.made = string(m)
	}
	out.Write(p.steady(body))
	out.WriteString("\n")
	return out.Bytes()
}

var (
	sessionToken = regexp.MustCompile(`nango_connect_session_[0-9a-f]{64}`)
	signingKey   = regexp.MustCompile(`whsec_[A-Za-z0-9+/]{43}=`)
	uuidForm     = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	apiKey       = regexp.MustCompile(`coat_[0-9a-z_-]+`)
	keyIDForm    = regexp.MustCompile(`"[0-9a-f]{16}"`)
)

// steady gives names to what differs from run to run.
func (p *player) steady(body []byte) []byte {
	body = sessionToken.ReplaceAll(body, []byte("<session token>"))
	body = signingKey.ReplaceAll(body, []byte("<signing key>"))
	body = apiKey.ReplaceAll(body, []byte("<API key>"))
	body = keyIDForm.ReplaceAllFunc(body, func(id []byte) []byte {
		return []byte(`"` + p.name("id", strings.Trim(string(id), `"`)) + `"`)
	})
	return uuidForm.ReplaceAllFunc(body, func(id []byte) []byte { return []byte(p.name("uuid", string(id))) })
}

// name gives an id the same name each time that it turns up.
func (p *player) name(kind, id string) string {
	if _, ok := p.names[id]; !ok {
		p.names[id] = fmt.Sprintf("<%s %d>", kind, len(p.names)+1)
	}
	return p.names[id]
}
