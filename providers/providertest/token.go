package providertest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// token is the token endpoint. Whatever a knob makes of the answer, the request is counted first and, where the provider
// is to have acted, acted upon.
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	form := s.record(r)
	if k := s.snapshot(); k.Stall {
		s.wait(r)
	}
	k := s.snapshot()
	if k.Slow > 0 {
		timer := time.NewTimer(k.Slow)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return
		}
	}
	if s.redirected(w, r, &k) || refused(w, &k) {
		return
	}
	if !knownClient(r, form) {
		s.writeError(w, &k, &refusal{"invalid_client", http.StatusUnauthorized})
		return
	}
	out, err := s.grant(form)
	if err != nil {
		s.writeError(w, &k, err)
		return
	}
	s.count(func(c *Counts) { c.Issued++ })
	if k.HangUp {
		panic(http.ErrAbortHandler)
	}
	s.writeToken(w, &k, out)
}

// record counts a request and keeps it.
func (s *Server) record(r *http.Request) url.Values {
	raw, _ := io.ReadAll(r.Body)
	form, _ := url.ParseQuery(string(raw))
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		form = url.Values{}
		var object map[string]string
		_ = json.Unmarshal(raw, &object)
		for name, v := range object {
			form.Set(name, v)
		}
	}
	for name, v := range r.URL.Query() {
		form[name] = append(form[name], v...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Tokens++
	switch form.Get("grant_type") {
	case "authorization_code":
		s.counts.Exchanges++
	case "refresh_token":
		s.counts.Refreshes++
	case "client_credentials":
		s.counts.ClientCredentials++
	}
	s.requests = append(s.requests, TokenRequest{
		Grant: form.Get("grant_type"), Authorization: r.Header.Get("Authorization"), ContentType: r.Header.Get("Content-Type"),
		Query: r.URL.RawQuery, Body: string(raw),
	})
	return form
}

// wait stalls a request until it is released or given up.
func (s *Server) wait(r *http.Request) {
	s.mu.Lock()
	release, stalled := s.release, s.stalled
	s.mu.Unlock()
	select {
	case stalled <- struct{}{}:
	default:
	}
	select {
	case <-release:
	case <-r.Context().Done():
	}
}

// refused answers in place of the endpoint if a knob says so.
func refused(w http.ResponseWriter, k *Knobs) bool {
	if k.RetryAfter != "" {
		w.Header().Set("Retry-After", k.RetryAfter)
	}
	switch {
	case k.Status != 0:
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(k.Status)
		_, _ = io.WriteString(w, "<html><body>Something went wrong</body></html>")
		return true
	case k.Error != "":
		status := http.StatusBadRequest
		if k.ErrorIn200 {
			status = http.StatusOK
		}
		writeJSON(w, status, map[string]any{"ok": false, "error": k.Error, "error_description": "as the test wants it"})
		return true
	}
	return false
}

func (s *Server) writeError(w http.ResponseWriter, k *Knobs, err error) {
	var e *refusal
	if !errors.As(err, &e) {
		e = &refusal{"server_error", http.StatusInternalServerError}
	}
	status := e.status
	if k.ErrorIn200 {
		status = http.StatusOK
	}
	if k.FormAnswers {
		w.Header().Set("Content-Type", "application/x-www-form-urlencoded")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, url.Values{"error": {e.code}}.Encode())
		return
	}
	writeJSON(w, status, map[string]any{"ok": false, "error": e.code, "error_description": "the provider refuses"})
}

// writeToken writes the answer in the form that the knobs want.
func (s *Server) writeToken(w http.ResponseWriter, k *Knobs, out *issued) {
	body, kind := s.answer(k, out), "application/json"
	if k.FormAnswers {
		form := url.Values{"access_token": {out.access}, "token_type": {"bearer"}, "scope": {"read,write"}}
		if out.refresh != "" {
			form.Set("refresh_token", out.refresh)
		}
		body, kind = form.Encode(), "application/x-www-form-urlencoded"
	}
	if k.ContentType != "" {
		kind = k.ContentType
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-store")
	if k.HangUpMid {
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = io.WriteString(w, body[:len(body)/2])
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	_, _ = io.WriteString(w, body)
}

// answer is the JSON of a token. It is written by hand: most of what the knobs ask for no encoder would write.
func (s *Server) answer(k *Knobs, out *issued) string {
	if k.NoToken {
		return `{"token_type":"bearer"}`
	}
	name := "access_token"
	if k.WrongCase {
		name = "Access_Token"
	}
	members := []string{fmt.Sprintf(`%q:%q`, name, out.access), `"token_type":"bearer"`, `"scope":"read write"`}
	if k.DuplicateKeys {
		members = append(members, fmt.Sprintf(`"access_token":%q`, out.access+"-again"))
	}
	if out.refresh != "" {
		members = append(members, fmt.Sprintf(`"refresh_token":%q`, out.refresh))
	}
	if out.nonce != "" {
		members = append(members, fmt.Sprintf(`"id_token":%q`, s.idToken(out)))
	}
	if e := expiresIn(k); e != "" {
		members = append(members, `"expires_in":`+e)
	}
	if k.Oversized {
		members = append(members, fmt.Sprintf(`"padding":%q`, strings.Repeat("x", 256<<10)))
	}
	object := "{" + strings.Join(members, ",") + "}"
	if k.Nested != "" {
		object = fmt.Sprintf(`{"ok":true,%q:%s}`, k.Nested, object)
	}
	return object
}

func expiresIn(k *Knobs) string {
	life := k.Lifetime
	if life == 0 {
		life = time.Hour
	}
	seconds := fmt.Sprint(int(life.Seconds()))
	switch {
	case k.NoExpiresIn:
		return ""
	case k.ExpiresIn != "":
		return k.ExpiresIn
	case k.ExpiresInString:
		return `"` + seconds + `"`
	case k.ExpiresInFloat:
		return seconds + ".5"
	}
	return seconds
}
