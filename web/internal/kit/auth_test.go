package kit_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/broker"
	"github.com/coatcheck/coatcheck/web/internal/kit"
)

const goodKey = "0b9d6c3e-55f1-4a3c-9f0e-2f6f6f1f0a11"

var (
	goodToken = kit.SessionPrefix + strings.Repeat("0a", 32)
	oldToken  = kit.SessionPrefix + strings.Repeat("0b", 32)
)

// keeper knows one key and one session.
type keeper struct{ scopes broker.Scopes }

func (k keeper) Authenticate(key string) (broker.Actor, error) {
	if key != goodKey {
		return broker.Actor{}, broker.ErrUnauthorized
	}
	return broker.Actor{Kind: broker.ByKey, Environment: "env", Key: "key-1", Scopes: k.scopes}, nil
}

func (k keeper) AuthenticateSession(_ context.Context, token string) (broker.Actor, error) {
	switch token {
	case goodToken:
		return broker.Actor{Kind: broker.BySession, Environment: "env", Session: "session-1"}, nil
	case oldToken:
		return broker.Actor{}, broker.ErrSessionExpired
	}
	return broker.Actor{}, broker.ErrSessionInvalid
}

func TestDoors(t *testing.T) {
	doors := kit.Doors{Keeper: keeper{broker.Scopes{broker.ScopeProxy}}}
	for name, c := range map[string]struct {
		auth   kit.Auth
		header []string
		want   error // nil: comes in
		cause  error
	}{
		"bearer":                     {doors.Key(), []string{"Bearer " + goodKey}, nil, nil},
		"bare":                       {doors.Key(), []string{goodKey}, nil, nil},
		"after the last marker":      {doors.Key(), []string{"Bearer Bearer " + goodKey}, nil, nil},
		"lower case marker":          {doors.Key(), []string{"bearer " + goodKey}, broker.ErrUnauthorized, nil},
		"none":                       {doors.Key(), nil, broker.ErrUnauthorized, kit.ErrNoCredential},
		"empty":                      {doors.Key(), []string{"Bearer"}, broker.ErrUnauthorized, kit.ErrEmptyCredential},
		"twice":                      {doors.Key(), []string{goodKey, goodKey}, broker.ErrUnauthorized, kit.ErrEmptyCredential},
		"too short":                  {doors.Key(), []string{"Bearer 123456789012345"}, broker.ErrUnauthorized, kit.ErrNotAKey},
		"unknown":                    {doors.Key(), []string{"Bearer 1234567890123456"}, broker.ErrUnauthorized, nil},
		"scope held":                 {doors.Key(broker.ScopeConnectionsList, broker.ScopeProxy), []string{goodKey}, nil, nil},
		"scope missing":              {doors.Key(broker.ScopeConnectionsList), []string{goodKey}, broker.ErrInsufficientScope, nil},
		"token for a key":            {doors.Key(), []string{goodToken}, broker.ErrUnauthorized, nil},
		"session":                    {doors.Session(), []string{"Bearer " + goodToken}, nil, nil},
		"key for a session":          {doors.Session(), []string{goodKey}, broker.ErrSessionInvalid, kit.ErrNotASession},
		"expired session":            {doors.Session(), []string{oldToken}, broker.ErrSessionExpired, nil},
		"upper case session":         {doors.Session(), []string{strings.ToUpper(goodToken)}, broker.ErrSessionInvalid, kit.ErrNotASession},
		"either, key":                {doors.Either(broker.ScopeProxy), []string{goodKey}, nil, nil},
		"either, session":            {doors.Either(broker.ScopeConnectionsList), []string{goodToken}, nil, nil},
		"either, key without scope":  {doors.Either(broker.ScopeConnectionsList), []string{goodKey}, broker.ErrInsufficientScope, nil},
		"either, broken session":     {doors.Either(), []string{kit.SessionPrefix + "0a"}, broker.ErrSessionInvalid, kit.ErrNotASession},
		"either, an unknown session": {doors.Either(), []string{kit.SessionPrefix + strings.Repeat("0", 64)}, broker.ErrSessionInvalid, nil},
		"either, none":               {doors.Either(), nil, broker.ErrUnauthorized, kit.ErrNoCredential},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header["Authorization"] = c.header
			who, err := c.auth.Check(r)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if c.cause != nil && !errors.Is(err, c.cause) {
				t.Errorf("got the cause %v, want %v", errors.Unwrap(err), c.cause)
			}
			if (err == nil) != (who.Kind != broker.Anonymous) {
				t.Errorf("error %v goes with actor %+v", err, who)
			}
		})
	}
}

// Unknown, revoked and expired keys must be told apart by nothing: what the door adds to a refusal depends on the text
// that was sent alone.
func TestUnknownKeysAreRefusedAlike(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer coat_dev_0000_0000_0000")
	_, err := kit.Doors{Keeper: keeper{}}.Key().Check(r)
	if e := broker.AsError(err); e != broker.ErrUnauthorized {
		t.Errorf("got %v with cause %v, want the plain error", e, e.Err)
	}
}

func TestNamesOfDoors(t *testing.T) {
	doors := kit.Doors{Keeper: keeper{}}
	for want, auth := range map[string]kit.Auth{
		"key":                              doors.Key(),
		"key a|b":                          doors.Key("a", "b"),
		"session":                          doors.Session(),
		"session or key environment:proxy": doors.Either(broker.ScopeProxy),
		"public":                           kit.Public,
	} {
		if auth.Name != want {
			t.Errorf("got %q, want %q", auth.Name, want)
		}
	}
}

func TestNoCredentialInURL(t *testing.T) {
	doors := kit.Doors{Keeper: keeper{}}
	for query, want := range map[string]error{
		"":                              nil,
		"limit=3&tags%5Bplan%5D=gold":   nil,
		"refresh_token=true":            nil, // a flag of the API, not a token
		"secret_key=x":                  broker.ErrCredentialInURL,
		"Secret-Key=x":                  broker.ErrCredentialInURL,
		"api_key=x":                     broker.ErrCredentialInURL,
		"apiKey=x":                      broker.ErrCredentialInURL,
		"x-api-key=x":                   broker.ErrCredentialInURL,
		"access_token=":                 broker.ErrCredentialInURL,
		"session_token=x":               broker.ErrCredentialInURL,
		"search=coat_dev_1_2_3":         broker.ErrCredentialInURL,
		"search=%63oat_dev_1_2_3":       broker.ErrCredentialInURL,
		"a=1&b=" + kit.SessionPrefix:    broker.ErrCredentialInURL,
		"a=%zz":                         broker.ErrInvalidQuery,
		"a=1;api_key=coat_dev_abcdefgh": broker.ErrInvalidQuery,
	} {
		r := httptest.NewRequest(http.MethodGet, "/?"+query, nil)
		r.Header.Set("Authorization", goodKey)
		if _, err := doors.Key().Check(r); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", query, err, want)
		}
	}
}
