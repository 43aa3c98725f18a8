package openapitest

import (
	"io/fs"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// goldens holds the operations against what was recorded.
func (c *checker) goldens(files fs.FS) error {
	names, err := fs.Glob(files, "*.txtar")
	if err != nil {
		return err
	}
	for _, name := range names {
		raw, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		parts := txtar.Parse(raw).Files
		for i := 0; i+1 < len(parts); i += 2 {
			if parts[i].Name != "request" || parts[i+1].Name != "answer" {
				c.add("%s: requests and answers do not take turns", name)
				break
			}
			req, res := readRequest(string(parts[i].Data)), readAnswer(string(parts[i+1].Data))
			o := c.find(req)
			if o == nil {
				continue
			}
			o.recorded = true
			where := name + ": " + req.method + " " + req.target
			c.recordedAnswer(where, o, res)
			if strings.HasPrefix(res.status, "2") {
				c.recordedRequest(where, o, req)
			}
		}
	}
	for _, o := range c.operations() {
		if o.recorded == (o.Unrecorded != "") {
			c.add("%s needs either an answer in a golden file or x-unrecorded, which says why there is none", o)
		}
	}
	return nil
}

// message is a request or an answer as it was recorded.
type message struct {
	method, target, status string
	header                 http.Header
	body                   string
}

func readRequest(text string) message {
	for strings.HasPrefix(text, "wait ") {
		_, text, _ = strings.Cut(text, "\n")
	}
	line, m := read(text)
	m.method, m.target, _ = strings.Cut(line, " ")
	return m
}

func readAnswer(text string) message {
	line, m := read(text)
	m.status = line
	return m
}

func read(text string) (first string, m message) {
	head, body, _ := strings.Cut(text, "\n\n")
	m = message{header: make(http.Header), body: stand(strings.TrimSpace(body))}
	first, rest, _ := strings.Cut(head, "\n")
	for line := range strings.SplitSeq(rest, "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			m.header.Add(name, strings.TrimSpace(value))
		}
	}
	return strings.TrimSpace(first), m
}

// standIns are what stands for what differs from run to run, by the words that golden files have for it.
var standIns = map[string]string{
	"uuid": "00000000-0000-4000-8000-000000000000", "environment": "00000000-0000-4000-8000-000000000000",
	"id": "0000000000000000", "API key": "coat_dev_0000000000000000", "secret": "coat_dev_0000000000000000",
	"session token": sessionToken, "token": sessionToken,
	"signing key": "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
}

const sessionToken = "nango_connect_session_0000000000000000000000000000000000000000000000000000000000000000"

var standIn = regexp.MustCompile(`<(uuid|id|session token|API key|signing key)( \d+)?>|\{(uuid|id|environment|token|secret)( \d+)?\}`)

// stand puts values where golden files have names for them: <uuid 1>, <id 1>, <session token>, <API key> and <signing key>
// in answers, {uuid 1}, {id 1}, {environment}, {token} and {secret} in requests.
func stand(text string) string {
	return standIn.ReplaceAllStringFunc(text, func(s string) string {
		word := strings.TrimRight(strings.Trim(s, "<>{}"), " 0123456789")
		return standIns[word]
	})
}

// find gives the operation that answers a request; nil: none does. Fixed segments match in any case and win over variables,
// and a trailing slash means nothing.
func (c *checker) find(m message) (best *operation) {
	path, _, _ := strings.Cut(m.target, "?")
	sent := strings.Split(strings.TrimSuffix(path, "/"), "/")
	most := -1
	for _, o := range c.operations() {
		segments := strings.Split(strings.TrimSuffix(o.path, "/"), "/")
		if o.method != m.method || len(segments) != len(sent) {
			continue
		}
		fixed := 0
		for i, segment := range segments {
			switch {
			case strings.EqualFold(segment, sent[i]):
				fixed++
			case !varies(segment, sent[i]):
				fixed = -len(segments)
			}
		}
		if fixed > most {
			best, most = o, fixed
		}
	}
	return best
}

// varies reports whether a segment has a variable, and what was sent has what stands around it.
func varies(segment, sent string) bool {
	before, rest, ok := strings.Cut(segment, "{")
	_, after, closed := strings.Cut(rest, "}")
	return ok && closed && sent != "" && strings.HasPrefix(sent, before) && strings.HasSuffix(sent, after)
}

// recordedAnswer checks the status and the body of an answer.
func (c *checker) recordedAnswer(where string, o *operation, res message) {
	where += ": " + res.status
	name := res.status
	r, ok := o.Responses.Get(name)
	if !ok {
		name = res.status[:1] + "XX"
		if r, ok = o.Responses.Get(name); !ok {
			c.add("%s: %s has no such status", where, o.ID)
			return
		}
	}
	to, pointer := c.response(r)
	if pointer == "" {
		pointer = join(o.pointer, "responses", name)
	}
	if res.body == "" || len(to.Content) == 0 {
		if res.body != "" || len(to.Content) > 0 {
			c.add("%s: there is a body in the answer or in the document, and not in both", where)
		}
		return
	}
	kind, _, _ := strings.Cut(res.header.Get("Content-Type"), ";")
	if kind == "" {
		kind = "application/json"
	}
	if _, ok := to.Content.Get(kind); !ok {
		c.add("%s: the answer is of type %s", where, kind)
		return
	}
	if kind == "application/json" {
		c.fitsBody(where, join(pointer, "content", kind, "schema"), res.body)
	}
}

// fitsBody checks one body.
func (c *checker) fitsBody(where, pointer, body string) {
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
	if err != nil {
		c.add("%s: the body is no JSON: %v", where, err)
		return
	}
	c.fits(where, pointer, value)
}

// recordedRequest checks a request that succeeded.
func (c *checker) recordedRequest(where string, o *operation, req message) {
	_, query, _ := strings.Cut(req.target, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		c.add("%s: the query cannot be read", where)
	}
	for name := range values {
		if !c.declared(o, name) {
			c.add("%s: the parameter %s is not declared", where, name)
		}
	}
	body := c.body(o)
	switch {
	case body == nil && req.body != "":
		c.add("%s: a body was sent, and the document has none", where)
	case body == nil:
	case req.body == "" && body.Required:
		c.add("%s: no body was sent, and the document requires one", where)
	case req.body != "":
		pointer := join(o.pointer, "requestBody")
		if o.Body.Ref != "" {
			pointer = strings.TrimPrefix(o.Body.Ref, "#")
		}
		c.fitsBody(where+": the request", join(pointer, "content", "application/json", "schema"), req.body)
	}
}

// declared reports whether an operation has a query parameter. A name may carry another in brackets: tags[plan]. An object
// whose members stand in the query themselves declares them all, and a security scheme declares its credential.
func (c *checker) declared(o *operation, name string) bool {
	name, _, _ = strings.Cut(name, "[")
	for _, p := range c.allParameters(o) {
		spread := p.Style == "form" && p.Explode != nil && *p.Explode && slices.Contains(p.Schema.Type, "object")
		if p.In == "query" && (p.Name == name || spread) {
			return true
		}
	}
	for _, alternative := range *o.Security {
		for scheme := range alternative {
			if s, _ := c.spec.Components.SecuritySchemes.Get(scheme); s.In == "query" && s.Name == name {
				return true
			}
		}
	}
	return false
}
