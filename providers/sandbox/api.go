package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	rackSize    = 50 // coats per account
	maxCoatBody = 4 << 10
	maxItem     = 120 // characters of a coat's description
	eventCount  = 5
	eventEvery  = 300 * time.Millisecond
	defaultSlow = time.Second
	maxSlow     = 10 * time.Second
)

// bearer lets a request through that has a live access token (RFC 6750). A token in the query or the
// body does not count.
func (s *Server) bearer(next func(http.ResponseWriter, *http.Request, User)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") {
			w.Header().Set("WWW-Authenticate", `Bearer realm="sandbox"`)
			writeJSON(w, http.StatusUnauthorized, oauthError{"unauthorized", "a bearer token is needed"})
			return
		}
		user, ok := s.holder(strings.TrimSpace(token))
		if !ok {
			const why = "the access token is unknown, expired or revoked"
			w.Header().Set("WWW-Authenticate",
				`Bearer realm="sandbox", error="invalid_token", error_description="`+why+`"`)
			writeJSON(w, http.StatusUnauthorized, oauthError{"invalid_token", why})
			return
		}
		next(w, r, user)
	}
}

// holder says whose access token this is, while it and its family are alive.
func (s *Server) holder(token string) (User, bool) {
	t, ok := s.read(token)
	if !ok || t.kind != kindAccess {
		return User{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	f, alive := s.families.get(t.family, now)
	if !alive || !now.Before(t.expires) {
		return User{}, false
	}
	return f.user, true
}

func (s *Server) me(w http.ResponseWriter, _ *http.Request, user User) {
	writeJSON(w, http.StatusOK, user)
}

// coat is a coat on an account's rack.
type coat struct {
	Ticket    string    `json:"ticket"`
	Item      string    `json:"item"`
	CheckedIn time.Time `json:"checked_in"`
}

// rack holds an account's coats, the newest last.
type rack struct {
	coats []coat
	count int // tickets given out
}

// hang adds a coat. On a full rack the oldest makes room.
func (k *rack) hang(item string, now time.Time) coat {
	k.count++
	c := coat{Ticket: fmt.Sprintf("C-%03d", k.count), Item: item, CheckedIn: now.UTC()}
	if len(k.coats) == rackSize {
		k.coats = k.coats[1:]
	}
	k.coats = append(k.coats, c)
	return c
}

// rack returns the account's rack, with a few coats on it from the start. The caller holds the lock.
func (s *Server) rack(user User) *rack {
	k := s.racks[user.ID]
	if k == nil {
		k = &rack{}
		for _, item := range []string{"Navy wool overcoat", "Yellow raincoat", "Umbrella with a duck handle"} {
			k.hang(item, s.now())
		}
		s.racks[user.ID] = k
	}
	return k
}

func (s *Server) coats(w http.ResponseWriter, _ *http.Request, user User) {
	s.mu.Lock()
	coats := append([]coat(nil), s.rack(user).coats...)
	s.mu.Unlock()
	writeJSON(w, http.StatusOK, map[string]any{"coats": coats})
}

// checkIn hangs the coat of a body like {"item": "Green parka"} and answers with its ticket.
func (s *Server) checkIn(w http.ResponseWriter, r *http.Request, user User) {
	var body struct {
		Item string `json:"item"`
	}
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxCoatBody)).Decode(&body)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		writeJSON(w, http.StatusRequestEntityTooLarge, oauthError{"too_large", "the coat does not fit"})
		return
	}
	item := strings.TrimSpace(body.Item)
	if err != nil || item == "" || utf8.RuneCountInString(item) > maxItem {
		writeJSON(w, http.StatusBadRequest, oauthError{"invalid_request", `send JSON like {"item": "Green parka"}`})
		return
	}
	s.mu.Lock()
	c := s.rack(user).hang(item, s.now())
	s.mu.Unlock()
	writeJSON(w, http.StatusCreated, c)
}

// events streams a few server-sent events, each as soon as it happens, and ends.
func (s *Server) events(w http.ResponseWriter, r *http.Request, user User) {
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	for n := 1; n <= eventCount; n++ {
		if n > 1 && s.pause(r.Context(), eventEvery) != nil {
			return
		}
		data, err := json.Marshal(map[string]any{"hook": n, "of": eventCount, "account": user.ID})
		if err != nil {
			return
		}
		if _, err := fmt.Fprintf(w, "id: %d\nevent: coat\ndata: %s\n\n", n, data); err != nil {
			return
		}
		if err := out.Flush(); err != nil {
			return
		}
	}
}

// slow answers after the milliseconds of the query's ms, ten seconds at most.
func (s *Server) slow(w http.ResponseWriter, r *http.Request, _ User) {
	wait := defaultSlow
	if ms := r.URL.Query().Get("ms"); ms != "" {
		n, err := strconv.ParseUint(ms, 10, 31)
		if err != nil {
			writeJSON(w, http.StatusBadRequest, oauthError{"invalid_request", "ms is a number of milliseconds"})
			return
		}
		wait = min(time.Duration(n)*time.Millisecond, maxSlow)
	}
	if s.pause(r.Context(), wait) != nil {
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"waited_ms": wait.Milliseconds()})
}
