package nango_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/api/apitest"
)

var estateKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// estate is a double of a provider whose apps are installed and signed in to. It checks the app's tokens, rotates the
// refresh tokens of users, and ends a user's grant when a spent one comes back.
type estate struct {
	now func() time.Time

	mu            sync.Mutex
	serial        int
	installations map[string]*installation
	grants        map[string]*grant // by access and refresh tokens, spent ones included
	minted        map[string]bool   // tokens of installations; false: it was ended
	issued        []string          // all tokens
	renewals      int               // of users
	reused        int               // spent refresh tokens that came back
	suspended     bool              // no installation gets a token
	mute          bool              // nor is it said why
	muddled       bool              // a renewal's answer is lost on its way
	wrong         []string          // requests that are not as they have to be
	trusting      bool              // whoever signed a token of the app
	channel       string            // a parameter of sign-ins that somebody waits for
}

type installation struct {
	made    time.Time
	visible []string // to whom
}

type grant struct {
	user            string
	access, refresh string
	ended           bool
}

const (
	estateSecret = "estate-client-secret"
	estateLink   = "https://estate.test/apps/reader"
)

func estatePEM() string {
	return strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(estateKey())})))
}

// newEstate makes a site with an integration of the provider.
func newEstate(t *testing.T) (*estate, *site) {
	t.Helper()
	e := &estate{installations: map[string]*installation{}, grants: map[string]*grant{}, minted: map[string]bool{}}
	s := newSiteWith(t, apitest.Options{Connect: true, Provider: e.serve})
	e.now = s.Now
	body, err := json.Marshal(map[string]any{"provider": "estate", "unique_key": "estate-prod", "credentials": map[string]string{
		"type": "CUSTOM", "client_id": "Iv1.estate", "client_secret": estateSecret, "app_id": "4711", "app_link": estateLink, "private_key": estatePEM(),
	}})
	must(t, err)
	s.send(t, http.MethodPost, "/integrations", string(body)).is(t, http.StatusOK, "")
	return e, s
}

// goldenSite is a site whose provider does not know the key that the files have.
func goldenSite(t *testing.T) *site {
	t.Helper()
	e := &estate{installations: map[string]*installation{"77": {made: apitest.Start}}, minted: map[string]bool{}, trusting: true}
	s := newSiteWith(t, apitest.Options{Provider: func(w http.ResponseWriter, r *http.Request) bool {
		return cloud(w, r) || letIn(w, r) || e.serve(w, r)
	}})
	e.now = s.Now
	return s
}

// install makes an installation that users may see.
func (e *estate) install(id string, made time.Time, visible ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.installations[id] = &installation{made, visible}
}

func (e *estate) set(change func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change()
}

// next gives a user's grant its next tokens.
func (e *estate) next(g *grant) string {
	e.serial++
	g.access, g.refresh = fmt.Sprintf("ghu_%s_%04d", g.user, e.serial), fmt.Sprintf("ghr_%s_%04d", g.user, e.serial)
	e.grants[g.access], e.grants[g.refresh] = g, g
	e.issued = append(e.issued, g.access, g.refresh)
	return fmt.Sprintf(`{"access_token":%q,"expires_in":28800,"refresh_token":%q,"refresh_token_expires_in":15897600,"scope":"","token_type":"bearer"}`, g.access, g.refresh)
}

// own reports whether a request speaks for the app.
func (e *estate) own(r *http.Request) bool {
	token, err := jwt.ParseSigned(bearer(r), []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return false
	}
	var c jwt.Claims
	return e.trusting || token.Claims(&estateKey().PublicKey, &c) == nil && c.ValidateWithLeeway(jwt.Expected{Issuer: "4711", Time: e.now()}, 0) == nil &&
		c.Expiry.Time().Sub(c.IssuedAt.Time()) <= 10*time.Minute
}

func bearer(r *http.Request) string {
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

// user gives the grant whose access token a request has.
func (e *estate) user(r *http.Request) *grant {
	if g := e.grants[bearer(r)]; g != nil && !g.ended && g.access == bearer(r) {
		return g
	}
	return nil
}

func (e *estate) serve(w http.ResponseWriter, r *http.Request) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	refuse := func(status int) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"message":"No"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	path, id := r.URL.Path, strings.TrimPrefix(r.URL.Path, "/app/installations/")
	switch {
	case r.URL.Host == "estate.test":
		_, _ = io.WriteString(w, e.token(r.PostForm))
	case r.URL.Host != "api.estate.test":
		return false
	case path == "/installation/token" && r.Method == http.MethodDelete && e.minted[bearer(r)]:
		e.minted[bearer(r)] = false
		w.WriteHeader(http.StatusNoContent)
	case path == "/applications/Iv1.estate/grant" && r.Method == http.MethodDelete:
		e.end(w, r)
	case path == "/user" && e.user(r) != nil:
		_, _ = fmt.Fprintf(w, `{"id":%d,"login":%q}`, len(e.user(r).user), e.user(r).user)
	case path == "/user/installations" && e.user(r) != nil:
		_, _ = io.WriteString(w, e.list(e.user(r).user, r.URL.Query()))
	case !e.own(r):
		refuse(http.StatusUnauthorized)
	case r.Method == http.MethodGet && e.installations[id] != nil:
		_, _ = io.WriteString(w, e.about(id))
	case e.mute:
		_, _ = io.WriteString(w, "<html>")
	case e.suspended:
		refuse(http.StatusForbidden)
	case e.installations[strings.TrimSuffix(id, "/access_tokens")] == nil:
		refuse(http.StatusNotFound)
	default:
		e.serial++
		token := fmt.Sprintf("ghs_%s_%04d", strings.TrimSuffix(id, "/access_tokens"), e.serial)
		e.minted[token], e.issued = true, append(e.issued, token)
		w.WriteHeader(http.StatusCreated)
		_, _ = fmt.Fprintf(w, `{"token":%q,"expires_at":%q}`, token, e.now().Add(time.Hour).Format(time.RFC3339))
	}
	return true
}

// token answers the token endpoint. A code names its user: it is code-, the user's name and a serial.
func (e *estate) token(form url.Values) string {
	if form.Get("client_id") != "Iv1.estate" || form.Get("client_secret") != estateSecret || form.Has("redirect_uri") || form.Has("code_verifier") {
		e.wrong = append(e.wrong, "a token request with the parameters of another")
		return `{"error":"incorrect_client_credentials"}`
	}
	if code := form.Get("code"); code != "" {
		name, _, _ := strings.Cut(strings.TrimPrefix(code, "code-"), "-")
		if e.grants[code] != nil {
			return `{"error":"bad_verification_code"}`
		}
		e.grants[code] = &grant{user: name}
		return e.next(e.grants[code])
	}
	e.renewals++
	g := e.grants[form.Get("refresh_token")]
	switch {
	case g == nil || g.ended:
		return `{"error":"bad_refresh_token"}`
	case g.refresh != form.Get("refresh_token"):
		e.reused++
		g.ended = true
		return `{"error":"bad_refresh_token"}`
	}
	answer := e.next(g)
	if e.muddled {
		return "<html>"
	}
	return answer
}

// end answers the end of a user's grant.
func (e *estate) end(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Token string `json:"access_token"`
	}
	id, secret, _ := r.BasicAuth()
	err := json.NewDecoder(r.Body).Decode(&body)
	g := e.grants[body.Token]
	if err != nil || id != "Iv1.estate" || secret != estateSecret || g == nil || g.access != body.Token {
		e.wrong = append(e.wrong, "the end of a grant that is none")
		w.WriteHeader(http.StatusNotFound)
		return
	}
	for _, other := range e.grants { // one is all of that user's
		other.ended = other.ended || other.user == g.user
	}
	w.WriteHeader(http.StatusNoContent)
}

// list answers which installations a user may see, a page at a time.
func (e *estate) list(user string, q url.Values) string {
	var ids []string
	for id, in := range e.installations {
		if slices.Contains(in.visible, user) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	size, _ := strconv.Atoi(q.Get("per_page"))
	page, _ := strconv.Atoi(q.Get("page"))
	ids = ids[min(len(ids), (page-1)*size):min(len(ids), page*size)]
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = e.about(id)
	}
	return fmt.Sprintf(`{"total_count":%d,"installations":[%s]}`, len(e.installations), strings.Join(out, ","))
}

func (e *estate) about(id string) string {
	return fmt.Sprintf(`{"id":%s,"app_id":4711,"account":{"id":1},"created_at":%q,"updated_at":%[2]q}`, id, e.installations[id].made.Format(time.RFC3339))
}

// asked counts the renewals of users.
func (e *estate) asked() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.renewals
}

// ended reports whether a user's grants are over, and how many tokens of installations are not.
func (e *estate) ended(user string) (over bool, living int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	over = true
	for _, g := range e.grants {
		over = over && (g.user != user || g.ended)
	}
	for _, lives := range e.minted {
		if lives {
			living++
		}
	}
	return over, living
}

// signsIn plays a sign-in with what the provider sends the browser back with, which gets the state.
func (e *estate) signsIn(t *testing.T, s *site, in broker.SessionInput, query string) *httptest.ResponseRecorder {
	t.Helper()
	begun := s.Send(t, http.MethodGet, "/oauth/connect/estate-prod?connect_session_token="+s.Session(t, in)+e.channel, "", "Authorization", "")
	goal, err := url.Parse(begun.Header().Get("Location"))
	must(t, err)
	state := goal.Query().Get("state")
	if want := estateLink + "/installations/new?state=" + url.QueryEscape(state); state == "" || goal.String() != want {
		t.Fatalf("%d, on to %s", begun.Code, goal)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/oauth/callback?"+query+"&state="+url.QueryEscape(state), nil)
	for _, c := range begun.Result().Cookies() {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	s.Handler.ServeHTTP(w, r)
	return w
}

// connects is signsIn for a sign-in that succeeds, and gives the connection.
func (e *estate) connects(t *testing.T, s *site, in broker.SessionInput, query string) *broker.Connection {
	t.Helper()
	if got := e.signsIn(t, s, in, query); got.Code != http.StatusOK {
		t.Fatalf("%d %s: %s", got.Code, got.Header().Get("X-Error-Code"), got.Body)
	}
	list, err := s.Broker.Connections(t.Context(), broker.System(s.Env.ID), broker.ConnectionFilter{Limit: 10})
	must(t, err)
	return slices.MaxFunc(list, func(a, b *broker.Connection) int { return a.AuthorizedAt.Compare(b.AuthorizedAt) })
}

// estateReading is what is read of a connection.
type estateReading struct {
	Credentials struct {
		Type, Refresh string
		Access        string    `json:"access_token"`
		Expires       time.Time `json:"expires_at"`
	}
	Config struct {
		Installation string `json:"installation_id"`
		App          string `json:"app_id"`
		Handle       string
		Pending      bool
		Lost         string `json:"userCredentialsError"`
		User         *struct {
			Type    string
			Access  string    `json:"access_token"`
			Refresh string    `json:"refresh_token"`
			Expires time.Time `json:"expires_at"`
		} `json:"userCredentials"`
	} `json:"connection_config"`
}

// reads reads a connection.
func (e *estate) reads(t *testing.T, s *site, c *broker.Connection, more string) (out estateReading) {
	t.Helper()
	got := s.send(t, http.MethodGet, "/connections/"+c.Key+"?provider_config_key=estate-prod"+more, "").is(t, http.StatusOK, "")
	must(t, json.Unmarshal([]byte(got.body), &out))
	return out
}
