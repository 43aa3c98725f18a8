package connect

import (
	"cmp"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/gorilla/securecookie"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// submit is the button: on to the provider, or the connection is made of what was typed.
func (u *UI) submit(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	if err := u.guard.check(r, who.Session); err != nil {
		return err
	}
	key, token := r.PathValue("key"), r.PostForm.Get(paramToken)
	kit.EventOf(r).Note(slog.String("integration", key))
	form, err := u.broker.ConnectForm(r.Context(), who, key)
	if err != nil {
		return u.stop(r, who, key, err)
	}
	l, err := u.look(r, who)
	if err != nil {
		return err
	}
	typed := typedFields(form.Ask, r.PostForm)
	err = u.begin(w, r, who, l, form, kit.Start{Token: token, Key: key, Fields: typed, Channel: l.Attempt})
	if err == nil {
		return nil
	}
	refusal := broker.AsError(err)
	if !correctable(refusal) {
		return &stopped{err: err, app: form.Environment.Label(), provider: formName(form)}
	}
	u.refused(w, r, refusal)
	return u.showForm(w, r, who, visit{look: l, token: token, key: key, typed: typed, refusal: refusal})
}

// begin does what the button is for.
func (u *UI) begin(w http.ResponseWriter, r *http.Request, who broker.Actor, l look, f *broker.ConnectForm, s kit.Start) error {
	if f.Facts.Interactive {
		return u.leave(w, r, who, l, f, s)
	}
	return u.store(w, r, who, l, f, s)
}

// refused notes why a form is shown again.
func (u *UI) refused(w http.ResponseWriter, r *http.Request, refusal *broker.Error) {
	w.Header().Set(kit.HeaderErrorCode, refusal.Code)
	kit.EventOf(r).Note(slog.String("code", refusal.Code))
}

// correctable reports whether sending the form again can help, so that it is shown again.
func correctable(e *broker.Error) bool {
	switch e.Kind {
	case broker.Invalid, broker.Unprocessable, broker.BadGateway, broker.Unavailable, broker.Timeout:
		return e.Code != broker.ErrNotSupported.Code
	case broker.Internal, broker.Unauthenticated, broker.Denied, broker.NotFound, broker.MethodNotAllowed, broker.Conflict,
		broker.TooLarge, broker.UnsupportedMedia, broker.RateLimited:
		return false
	}
	return false
}

// typedFields takes what the form asked for out of what was sent; anything else is not looked at.
func typedFields(ask []broker.Field, sent url.Values) map[string]string {
	typed := make(map[string]string, len(ask))
	for _, f := range ask {
		value := sent.Get(fieldName(f))
		if !f.Secret {
			value = undecorated(strings.TrimSpace(value), f)
		}
		typed[fieldName(f)] = value
	}
	return typed
}

// undecorated takes off what the form shows around the field and people type all the same.
func undecorated(value string, f broker.Field) string {
	if len(f.Options) > 0 {
		return value
	}
	return strings.TrimSuffix(strings.TrimPrefix(value, f.Prefix), f.Suffix)
}

// leave starts a flow and sends the browser to the provider.
func (u *UI) leave(w http.ResponseWriter, r *http.Request, who broker.Actor, l look, f *broker.ConnectForm, s kit.Start) error {
	started, err := u.broker.StartFlow(r.Context(), who, s.Key, broker.ConnectInput{
		Fields: onlyAsked(s.Fields, f), Params: s.Params, Channel: s.Channel, Landing: s.Landing, Callback: s.Callback, Own: s.Own,
	})
	if err != nil {
		return err
	}
	target, err := url.Parse(started.URL)
	if err != nil || target.Scheme != "https" && target.Scheme != "http" || target.Host == "" {
		return broker.ErrProviderURLInvalid
	}
	cookie := flowCookie{Browser: started.Browser.Reveal(), Integration: s.Key, manner: l.manner}
	if s.Channel == "" {
		cookie.Token = s.Token // where somebody waits for the result, a second try begins there
	}
	if err := u.jar.put(w, r, started.CookieName, cookie); err != nil {
		return broker.ErrInternal.Because(err)
	}
	if len(started.Scopes) > 0 {
		return u.showScopes(w, r, l, target, formName(f), started.Scopes)
	}
	if r.Method == http.MethodGet || r.Header.Get("Sec-Fetch-Mode") == "" {
		redirectBy(w, cmp.Or(s.Status, http.StatusSeeOther), target.String(), nil)
		return nil
	}
	return u.showGo(w, r, l, target.String(), formName(f))
}

// showGo shows the page that goes on by itself to somebody's address.
func (u *UI) showGo(w http.ResponseWriter, r *http.Request, l look, target, whose string) error {
	page := u.goPage(l, target, whose)
	page.GoTo = target
	return u.render(w, r, http.StatusOK, goView(page), l.rules(""))
}

// showScopes shows what a server wants, which was not known when the form was, before anybody goes there.
func (u *UI) showScopes(w http.ResponseWriter, r *http.Request, l look, target *url.URL, whose string, scopes []string) error {
	page := u.goPage(l, target.String(), whose)
	page.Scopes = scopes
	return u.render(w, r, http.StatusOK, goView(page), l.rules(""))
}

func (u *UI) goPage(l look, target, whose string) goPage {
	host := target
	if parsed, err := url.Parse(target); err == nil {
		host = parsed.Hostname()
	}
	say := func(text string) string { return fill(text, "{provider}", whose, "{host}", host) }
	return goPage{frame: u.result(l, say(l.GoTitle)), Lead: say(l.GoLead), Link: say(l.GoLink), Target: target}
}

// onlyAsked drops what the provider does not ask for.
func onlyAsked(fields map[string]string, f *broker.ConnectForm) map[string]string {
	out := make(map[string]string, len(f.Ask))
	for _, ask := range f.Ask {
		if value, ok := fields[fieldName(ask)]; ok {
			out[fieldName(ask)] = value
		}
	}
	return out
}

// note is what a start hands to the page that says that it worked.
type note struct {
	Session     broker.SessionID `json:"s"`
	Connection  string           `json:"c"` // its key
	Reconnected bool             `json:"r"`
	Missing     []string         `json:"m,omitempty"` // as many as are shown, and one more
}

const noteName = "note"

// store makes a connection of what was typed and goes on to the page that says so, which can be loaded again.
func (u *UI) store(w http.ResponseWriter, r *http.Request, who broker.Actor, l look, f *broker.ConnectForm, s kit.Start) error {
	o, err := u.broker.Connect(r.Context(), who, f.Integration.Key, broker.ConnectInput{Fields: s.Fields, Landing: s.Landing, Own: s.Own})
	if err != nil {
		return err
	}
	if o.Landing != "" {
		return u.goOn(w, r, l, o.Environment, o.Landing, o.Flow)
	}
	text, err := securecookie.EncodeMulti(noteName, note{who.Session, o.Key, o.Reconnected, o.Missing[:min(len(o.Missing), missingShown+1)]}, u.notes...)
	if err != nil {
		return broker.ErrInternal.Because(err)
	}
	redirect(w, l.address(formPath(f.Integration.Key)+"/done", s.Token, param{paramNote, text}), l.ancestors)
	return nil
}
