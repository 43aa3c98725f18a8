package connect

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/gorilla/securecookie"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// done says that a connection was made of what was typed, or how the sign-in ended that an embedded page waited for.
func (u *UI) done(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	if q := r.URL.Query(); q.Has(paramResult) {
		return u.ended(w, r, who, q.Get(paramResult))
	}
	var n note
	err := securecookie.DecodeMulti(noteName, r.URL.Query().Get(paramNote), &n, u.notes...)
	if err != nil || n.Session != who.Session {
		return broker.ErrNotFound
	}
	session, err := u.broker.Session(r.Context(), who)
	if err != nil {
		return err
	}
	env, err := u.broker.Environment(who)
	if err != nil {
		return err
	}
	l, err := u.look(r, who)
	if err != nil {
		return err
	}
	key := r.PathValue("key")
	return u.showDone(w, r, success{
		look: l, name: u.nameOf(r.Context(), who, key), integration: key, connection: n.Connection, again: n.Reconnected, session: session,
		missing: n.Missing, env: env, returnURL: session.ReturnURL,
	})
}

// callback is where a provider sends the browser back to.
func (u *UI) callback(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	if r.Method == http.MethodHead {
		return broker.ErrMethodNotAllowed // nothing that a browser does, and it would use the flow up
	}
	query := r.URL.Query()
	cookie := u.jar.take(w, r, broker.FlowCookieName(broker.StateIn(query)))
	o, err := u.broker.FinishFlow(r.Context(), broker.Callback{
		Query: query, Integration: r.PathValue("integration"), Browser: broker.NewSecret(cookie.Browser),
		IP: who.IP, RequestID: who.RequestID,
	})
	if err != nil {
		if f := (*broker.FlowError)(nil); errors.As(err, &f) && f.Landing != "" {
			kit.EventOf(r).Failed(f.Err)
			return u.goOn(w, r, cookie.look(r), f.Environment, f.Landing, f.Flow)
		}
		return &stopped{err: err, manner: &cookie.manner, retry: u.retry(r, cookie, err)}
	}
	if o.Landing != "" {
		return u.goOn(w, r, cookie.look(r), o.Environment, o.Landing, o.Flow)
	}
	return u.showDone(w, r, success{
		look: cookie.look(r), callback: true, name: o.Facts.DisplayName, integration: o.Integration, connection: o.Key,
		again: o.Reconnected, session: o.Session, env: o.Environment, returnURL: o.ReturnURL, missing: o.Missing, pending: o.Pending,
	})
}

// retry gives the address of the form that a failed flow was started from, as long as its session can still be used for
// that. Only the browser that started the flow learns it: the token is in its cookie.
func (u *UI) retry(r *http.Request, cookie flowCookie, err error) string {
	var f *broker.FlowError
	if cookie.Token == "" || !errors.As(err, &f) || f.Session == nil {
		return ""
	}
	who, err := u.broker.AuthenticateSession(r.Context(), cookie.Token)
	if err != nil || who.Session != f.Session.ID {
		return ""
	}
	if _, err := u.broker.ConnectForm(r.Context(), who, cookie.Integration); err != nil {
		return ""
	}
	return cookie.address(formPath(cookie.Integration), cookie.Token)
}

// reposted are the parameters of a provider's POST that are sent on. Every value of each is, so that a repeated one is
// still refused.
var reposted = []string{
	"state", "code", "iss", "error", "error_description",
	"oauth_token", "oauth_verifier", "denied", "oauth_problem", "oauth_problem_advice",
}

// repost answers a provider that sends its answer by POST. That comes from the provider's site, so the browser keeps our
// cookies back; a form of our own sends the answer once more, with them.
func (u *UI) repost(w http.ResponseWriter, r *http.Request, _ broker.Actor) error {
	if err := parseForm(r); err != nil {
		return err
	}
	l := manner{}.look(r)
	page := repostPage{frame: u.result(l, l.RepostTitle), Action: r.URL.EscapedPath()}
	for _, name := range reposted {
		for _, value := range r.PostForm[name] {
			page.Fields = append(page.Fields, param{name, value})
		}
	}
	return u.render(w, r, http.StatusOK, repostView(page), l.rules(""))
}

// success is what the page says that tells of one.
type success struct {
	look
	callback    bool   // the provider has just sent the browser back
	name        string // what was connected; empty: it is gone
	integration string // its key
	connection  string // its key
	again       bool
	session     *broker.Session // nil: none
	env         *broker.Environment
	returnURL   string
	missing     []string // scopes that were asked for and not granted
	pending     bool     // somebody else has to approve the installation of an app
}

// missingShown is how many scopes are named that were not granted.
const missingShown = 5

// notGranted says what was asked for and not granted, or not yet; "" if nothing was.
func (s *success) notGranted() string {
	if s.pending {
		return s.NotApproved
	}
	if len(s.missing) == 0 {
		return ""
	}
	names := s.missing[:min(len(s.missing), missingShown)]
	list := strings.Join(names, ", ")
	if len(names) < len(s.missing) {
		list += ", ..."
	}
	return fill(s.NotGranted, "{scopes}", list)
}

func (u *UI) showDone(w http.ResponseWriter, r *http.Request, s success) error {
	say := s.sayer(label(s.env), s.name)
	title := s.DoneTitle
	if s.again {
		title = s.DoneAgainTitle
	}
	page := donePage{frame: u.result(s.look, say(title)), Text: say(s.DoneText), Missing: s.notGranted()}
	if s.Parent != "" {
		s.returnURL = "" // the app's page is there already
	}
	if page.Embed != nil {
		page.Text = say(s.DoneEmbedded)
		page.tell(tellConnect, toldConnection{s.integration, s.connection, s.pending})
		return u.render(w, r, http.StatusOK, doneView(page), s.rules(""))
	}
	if page.Address = webAddress(s.returnURL, true); page.Address != "" {
		page.Text, page.Link, page.Return = say(s.DoneLater), say(s.DoneReturn), page.Address
	}
	var also any
	if s.callback {
		also = kind{"nango_oauth_callback_success"}
	}
	page.Outcome = u.outcome(s.manner, s.session, s.env, message{Status: "success", ConnectionID: s.connection}, also)
	if page.Outcome != nil {
		page.Outcome.Return = page.Address
	}
	return u.render(w, r, http.StatusOK, doneView(page), s.rules(""))
}

// message is what a page tells its opener: ids and codes alone.
type message struct {
	Type         string           `json:"type"`
	Version      int              `json:"version"`
	SessionID    broker.SessionID `json:"session_id"`
	Status       string           `json:"status"` // success or error
	ConnectionID string           `json:"connection_id,omitempty"`
	ErrorCode    string           `json:"error_code,omitempty"`
}

// kind is a message that says nothing but what it is.
type kind struct {
	Type string `json:"type"`
}

// outcome addresses a message to the origins that the session allows, and what the Nango client knows it as, if that is not
// nil. Without a session there is nobody to tell.
func (u *UI) outcome(how manner, s *broker.Session, e *broker.Environment, m message, also any) *outcome {
	if s == nil || e == nil {
		return nil
	}
	m.Type, m.Version, m.SessionID = "coatcheck:connect", 1, s.ID
	if how.Parent != "" {
		// The page that opened this one is ours, inside the app's. It asks the server, and this makes it ask now.
		return &outcome{Message: toJSON(m), Origins: toJSON([]string{u.broker.PublicURL()})}
	}
	origins := u.broker.Origins(e, s)
	if origins == nil {
		origins = []string{}
	}
	o := &outcome{
		Message: toJSON(m), Origins: toJSON(origins),
		// No list of origins: on this machine, and only there, any other page of it will do.
		AnyLocal: len(origins) == 0 && u.broker.DevMode(),
	}
	if also != nil {
		o.Also = toJSON(also)
	}
	return o
}

// toJSON writes what cannot fail to be written: strings.
func toJSON(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return "null"
	}
	return string(raw)
}
