package connect

import (
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// attemptForm is that of the number which names one sign-in that an embedded page waits for: 128 random bits or more.
var attemptForm = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// isAttempt reports whether text has the form of one.
func isAttempt(text string) bool {
	return len(text) >= 32 && len(text) <= 128 && attemptForm.MatchString(text)
}

// thisMachine is every origin on this machine, as far as a policy can name them: it has no words for [::1].
var thisMachine = []string{"http://localhost:*", "http://*.localhost:*", "http://127.0.0.1:*"}

// look reads how the page of a request is to look, and who may have it inside theirs. For an actor whose session is not
// known, that is every origin that some environment allows.
func (u *UI) look(r *http.Request, who broker.Actor) (look, error) {
	l := lookOf(r)
	if l.Parent == "" {
		return l, nil
	}
	environments, session := u.broker.Environments(), (*broker.Session)(nil)
	if who.Kind == broker.BySession {
		env, err := u.broker.Environment(who)
		if err != nil {
			return l, err
		}
		if session, err = u.broker.Session(r.Context(), who); err != nil {
			return l, err
		}
		environments = []*broker.Environment{env}
	}
	if !slices.ContainsFunc(environments, func(e *broker.Environment) bool { return u.broker.OriginAllowed(l.Parent, e, session) }) {
		l.Parent, l.Attempt = "", ""
	}
	if l.embedded = l.Parent != "" && l.Attempt == ""; l.embedded {
		l.ancestors = u.ancestors(environments, session)
	}
	return l, nil
}

// ancestors lists the origins whose pages may embed ours.
func (u *UI) ancestors(environments []*broker.Environment, s *broker.Session) []string {
	var out []string
	for _, e := range environments {
		origins := u.broker.Origins(e, s)
		if len(origins) == 0 && u.broker.DevMode() {
			out = append(out, thisMachine...)
		}
		for _, o := range origins {
			if o = plainOrigin(o); o != "" {
				out = append(out, o)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// openList is the first page: the list, or, inside an app's page and without a token, one that waits for the token.
func (u *UI) openList(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	if who.Kind == broker.BySession {
		return u.list(w, r, who)
	}
	return u.boot(w, r)
}

// byLinkOrFrame reads the session's token from a link. A frame is loaded without one: the page around it tells it later.
func (u *UI) byLinkOrFrame(r *http.Request) (broker.Actor, error) {
	if q := r.URL.Query(); !q.Has(paramToken) {
		where := r.Header.Get("Sec-Fetch-Dest")
		// Where browsers do not say what a page is for, the Nango client is known by what it sends.
		if where == "iframe" || where == "frame" || where == "" && q.Has("apiURL") {
			return broker.Actor{}, nil
		}
	}
	return u.byLink(r)
}

// boot shows the page that waits for a token.
func (u *UI) boot(w http.ResponseWriter, r *http.Request) error {
	l := lookOf(r)
	environments := u.broker.Environments()
	origins := []string{}
	local := false
	for _, e := range environments {
		list := u.broker.Origins(e, nil)
		origins = append(origins, list...)
		local = local || len(list) == 0 && u.broker.DevMode()
	}
	slices.Sort(origins)
	l.embedded, l.ancestors = true, u.ancestors(environments, nil)
	page := bootPage{
		frame: u.frame(l, l.EmbedTitle), Origins: toJSON(slices.Compact(origins)), AnyLocal: local, Next: l.query(listPath),
		Late: l.Late, Alone: l.failure(broker.ErrSessionInvalid.Code),
	}
	say := l.sayer("", "")
	page.Alone.Next = say(page.Alone.Next)
	return u.render(w, r, http.StatusOK, bootView(page), rules{ancestors: l.ancestors})
}

// attempt says how far the sign-in has got that an embedded page waits for.
func (u *UI) attempt(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	state, err := u.attempted(r, who, r.URL.Query().Get(paramAttempt))
	if err != nil {
		return err
	}
	answer := struct {
		Status     broker.FlowStatus `json:"status"` // open, succeeded or failed
		Connection string            `json:"connection_id,omitempty"`
		Code       string            `json:"code,omitempty"`
	}{state.Status, state.Connection, state.Code}
	if answer.Status == broker.FlowConsumed {
		answer.Status = broker.FlowOpen // the provider is being asked
	}
	w.Header().Set("Cache-Control", "no-store")
	return kit.WriteJSON(w, http.StatusOK, answer)
}

func (u *UI) attempted(r *http.Request, who broker.Actor, attempt string) (*broker.FlowState, error) {
	if !isAttempt(attempt) {
		return nil, broker.ErrNotFound
	}
	state, err := u.broker.FlowByChannel(r.Context(), who, attempt)
	if err == nil && state.Integration != r.PathValue("key") {
		err = broker.ErrNotFound
	}
	return state, err
}

// ended shows how the sign-in ended that an embedded page waited for.
func (u *UI) ended(w http.ResponseWriter, r *http.Request, who broker.Actor, attempt string) error {
	state, err := u.attempted(r, who, attempt)
	if err != nil {
		return err
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
	key, token := r.PathValue("key"), r.URL.Query().Get(paramToken)
	name := u.nameOf(r.Context(), who, key)
	switch state.Status {
	case broker.FlowSucceeded:
		return u.showDone(w, r, success{
			look: l, name: name, integration: key, connection: state.Connection, again: session.Repairs(), session: session, env: env,
			missing: state.Missing, pending: state.Pending,
		})
	case broker.FlowFailed:
		page := u.failurePage(l, env.Label(), name, state.Code)
		if _, err := u.broker.ConnectForm(r.Context(), who, key); err == nil {
			page.Retry = l.address(formPath(key), token)
		}
		page.RequestID = kit.RequestID(r)
		return u.render(w, r, http.StatusOK, failureView(page), l.rules(""))
	case broker.FlowOpen, broker.FlowConsumed:
	}
	redirect(w, l.address(formPath(key), token), l.ancestors)
	return nil
}

// The kinds of messages that the page around is told, and their contents: as the Nango client knows them.
const (
	tellConnect = "connect"
	tellError   = "error"
)

// told is a message to the page around.
type told struct {
	Type    string `json:"type"`
	Payload any    `json:"payload"`
}

type toldConnection struct {
	Integration string `json:"providerConfigKey"`
	Connection  string `json:"connectionId"`
	Pending     bool   `json:"isPending,omitempty"`
}

type toldError struct {
	Type    string `json:"errorType"`
	Message string `json:"errorMessage"`
}

// tell notes what the page around is to be told, where there is one.
func (f *frame) tell(kind string, payload any) {
	if f.Embed != nil {
		f.Embed.Tell = toJSON(told{kind, payload})
	}
}

// errorType gives the name that the Nango client has for a failure.
func errorType(code string) string {
	switch code {
	case broker.ErrTestFailed.Code:
		return "connection_test_failed"
	case broker.ErrProviderDenied.Code, broker.ErrProviderError.Code, broker.ErrExchangeFailed.Code, broker.ErrCallbackInvalid.Code,
		broker.ErrIssuerMismatch.Code, broker.ErrContextMismatch.Code, broker.ErrBrowserMismatch.Code, broker.ErrStateExpired.Code,
		broker.ErrAccountMismatch.Code:
		return errorCallback
	}
	return "unknown_error"
}

// errorCallback is how the Nango client calls a sign-in that failed on the way back.
const errorCallback = "connection_validation_failed"

// inOne puts a title and a text into one line.
func inOne(title, text string) string {
	if strings.ContainsAny(title[max(0, len(title)-1):], ".?!") {
		return title + " " + text
	}
	return title + ". " + text
}

// known is a failure together with whose request it was.
type known struct {
	error
	who broker.Actor
}

func (k *known) Unwrap() error { return k.error }

// handler is what a [kit.Route] calls.
type handler = func(w http.ResponseWriter, r *http.Request, who broker.Actor) error

// remembering lets the page of a failure know whose request failed.
func remembering(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
		if err := h(w, r, who); err != nil {
			return &known{err, who}
		}
		return nil
	}
}

// failureLook is the look of a failure's page. Where providers send browsers back to, nothing of the query is ours; and
// no page but the list and the forms may be inside another.
func (u *UI) failureLook(r *http.Request, err error) look {
	switch path := r.URL.Path; {
	case path+"/" == listPath, path == listPath, strings.HasPrefix(path, formPath("")):
	case strings.HasPrefix(path, listPath):
		return aloneLook(r)
	default:
		return manner{}.look(r)
	}
	var who broker.Actor
	if k := (*known)(nil); errors.As(err, &k) {
		who = k.who
	}
	l, failed := u.look(r, who)
	if failed != nil {
		l, _ = u.look(r, broker.Actor{}) // asks for nothing that can fail
	}
	return l
}
