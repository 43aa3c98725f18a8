package oidcprovider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
)

// Account is who Approve signs in as: what the userinfo endpoint and ID tokens call sub.
const Account = "ada"

// Approve plays an end user who signs in as Account and allows everything, in a browser that was never used. It begins at
// an authorization URL and gives the redirect to the client's redirect URI, which it does not request. That can hold an
// error instead of a code; the error returned here says that there was no such redirect.
func (s *Server) Approve(ctx context.Context, authorizationURL string) (callback *url.URL, err error) {
	return s.ApproveAs(ctx, authorizationURL, Account)
}

// ApproveAs is Approve as another end user. Every name is an account.
func (s *Server) ApproveAs(ctx context.Context, authorizationURL, account string) (callback *url.URL, err error) {
	return s.visit(ctx, authorizationURL, endUser{account: account, decision: "continue"})
}

// Deny plays an end user who says no to the first question, and is otherwise Approve: the callback holds access_denied.
func (s *Server) Deny(ctx context.Context, authorizationURL string) (callback *url.URL, err error) {
	return s.visit(ctx, authorizationURL, endUser{account: Account, decision: "cancel"})
}

// endUser is what somebody puts into the forms.
type endUser struct{ account, decision string }

// fill fills a form in and presses the button of the decision.
func (u endUser) fill(f *form) {
	for name, kind := range f.inputs {
		switch kind {
		case "text":
			f.values.Set(name, u.account)
		case "password":
			f.values.Set(name, "any")
		}
	}
	if f.hasButton("decision", u.decision) {
		f.values.Set("decision", u.decision)
	}
}

// maxSteps is more than any way through the server has: sign in and consent are five.
const maxSteps = 12

// visit goes from page to page.
func (s *Server) visit(ctx context.Context, start string, who endUser) (*url.URL, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	browser := *s.client
	browser.Jar = jar
	next, err := http.NewRequestWithContext(ctx, http.MethodGet, start, nil)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	for range maxSteps {
		if origin := next.URL.Scheme + "://" + next.URL.Host; origin != s.issuer {
			return nil, fmt.Errorf("the way leads to %s, which is neither the server nor a redirect URI", origin)
		}
		callback, following, err := s.step(&browser, next, who)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", next.Method, next.URL.Path, err)
		}
		if callback != nil {
			return callback, nil
		}
		next = following
	}
	return nil, fmt.Errorf("no redirect to the client after %d steps", maxSteps)
}

// step makes a request. It gives the callback, if this is the answer, or else the request that comes next.
func (s *Server) step(browser *http.Client, req *http.Request, who endUser) (callback *url.URL, next *http.Request, err error) {
	res, err := browser.Do(req)
	if err != nil {
		return nil, nil, bare(err)
	}
	defer func() { _ = res.Body.Close() }()
	switch res.StatusCode {
	case http.StatusFound, http.StatusSeeOther:
		u, err := res.Location()
		if err != nil {
			return nil, nil, errors.New("a redirect to nowhere")
		}
		if s.isCallback(u) {
			return u, nil, nil
		}
		next, err = http.NewRequestWithContext(req.Context(), http.MethodGet, u.String(), nil)
		return nil, next, err
	case http.StatusOK:
		f, err := parseForm(res.Body)
		if err != nil {
			return nil, nil, err
		}
		who.fill(f)
		body := strings.NewReader(f.values.Encode())
		next, err = http.NewRequestWithContext(req.Context(), http.MethodPost, req.URL.String(), body)
		if err == nil {
			next.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		return nil, next, err
	default:
		return nil, nil, refusal(res)
	}
}

// refusal says why the server answers with an error of its own, which it does in JSON.
func refusal(res *http.Response) error {
	var e struct {
		Code string `json:"error"`
		Text string `json:"error_description"`
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<16)).Decode(&e); err != nil {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return fmt.Errorf("status %d: %s: %s", res.StatusCode, e.Code, e.Text)
}

// bare leaves the URL, whose query is nobody's business, out of an error.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
