package kit

import (
	"net/http"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
)

// maxCookies is how many cookies a request may carry.
const maxCookies = 100

// Gate stands in front of every handler.
type Gate struct {
	Limiter *Limiter
	// KeyLimit refuses a key that sends too much; nil: each may send what it likes.
	KeyLimit func(broker.APIKeyID) error
	CORS     *CORS
}

// Handler makes a row answer requests.
func (g *Gate) Handler(s *Surface, row Route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec, ok := w.(*recorder)
		if !ok {
			rec = &recorder{ResponseWriter: w}
		}
		defer survive(rec, r, s.Fail)
		if err := g.pass(s, &row, rec, r); err != nil {
			fail(rec, r, s.Fail, err)
		}
	})
}

// pass checks everything that a row demands, and then handles the request.
func (g *Gate) pass(s *Surface, row *Route, w http.ResponseWriter, r *http.Request) error {
	if row.Auth.Limited {
		if err := g.Limiter.Take(EventOf(r).IP); err != nil {
			return err
		}
	}
	if row.Auth.Pages {
		g.CORS.beforeAuth(w, r)
	}
	if err := accept(s, row, w, r); err != nil {
		return err
	}
	who, err := row.Auth.Check(r)
	if err != nil {
		return err
	}
	e := EventOf(r)
	who.RequestID = e.ID
	if e.IP.IsValid() {
		who.IP = e.IP.String()
	}
	e.came(who)
	if g.KeyLimit != nil && who.Kind == broker.ByKey {
		if err := g.KeyLimit(who.Key); err != nil {
			return err
		}
	}
	if row.Auth.Pages {
		if err := g.CORS.afterAuth(w, r, who); err != nil {
			return err
		}
	}
	return row.Handle(w, r, who)
}

// accept refuses what no handler should see: too many cookies, a body where none belongs or of the wrong kind. It bounds
// what a handler can read.
func accept(s *Surface, row *Route, w http.ResponseWriter, r *http.Request) error {
	cookies := 0
	for _, line := range r.Header["Cookie"] {
		cookies += 1 + strings.Count(line, ";")
	}
	if cookies > maxCookies {
		return broker.ErrInvalidRequest.Saying("the request carries too many cookies")
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return broker.ErrUnsupportedMedia.Saying("encoded bodies are not accepted")
	}
	if s.JSON {
		if err := wantJSON(r); err != nil {
			return err
		}
	}
	switch {
	case row.MaxBody == 0 && r.ContentLength != 0:
		return broker.ErrBodyTooLarge.Saying("no body is accepted here")
	case r.ContentLength > row.MaxBody:
		return broker.ErrBodyTooLarge
	}
	r.Body = http.MaxBytesReader(w, r.Body, row.MaxBody)
	return nil
}

// wantJSON refuses other bodies. A content type without a body is fine, as long as it is that of JSON: some clients set
// it on every request.
func wantJSON(r *http.Request) error {
	kind := r.Header.Get("Content-Type")
	if kind != "" && !isJSON(kind) || kind == "" && r.ContentLength != 0 {
		return broker.ErrUnsupportedMedia.Saying("the body must be JSON, and the content type application/json")
	}
	return nil
}

func isJSON(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.EqualFold(strings.TrimSpace(media), "application/json")
}
