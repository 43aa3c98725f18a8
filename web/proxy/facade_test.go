package proxy_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// facade is a surface with both forms of a call: POST /{integration} with a JSON body, and GET /{integration}/{path}. It is
// gated and observed like every surface of the product.
type facade struct {
	*rig
	server *httptest.Server
	change func(*kit.Errand) // what a test has changed of each errand; nil: nothing
}

// envelope is what the POST form takes.
type envelope struct {
	Method  string            `json:"method,omitempty"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers,omitempty"`
	Data    json.RawMessage   `json:"data,omitempty"`
}

func newFacade(t testing.TB, upstream http.HandlerFunc, options ...func(*rig)) *facade {
	t.Helper()
	f := &facade{rig: newRig(t, upstream, options...)}
	gate := &kit.Gate{Limiter: kit.NewLimiter(0, 0, time.Now), KeyLimit: f.keyLimit}
	surface := &kit.Surface{Name: "facade", Fail: func(w http.ResponseWriter, r *http.Request, err error) {
		w.Header().Set("X-Error-Source", "broker")
		kit.Fail(w, r, err)
	}}
	observer := &kit.Observer{Logger: slog.New(slog.NewJSONHandler(f.log, nil))}
	f.server = httptest.NewServer(observer.Wrap(gate.Handler(surface, kit.Route{
		Auth: kit.Doors{Keeper: f.broker}.Key(broker.ScopeProxy), MaxBody: 4 << 20, Handle: f.handle,
	})))
	t.Cleanup(f.server.Close)
	return f
}

func (f *facade) handle(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	integration, path, _ := strings.Cut(r.URL.EscapedPath()[1:], "/")
	out, err := f.broker.Outbound(r.Context(), who, integration, "c")
	if err != nil {
		return err
	}
	e := kit.Errand{Who: who, Out: out, Counted: true}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if r.Method == http.MethodPost {
		var in envelope
		if err := json.Unmarshal(body, &in); err != nil {
			return broker.ErrInvalidJSON
		}
		e.Method, e.URL, e.Body, e.Header = in.Method, in.URL, in.Data, make(http.Header)
		for name, value := range in.Headers {
			e.Header[name] = []string{value}
		}
	} else {
		e.URL, e.Plain = path, r.Header
		if r.URL.RawQuery != "" {
			e.URL += "?" + r.URL.RawQuery
		}
	}
	if f.change != nil {
		f.change(&e)
	}
	return f.proxy.Carry(w, r, e)
}

// post makes a request of the POST form. Headers are name, value, name, value.
func (f *facade) post(integration, method, url, data string, headers ...string) *http.Request {
	f.t.Helper()
	in := envelope{Method: method, URL: url, Data: json.RawMessage(data), Headers: make(map[string]string)}
	for i := 0; i+1 < len(headers); i += 2 {
		in.Headers[headers[i]] = headers[i+1]
	}
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false)
	must(f.t, e.Encode(in))
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodPost, f.server.URL+"/"+integration, &body)
	must(f.t, err)
	req.Header = http.Header{
		"Authorization": {"Bearer " + secretKey}, "Content-Type": {"application/json"}, "User-Agent": {"the-envelope"}, "Accept": {"text/envelope"},
		"Accept-Language": {"xx"}, "Cookie": {"a=b"}, "X-Custom": {"envelope"}, "Nango-Proxy-X-Custom": {"envelope"}, "Range": {"bytes=0-0"},
	}
	return req
}

// call does an errand of the POST form.
func (f *facade) call(integration, method, url string, headers ...string) answer {
	f.t.Helper()
	return f.do(f.post(integration, method, url, "", headers...))
}

// handedBack checks a failure that the surface was left to write.
func (a answer) handedBack(t testing.TB, what, code string) {
	t.Helper()
	var got struct {
		Error struct {
			Code      string `json:"code"`
			RequestID string `json:"request_id"`
		} `json:"error"`
	}
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		t.Errorf("%s: body %q: %v", what, a.body, err)
	}
	if got.Error.Code != code || a.Header.Get("X-Error-Code") != code || a.Header.Get("X-Error-Source") != "broker" || got.Error.RequestID == "" {
		t.Errorf("%s: got %d %v %s, want %s", what, a.StatusCode, a.Header, a.body, code)
	}
}
