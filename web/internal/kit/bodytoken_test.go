package kit_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

func TestSessionInBody(t *testing.T) {
	door := kit.Doors{Keeper: keeper{}}.SessionInBody()
	for name, c := range map[string]struct {
		target, body string
		want         error // nil: comes in
		cause        error
	}{
		"good":            {"/", `{"token":"` + goodToken + `","event":"open"}`, nil, nil},
		"expired":         {"/", `{"token":"` + oldToken + `"}`, broker.ErrSessionExpired, nil},
		"a key":           {"/", `{"token":"` + goodKey + `"}`, broker.ErrSessionInvalid, kit.ErrNotASession},
		"none":            {"/", `{"event":"open"}`, broker.ErrUnauthorized, kit.ErrNoCredential},
		"null":            {"/", `{"token":null}`, broker.ErrUnauthorized, kit.ErrNoCredential},
		"empty":           {"/", `{"token":""}`, broker.ErrUnauthorized, kit.ErrNoCredential},
		"no text":         {"/", `{"token":["` + goodToken + `"]}`, broker.ErrSessionInvalid, kit.ErrNotASession},
		"in another case": {"/", `{"Token":"` + goodToken + `"}`, broker.ErrUnauthorized, kit.ErrNoCredential},
		"twice":           {"/", `{"token":"` + goodToken + `","token":"x"}`, broker.ErrInvalidJSON, nil},
		"no body":         {"/", ``, broker.ErrUnauthorized, kit.ErrNoCredential},
		"broken":          {"/", `{"token"`, broker.ErrInvalidJSON, nil},
		"in the URL":      {"/?session_token=" + goodToken, `{"token":"` + goodToken + `"}`, broker.ErrCredentialInURL, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, c.target, strings.NewReader(c.body))
			who, err := door.Check(r)
			if !errors.Is(err, c.want) || c.cause != nil && !errors.Is(err, c.cause) || (err == nil) != (who.Session != "") {
				t.Fatalf("got %+v, %v", who, err)
			}
			if err != nil {
				return
			}
			if rest, err := io.ReadAll(r.Body); err != nil || string(rest) != c.body {
				t.Errorf("the handler reads %q, %v", rest, err)
			}
		})
	}
}

// The account's key opens only what asks for a scope of the account.
func TestTheAccountsKeyIsNoBackends(t *testing.T) {
	doors := kit.Doors{Keeper: accountKeeper{}}
	for name, c := range map[string]struct {
		auth kit.Auth
		want error
	}{
		"no scope":              {doors.Key(), broker.ErrInsufficientScope},
		"either":                {doors.Either(), broker.ErrInsufficientScope},
		"an environment's":      {doors.Key(broker.ScopeProxy), broker.ErrInsufficientScope},
		"the account's":         {doors.Key(broker.ScopeEnvironmentsCreate), nil},
		"another of an account": {doors.Key(broker.ScopeKeysDelete), broker.ErrInsufficientScope},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", goodKey)
		if _, err := c.auth.Check(r); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// accountKeeper knows a key of the account.
type accountKeeper struct{ keeper }

func (accountKeeper) Authenticate(string) (broker.Actor, error) {
	return broker.Actor{Kind: broker.ByKey, Key: "key-2", Scopes: broker.Scopes{broker.ScopeEnvironmentsCreate}}, nil
}
