package connect

import (
	"cmp"
	"net/http"
	"net/url"
	"strings"

	"github.com/gorilla/securecookie"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// Start begins a sign-in for a surface that has no pages. The browser goes on to the provider at once where it is plain
// who wants that; otherwise to a page that says who asks for what, and has a button, and fields if Ask is set. Its address
// holds no token that others could use: it is sealed. Errors: those of [broker.Broker.StartFlow].
func (u *UI) Start(w http.ResponseWriter, r *http.Request, who broker.Actor, s kit.Start) error {
	form, err := u.broker.ConnectForm(r.Context(), who, s.Key)
	if err != nil {
		return u.stop(r, who, s.Key, err)
	}
	if !form.Facts.Interactive && !s.Ask {
		return u.stop(r, who, s.Key, broker.ErrNotSupported.Saying("this provider is not connected to in a browser window"))
	}
	if (straight(form) || !s.Ask) && u.mayLeave(r, form) {
		if err := u.leave(w, r, who, aloneLook(r), form, s); err != nil {
			return u.stop(r, who, s.Key, err)
		}
		return nil
	}
	s.Fields = onlyAsked(s.Fields, form)
	sealed, err := securecookie.EncodeMulti(startName, s, u.notes...)
	if err != nil { // it is too long: nothing else can be wrong with it
		return u.stop(r, who, s.Key, broker.ErrInvalidRequest.Saying("the address holds too much").Because(err))
	}
	redirectBy(w, cmp.Or(s.Status, http.StatusSeeOther), aloneLook(r).query(startPath, param{paramNote, sealed}), nil)
	return nil
}

const (
	startPath = "/connect/start"
	startName = "start"
)

// mayLeave reports whether a GET may start a sign-in without a click (RFC 9700 section 2.1 wants no flow that a stranger's
// link starts): where the navigation comes from our own page or an allowed origin, or from no browser at all. A page can
// hide where a link comes from, but it cannot name another origin than its own.
func (u *UI) mayLeave(r *http.Request, f *broker.ConnectForm) bool {
	if r.Method != http.MethodGet || r.Header.Get("Sec-Purpose") != "" || r.Header.Get("Purpose") != "" {
		return false // somebody looks ahead
	}
	switch f.Environment.Start {
	case broker.StartPage:
		return false
	case broker.StartRedirect:
		return true
	case broker.StartAuto:
	}
	mode, site := r.Header.Get("Sec-Fetch-Mode"), r.Header.Get("Sec-Fetch-Site")
	if mode == "" && site == "" && !strings.Contains(r.UserAgent(), "Mozilla/") {
		return true
	}
	if mode != "" && mode != "navigate" {
		return false
	}
	from, err := url.Parse(r.Referer())
	if err != nil || from.Host == "" {
		return site == "same-origin"
	}
	origin := from.Scheme + "://" + from.Host
	return origin == u.broker.PublicURL() || u.broker.OriginAllowed(origin, f.Environment, f.Session)
}

// sealedStart reads what Start has sealed.
func (u *UI) sealedStart(values url.Values) (kit.Start, error) {
	var s kit.Start
	if err := securecookie.DecodeMulti(startName, values.Get(paramNote), &s, u.notes...); err != nil {
		return s, broker.ErrSessionInvalid
	}
	return s, nil
}

// bySealedLink reads the session's token out of a sealed start.
func (u *UI) bySealedLink(r *http.Request) (broker.Actor, error) {
	return u.bySealed(r, r.URL.Query())
}

// bySealedForm does so for a form.
func (u *UI) bySealedForm(r *http.Request) (broker.Actor, error) {
	if err := parseForm(r); err != nil {
		return broker.Actor{}, err
	}
	return u.bySealed(r, r.PostForm)
}

func (u *UI) bySealed(r *http.Request, values url.Values) (broker.Actor, error) {
	s, err := u.sealedStart(values)
	if err != nil {
		return broker.Actor{}, err
	}
	return u.session(r, []string{s.Token})
}

// startPage shows who asks for what, and a button.
func (u *UI) startPage(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	s, err := u.sealedStart(r.URL.Query())
	if err != nil {
		return err
	}
	form, err := u.broker.ConnectForm(r.Context(), who, s.Key)
	if err != nil {
		return u.stop(r, who, s.Key, err)
	}
	return u.showStart(w, r, s, form, r.URL.Query().Get(paramNote), visit{look: aloneLook(r), key: s.Key})
}

// showStart renders the form of a sealed start: empty, or with what was typed and what is wrong with it.
func (u *UI) showStart(w http.ResponseWriter, r *http.Request, s kit.Start, form *broker.ConnectForm, note string, at visit) error {
	if !s.Ask {
		form.Ask = nil // it was filled in where the sign-in began
	}
	page := u.formPage(form, at)
	page.CSRF, page.Action, page.Note = u.guard.token(form.Session.ID), startPath, note
	status := http.StatusOK
	if at.refusal != nil {
		u.explain(&page, form, at)
		status = kit.Status(at.refusal.Kind)
	}
	return u.render(w, r, status, formView(page), rules{formTo: plainOrigin(form.AuthorizationOrigin)})
}

// startSubmit is the button of that page.
func (u *UI) startSubmit(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	if err := u.guard.check(r, who.Session); err != nil {
		return err
	}
	s, err := u.sealedStart(r.PostForm)
	if err != nil {
		return err
	}
	form, err := u.broker.ConnectForm(r.Context(), who, s.Key)
	if err == nil {
		if s.Ask {
			s.Fields = typedFields(form.Ask, r.PostForm)
		}
		s.Status = 0 // that was for a GET
		err = u.begin(w, r, who, aloneLook(r), form, s)
	}
	if err == nil {
		return nil
	}
	if refusal := broker.AsError(err); s.Ask && form != nil && correctable(refusal) {
		u.refused(w, r, refusal)
		at := visit{look: aloneLook(r), key: s.Key, typed: s.Fields, refusal: refusal}
		return u.showStart(w, r, s, form, r.PostForm.Get(paramNote), at)
	}
	u.broker.RefuseFlow(s.Channel, s.Key, err)
	return u.stop(r, who, s.Key, err)
}

// Fail shows the page of a failure.
func (u *UI) Fail(w http.ResponseWriter, r *http.Request, err error) { u.fail(w, r, err) }
