package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/url"
	"sync"

	"github.com/coatcheck/coatcheck/crypto"
)

//go:embed demo.html
var demoPage string

var demoTemplate = sync.OnceValue(func() *template.Template { return template.Must(template.New("demo").Parse(demoPage)) })

// demoApp stands for an app that uses the broker: a page and the few calls that its backend makes. It knows the broker
// by its HTTP API alone.
type demoApp struct {
	broker string
	key    string
	client *http.Client
}

func (a *demoApp) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.page)
	mux.HandleFunc("POST /connect", a.connect)
	mux.HandleFunc("GET /connections", a.connections)
	mux.HandleFunc("GET /coats", a.coats)
	return http.NewCrossOriginProtection().Handler(mux)
}

func (a *demoApp) page(w http.ResponseWriter, _ *http.Request) {
	var out bytes.Buffer
	nonce := crypto.NewToken("")
	err := demoTemplate().Execute(&out, map[string]string{
		"Nonce": nonce, "Broker": a.broker, "Key": a.key, "Integration": demoIntegration, "Connection": demoConnection,
	})
	if err != nil {
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", fmt.Sprintf("default-src 'none'; style-src 'nonce-%[1]s'; script-src 'nonce-%[1]s'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'", nonce))
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(out.Bytes())
}

// connect makes a connect session and gives its link, to be opened in a popup.
func (a *demoApp) connect(w http.ResponseWriter, r *http.Request) {
	body := `{"end_user":{"id":"visitor","display_name":"A visitor of the demo"},"allowed_integrations":["` + demoIntegration + `"]}`
	a.pass(w, r, http.MethodPost, "/connect/sessions", body, nil)
}

// connections lists what is connected.
func (a *demoApp) connections(w http.ResponseWriter, r *http.Request) {
	a.pass(w, r, http.MethodGet, "/connections", "", nil)
}

// coats calls the provider's API through a connection.
func (a *demoApp) coats(w http.ResponseWriter, r *http.Request) {
	a.pass(w, r, http.MethodGet, "/proxy/api/coats", "", http.Header{
		"Provider-Config-Key": {demoIntegration}, "Connection-Id": {r.FormValue("connection")},
	})
}

// pass calls the broker with the app's key and hands its answer on.
func (a *demoApp) pass(w http.ResponseWriter, r *http.Request, method, path, body string, header http.Header) {
	answer, status, err := a.call(r.Context(), method, path, body, header)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": "the broker did not answer"})
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(answer)
}

func (a *demoApp) call(ctx context.Context, method, path, body string, header http.Header) ([]byte, int, error) {
	target, err := url.Parse(a.broker + path)
	if err != nil {
		return nil, 0, err
	}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewBufferString(body))
	if err != nil {
		return nil, 0, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Authorization", "Bearer "+a.key)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return answer, resp.StatusCode, err
}
