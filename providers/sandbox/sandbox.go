package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	defaultAccessLifetime = 2 * time.Minute
	refreshLifetime       = 30 * 24 * time.Hour // since the last renewal
	repeatGrace           = 10 * time.Second
	pageLifetime          = 10 * time.Minute
	codeLifetime          = time.Minute
	codeMemory            = 10 * time.Minute // how long a spent code is recognised

	maxRequests = 1000 // open login and consent pages
	maxCodes    = 1000
	maxFamilies = 1000
	maxQuery    = 8 << 10  // bytes of an authorization request
	maxForm     = 16 << 10 // bytes of a posted form
)

// Options says where the sandbox stands and whom it serves. Only Origin and Clients are required.
type Options struct {
	// Origin is the sandbox's own base URL as browsers and clients reach it, such as
	// "http://127.0.0.1:3004". It is also its issuer identifier.
	Origin string
	// Clients holds the apps that may ask for tokens, by client id.
	Clients map[string]Client
	// Users are the accounts that the login page offers. The default is Ada and Grace.
	Users []User
	// AccessTokenLifetime defaults to two minutes, short enough to watch a renewal.
	AccessTokenLifetime time.Duration
	// Now defaults to time.Now.
	Now func() time.Time
	// Logger gets a line for each token and revocation request, never with a secret. The default discards.
	Logger *slog.Logger
}

// Client is an app that may ask for tokens.
type Client struct {
	// Name is what the login and consent pages call the app.
	Name string
	// Secret authenticates the app at the token endpoint. An empty one never does.
	Secret string
	// RedirectURIs lists where answers may go. They are compared byte by byte (RFC 9700 4.1.3).
	RedirectURIs []string
	// OnwardOrigins lists further origins that a redirect URI sends the browser on to by an HTTP
	// redirect. Chromium holds the whole chain against the form-action of the consent page.
	OnwardOrigins []string
}

// User is an account at the sandbox, and what /api/me answers.
type User struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Email string `json:"email"`
}

// Stats counts what clients did since the start.
type Stats struct {
	TokenRequests   int // requests to the token endpoint, refused ones included
	Refreshes       int // refresh requests answered with tokens, repeats within the grace included
	Reuses          int // spent refresh tokens and codes that came again and were refused
	FamiliesRevoked int // families ended by such a reuse
	Revocations     int // families ended by a request to the revocation endpoint
}

// Server is the sandbox. It is an http.Handler that expects to be mounted at the root of its origin,
// and safe for concurrent use.
type Server struct {
	origin     string
	clients    map[string]Client
	users      []User
	accessLife time.Duration
	now        func() time.Time
	log        *slog.Logger
	mux        *http.ServeMux
	key        []byte // signs tokens
	// pause waits for d or until ctx ends. Tests replace it.
	pause func(ctx context.Context, d time.Duration) error

	mu       sync.Mutex // guards what follows
	requests shelf[request]
	codes    shelf[*code]
	families shelf[*family]
	racks    map[string]*rack // by user id
	stats    Stats
}

// New returns a sandbox without any grant. It does not listen; the caller serves it at opts.Origin.
func New(opts Options) *Server {
	s := &Server{
		origin:     strings.TrimSuffix(opts.Origin, "/"),
		clients:    opts.Clients,
		users:      opts.Users,
		accessLife: opts.AccessTokenLifetime,
		now:        opts.Now,
		log:        opts.Logger,
		key:        make([]byte, 32),
		pause:      pause,
		requests:   newShelf[request](maxRequests),
		codes:      newShelf[*code](maxCodes),
		families:   newShelf[*family](maxFamilies),
		racks:      map[string]*rack{},
	}
	_, _ = rand.Read(s.key) // never returns an error
	if s.users == nil {
		s.users = []User{
			{ID: "ada", Name: "Ada", Email: "ada@sandbox.test"},
			{ID: "grace", Name: "Grace", Email: "grace@sandbox.test"},
		}
	}
	if s.accessLife <= 0 {
		s.accessLife = defaultAccessLifetime
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.mux = s.routes()
	return s
}

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /authorize", s.authorize)
	mux.HandleFunc("POST /login", s.login)
	mux.HandleFunc("POST /consent", s.consent)
	mux.HandleFunc("POST /token", s.token)
	mux.HandleFunc("POST /revoke", s.revoke)
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", s.metadata)
	mux.HandleFunc("GET /api/me", s.bearer(s.me))
	mux.HandleFunc("GET /api/coats", s.bearer(s.coats))
	mux.HandleFunc("POST /api/coats", s.bearer(s.checkIn))
	mux.HandleFunc("GET /api/events", s.bearer(s.events))
	mux.HandleFunc("GET /api/slow", s.bearer(s.slow))
	return mux
}

// ServeHTTP answers with nothing that a browser may guess the type of, cache or tell others about.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache") // beside no-store, for token answers (RFC 6749 5.1)
	s.mux.ServeHTTP(w, r)
}

// Grant does what a person does on the login and consent pages and the client at the token endpoint
// after that, so that a demo can begin with a connection already made. No scopes means the default ones.
// The client id and the user id come from the caller's own options: Grant panics at an unknown one.
func (s *Server) Grant(clientID, userID string, scopes []string) (accessToken, refreshToken string, expiresIn time.Duration) {
	user, ok := s.user(userID)
	if _, known := s.clients[clientID]; !known || !ok {
		panic("sandbox: grant for an unknown client or user")
	}
	if len(scopes) == 0 {
		scopes = defaultScopes()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.newFamily(clientID, user, scopes)
	t := s.tokens(f)
	return t.access, t.refresh, t.expiresIn
}

// Stats returns the counts so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

func (s *Server) user(id string) (User, bool) {
	for _, u := range s.users {
		if u.ID == id {
			return u, true
		}
	}
	return User{}, false
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// writeJSON ignores write errors: the reader has gone, and nobody is left to tell.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
