package integrations

import (
	"net/http"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// signIn is the row that a browser opens.
type signIn struct {
	b     *broker.Broker
	pages kit.Starter
	doors kit.Doors
}

// auth lets in who may begin a sign-in: a user as everywhere, and a browser, which has no header to send. That brings the
// session's token in the address, once, and from then on in a cookie that is good for this row and no other.
func (s *signIn) auth() kit.Auth {
	user, query := s.doors.User(broker.ScopeSessionsWrite), s.doors.Query()
	return kit.Auth{
		Name: user.Name + " or session in query or session in cookie", Pages: true, Limited: true,
		Check: func(r *http.Request) (who broker.Actor, err error) {
			kept := s.pages.Kept(r)
			switch {
			case len(r.Header.Values("Authorization")) > 0:
				return user.Check(r)
			case r.URL.Query().Has(kit.ParamSession):
				who, err = query.Check(r)
			case kept != "" && r.URL.RawQuery == "":
				who, err = s.b.AuthenticateSession(r.Context(), kept)
			default:
				return user.Check(r) // which says what is missing
			}
			if err != nil {
				return broker.Actor{}, err
			}
			return kit.OnBehalf(r, who)
		},
	}
}

// begin answers GET /api/integrations/{id}/connect. A browser that brings its session goes on to the provider, or to a page
// of ours where somebody has to click or to type. A backend gets the link for its user's browser, in which the sign-in has
// to begin.
func (s *signIn) begin(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	if r.Method == http.MethodHead {
		w.Header().Set("Allow", "GET, OPTIONS, POST")
		return broker.ErrMethodNotAllowed // it would begin something
	}
	if _, err := params(r, kit.ParamSession); err != nil {
		return err
	}
	i, _, err := s.b.OwnIntegration(r.Context(), who, r.PathValue("id"))
	if err != nil {
		return err
	}
	if who.Kind == broker.ByKey {
		return s.link(w, r, who, i)
	}
	if token := r.URL.Query().Get(kit.ParamSession); token != "" {
		return s.pages.Keep(w, r, token)
	}
	token := s.doors.Token(r)
	if token == "" {
		token = s.pages.Kept(r)
	}
	return s.pages.Start(w, r, who, kit.Start{
		Token: token, Key: i.Key, Landing: kit.EndedPath, Callback: broker.SecondCallbackPath, Own: true, Ask: true, Status: http.StatusFound,
	})
}

// link sends whoever asks on to the address at which a browser begins.
func (s *signIn) link(w http.ResponseWriter, r *http.Request, who broker.Actor, i *broker.Integration) error {
	_, token, err := s.b.OwnSession(r.Context(), who, i.Key, kit.EndedPath, broker.SecondCallbackPath)
	if err != nil {
		return err
	}
	user, err := s.b.AuthenticateSession(r.Context(), token.Reveal())
	if err != nil {
		return err
	}
	form, err := s.b.ConnectForm(r.Context(), user, i.Key)
	if err != nil {
		return err
	}
	w.Header().Set("Location", s.pages.Address(form, token.Reveal()))
	w.WriteHeader(http.StatusFound)
	return nil
}
