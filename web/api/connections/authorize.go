package connections

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

// creation is the body of POST /api/v1/connections. nil: the member is absent.
type creation struct {
	Name     *string        `json:"name"`
	Provider *string        `json:"provider"`
	Metadata jsontext.Value `json:"metadata"`
}

// read reads a body and checks what the broker cannot.
func (in *creation) read(r *http.Request) error {
	if err := kit.DecodeJSON(r, in); err != nil {
		return err
	}
	switch {
	case in.Name == nil || strings.TrimSpace(*in.Name) == "":
		return badRequest(broker.ErrInvalidRequest, "name is required")
	case in.Provider == nil || *in.Provider == "":
		return badRequest(broker.ErrInvalidRequest, "provider is required")
	case in.Metadata != nil && in.Metadata.Kind() != jsontext.KindBeginObject:
		return badRequest(broker.ErrInvalidRequest, "metadata must be an object")
	}
	return nil
}

// create answers POST /api/v1/connections.
func (a *api) create(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	if _, err := params(r); err != nil {
		return err
	}
	var in creation
	if err := in.read(r); err != nil {
		return err
	}
	i, err := a.integration(r, who, *in.Provider)
	if errors.Is(err, broker.ErrNotFound) {
		return badRequest(broker.ErrInvalidRequest, "Provider not found: "+shorten(*in.Provider))
	}
	if err != nil {
		return err
	}
	c, _, token, err := a.b.Propose(r.Context(), who, broker.Proposal{
		Integration: i.Key, Name: *in.Name, Metadata: in.Metadata, Landing: landing(*in.Provider),
	})
	if err != nil {
		return err
	}
	link, err := a.link(r, i, token)
	if err != nil {
		return err
	}
	return kit.WriteJSON(w, http.StatusCreated, success(createdConnection{
		ID: publicID(c.ID), Name: c.Name, Provider: i.Provider, Status: string(c.Status), OAuthURL: link,
		Message: "Redirect user to oauthUrl to complete connection",
	}))
}

// link is where the browser begins. It leads to a page of ours, which ties the sign-in to that browser before the provider is
// asked for anything.
func (a *api) link(r *http.Request, i *broker.Integration, token broker.Secret) (string, error) {
	who, err := a.b.AuthenticateSession(r.Context(), token.Reveal())
	if err != nil {
		return "", err
	}
	form, err := a.b.ConnectForm(r.Context(), who, i.Key)
	if err != nil {
		return "", err
	}
	return a.pages.Address(form, token.Reveal()), nil
}

// authURL answers GET /api/v1/connections/{provider}/auth-url.
func (a *api) authURL(w http.ResponseWriter, r *http.Request, who broker.Actor) error {
	if r.Method == http.MethodHead {
		return broker.ErrMethodNotAllowed // it would make what it does not tell
	}
	q, err := params(r, "redirectUrl", "connectionName")
	if err != nil {
		return err
	}
	name := r.PathValue("provider")
	i, err := a.integration(r, who, name)
	if err != nil {
		return err
	}
	c, known, token, err := a.b.ProposeOnce(r.Context(), who, broker.Proposal{
		Integration: i.Key, Name: q["connectionName"], ReturnURL: q["redirectUrl"], Landing: landing(name),
	})
	if err != nil {
		return notProposed(broker.AsError(err), i)
	}
	link, err := a.link(r, i, token)
	if err != nil {
		return err
	}
	return kit.WriteJSON(w, http.StatusOK, success(authorization{
		ConnectionID: publicID(c.ID), Provider: i.Provider, AuthURL: link, IsNew: !known,
		Message: "Redirect user to authUrl to complete OAuth authorization",
	}))
}

// notProposed says in the words of the query what is wrong with it.
func notProposed(e *broker.Error, i *broker.Integration) error {
	switch {
	case errors.Is(e, broker.ErrConflict) && e.Field == "connection":
		return badRequest(e, "Active connection already exists for "+i.Provider+". Disconnect first to re-authorize.")
	case errors.Is(e, broker.ErrReturnURLRefused):
		return badRequest(e, "redirectUrl is not one of the environment's return URLs")
	case e.Field == "name":
		return badRequest(e, "connectionName has at most 255 characters, and no control characters")
	}
	return e
}

// callback answers GET /api/v1/connections/{provider}/callback, where the browser comes when a sign-in has ended. It goes by
// the flow's id alone, which only that browser knows. Whatever else a query says, anybody could have written.
func (a *api) callback(w http.ResponseWriter, r *http.Request, _ broker.Actor) error {
	flows := r.URL.Query()[kit.ParamFlow]
	if len(flows) != 1 || flows[0] == "" {
		return badRequest(broker.ErrInvalidQuery, "This address is where sign-ins end; none has ended here")
	}
	f, err := a.b.EndedFlow(r.Context(), broker.FlowID(flows[0]))
	if err == nil && f.Landing != landing(r.PathValue("provider")) {
		err = broker.ErrNotFound
	}
	if errors.Is(err, broker.ErrNotFound) {
		return &refusal{
			cause: broker.ErrNotFound, status: http.StatusNotFound, code: codeNotFound,
			message: "Authorization not found, or it ended too long ago",
		}
	}
	if err != nil {
		return err
	}
	if f.ReturnURL != "" {
		return sendBack(w, f)
	}
	if f.Status != broker.FlowSucceeded {
		cause := causeOf(f.Code)
		return badRequest(cause, "Authorization failed: "+cause.Msg)
	}
	return kit.WriteJSON(w, http.StatusOK, success(authorized{
		ConnectionID: publicID(f.Connection), Provider: f.Integration.Provider, Status: string(broker.Active),
		Message: "OAuth authorization completed successfully",
	}))
}

// causeOf finds the error of a code; one that no request can have is a sign-in that was cut off.
func causeOf(code string) *broker.Error {
	all := broker.DeclaredErrors()
	if n := slices.IndexFunc(all, func(e *broker.Error) bool { return e.Code == code }); n >= 0 {
		return all[n]
	}
	return broker.ErrExchangeFailed
}

// sendBack sends the browser back to the app, with the result in the query.
func sendBack(w http.ResponseWriter, f *broker.FlowResult) error {
	target, err := url.Parse(f.ReturnURL)
	if err != nil {
		return broker.ErrInternal.Because(err)
	}
	connection := "connectionId=" + url.QueryEscape(publicID(f.Connection))
	result := "success=true&" + connection + "&provider=" + url.QueryEscape(f.Integration.Provider)
	if f.Status != broker.FlowSucceeded {
		result = "error=" + url.QueryEscape(errorParam(f.Code)) + "&" + connection
	}
	target.RawQuery = strings.Join(append(appsOwn(target.RawQuery), result), "&")
	w.Header().Set("Location", target.String())
	w.WriteHeader(http.StatusFound)
	return nil
}

// errorParam is what the app is told of a failure: what OAuth calls an end user's no (RFC 6749 section 4.1.2.1), or our code.
func errorParam(code string) string {
	if code == broker.ErrProviderDenied.Code {
		return "access_denied"
	}
	return code
}

// appsOwn gives the parameters that the app had put into its address, as they stand there. What it would take for the result
// is not among them: a failure must not read as a success because the address said so before.
func appsOwn(query string) []string {
	var own []string
	for pair := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(pair, "=")
		plain, err := url.QueryUnescape(name)
		if pair != "" && err == nil && !slices.Contains([]string{"success", "error", "connectionId", "provider"}, plain) {
			own = append(own, pair)
		}
	}
	return own
}
