package connect

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/securecookie"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// endedPath is the landing of sign-ins whose surface has no page of its own to tell how they ended.
const endedPath = kit.EndedPath

// goOn sends the browser on to the landing of a sign-in that has ended. What a provider's redirect has brought here goes on
// by another one; a form's answer must be fetched by GET. After a form of ours a browser gets a page, because the landing may
// redirect to the app: see the package comment.
func (u *UI) goOn(w http.ResponseWriter, r *http.Request, l look, e *broker.Environment, landing string, flow broker.FlowID) error {
	target := landing + "?" + kit.ParamFlow + "=" + url.QueryEscape(string(flow))
	if r.Header.Get("Sec-Fetch-Site") == "same-origin" && r.Header.Get("Sec-Fetch-Mode") == "navigate" {
		return u.showGo(w, r, l, u.broker.PublicURL()+target, label(e))
	}
	if r.Method != http.MethodGet {
		redirect(w, target, nil)
		return nil
	}
	redirectBy(w, http.StatusFound, target, nil)
	return nil
}

// endedSignIn tells how a sign-in ended. The address holds an id that only this browser was told.
func (u *UI) endedSignIn(w http.ResponseWriter, r *http.Request, _ broker.Actor) error {
	f, err := u.broker.EndedFlow(r.Context(), broker.FlowID(r.URL.Query().Get(kit.ParamFlow)))
	if err != nil {
		return err
	}
	l, name := aloneLook(r), ""
	if facts, err := u.broker.Provider(f.Integration.Provider); err == nil {
		name = displayName(f.Integration, facts)
	}
	if f.Status == broker.FlowSucceeded {
		return u.showDone(w, r, success{look: l, name: name, integration: f.Integration.Key, env: f.Environment, returnURL: f.ReturnURL, missing: f.Missing, pending: f.Pending})
	}
	page := u.failurePage(l, f.Environment.Label(), name, f.Code)
	page.RequestID = kit.RequestID(r)
	if page.Address = webAddress(f.ReturnURL, true); page.Address != "" {
		page.Link = l.sayer(f.Environment.Label(), name)(l.DoneReturn)
	}
	return u.render(w, r, http.StatusOK, failureView(page), l.rules(""))
}

const (
	keptCookie = "sign-in"
	keptAge    = 600 // seconds
)

// kept is what the cookie holds that stands in for a token in an address.
type kept struct {
	Token string `json:"s"`
	Path  string `json:"p"` // where it is good
	SetAt int64  `json:"t"`
}

// Keep implements [kit.Starter]. The page that it leads to has to learn which origin sent the browser, since that decides
// whether a click is needed. A redirect's policy is about that origin's address: ours, with the token, is told to nobody.
func (u *UI) Keep(w http.ResponseWriter, r *http.Request, token string) error {
	name, path := u.jar.name(keptCookie), r.URL.EscapedPath()
	value, err := securecookie.EncodeMulti(name, kept{token, path, u.broker.Now().Unix()}, u.jar.codecs...)
	if err != nil {
		return broker.ErrInternal.Because(err)
	}
	u.jar.write(w, name, value, keptAge)
	headers(w, "default-src 'none'; frame-ancestors 'none'")
	w.Header().Set("Referrer-Policy", "strict-origin")
	w.Header().Set("Location", path)
	w.WriteHeader(http.StatusFound)
	return nil
}

// Kept implements [kit.Starter].
func (u *UI) Kept(r *http.Request) string {
	sent, err := r.Cookie(u.jar.name(keptCookie))
	if err != nil {
		return ""
	}
	var k kept
	if err := securecookie.DecodeMulti(sent.Name, sent.Value, &k, u.jar.codecs...); err != nil {
		return ""
	}
	old := u.broker.Now().Sub(time.Unix(k.SetAt, 0)) > keptAge*time.Second
	if old || !strings.EqualFold(strings.TrimSuffix(k.Path, "/"), strings.TrimSuffix(r.URL.EscapedPath(), "/")) {
		return ""
	}
	return k.Token
}

// straight reports whether there is nothing to do but to go to the provider.
func straight(form *broker.ConnectForm) bool {
	return form.Facts.Interactive && !slices.ContainsFunc(form.Ask, func(f broker.Field) bool { return !f.Optional })
}

// Address gives the link by which a browser begins what a session is for: straight to the provider where that is all there
// is to do, and to a form where something has to be typed first.
func (u *UI) Address(form *broker.ConnectForm, token string) string {
	if straight(form) {
		return u.broker.PublicURL() + "/oauth/connect/" + url.PathEscape(form.Integration.Key) + "?" + kit.ParamSession + "=" + url.QueryEscape(token)
	}
	return u.broker.PublicURL() + formPath(form.Integration.Key) + "?" + paramToken + "=" + url.QueryEscape(token)
}
