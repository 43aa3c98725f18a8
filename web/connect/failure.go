package connect

import (
	"cmp"
	"context"
	"errors"
	"net/http"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// stopped is a failure together with what its page needs to know besides.
type stopped struct {
	err      error
	app      string // what end users call it; empty: unknown
	provider string
	retry    string  // address to try again at; empty: there is none
	manner   *manner // nil: as the request asks
}

func (s *stopped) Error() string { return s.err.Error() }
func (s *stopped) Unwrap() error { return s.err }

// stop adds what can be known of a failure that has to do with one integration of a session.
func (u *UI) stop(r *http.Request, who broker.Actor, key string, err error) error {
	s := &stopped{err: err, provider: u.nameOf(r.Context(), who, key)}
	if env, err := u.broker.Environment(who); err == nil {
		s.app = env.Label()
	}
	return s
}

// nameOf gives what an integration is called, if the session allows it; empty otherwise.
func (u *UI) nameOf(ctx context.Context, who broker.Actor, key string) string {
	integrations, err := u.broker.Integrations(ctx, who)
	if err != nil {
		return ""
	}
	for _, i := range integrations {
		if i.Key != key {
			continue
		}
		facts, err := u.broker.Provider(i.Provider)
		if err != nil {
			facts = nil // it left the catalogue
		}
		return displayName(i, facts)
	}
	return ""
}

// fail shows the page of a failure: what happened, what to do about it, and what to tell those who can help.
func (u *UI) fail(w http.ResponseWriter, r *http.Request, err error) {
	if err := u.failed(w, r, err); err != nil {
		kit.Fail(w, r, broker.ErrInternal.Because(err))
	}
}

func (u *UI) failed(w http.ResponseWriter, r *http.Request, err error) error {
	var stop stopped
	var flow broker.FlowError
	if s := (*stopped)(nil); errors.As(err, &s) {
		stop = *s
	}
	if f := (*broker.FlowError)(nil); errors.As(err, &f) {
		flow = *f
	}
	l := u.failureLook(r, err)
	if stop.manner != nil {
		l = stop.manner.look(r)
	}
	e := broker.AsError(err)
	app, provider := cmp.Or(stop.app, label(flow.Environment)), cmp.Or(stop.provider, flow.Provider)
	page := u.failurePage(l, app, provider, e.Code)
	page.Retry, page.RequestID = stop.retry, kit.RequestID(r)
	say := l.sayer(app, provider)
	if flow.Detail != "" {
		page.Said, page.Detail = say(l.ProviderSaid), flow.Detail
	}
	if page.Address = webAddress(flow.ReturnURL, true); page.Address != "" && l.Parent == "" {
		page.Link = say(l.DoneReturn)
	} else {
		page.Address = ""
	}
	page.Outcome = u.outcome(l.manner, flow.Session, flow.Environment, message{Status: "error", ErrorCode: e.Code},
		told{"nango_oauth_callback_error", toldCallback{inOne(page.Title, page.Text), errorCallback}})
	return u.render(w, r, kit.Status(e.Kind), failureView(page), l.rules(""))
}

// toldCallback is how the Nango client is told by a callback page that a sign-in failed.
type toldCallback struct {
	Message string `json:"message"`
	Type    string `json:"errorType"`
}

// failurePage says in words what a code means.
func (u *UI) failurePage(l look, app, provider, code string) failurePage {
	say, text := l.sayer(app, provider), l.failure(code)
	page := failurePage{frame: u.result(l, say(text.Title)), Text: say(text.Text), Next: say(text.Next), Calm: text.Calm, Code: code}
	page.tell(tellError, toldError{errorType(code), inOne(page.Title, page.Text)})
	return page
}

// label gives what end users call an environment; empty: it is unknown.
func label(e *broker.Environment) string {
	if e == nil {
		return ""
	}
	return e.Label()
}
